"""Interviews of a manifest as models are given them: what was said and recorded, with no label.

Reading them is no read of the test split, whoever they are of: what that count is for is that nobody chooses by test
labels, and no label, nor anything made from one, is in a :class:`Session`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from moodscale.config import ConfigError
from moodscale.prepare.clips import Window, cut_clips
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from moodscale.registry.serving.base import Session
from moodscale.schema import AudioFile, Speaker, Split, Turn

UNLABELLED = "unlabelled"
SELECTIONS = ("all", *(str(split) for split in Split), UNLABELLED)
"""Which interviews of a manifest: everyone's, a split's, or those of people in no split."""

Key = tuple[str, str]
"""Corpus and interview id."""


def select_interviews(manifest: Manifest, selection: str = "all") -> pa.Table:
    """Interviews without labels, in the order of corpus and interview id.

    ``unlabelled`` are those of people who are in no split; one without a label of somebody in a split belongs to it.

    Raises:
        ConfigError: no such selection, or nobody in it.
    """
    if selection not in SELECTIONS:
        raise ConfigError(f"split={selection!r} is not one of {', '.join(SELECTIONS)}")
    table = manifest.without_labels("interviews")
    in_split = {person: str(split) for split in Split for person in manifest.people(split)}
    places = [in_split.get(person, UNLABELLED) for person in table["person"].to_pylist()]
    if selection != "all":
        table = table.filter(pa.array([place == selection for place in places], pa.bool_()))
    if not len(table):
        raise ConfigError(f"split={selection!r}: the manifest {manifest.hash} has no such interview")
    return table.sort_by([("corpus", "ascending"), ("interview_id", "ascending")])


class SessionReader:
    """Interviews of a manifest, read once: their turns stay in memory as Arrow, and become Python a session at a time.

    Args:
        interviews: ``corpus`` and ``interview_id`` of those that may be asked for; other columns are not looked at.
    Raises:
        ValueError: one that is not in the manifest.
    """

    def __init__(self, manifest: Manifest, interviews: pa.Table) -> None:
        keys = interviews.select(["corpus", "interview_id"])
        self._roots = manifest.roots
        self._interviews = _rows_of(manifest, set(_keys(keys)))
        for key in _keys(keys):
            if key not in self._interviews:
                raise ValueError(f"{key[0]}:{key[1]} is no interview of the manifest {manifest.hash}; prepare it again")
        self._turns = manifest.turns_of(keys)
        # One thread keeps the groups in the order of their rows, which are sorted.
        groups = pa.TableGroupBy(self._turns, ["corpus", "interview_id"], use_threads=False).aggregate(
            [([], "count_all")]
        )
        ends = np.cumsum(groups["count_all"].to_numpy()).tolist()
        self._places = {key: (before, end) for key, before, end in zip(_keys(groups), [0, *ends], ends, strict=False)}

    def session(self, key: Key) -> Session:
        """One interview."""
        row, (start, stop) = self._interviews[key], self._places.get(key, (0, 0))
        return Session(
            person=row["person"],
            corpus=key[0],
            interview_id=key[1],
            turns=self._turns.slice(start, stop - start).to_pylist(),
            recordings=row["recordings"],
            roots=self._roots,
        )


def sessions_of(manifest: Manifest, interviews: pa.Table) -> Iterator[Session]:
    """Sessions of some interviews, in their order; see :class:`SessionReader`."""
    reader = SessionReader(manifest, interviews)
    return (reader.session(key) for key in _keys(interviews))


def _keys(table: pa.Table) -> list[Key]:
    return list(zip(table["corpus"].to_pylist(), table["interview_id"].to_pylist(), strict=True))


def _rows_of(manifest: Manifest, keys: Collection[Key]) -> dict[Key, dict[str, Any]]:
    table = manifest.without_labels("interviews").select(["person", "corpus", "interview_id", "recordings"])
    chosen = table.filter(pa.array([key in keys for key in _keys(table)], pa.bool_()))
    return dict(zip(_keys(chosen), chosen.to_pylist(), strict=True))


def cut_session(session: Session, config: PrepareConfig) -> list[dict[str, Any]]:
    """The clips of an interview, as ``read_clip`` takes them; the same windows as in a manifest of these settings."""
    recordings = {row["recording"]: row for row in session.recordings}
    files = {index: _audio_file(row) for index, row in recordings.items()}
    windows = cut_clips([_turn(row) for row in session.turns], files, config).windows
    return [_clip(session, number, window, recordings) for number, window in enumerate(windows)]


def _audio_file(row: Mapping[str, Any]) -> AudioFile:
    return AudioFile(row["root"], row["path"], row["sample_rate_hz"], row["num_samples"])


def _turn(row: Mapping[str, Any]) -> Turn:
    return Turn(Speaker(row["speaker"]), row["start_s"], row["stop_s"], recording=row["recording"])


def _clip(session: Session, number: int, window: Window, recordings: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    first = recordings[window.segments[0][0]]
    rate = first["sample_rate_hz"]
    segments: Sequence[dict[str, Any]] = [
        {"start_s": start / rate, "stop_s": stop / rate, "path": recordings[recording]["path"]}
        for recording, start, stop in window.segments
    ]
    return {
        "clip_id": f"{session.corpus}:{session.interview_id}:{number:04d}",
        "root": first["root"],
        "path": first["path"],
        "sample_rate_hz": rate,
        "segments": segments,
        "duration_s": window.num_samples / rate,
    }
