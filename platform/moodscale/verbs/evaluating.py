"""Scores → figures, guard and report, for both kinds of target."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from moodscale.evaluate.config import EvaluateConfig
from moodscale.evaluate.report.context import ReportContext
from moodscale.experiment import Experiment
from moodscale.prepare.manifest import Manifest
from moodscale.storage import Place, check_reachable, display, local_copy, local_output, write_bytes
from moodscale.tracking.base import MetricPoint, Tracker
from moodscale.tracking.environment import environment_tags
from moodscale.tracking.journal import read_journal
from moodscale.train.driver import JOURNAL
from moodscale.verbs.judging import (
    RIVAL,
    Beside,
    Judgeable,
    Judged,
    bag_of_words_rival,
    difference_lines,
    is_severity,
    judge_probabilities,
    judge_totals,
    rounds_of,
)
from moodscale.verbs.training import open_tracker, run_key

if TYPE_CHECKING:
    from moodscale.evaluate.severity.compare import Comparison

logger = logging.getLogger(__name__)

REPORT = "report.html"
EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class Evaluated:
    """An evaluation and where its report lies."""

    judged: Judged
    predictions: Place
    report: Place
    num_test_reads: int | None = None
    comparisons: Sequence[Comparison] = ()

    @property
    def evaluation(self) -> Judgeable:
        return self.judged.evaluation

    def to_json(self) -> dict[str, Any]:
        places = {"predictions": display(self.predictions), "report": display(self.report)}
        compared = {"comparisons": [one.to_json() for one in self.comparisons]} if self.comparisons else {}
        return {**self.evaluation.to_json(), **places, "num_test_reads": self.num_test_reads, **compared}

    @property
    def lines(self) -> list[str]:
        """What a person reads first."""
        return [*self.judged.lines, *(line for one in self.comparisons for line in difference_lines(one))]


def evaluate_experiment(experiment: Experiment) -> Evaluated:
    """Adapter → Prediction table → figures, guard, report; all of it on the tracked run."""
    from moodscale.evaluate.table import read_predictions
    from moodscale.train.predict_job import predict

    job = experiment.train_job()
    check_reachable(job.directory)
    manifest = Manifest.open(str(experiment.manifest_dir))
    path = predict(job)
    with local_copy(path) as table:
        predictions = read_predictions(table)
    if is_severity(predictions):
        rivals = {RIVAL: bag_of_words_rival(experiment, manifest, predictions)}
        judged = judge_totals(predictions, experiment.evaluate, manifest, rivals, Beside(rounds=rounds_of(experiment)))
    else:
        judged = judge_probabilities(predictions, experiment.evaluate, manifest)
    return conclude(experiment, manifest, judged, path, job.directory)


def conclude(
    experiment: Experiment, manifest: Manifest, judged: Judged, predictions: Place, directory: Place
) -> Evaluated:
    """Write what a judgement says, page and JSON, and put it on the experiment's tracked run."""
    result = Evaluated(judged, predictions, directory / REPORT, manifest.num_test_reads())
    # Written last: where it holds these very figures, the report is written and the run has them.
    done, content = directory / EVALUATION, json.dumps(judged.evaluation.to_json(), indent=1)
    if result.report.is_file() and done.is_file() and done.read_text() == content:
        logger.info("%s is evaluated already; nothing to do", experiment.name)
        return result
    write_page(experiment, manifest, result)
    track_evaluation(experiment, result, run_key(experiment))
    write_bytes(done, content.encode())
    return result


def write_page(experiment: Experiment, manifest: Manifest, result: Evaluated, ensemble: str = "") -> None:
    """The report that a person reads.

    Args:
        ensemble: its name, where it is not the experiment's own model that was judged: no curve shows how it learned.
    """
    context = _report_context(experiment, result.evaluation, manifest)
    if ensemble:
        context = replace(context, title=ensemble, history=())
    with local_output(result.report) as report:
        result.judged.write_report(context, report)


def _report_context(experiment: Experiment, evaluation: Judgeable, manifest: Manifest) -> ReportContext:
    history = [
        (point.step, name, value)
        for point in read_journal(experiment.run_dir / JOURNAL)
        for name, value in point.metrics.items()
    ]
    facts = {
        "run": {"name": experiment.name, "model": ", ".join(evaluation.model_versions)},
        "data": {"manifest": manifest.hash, "corpus": experiment.corpus.kind, "speech": experiment.prepare.speech},
        "environment": environment_tags(),
        "configuration": experiment.to_json(),
    }
    return ReportContext(
        title=experiment.name,
        recipe=experiment.recipe.kind,
        facts=facts,
        approximations=manifest.approximations(),
        history=history,
    )


def evaluate_table(predictions: Path, experiment: Experiment | None = None, against: Sequence[Path] = ()) -> Evaluated:
    """Figures, guard and report of a Prediction table from anywhere.

    Args:
        against: tables of other models over the same people, each compared with the first by paired bootstrap.
    Raises:
        ValueError: a table that cannot be read, or one of other people, units or labels.
    """
    from moodscale.evaluate.severity.compare import compare_models
    from moodscale.evaluate.table import read_predictions

    table = read_predictions(predictions)
    config = experiment.evaluate if experiment else EvaluateConfig()
    target: Literal["total", "depressed"] = "total" if is_severity(table) else "depressed"
    comparisons = [
        compare_models(table, read_predictions(other), (predictions.stem, other.stem), target, config.severity)
        for other in against
    ]
    if target == "total":
        judged = judge_totals(table, config, beside=Beside(comparisons=comparisons))
    else:
        judged = judge_probabilities(table, config)
    report = predictions.with_suffix(".report.html")
    judged.write_report(ReportContext(title=predictions.stem), report)
    return Evaluated(judged, predictions, report, comparisons=comparisons)


def track_evaluation(experiment: Experiment, result: Evaluated, key: str) -> None:
    """Report, figures and verdict onto the tracked run of that key, once however often they are given."""
    tracker = open_tracker(experiment)
    state = tracker.find(key)
    if state is None:
        logger.warning("no tracked run of %s; the report is at %s only", experiment.name, display(result.report))
        return
    tracker.attach(state.run_id)
    with local_copy(result.report) as report:
        tracker.log_artifact(report, "report")
    tracker.log_dict(result.to_json(), "evaluation.json")
    _track_figures(tracker, result, experiment.run_dir / JOURNAL)
    guard = result.evaluation.guard
    tracker.set_tags({"moodscale.guard": str(guard.verdict), "moodscale.test_reads": str(result.num_test_reads)})


def _track_figures(tracker: Tracker, result: Evaluated, journal: Place) -> None:
    """The held-out figures as metrics at the run's last step, once however often the table is evaluated."""
    step = max((point.step for point in read_journal(journal)), default=0)
    figures = result.judged.figures
    held = tracker.logged_steps(figures)
    fresh = {name: value for name, value in figures.items() if step not in held.get(name, ())}
    if fresh:
        tracker.log_points([MetricPoint(step, time.time_ns() // 1_000_000, fresh)])
