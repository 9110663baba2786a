"""What a manifest offers to extract from: recordings and feature files, and what is missing. No labels are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
from upath import UPath

from moodscale.features.plan import Recording
from moodscale.schema import CorpusError, FeatureFile, Split

_COLUMNS = ("corpus", "interview_id", "recordings", "features", "missing")


class ManifestTables(Protocol):
    """What is read of a manifest."""

    @property
    def hash(self) -> str: ...

    @property
    def roots(self) -> Mapping[str, UPath]: ...

    def interviews(self, split: Split | str, reader: str = "") -> pa.Table: ...


@dataclass(frozen=True)
class ColumnsFile:
    """A feature file and the recording that it goes with."""

    file: FeatureFile
    recording: Recording


@dataclass(frozen=True)
class Sources:
    """Everything to extract from, each recording once.

    Attributes:
        roots: folder of each root's name.
        recordings: in the order of their hashes.
        files: in the order of their recordings' hashes.
        missing: interviews (``corpus:id``) without a kind of features that their corpus has for others, by kind;
            ``audio`` for those that were never recorded.
    """

    roots: Mapping[str, UPath]
    recordings: tuple[Recording, ...]
    files: tuple[ColumnsFile, ...]
    missing: Mapping[str, tuple[str, ...]]

    def files_of(self, kind: str) -> tuple[ColumnsFile, ...]:
        """The files of a kind, one a recording: a second one of the same recording is refused.

        Raises:
            CorpusError: two files of the kind for one recording.
        """
        found: dict[str, ColumnsFile] = {}
        for one in self.files:
            if one.file.kind != kind:
                continue
            other = found.setdefault(one.recording.audio_hash, one)
            if (other.file.root, other.file.path) != (one.file.root, one.file.path):
                raise CorpusError(
                    f"{one.file.path} and {other.file.path}: two files of {kind} for one recording; keep one of them"
                )
        return tuple(found.values())


def read_sources(manifest: ManifestTables, splits: Iterable[Split]) -> Sources:
    """Recordings and feature files of some splits.

    Raises:
        CorpusError: a table that is not from this version.
    """
    recordings: dict[str, Recording] = {}
    files: list[ColumnsFile] = []
    missing: dict[str, list[str]] = {}
    for split in splits:
        for row in manifest.interviews(split, reader="extract").select(list(_COLUMNS)).to_pylist():
            name = f"{row['corpus']}:{row['interview_id']}"
            own = [_recording(one) for one in row["recordings"]]
            if not own:
                missing.setdefault("audio", []).append(name)
            for one in own:
                recordings.setdefault(one.audio_hash, one)
            for kind in row["missing"]:
                missing.setdefault(kind, []).append(name)
            files.extend(_columns_file(one, own, name) for one in row["features"] if own)
    return Sources(
        dict(manifest.roots),
        tuple(recordings[key] for key in sorted(recordings)),
        tuple(sorted(files, key=lambda one: (one.recording.audio_hash, one.file.kind, one.file.path))),
        {kind: tuple(sorted(names)) for kind, names in sorted(missing.items())},
    )


def _recording(row: Mapping[str, Any]) -> Recording:
    return Recording(row["audio_hash"], row["root"], row["path"], row["sample_rate_hz"], row["num_samples"])


def _columns_file(row: Mapping[str, Any], recordings: list[Recording], interview: str) -> ColumnsFile:
    file = FeatureFile(row["kind"], row["format"], row["root"], row["path"], row["recording"])
    if not 0 <= file.recording < len(recordings):
        raise CorpusError(f"{file.path}: recording={file.recording} is none of {interview}; prepare it again")
    return ColumnsFile(file, recordings[file.recording])
