"""The two ways of judging a Prediction table: probabilities of clips, and totals of interviews."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from moodscale.evaluate.config import EvaluateConfig
from moodscale.evaluate.report.context import ReportContext
from moodscale.prepare.manifest import Manifest
from moodscale.schema import Instrument, Split
from moodscale.storage import Place, location

if TYPE_CHECKING:
    from moodscale.evaluate.baselines import Prevalence
    from moodscale.evaluate.guard import Verdict
    from moodscale.evaluate.severity.compare import Comparison
    from moodscale.evaluate.table import Predictions
    from moodscale.experiment import Experiment

TOTAL = "total"
RIVAL = "TF-IDF + ridge"


class Judgeable(Protocol):
    """What both evaluations have."""

    @property
    def split(self) -> str: ...

    @property
    def guard(self) -> Verdict: ...

    @property
    def model_versions(self) -> tuple[str, ...]: ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Judged:
    """An evaluation, with what depends on its kind.

    Attributes:
        figures: by the name that a tracker gets.
        lines: what a person reads first.
        write_report: writes the page.
    """

    evaluation: Judgeable
    figures: Mapping[str, float]
    lines: Sequence[str]
    write_report: Callable[[ReportContext, Path], object]


@dataclass(frozen=True)
class Beside:
    """What stands beside totals in their report.

    Attributes:
        rounds: of pseudo-labels, as ``label/rounds.json`` holds them.
        ensemble: members, weights, calibration and interval.
        comparisons: with other models over the same interviews.
    """

    rounds: Mapping[str, Any] | None = None
    ensemble: Mapping[str, Any] | None = None
    comparisons: Sequence[Comparison] = ()


def is_severity(table: Predictions) -> bool:
    """Whether a table holds totals, and no probabilities."""
    targets = set(table.frame["target"].unique())
    return TOTAL in targets and "depressed" not in targets


def judge_probabilities(
    table: Predictions, config: EvaluateConfig | None = None, manifest: Manifest | None = None
) -> Judged:
    """Judge rows of target ``depressed``.

    Args:
        manifest: for the training split's prevalence, where the table has no training rows.
    """
    from moodscale.evaluate.evaluate import EvaluationContext, evaluate
    from moodscale.evaluate.report.write import write_report

    context = EvaluationContext(train_prevalence=None if manifest is None else _train_prevalence(manifest))
    evaluation = evaluate(table, config, context)
    figures = {
        f"{evaluation.split}/{level}_{name}": value
        for level, given in (("participant", evaluation.participant), ("clip", evaluation.clip))
        for name, value in given.values.items()
        if value is not None
    }
    auc = _shown(evaluation.participant.values.get("auc"), evaluation.participant.ci.get("auc"), 3)
    return Judged(
        evaluation,
        figures,
        [f"participant AUC {auc}"],
        lambda report, path: write_report(evaluation, table, report, path),
    )


def judge_totals(
    table: Predictions,
    config: EvaluateConfig | None = None,
    manifest: Manifest | None = None,
    rivals: Mapping[str, Predictions] | None = None,
    beside: Beside | None = None,
) -> Judged:
    """Judge rows of target ``total``.

    Args:
        manifest: for the training questionnaires, where the table has no training rows.
        rivals: other models' tables over the same interviews.
    """
    from moodscale.evaluate.report.severity import write_severity_report
    from moodscale.evaluate.severity.evaluate import SeverityContext, evaluate_severity

    beside = beside or Beside()
    totals = None if manifest is None else manifest.interviews(Split.TRAIN)["total"].to_pylist()
    context = SeverityContext(train_totals=totals, rivals=dict(rivals or {}))
    evaluation = evaluate_severity(table, config.severity if config else None, context)
    values, ci = evaluation.figures.values, evaluation.figures.ci
    figures = {f"{evaluation.split}/interview_{name}": value for name, value in values.items() if value is not None}
    named = (("mae", "MAE"), ("rmse", "RMSE"), ("pearson_r", "Pearson r"), ("auc_at_10", "AUC at 10"))
    lines = [f"{label} {_shown(values.get(name), ci.get(name), 2)}" for name, label in named]
    for baseline in evaluation.baselines:
        difference = baseline.comparison.differences["mae"]
        lines.append(f"MAE minus that of {baseline.name}: {_shown(difference.difference, difference.ci, 2)}")
    return Judged(
        evaluation,
        figures,
        lines,
        lambda report, path: write_severity_report(
            evaluation,
            table,
            report,
            path,
            rounds=beside.rounds,
            ensemble=beside.ensemble,
            comparisons=beside.comparisons,
        ),
    )


def bag_of_words_rival(experiment: Experiment, manifest: Manifest, table: Predictions) -> Predictions:
    """The table's held-out interviews as TF-IDF and ridge regression score them, fitted on true labels of training.

    What a bag of words reaches, a language model has to better.
    """
    from moodscale.evaluate.table import to_predictions
    from moodscale.models.tfidf_ridge import tfidf_ridge
    from moodscale.recipes.transcript_severity.examples import unit_id

    recipe = experiment.recipe.build()
    fitted = recipe.examples(manifest, Split.TRAIN).table
    splits = [Split(split) for split in sorted(table.frame["split"].unique())]
    scored = pa.concat_tables(
        [recipe.examples(manifest, split, reader="baseline").table for split in splits if split is not Split.TRAIN]
    ).to_pylist()
    instrument = Instrument(fitted["instrument"][0].as_py())
    texts = (_texts(fitted.to_pylist()), _texts(scored))
    totals = fitted["total"].to_pylist()
    people = fitted["person"].to_pylist()
    answers = tfidf_ridge(texts[0], totals, texts[1], instrument.max_total, experiment.seed, groups=people)
    by_unit = {
        unit_id(row["corpus"], row["interview_id"]): float(answer) for row, answer in zip(scored, answers, strict=True)
    }
    frame = table.frame[table.frame["target"] == TOTAL].copy()
    frame["score"] = frame["unit_id"].map(by_unit)
    frame["model_version"] = "tfidf_ridge"
    return to_predictions(frame, source=RIVAL)


def reads_words(experiment: Experiment) -> bool:
    """Whether an experiment's recipe reads transcripts, so that a bag of words can be fitted on the same."""
    return experiment.recipe.build().target == TOTAL


def rounds_of(experiment: Experiment) -> Mapping[str, Any] | None:
    """The rounds of pseudo-labels that an experiment led to, or comes from; ``None`` where there are none."""
    from moodscale.label.rounds import FOLDER, ROUNDS_FILE

    places: list[Place] = [experiment.run_dir / FOLDER / ROUNDS_FILE]
    if experiment.labels is not None:
        places.append(location(experiment.labels).parent.parent / ROUNDS_FILE)
    for place in places:
        if place.is_file():
            found: Mapping[str, Any] = json.loads(place.read_text())
            return found
    return None


def difference_lines(comparison: Comparison) -> list[str]:
    """A comparison in words."""
    return [
        f"{name} of {comparison.first} minus that of {comparison.second}: {_shown(one.difference, one.ci, 3)}"
        for name, one in comparison.differences.items()
    ]


def _texts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [" ".join(turn["text"] for turn in row["turns"]) for row in rows]


def _train_prevalence(manifest: Manifest) -> Prevalence | None:
    from moodscale.evaluate.baselines import Prevalence

    clips = manifest.clips(Split.TRAIN).select(["person", "depressed"]).to_pandas()
    if clips.empty:
        return None
    people = clips.groupby("person")["depressed"].first()
    return Prevalence(clip=float(clips["depressed"].mean()), participant=float(people.mean()), source="training split")


def _shown(value: float | None, interval: tuple[float, float] | None, digits: int) -> str:
    if value is None:
        return "undefined"
    ends = "" if interval is None else f" ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"
    return f"{value:.{digits}f}{ends}"
