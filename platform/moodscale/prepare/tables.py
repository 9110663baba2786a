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
        pa.field("root", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("sample_rate_hz", pa.int32(), nullable=False),
        pa.field("num_samples", pa.int64(), nullable=False),
        pa.field("duration_s", pa.float64(), nullable=False),
        pa.field("peak", pa.float64(), nullable=False),
        pa.field("clipped_fraction", pa.float64(), nullable=False),
        pa.field("audio_hash", pa.string(), nullable=False),
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
    "ledger": LEDGER_SCHEMA,
    "quarantine": QUARANTINE_SCHEMA,
}

_UNSPLIT_CLIPS = pa.schema([field for field in CLIP_SCHEMA if field.name != "split"])
_HASHED_ROWS = 1024


@dataclass(frozen=True)
class CollectedInterview:
    """A prepared interview as the driver keeps it: its clips as Arrow, a tenth of what they weigh as objects."""

    row: dict[str, Any] | None
    clips: pa.RecordBatch | None
    repairs: tuple[Repair, ...]
    quarantined: tuple[Quarantined, ...]


def collect(one: PreparedInterview) -> CollectedInterview:
    clips = None if one.row is None or not one.clips else _clip_batch(one.row, one.clips)
    return CollectedInterview(one.row, clips, one.repairs, one.quarantined)


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
        "ledger": _lines(repairs, LEDGER_SCHEMA),
        "quarantine": _lines(quarantined, QUARANTINE_SCHEMA),
    }


def _lines(lines: Sequence[Repair] | Sequence[Quarantined], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([{name: getattr(line, name) for name in schema.names} for line in lines], schema)


def _clip_batch(row: Mapping[str, Any], windows: Sequence[Window]) -> pa.RecordBatch:
    """One interview's clips. Samples become seconds here; ``round(seconds * rate)`` gives them back exactly."""
    rate = row["sample_rate_hz"]
    shared = {name: row[name] for name in CLIP_SCHEMA.names if name in row and name not in ("num_turns", "duration_s")}
    clips = [
        {
            **shared,
            "clip_id": f"{row['corpus']}:{row['interview_id']}:{index:04d}",
            "segments": [{"start_s": start / rate, "stop_s": stop / rate} for start, stop in window.segments],
            "duration_s": window.num_samples / rate,
            "num_turns": window.num_turns,
        }
        for index, window in enumerate(windows)
    ]
    return pa.RecordBatch.from_pylist(clips, _UNSPLIT_CLIPS)


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
