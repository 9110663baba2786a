"""Columns of feature files that came with a corpus, normalised by what the training split alone is like.

The statistics are part of the key: another training split is another feature. A frame that its file calls invalid is
zero and masked; an interview without the file has no parts, and the run's result names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
from pydantic import Field
from upath import UPath

from moodscale import storage
from moodscale.corpora.reading.features import FrameBlock, read_frames
from moodscale.corpora.reading.members import open_input
from moodscale.corpora.reading.paths import resolve
from moodscale.features.extractors.base import Context, ExtractorConfig, key_of
from moodscale.features.plan import SAMPLE_RATE_HZ, Group, Windowing
from moodscale.features.sources import ColumnsFile, Sources
from moodscale.features.statistics import Moments, Statistics, merge_all
from moodscale.features.store import Part
from moodscale.schema import CorpusError, FeatureFile

_VERSION = 1
"""Counts up where the arithmetic below changes a value."""
_NAME = re.compile(r"[a-z0-9_]+")


class ColumnsConfig(ExtractorConfig):
    """One kind of feature file, e.g. ``openface``; frames keep the times that their file gives them."""

    kind: Literal["columns"] = "columns"
    columns: str = Field(description="kind of feature file, as the manifest names it", pattern=_NAME.pattern)

    def resolve(self, context: Context) -> Columns:
        stamps = {place(one.file): _stamp(context.sources.roots, one.file) for one in self._files(context.sources)}
        return Columns(self.columns, self._statistics(context), context.windowing, stamps)

    def _files(self, sources: Sources) -> tuple[ColumnsFile, ...]:
        return sources.files_of(self.columns)

    def _statistics(self, context: Context) -> Statistics:
        """Of the training split; kept in the store, as long as no training file changes."""
        training = context.training()
        files = self._files(training)
        if not files:
            raise CorpusError(
                f"features.extractors: the training split has no {self.columns} files to normalise by; the manifest "
                f"has {', '.join(sorted({one.file.kind for one in training.files})) or 'no feature files'}"
            )
        made_of = {place(one.file): _stamp(training.roots, one.file) for one in files}
        kept = context.store / "statistics" / f"{self.columns}-{context.manifest_hash}.json"
        known = _read(kept)
        if known.get("made_of") == made_of:
            return Statistics.from_json(known["statistics"])
        roots = {name: str(root) for name, root in training.roots.items()}
        texts = [json.dumps(asdict(one.file)) for one in files]
        merged = merge_all(map(Moments.from_json, context.map_tasks(partial(_moments_of_file, roots), texts)))
        if merged is None or not merged.count:
            raise CorpusError(f"features.extractors: no {self.columns} file of the training split has a valid frame")
        statistics = Statistics.of(merged)
        content = {"made_of": made_of, "statistics": statistics.to_json()}
        storage.write_bytes(kept, json.dumps(content, sort_keys=True).encode())
        return statistics


@dataclass(frozen=True)
class Columns:
    """Normalised columns of one kind of file. ``stamps`` tell the versions of the files, by place."""

    name: str
    statistics: Statistics
    windowing: Windowing
    stamps: Mapping[str, str]

    def facts(self) -> dict[str, Any]:
        return {
            "kind": "columns",
            "model": self.name,
            "statistics_sha256": self.statistics.sha256(),
            "version": _VERSION,
            "window_samples": self.windowing.window_samples,
            "context_samples": 0,
        }

    def key(self) -> str:
        return key_of(self.facts())

    def groups(self, sources: Sources) -> list[Group]:
        groups = [
            Group(tuple(self.windowing.windows(one.recording)), one.file, self.stamps[place(one.file)])
            for one in sources.files_of(self.name)
        ]
        return sorted(groups, key=lambda group: -group.num_samples)

    def missing(self, sources: Sources) -> Mapping[str, tuple[str, ...]]:
        return {name: sources.missing[name] for name in ("audio", self.name) if name in sources.missing}

    def open(self, roots: Mapping[str, UPath], device: str, num_threads: int) -> ColumnsEngine:
        return ColumnsEngine(self.statistics, roots, self.windowing)


class ColumnsEngine:
    """Streams a file: no more than a window of it is in memory."""

    def __init__(self, statistics: Statistics, roots: Mapping[str, UPath], windowing: Windowing) -> None:
        self.statistics = statistics
        self.roots = roots
        self.window_s = windowing.window_samples / SAMPLE_RATE_HZ

    def fetch(self, group: Group) -> None:
        """Nothing: a file is too large to be read ahead whole."""

    def compute(self, group: Group, fetched: None) -> Iterator[tuple[str, Part]]:
        assert group.file is not None
        names = group.names
        current, first_frame = 0, 0
        gathered: list[FrameBlock] = []
        for index, block in self._by_window(group.file, len(names), group.windows[-1].stop / SAMPLE_RATE_HZ):
            while current < index:
                part = self._part(gathered, first_frame)
                yield names[current], part
                first_frame += len(part.values)
                current, gathered = current + 1, []
            gathered.append(block)
        while current < len(names):
            part = self._part(gathered, first_frame)
            yield names[current], part
            first_frame += len(part.values)
            current, gathered = current + 1, []

    def _by_window(self, file: FeatureFile, num_windows: int, duration_s: float) -> Iterator[tuple[int, FrameBlock]]:
        """Pieces of blocks with the number of their window, never going back."""
        latest_s = 0.0
        for block in _blocks(self.roots, file, duration_s):
            if block.values.shape[1] != len(self.statistics.mean):
                raise CorpusError(
                    f"{PurePosixPath(file.path).name}: {block.values.shape[1]} columns, the training files have "
                    f"{len(self.statistics.mean)}; is it the same kind of file?"
                )
            # A clock that goes back would break the order that windows are read by.
            times_s = np.maximum.accumulate(np.maximum(block.times_s, latest_s))
            latest_s = float(times_s[-1])
            indices = np.minimum((times_s / self.window_s + 1e-9).astype(np.int64), num_windows - 1)
            edges = [0, *(np.flatnonzero(np.diff(indices)) + 1).tolist(), len(indices)]
            for start, stop in pairwise(edges):
                yield (
                    int(indices[start]),
                    FrameBlock(block.values[start:stop], block.valid[start:stop], times_s[start:stop]),
                )

    def _part(self, blocks: list[FrameBlock], first_frame: int) -> Part:
        dim = len(self.statistics.mean)
        values = np.concatenate([np.zeros((0, dim), np.float32), *(one.values for one in blocks)])
        valid = np.concatenate([np.zeros(0, np.bool_), *(one.valid for one in blocks)])
        times_s = np.concatenate([np.zeros(0), *(one.times_s for one in blocks)])
        with np.errstate(invalid="ignore", over="ignore"):
            normalised = self.statistics.normalise(values)
        return Part.of(normalised, 0.0, first_frame, valid, times_s)


def _blocks(roots: Mapping[str, UPath], file: FeatureFile, duration_s: float | None = None) -> Iterator[FrameBlock]:
    """The blocks of a file that hold a frame.

    Args:
        duration_s: of the recording, where the frames' times are wanted.
    Raises:
        CorpusError: it cannot be read.
    """
    name = PurePosixPath(file.path).name
    try:
        with open_input(roots, file.root, file.path) as stream:
            blocks = read_frames(stream, file.format, name=name, duration_s=duration_s)
            yield from (block for block in blocks if len(block.values))
    except OSError as error:
        raise CorpusError(f"{name}: cannot be read ({error.strerror}); fetch it again") from None


def _moments_of_file(roots: Mapping[str, str], text: str) -> str:
    """A feature file, as JSON → its moments, as JSON."""
    file = FeatureFile(**json.loads(text))
    places = {name: storage.location(root) for name, root in roots.items()}
    merged: Moments | None = None
    for block in _blocks(places, file):
        own = Moments.of(block.values[block.valid & np.isfinite(block.values).all(axis=1)])
        if merged is not None and len(own.mean) != len(merged.mean):
            raise CorpusError(f"{PurePosixPath(file.path).name}: its number of columns changes on the way")
        merged = own if merged is None else merged.merge(own)
    return (merged or Moments(0, np.zeros(0), np.zeros(0))).to_json()


def place(file: FeatureFile) -> str:
    """Where a file lies, in one word."""
    return f"{file.root}:{file.path}"


def _stamp(roots: Mapping[str, UPath], file: FeatureFile) -> str:
    """Tells that a file changed, without reading it: size and time of change, of its archive where it has one."""
    path = resolve(roots, file.root, file.path.partition("!")[0])
    facts = path.stat()
    return f"{facts.st_size}:{int(facts.st_mtime)}"


def _read(path: UPath) -> dict[str, Any]:
    """What is kept there; nothing where it is absent or damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        Statistics.from_json(values["statistics"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return dict(values)
