"""What a manifest offers to extract from: recordings and feature files, and what is missing. No labels are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
from upath import UPath

from moodscale.features.plan import Recording
from moodscale.schema import CorpusError, FeatureFile, Split

_COLUMNS = ("corpus", "interview_id", "split", "recordings", "features", "missing")


class ManifestTables(Protocol):
    """What is read of a manifest."""

    @property
    def hash(self) -> str: ...

    @property
    def roots(self) -> Mapping[str, UPath]: ...

    def without_labels(self, name: str) -> pa.Table: ...


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
    wanted = {Split(split).value for split in splits}
    for row in manifest.without_labels("interviews").select(list(_COLUMNS)).to_pylist():
        if row["split"] not in wanted:
            continue
        name = f"{row['corpus']}:{row['interview_id']}"
        own = {one["recording"]: _recording(one) for one in row["recordings"]}
        if not own:
            missing.setdefault("audio", []).append(name)
        for one in own.values():
            recordings.setdefault(one.audio_hash, one)
        for kind in row["missing"]:
            missing.setdefault(kind, []).append(name)
        # A file that goes with a recording that was quarantined has nothing to go with.
        files += [_columns_file(one, own[one["recording"]]) for one in row["features"] if one["recording"] in own]
    return Sources(
        dict(manifest.roots),
        tuple(recordings[key] for key in sorted(recordings)),
        tuple(sorted(files, key=lambda one: (one.recording.audio_hash, one.file.kind, one.file.path))),
        {kind: tuple(sorted(names)) for kind, names in sorted(missing.items())},
    )


def _recording(row: Mapping[str, Any]) -> Recording:
    return Recording(row["audio_hash"], row["root"], row["path"], row["sample_rate_hz"], row["num_samples"])


def _columns_file(row: Mapping[str, Any], recording: Recording) -> ColumnsFile:
    return ColumnsFile(FeatureFile(row["kind"], row["format"], row["root"], row["path"], row["recording"]), recording)
