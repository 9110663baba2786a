"""Round 1: the teacher scores the interviews of people without a questionnaire, and some whose answer is known."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from moodscale.config import ConfigError
from moodscale.label import relabel
from moodscale.label.ask import injection_shift, label_transcripts
from moodscale.label.config import LabelConfig
from moodscale.label.transcript import Transcript
from moodscale.prepare.manifest import Manifest
from moodscale.recipes.transcript_severity.examples import unit_id
from moodscale.schema import Instrument, Speaker, Split, Turn, person_hash
from moodscale.train.labels import Labeller

Row = dict[str, Any]


class LabellingStoppedError(ConfigError):
    """A teacher was stopped before it had labelled everybody. What it was paid for is kept."""


@dataclass(frozen=True)
class Taught:
    """A teacher's labels.

    Attributes:
        rows: one an answered interview, in ``LABELS_SCHEMA`` before weights.
        num_unanswered: interviews that it was asked for in vain, or never because it was stopped.
        agreement: with questionnaires of validation; ``None`` where it was not asked about them.
        summary: what it did, in counts.
    """

    name: str
    labeller: Labeller
    rows: list[Row] = field(repr=False)
    num_unanswered: int
    agreement: Mapping[str, Any] | None
    summary: Mapping[str, Any]


def teach(config: LabelConfig, answers: str, manifest: Manifest, seed: int) -> Taught:
    """Ask the teacher.

    Raises:
        ConfigError: nobody is without a label, the manifest holds no words, or the teacher cannot be used. Without a
            teacher there is no label.
    """
    interviews = manifest.unlabelled()
    if not len(interviews):
        raise ConfigError(
            f"{manifest.path}: everybody has a label, or is held out: there is nobody to label; add people without a "
            "questionnaire to the corpus"
        )
    instrument = instrument_of(manifest)
    transcripts = transcripts_of(manifest, interviews, instrument)
    # Before anything is asked: a model may have learned from those whom it would label.
    teacher = config.teacher.open()
    learned_from: frozenset[str] = getattr(teacher, "learned_from", frozenset())
    _check_has_not_seen(config, learned_from, interviews, manifest)
    found = label_transcripts(config.teacher, transcripts, answers)
    if not found.answers:
        reasons = ", ".join(f"{number} {reason}" for reason, number in found.summary.refused.items())
        raise ConfigError(
            f"label.teacher.kind={config.teacher.kind}: none of {len(transcripts)} interviews got a label"
            f"{f' ({reasons})' if reasons else ''}; nothing is labelled in the teacher's place"
        )
    if found.summary.stopped_by is not None and not config.allow_partial:
        raise LabellingStoppedError(
            f"{found.summary.stopped_by} stopped the teacher: {len(found.answers)} of {len(transcripts)} interviews "
            "are labelled, and kept. Raise the setting and submit the job again, or go on with "
            "what is there by label.allow_partial=true"
        )
    by_id = {_unit(row): row for row in interviews.to_pylist()}
    name = f"teacher {config.teacher.kind}"
    rows = [relabel.taught_row(by_id[unit], instrument, answer, name) for unit, answer in found.answers.items()]
    summary = found.summary.to_json()
    if config.num_orders:
        summary["orders"] = injection_shift(
            config.teacher, transcripts, answers, num_sampled=config.num_orders, seed=seed
        )
    return Taught(
        name=name,
        labeller=Labeller("teacher", _version(config.teacher.kind, teacher.identity), learned_from),
        rows=rows,
        num_unanswered=len(transcripts) - len(rows),
        agreement=_agreement(config, answers, manifest, instrument, seed),
        summary=summary,
    )


def _check_has_not_seen(
    config: LabelConfig, learned_from: frozenset[str], interviews: pa.Table, manifest: Manifest
) -> None:
    """What ``train/labels.py`` would refuse once it is paid for.

    Raises:
        ConfigError: naming a person.
    """
    for split, people in (
        ("without a label", interviews["person"].to_pylist()),
        ("of the test split", manifest.people(Split.TEST)),
    ):
        seen = sorted({person for person in people if person_hash(person) in learned_from})
        if seen:
            raise ConfigError(
                f"label.teacher: the model has learned from {seen[0]}, one of {len(seen)} people {split}; take a "
                f"teacher of kind {config.teacher.kind} that never saw them"
            )


def instrument_of(manifest: Manifest) -> Instrument:
    """The questionnaire of the training split.

    Raises:
        ConfigError: it has none, or several.
    """
    found = sorted(set(manifest.interviews(Split.TRAIN)["instrument"].to_pylist()) - {None})
    if len(found) != 1:
        raise ConfigError(
            f"{manifest.path}: the training people filled in {' and '.join(found) or 'no questionnaire'}; labels are "
            "of one instrument: prepare a manifest of it"
        )
    return Instrument(found[0])


def transcripts_of(manifest: Manifest, interviews: pa.Table, instrument: Instrument) -> list[Transcript]:
    """What was said in interviews, as a teacher reads it.

    Raises:
        ConfigError: the manifest holds no words.
    """
    turns: dict[tuple[str, str], list[Turn]] = {}
    table = manifest.turns_of(interviews)
    if len(table) and table["text"].null_count == len(table):
        raise ConfigError(
            f"{manifest.path}: its turns hold no words, and a teacher reads them; prepare it with "
            "prepare.transcripts=deidentified, or as_is"
        )
    for row in table.to_pylist():
        said = Turn(Speaker(row["speaker"]), row["start_s"], row["stop_s"], row["text"] or "", row["recording"])
        turns.setdefault((row["corpus"], row["interview_id"]), []).append(said)
    clean = manifest.facts["settings"]["prepare"]["transcripts"] == "deidentified"
    return [
        Transcript(
            _unit(row), row["person"], instrument, tuple(turns.get((row["corpus"], row["interview_id"]), ())), clean
        )
        for row in interviews.select(["corpus", "interview_id", "person"]).to_pylist()
    ]


def _agreement(
    config: LabelConfig, answers: str, manifest: Manifest, instrument: Instrument, seed: int
) -> dict[str, Any] | None:
    """How the teacher's totals compare with validation questionnaires; those answers become no labels."""
    table = manifest.interviews(Split.VALIDATION)
    if not config.num_agreement or not len(table):
        return None
    chosen = sorted(random.Random(seed).sample(range(len(table)), min(config.num_agreement, len(table))))
    interviews = table.take(chosen)
    truth = {_unit(row): float(row["total"]) for row in interviews.to_pylist()}
    found = label_transcripts(config.teacher, transcripts_of(manifest, interviews, instrument), answers)
    return agreement_of([(truth[unit], answer.total) for unit, answer in found.answers.items()])


def agreement_of(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Number, MAE and Pearson's r of (questionnaire, label) pairs; ``None`` where it is not defined."""
    if not pairs:
        return {"num": 0, "mae": None, "pearson_r": None}
    true, given = np.array(pairs, dtype=np.float64).T
    r = None
    if len(pairs) > 1 and np.ptp(true) > 0 and np.ptp(given) > 0:
        r = float(np.corrcoef(true, given)[0, 1])
    mae = float(np.abs(true - given).mean())
    return {"num": len(pairs), "mae": mae, "pearson_r": r if r is not None and math.isfinite(r) else None}


def _unit(row: Mapping[str, Any]) -> str:
    return unit_id(row["corpus"], row["interview_id"])


def _version(kind: str, identity: Mapping[str, Any]) -> str:
    return f"{kind}@{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]}"
