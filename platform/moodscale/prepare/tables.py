"""The tables of a manifest, and the hash of what they hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from moodscale.prepare.clips import Window
from moodscale.prepare.interview import PreparedInterview
from moodscale.schema import CLIP_SCHEMA, Quarantined, Repair, Split

RECORDING = pa.struct(
    [
        ("recording", pa.int32()),
        ("root", pa.string()),
        ("path", pa.string()),
        ("sample_rate_hz", pa.int32()),
        ("num_samples", pa.int64()),
        ("peak", pa.float64()),
        ("clipped_fraction", pa.float64()),
        ("snr_db", pa.float64()),
        ("audio_hash", pa.string()),
    ]
)
"""A recording of an interview; ``recording`` is the index that turns name it by."""

FEATURE = pa.struct(
    [
        ("kind", pa.string()),
        ("format", pa.string()),
        ("root", pa.string()),
        ("path", pa.string()),
        ("recording", pa.int32()),
    ]
)

INTERVIEW_SCHEMA = pa.schema(
    [
        pa.field("person", pa.string(), nullable=False),
        pa.field("interview_id", pa.string(), nullable=False),
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("split", pa.string()),
        pa.field("official_split", pa.string()),
        pa.field("gender", pa.string(), nullable=False),
        pa.field("instrument", pa.string()),
        pa.field("total", pa.int32()),
        pa.field("depressed", pa.int8()),
        pa.field("items", pa.list_(pa.int8())),
        pa.field("provenance", pa.string()),
        pa.field("administered_at", pa.string()),
        pa.field("recordings", pa.list_(RECORDING), nullable=False),
        pa.field("features", pa.list_(FEATURE), nullable=False),
        pa.field("missing", pa.list_(pa.string()), nullable=False),
        pa.field("duration_s", pa.float64(), nullable=False),
        pa.field("num_participant_turns", pa.int32(), nullable=False),
        pa.field("num_interviewer_turns", pa.int32(), nullable=False),
        pa.field("num_turns", pa.int32(), nullable=False),
        pa.field("speech_s", pa.float64(), nullable=False),
        pa.field("tail_s", pa.float64(), nullable=False),
        pa.field("num_clips", pa.int32(), nullable=False),
    ]
)
"""One row an interview that could be used. ``split`` and the label's columns are null without a label; ``num_turns``
and ``speech_s`` are those the clips are made of, ``tail_s`` what was left over. It holds no words."""

TURN_SCHEMA = pa.schema(
    [
        pa.field("person", pa.string(), nullable=False),
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("interview_id", pa.string(), nullable=False),
        pa.field("turn", pa.int32(), nullable=False),
        pa.field("recording", pa.int32(), nullable=False),
        pa.field("question", pa.int32()),
        pa.field("speaker", pa.string(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("stop_s", pa.float64(), nullable=False),
        pa.field("num_characters", pa.int32(), nullable=False),
        pa.field("text", pa.string()),
    ]
)
"""One row a turn, in order. ``text`` is null unless ``prepare.transcripts`` asks for it."""

LEDGER_SCHEMA = pa.schema(
    [
        pa.field(name, pa.string(), nullable=False)
        for name in ("corpus", "interview_id", "defect", "where", "before", "after", "source")
    ]
)
QUARANTINE_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("corpus", "interview_id", "where", "reason")]
)

SCHEMAS: Mapping[str, pa.Schema] = {
    "clips": CLIP_SCHEMA,
    "interviews": INTERVIEW_SCHEMA,
    "turns": TURN_SCHEMA,
    "ledger": LEDGER_SCHEMA,
    "quarantine": QUARANTINE_SCHEMA,
}

LABELS_AND_WORDS = frozenset({"instrument", "total", "depressed", "items", "provenance", "administered_at", "text"})
"""Columns that say how somebody is, or what was said."""

_UNSPLIT_CLIPS = pa.schema([field for field in CLIP_SCHEMA if field.name != "split"])
_HASHED_ROWS = 1024


@dataclass(frozen=True)
class CollectedInterview:
    """A prepared interview as the driver keeps it: its clips as Arrow, a tenth of what they weigh as objects."""

    row: dict[str, Any] | None
    clips: pa.RecordBatch | None
    turns: pa.RecordBatch | None
    repairs: tuple[Repair, ...]
    quarantined: tuple[Quarantined, ...]


def collect(one: PreparedInterview) -> CollectedInterview:
    clips = None if one.row is None or not one.clips else _clip_batch(one.row, one.clips)
    turns = None if one.row is None or not one.turns else _turn_batch(one.row, one.turns)
    return CollectedInterview(one.row, clips, turns, one.repairs, one.quarantined)


def build_tables(
    prepared: Sequence[CollectedInterview], absent: Sequence[Repair], splits: Mapping[str, Split]
) -> dict[str, pa.Table]:
    """The manifest's tables.

    Args:
        prepared: in the order of the rows.
        absent: ledger lines of the corpus as a whole.
        splits: by person, of everyone with a label.
    """
    batches = [one.clips for one in prepared if one.clips is not None]
    clips = pa.Table.from_batches(batches, _UNSPLIT_CLIPS).combine_chunks()
    own_split = pa.array([splits[person].value for person in clips["person"].to_pylist()], pa.string())
    clips = clips.add_column(CLIP_SCHEMA.get_field_index("split"), CLIP_SCHEMA.field("split"), own_split)
    turns = pa.Table.from_batches([one.turns for one in prepared if one.turns is not None], TURN_SCHEMA)
    rows = [
        {**one.row, "split": str(splits[one.row["person"]]) if one.row["person"] in splits else None}
        for one in prepared
        if one.row is not None
    ]
    repairs = [*absent, *(repair for one in prepared for repair in one.repairs)]
    quarantined = [line for one in prepared for line in one.quarantined]
    return {
        "clips": clips.cast(CLIP_SCHEMA),
        "interviews": pa.Table.from_pylist(rows, INTERVIEW_SCHEMA),
        "turns": turns.combine_chunks(),
        "ledger": _lines(repairs, LEDGER_SCHEMA),
        "quarantine": _lines(quarantined, QUARANTINE_SCHEMA),
    }


def _lines(lines: Sequence[Repair] | Sequence[Quarantined], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([{name: getattr(line, name) for name in schema.names} for line in lines], schema)


def _clip_batch(row: Mapping[str, Any], windows: Sequence[Window]) -> pa.RecordBatch:
    """One interview's clips. Samples become seconds here; ``round(seconds * rate)`` gives them back exactly."""
    recordings = {recording["recording"]: recording for recording in row["recordings"]}
    shared = {name: row[name] for name in CLIP_SCHEMA.names if name in row and name not in ("num_turns", "duration_s")}
    # An interview of combined corpora has its corpus in its id already.
    interview = row["interview_id"].removeprefix(f"{row['corpus']}:")
    clips = []
    for index, window in enumerate(windows):
        first = recordings[window.segments[0][0]]
        rate = first["sample_rate_hz"]
        segments = [
            {
                "start_s": start / rate,
                "stop_s": stop / rate,
                "path": None if recordings[recording] is first else recordings[recording]["path"],
            }
            for recording, start, stop in window.segments
        ]
        clips.append(
            {
                **shared,
                "clip_id": f"{row['corpus']}:{interview}:{index:04d}",
                "root": first["root"],
                "path": first["path"],
                "sample_rate_hz": rate,
                "segments": segments,
                "duration_s": window.num_samples / rate,
                "num_turns": window.num_turns,
            }
        )
    return pa.RecordBatch.from_pylist(clips, _UNSPLIT_CLIPS)


def _turn_batch(row: Mapping[str, Any], turns: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    shared = {name: row[name] for name in ("person", "corpus", "interview_id")}
    return pa.RecordBatch.from_pylist([{**shared, **turn} for turn in turns], TURN_SCHEMA)


def content_hash(tables: Mapping[str, pa.Table], settings: Mapping[str, Any]) -> str:
    """Hash of what a manifest says: every row and the settings it was made with, in any process and on any machine.

    Where the corpus lies, when the manifest was made and how its files are encoded do not count.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, schema in SCHEMAS.items():
        digest.update(f"\n{name}:{','.join(schema.names)}\n".encode())
        for batch in tables[name].to_batches(max_chunksize=_HASHED_ROWS):
            lines = (json.dumps(list(row.values())) + "\n" for row in batch.to_pylist())
            digest.update("".join(lines).encode())
        digest.update(str(tables[name].num_rows).encode())
    return digest.hexdigest()[:32]
