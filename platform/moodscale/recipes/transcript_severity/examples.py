"""Interviews of a manifest as examples: their chosen turns, and who they are labelled by."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from moodscale.config import ConfigError
from moodscale.models.context import Speech
from moodscale.models.transcripts import spoken
from moodscale.prepare.manifest import Manifest
from moodscale.recipes.base import Examples
from moodscale.schema import Instrument, Split

logger = logging.getLogger(__name__)

Key: TypeAlias = "tuple[str, str]"
BANDS = (5, 10, 15, 20)
"""From how many points on a person is in the next band of severity: mild, moderate, moderately severe, severe."""

ROW_SCHEMA = pa.schema(
    [
        pa.field("person", pa.string(), nullable=False),
        pa.field("interview_id", pa.string(), nullable=False),
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("split", pa.string()),
        pa.field("gender", pa.string(), nullable=False),
        pa.field("instrument", pa.string(), nullable=False),
        pa.field("total", pa.float64()),
        pa.field("items", pa.list_(pa.float64())),
        pa.field("turns", pa.list_(pa.struct([("speaker", pa.string()), ("text", pa.string())])), nullable=False),
        pa.field("num_turns", pa.int32(), nullable=False),
        pa.field("weight", pa.float64(), nullable=False),
    ]
)
"""One row an interview. ``turns`` are those that are listened to, ``num_turns`` their number."""


def unit_id(corpus: str, interview_id: str) -> str:
    """As clips are named: an interview of combined corpora has its corpus in its id already."""
    return f"{corpus}:{interview_id.removeprefix(f'{corpus}:')}"


def interview_examples(
    manifest: Manifest,
    split: Split | str | None,
    reader: str,
    labels: pa.Table | None,
    *,
    instrument: Instrument,
    speech: Speech,
    max_characters: int,
) -> Examples:
    """The interviews of a split, or those that ``labels`` name.

    Args:
        max_characters: about what the model reads at most; lengths end there.
    Raises:
        ConfigError: no words in the manifest, another instrument, or a label of nobody.
    """
    interviews = _interviews(manifest, split, reader, labels is not None)
    turns = _turns(manifest, interviews)
    chosen = _labelled_by(interviews.to_pylist(), labels)
    rows = []
    for row, answer in chosen:
        own = spoken(turns.get((row["corpus"], row["interview_id"]), []), speech)
        if own:
            rows.append(_row(row, answer, own, instrument))
    if len(rows) < len(chosen):
        logger.warning(
            "%d of %d interviews have no turn of recipe.speech=%s and are left out",
            len(chosen) - len(rows),
            len(chosen),
            speech,
        )
    totals = np.array([0.0 if row["total"] is None else row["total"] for row in rows])
    characters = [sum(len(turn["text"]) for turn in row["turns"]) for row in rows]
    return Examples(
        table=pa.Table.from_pylist(rows, schema=ROW_SCHEMA),
        unit_ids=tuple(unit_id(row["corpus"], row["interview_id"]) for row in rows),
        persons=tuple(row["person"] for row in rows),
        strata=np.searchsorted(BANDS, totals, side="right").astype(np.int64),
        num_strata=len(BANDS) + 1,
        weights=np.array([row["weight"] for row in rows], dtype=np.float64),
        lengths=np.minimum(np.array(characters, dtype=np.int64), max_characters),
    )


def _interviews(manifest: Manifest, split: Split | str | None, reader: str, labelled_elsewhere: bool) -> pa.Table:
    if labelled_elsewhere:
        if split is not None and Split(split) is not Split.TRAIN:
            raise ConfigError(f"labels are trained on: split={split} is held out; give train, or none")
        return pa.concat_tables([manifest.interviews(Split.TRAIN, reader), manifest.unlabelled()])
    return manifest.unlabelled() if split is None else manifest.interviews(split, reader)


def _turns(manifest: Manifest, interviews: pa.Table) -> dict[Key, list[Mapping[str, Any]]]:
    """Turns by interview."""
    table = manifest.turns_of(interviews)
    if len(table) and table["text"].null_count == len(table):
        raise ConfigError(
            f"{manifest.path}: its turns hold no words, and this recipe reads nothing else; prepare it with "
            "prepare.transcripts=deidentified, or as_is"
        )
    turns: dict[Key, list[Mapping[str, Any]]] = {}
    for row in table.select(["corpus", "interview_id", "speaker", "text"]).to_pylist():
        turns.setdefault((row["corpus"], row["interview_id"]), []).append(row)
    return turns


def _labelled_by(
    interviews: list[dict[str, Any]], labels: pa.Table | None
) -> list[tuple[dict[str, Any], Mapping[str, Any]]]:
    """Interviews with the label that counts: their own, or the one of ``labels``."""
    if labels is None:
        return [(row, {**row, "weight": 1.0}) for row in interviews]
    by_key = {(row["corpus"], row["interview_id"]): row for row in interviews}
    chosen = []
    for label in labels.to_pylist():
        row = by_key.get((label["corpus"], label["interview_id"]))
        if row is None:
            raise ConfigError(
                f"there is a label for {unit_id(label['corpus'], label['interview_id'])}, which is no interview of the "
                "manifest's training split, nor one without a label of somebody who is not held out"
            )
        chosen.append((row, label))
    return chosen


def _row(
    interview: Mapping[str, Any], label: Mapping[str, Any], turns: list[Mapping[str, Any]], instrument: Instrument
) -> dict[str, Any]:
    named = label["instrument"]
    if named is not None and named != instrument:
        raise ConfigError(
            f"recipe.instrument={instrument}, but {unit_id(interview['corpus'], interview['interview_id'])} has "
            f"{named}: points of one are not points of the other; set recipe.instrument={named}, or prepare a "
            f"manifest of {instrument} alone"
        )
    items = label["items"] or None
    return {
        **{name: interview[name] for name in ("person", "interview_id", "corpus", "split", "gender")},
        "instrument": str(instrument),
        "total": None if label["total"] is None else float(label["total"]),
        "items": items and [None if item is None else float(item) for item in items],
        "turns": [{"speaker": turn["speaker"], "text": turn["text"]} for turn in turns],
        "num_turns": len(turns),
        "weight": float(label["weight"]),
    }
