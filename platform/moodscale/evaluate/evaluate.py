"""From a Prediction table to every figure, its interval, the baselines beside it and the guard's verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from moodscale.evaluate.baselines import Baselines, Prevalence, compute_baselines
from moodscale.evaluate.bootstrap import draw_resamples, intervals, resampled_figures, resampled_label_figures
from moodscale.evaluate.calibration import OperatingPoint, choose_operating_point
from moodscale.evaluate.config import EvaluateConfig
from moodscale.evaluate.guard import Evidence, Finding, Verdict, judge
from moodscale.evaluate.metrics import Figures, label_figures, point_figures
from moodscale.evaluate.table import Predictions, to_predictions
from moodscale.evaluate.units import Bools, Floats, Scored, Units, build_units, by_participant, select_rows


@dataclass(frozen=True)
class EvaluationContext:
    """What the table itself does not say.

    Attributes:
        split: the split whose rows are judged.
        train_prevalence: share of depressed among training clips and participants, for the constant baselines
            where the table has no training rows.
    """

    split: str = "test"
    train_prevalence: Prevalence | None = None


@dataclass(frozen=True)
class Level:
    """One group's figures at both levels."""

    clip: Figures
    participant: Figures
    majority_vote: Figures

    def to_json(self) -> dict[str, Any]:
        participant = {**self.participant.to_json(), "majority_vote": self.majority_vote.to_json()}
        return {"clip": self.clip.to_json(), "participant": participant}


@dataclass(frozen=True)
class Evaluation:
    """The result. ``to_json()`` holds plain JSON values only; an undefined figure is null."""

    source: str
    split: str
    unit: str
    config: EvaluateConfig
    overall: Level
    by_gender: Mapping[str, Level]
    baselines: Baselines
    operating_point: OperatingPoint
    guard: Verdict
    variants: Mapping[str, Any]
    """Other readings of the same model: ``score_normalised`` and the greedy ``answer``, where the table has them."""
    model_versions: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def clip(self) -> Figures:
        return self.overall.clip

    @property
    def participant(self) -> Figures:
        return self.overall.participant

    def to_json(self) -> dict[str, Any]:
        return {
            **self.overall.to_json(),
            "by_gender": {gender: level.to_json() for gender, level in self.by_gender.items()},
            "baselines": self.baselines.to_json(),
            **self.operating_point.to_json(),
            "guard": self.guard.to_json(),
            "variants": dict(self.variants),
            "notes": list(self.notes),
            "source": self.source,
            "split": self.split,
            "unit": self.unit,
            "model_versions": list(self.model_versions),
            "config": self.config.to_json(),
        }


def evaluate(
    table: Predictions | pa.Table | pd.DataFrame,
    config: EvaluateConfig | None = None,
    context: EvaluationContext | None = None,
) -> Evaluation:
    """Judge the predictions of one split.

    Temperature and thresholds come from the validation rows of the same table; the evaluated rows never choose
    anything.

    Args:
        table: a Prediction table, checked by ``read_predictions`` or not yet.
    Raises:
        ValueError: naming what is wrong with the table, or that the split has no rows.
    """
    config, context = config or EvaluateConfig(), context or EvaluationContext()
    predictions = to_predictions(table)
    rows, selected = select_rows(predictions, config.target, config.unit)
    notes = [*predictions.notes, *selected]
    judged = rows[rows["split"] == context.split]
    if judged.empty:
        found = ", ".join(sorted(rows["split"].unique()))
        raise ValueError(f"{predictions.source}: column split has no {context.split!r} (found: {found}); set split")
    point = choose_operating_point(rows[rows["split"] == "validation"], config)
    notes += point.notes
    if context.split == "validation" and "validation" in (point.threshold_source, point.temperature_source):
        notes.append("Threshold or temperature were chosen on the very rows that are evaluated: optimistic.")
    units = build_units(judged, point.temperature)
    if units.num_two_labels:
        notes.append(
            f"{units.num_two_labels} participant(s) have clips of both labels (two questionnaires, or a mistake in the "
            "table): each counts once a label at participant level."
        )
    drawn = draw_resamples(units.strata, config.num_bootstrap, config.seed)
    overall = _level(units, point, config, drawn)
    notes += [*overall.clip.notes, *overall.participant.notes, *overall.majority_vote.notes]
    by_gender, gender_notes = _by_gender(units, point, config)
    baselines = compute_baselines(units, rows, context.split, context.train_prevalence, drawn, config.confidence)
    evidence = Evidence(
        clip=overall.clip,
        participant=overall.participant,
        scored_participants=units.participants,
        gender_auc={g: auc for g, level in by_gender.items() if (auc := level.participant.values["auc"]) is not None},
        length=dict(baselines.length),
        threshold_source=point.threshold_source,
    )
    verdict = judge(evidence, config.guard, config.confidence, config.seed + 1)
    return Evaluation(
        source=predictions.source,
        split=context.split,
        unit=str(judged["unit"].iloc[0]),
        config=config,
        overall=overall,
        by_gender=by_gender,
        baselines=baselines,
        operating_point=point,
        guard=_with_two_labels(verdict, units),
        variants=_variants(units, config, drawn),
        model_versions=tuple(sorted(judged["model_version"].unique())),
        notes=(*notes, *gender_notes, *baselines.notes),
    )


def evaluated_units(table: Predictions | pa.Table | pd.DataFrame, evaluation: Evaluation) -> Units:
    """The calibrated units that ``evaluation`` was computed from, for curves and plots."""
    rows, _ = select_rows(to_predictions(table), evaluation.config.target, evaluation.config.unit)
    return build_units(rows[rows["split"] == evaluation.split], evaluation.operating_point.temperature)


def vote_share(units: Units, threshold: float) -> Floats:
    """(participants,) share of each participant's clips that are called depressed."""
    return by_participant(units, (units.clips.score >= threshold).astype(np.float64))


def vote(units: Units, point: OperatingPoint) -> Bools:
    """(participants,) the majority of the clips' answers; the mean probability decides a tie."""
    share = vote_share(units, point.clip)
    tie = units.participants.score >= point.participant
    return np.asarray(np.where(share == 0.5, tie, share > 0.5), dtype=np.bool_)


def _level(units: Units, point: OperatingPoint, config: EvaluateConfig, drawn: Floats) -> Level:
    def figures(scored: Scored, threshold: float, name: str) -> Figures:
        found = point_figures(scored, threshold, config.num_calibration_bins, name)
        samples = resampled_figures(scored, threshold, config.num_calibration_bins, drawn)
        return replace(found, ci=_intervals(found, samples, config))

    predicted = vote(units, point)
    votes = label_figures(units.participants.label, predicted, "participants (majority vote)")
    samples = resampled_label_figures(units.participants, predicted, drawn)
    return Level(
        clip=figures(units.clips, point.clip, "clips"),
        participant=figures(units.participants, point.participant, "participants"),
        majority_vote=replace(votes, ci=_intervals(votes, samples, config)),
    )


def _intervals(
    figures: Figures, samples: dict[str, Floats], config: EvaluateConfig
) -> dict[str, tuple[float, float] | None]:
    """Intervals of the figures that are defined; none without a bootstrap."""
    found = intervals(samples, config.confidence)
    return {name: found.get(name) if value is not None else None for name, value in figures.values.items()}


def _by_gender(units: Units, point: OperatingPoint, config: EvaluateConfig) -> tuple[dict[str, Level], list[str]]:
    if "gender" not in units.frame.columns:
        return {}, ["Figures by gender skipped: the column gender is absent."]
    gender = units.frame["gender"].to_numpy(dtype=object)
    genders = sorted(set(gender))
    if len(genders) < 2:
        return {}, [f"Figures by gender skipped: every row has gender {genders[0]!r}."]
    levels, notes = {}, []
    for number, name in enumerate(genders):
        group = units.only(np.asarray(gender == name, dtype=np.bool_))
        drawn = draw_resamples(group.strata, config.num_bootstrap, config.seed + 2 + number)
        levels[name] = _level(group, point, config, drawn)
        if levels[name].participant.values["auc"] is None:
            people = group.participants
            notes.append(f"AUC of {name} skipped: {people.num_positive} of {people.num} participants are depressed.")
    return levels, notes


def _variants(units: Units, config: EvaluateConfig, drawn: Floats) -> dict[str, Any]:
    """The length-normalised score's AUC, and the greedy answers' own figures.

    An unparsable answer counts as wrong, whatever the label, and is counted separately.
    """
    variants: dict[str, Any] = {}
    frame, clips = units.frame, units.clips
    if "score_normalised" in frame.columns and not frame["score_normalised"].isna().any():
        other = build_units(frame, column="score_normalised")
        entry = {}
        for name, scored in (("clip", other.clips), ("participant", other.participants)):
            found = point_figures(scored, 0.5, config.num_calibration_bins, name)
            samples = resampled_figures(scored, 0.5, config.num_calibration_bins, drawn)
            interval = _intervals(found, samples, config)["auc"]
            entry[name] = {"auc": found.values["auc"], "ci": {"auc": interval and list(interval)}}
        variants["score_normalised"] = entry
    if "answer" in frame.columns and (frame["answer"] != "").all():
        answer = frame["answer"].to_numpy(dtype=object)
        unparsable = answer == "unparsable"
        predicted = np.asarray(np.where(unparsable, ~clips.label, answer == "depressed"), dtype=np.bool_)
        figures = label_figures(clips.label, predicted, "greedy answers")
        interval_by_name = _intervals(figures, resampled_label_figures(clips, predicted, drawn), config)
        variants["answer"] = {
            **replace(figures, ci=interval_by_name).to_json(),
            "num_unparsable": int(unparsable.sum()),
        }
    return variants


def _with_two_labels(verdict: Verdict, units: Units) -> Verdict:
    if not units.num_two_labels:
        return verdict
    message = f"{units.num_two_labels} participant(s) have clips of both labels; check the label column."
    return replace(verdict, warnings=(*verdict.warnings, Finding("two_labels", message)))
