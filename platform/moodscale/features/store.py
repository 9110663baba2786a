"""The store of features: one small Arrow file a window, named by the audio's content and the extractor's key.

```
{store}/{key}/extractor.json                             what the key stands for
{store}/{key}/{hash[:2]}/{audio_hash}/{window:05d}.arrow    fp16 frames, valid mask, metadata with a hash of them
{store}/{key}/manifests/{manifest_hash}.json              written last: every part of a manifest, and its hash
```

A part appears whole or not at all, is never changed, and is checked against its hash whenever it is read. Nothing in
it is a pickle.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from upath import UPath

from moodscale import storage
from moodscale.features.plan import SAMPLE_RATE_HZ, Window, part_name
from moodscale.schema import CorpusError

FORMAT = 1
MAX_PART_BYTES = 512 * 2**20
EXTRACTOR_FILE = "extractor.json"
_PART_NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{16,128}/\d{5,}\.arrow")
_META = b"moodscale"
_SLACK = 1e-6
_LARGEST = float(np.finfo(np.float16).max)

Half = np.ndarray[Any, np.dtype[np.float16]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


class DamagedPartError(CorpusError):
    """A part that is not what was written."""


@dataclass(frozen=True)
class Part:
    """The frames of one window.

    Attributes:
        values: ``[frames, dim]``, zero where not valid.
        valid: ``[frames]``.
        frame_hz: frames a second.
        start_frame: the first frame's number, counted from the recording's start.
        times_s: ``[frames]`` where the frames have times of their own; else frame *i* begins at ``i / frame_hz``.
    """

    values: Half
    valid: Mask
    frame_hz: float
    start_frame: int
    times_s: np.ndarray[Any, np.dtype[np.float64]] | None = None

    @classmethod
    def of(
        cls,
        values: np.ndarray[Any, Any],
        frame_hz: float,
        start_frame: int,
        valid: Mask | None = None,
        times_s: np.ndarray[Any, Any] | None = None,
    ) -> Part:
        """From values of any precision: what is not finite is not valid, what fp16 cannot hold is its largest."""
        finite = np.isfinite(values).all(axis=1)
        own = finite if valid is None else finite & valid
        halves = np.clip(np.where(own[:, None], values, 0), -_LARGEST, _LARGEST).astype(np.float16)
        return cls(np.ascontiguousarray(halves), own, float(frame_hz), int(start_frame), times_s)

    def between(self, start_s: float, stop_s: float) -> slice:
        """The rows that begin at or after ``start_s`` and before ``stop_s``."""
        if self.times_s is not None:
            first, last = np.searchsorted(self.times_s, [start_s - _SLACK, stop_s - _SLACK])
            return slice(int(first), int(last))
        first, last = (math.ceil(at * self.frame_hz - _SLACK) - self.start_frame for at in (start_s, stop_s))
        return slice(max(first, 0), max(last, 0))

    def sha256(self) -> str:
        """Of the content alone: equal whichever library version or storage wrote it."""
        head = [*self.values.shape, self.frame_hz, self.start_frame, self.times_s is not None]
        digest = hashlib.sha256(json.dumps(head).encode())
        digest.update(np.ascontiguousarray(self.values).data)
        digest.update(np.ascontiguousarray(self.valid).data)
        if self.times_s is not None:
            digest.update(np.ascontiguousarray(self.times_s).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class PartFacts:
    """A stored part, as a record names it. ``stamp`` as of ``plan.Group``."""

    sha256: str
    num_bytes: int
    stamp: str = ""


class FeatureStore:
    """The parts of one extractor.

    Args:
        root: folder or URI of the store.
        key: the extractor's.
    """

    def __init__(self, root: str | storage.Place, key: str) -> None:
        self.directory: UPath = storage.location(root) / key
        self.key = key

    def write(self, name: str, part: Part, facts: Mapping[str, Any], stamp: str = "") -> PartFacts:
        """Store a part, whole or not at all. ``facts`` is what a reader of the lone file should know."""
        sha256 = part.sha256()
        data = _encode(part, {**facts, "format": FORMAT, "sha256": sha256, "stamp": stamp})
        storage.write_bytes(self.directory / name, data)
        return PartFacts(sha256, len(data), stamp)

    def load(self, name: str) -> Part:
        """A part, checked.

        Raises:
            DamagedPartError: missing, truncated, or not what was written.
        """
        return self._load(name)[0]

    def check(self, name: str) -> PartFacts:
        """Read a part whole and compare it with its hash.

        Raises:
            DamagedPartError: as ``load``.
        """
        return self._load(name)[1]

    def read(self, audio_hash: str, start_s: float, stop_s: float) -> tuple[Half, Mask]:
        """Frames of a stretch of a recording; only the windows that it touches are read.

        Returns:
            fp16 ``[frames, dim]`` and which of them are valid ``[frames]``.
        Raises:
            DamagedPartError: a part is missing or damaged.
            CorpusError: the extractor never ran on this store.
        """
        first = int(start_s / self.window_s + _SLACK)
        # A sample or so less: a length may be rounded up, and no window begins there.
        last = max(math.ceil((stop_s - 1e-4) / self.window_s) - 1, first)
        parts = [self.load(part_name(audio_hash, index)) for index in range(first, last + 1)]
        rows = [part.between(start_s, stop_s) for part in parts]
        return (
            np.concatenate([part.values[own] for part, own in zip(parts, rows, strict=True)]),
            np.concatenate([part.valid[own] for part, own in zip(parts, rows, strict=True)]),
        )

    def sizes(self) -> dict[str, int]:
        """Bytes of every part there is, by one listing."""
        if storage.is_local(self.directory):
            return _sizes_below(Path(str(self.directory)))
        try:
            found = self.directory.fs.find(self.directory.path, detail=True)
        except FileNotFoundError:
            return {}
        skipped = len(self.directory.path.rstrip("/")) + 1
        named = ((path[skipped:], int(entry["size"] or 0)) for path, entry in found.items())
        return {name: size for name, size in named if _PART_NAME.fullmatch(name)}

    def missing(self, windows: Iterable[Window]) -> list[str]:
        """Names of the parts of these windows that are not there."""
        there = self.sizes()
        return [window.name for window in windows if window.name not in there]

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Write down what the key stands for, where it does not stand there yet."""
        path = self.directory / EXTRACTOR_FILE
        text = json.dumps({**facts, "format": FORMAT, "key": self.key}, indent=1, sort_keys=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            storage.write_bytes(path, text.encode())

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the key stands for.

        Raises:
            CorpusError: nothing was extracted here with this key.
        """
        try:
            facts: dict[str, Any] = json.loads((self.directory / EXTRACTOR_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CorpusError(
                f"{storage.display(self.directory)}: no features here; run 'moodscale extract' with these settings"
            ) from None
        except (OSError, ValueError):
            raise CorpusError(
                f"{storage.display(self.directory / EXTRACTOR_FILE)}: not readable; extract again"
            ) from None
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise CorpusError(f"{storage.display(self.directory)}: features of another format; extract again")
        return facts

    @cached_property
    def window_s(self) -> float:
        return float(self.facts["window_samples"]) / SAMPLE_RATE_HZ

    def _load(self, name: str) -> tuple[Part, PartFacts]:
        path = self.directory / name
        shown = storage.display(path)
        fix = "run 'moodscale extract features.verify=true', which computes it again"
        try:
            if path.stat().st_size > MAX_PART_BYTES:
                raise DamagedPartError(f"{shown}: larger than any part; {fix}")
            data = path.read_bytes()
        except FileNotFoundError:
            raise DamagedPartError(f"{shown}: no such part; run 'moodscale extract'") from None
        except OSError as error:
            raise DamagedPartError(f"{shown}: cannot be read ({error.strerror}); {fix}") from None
        try:
            part, meta = _decode(data)
        except (pa.ArrowException, ValueError, KeyError, TypeError, OSError):
            raise DamagedPartError(f"{shown}: truncated or not a part; {fix}") from None
        if part.sha256() != meta["sha256"]:
            raise DamagedPartError(f"{shown}: its content does not match its hash; {fix}")
        return part, PartFacts(str(meta["sha256"]), len(data), str(meta.get("stamp", "")))


def _encode(part: Part, meta: Mapping[str, Any]) -> bytes:
    frames, dim = part.values.shape
    columns = {
        "features": pa.FixedSizeListArray.from_arrays(pa.array(part.values.reshape(-1), pa.float16()), dim),
        "valid": pa.array(part.valid, pa.bool_()),
    }
    if part.times_s is not None:
        columns["time_s"] = pa.array(part.times_s, pa.float64())
    head = {**meta, "frame_hz": part.frame_hz, "start_frame": part.start_frame, "num_frames": frames, "dim": dim}
    batch = pa.RecordBatch.from_pydict(columns)
    batch = batch.replace_schema_metadata({_META: json.dumps(head, sort_keys=True).encode()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _decode(data: bytes) -> tuple[Part, dict[str, Any]]:
    with pa.ipc.open_file(pa.BufferReader(data)) as reader:
        meta = json.loads((reader.schema.metadata or {})[_META])
        names, types = reader.schema.names, reader.schema.types
        if (
            reader.num_record_batches != 1
            or names not in (["features", "valid"], ["features", "valid", "time_s"])
            or not pa.types.is_fixed_size_list(types[0])
            or types[0].value_type != pa.float16()
            or types[1:] != [pa.bool_(), pa.float64()][: len(types) - 1]
        ):
            raise ValueError("not the columns of a part")
        batch = reader.get_batch(0)
    batch.validate(full=True)
    if any(column.null_count for column in batch.columns):
        raise ValueError("nulls in a part")
    dim = types[0].list_size
    values = batch.column(0).flatten().to_numpy(zero_copy_only=True).reshape(batch.num_rows, dim)
    valid = batch.column(1).to_numpy(zero_copy_only=False)
    times_s = batch.column(2).to_numpy() if len(names) == 3 else None
    return Part(values, valid, float(meta["frame_hz"]), int(meta["start_frame"]), times_s), meta


def _sizes_below(directory: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for two in _folders(directory):
        for subject in _folders(Path(two.path)):
            with os.scandir(subject.path) as files:
                for file in files:
                    name = f"{two.name}/{subject.name}/{file.name}"
                    if _PART_NAME.fullmatch(name) and file.is_file(follow_symlinks=False):
                        found[name] = file.stat().st_size
    return found


def _folders(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return [one for one in entries if one.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
