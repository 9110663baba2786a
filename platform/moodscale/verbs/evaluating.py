"""Scores → figures, guard and report, for both kinds of target."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodscale.evaluate.report.context import ReportContext
from moodscale.experiment import Experiment
from moodscale.prepare.manifest import Manifest
from moodscale.schema import Split
from moodscale.storage import Place, check_reachable, display, local_copy, local_output, write_bytes
from moodscale.tracking.base import MetricPoint, Tracker
from moodscale.tracking.environment import environment_tags
from moodscale.tracking.journal import read_journal
from moodscale.train.driver import JOURNAL
from moodscale.verbs.training import open_tracker, run_key

if TYPE_CHECKING:
    from moodscale.evaluate.baselines import Prevalence
    from moodscale.evaluate.evaluate import Evaluation

logger = logging.getLogger(__name__)

REPORT = "report.html"
EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class Evaluated:
    """An evaluation and where its report lies."""

    evaluation: Evaluation
    predictions: Place
    report: Place
    num_test_reads: int | None = None

    def to_json(self) -> dict[str, Any]:
        places = {"predictions": display(self.predictions), "report": display(self.report)}
        return {**self.evaluation.to_json(), **places, "num_test_reads": self.num_test_reads}


def evaluate_experiment(experiment: Experiment) -> Evaluated:
    """Adapter → Prediction table → figures, guard, report; all of it on the tracked run."""
    from moodscale.evaluate.evaluate import EvaluationContext, evaluate
    from moodscale.evaluate.report.write import write_report
    from moodscale.evaluate.table import read_predictions
    from moodscale.train.predict_job import predict

    job = experiment.train_job()
    check_reachable(job.directory)
    manifest = Manifest.open(str(experiment.manifest_dir))
    path = predict(job)
    with local_copy(path) as table:
        predictions = read_predictions(table)
    context = EvaluationContext(train_prevalence=_train_prevalence(manifest))
    evaluation = evaluate(predictions, experiment.evaluate, context)
    result = Evaluated(evaluation, path, job.directory / REPORT, manifest.num_test_reads())
    # Written last: where it holds these very figures, the report is written and the run has them.
    done, content = job.directory / EVALUATION, json.dumps(evaluation.to_json(), indent=1)
    if result.report.is_file() and done.is_file() and done.read_text() == content:
        logger.info("%s is evaluated already; nothing to do", experiment.name)
        return result
    with local_output(result.report) as report:
        write_report(evaluation, predictions, _report_context(experiment, evaluation, manifest), report)
    _track_evaluation(experiment, result)
    write_bytes(done, content.encode())
    return result


def _report_context(experiment: Experiment, evaluation: Evaluation, manifest: Manifest) -> ReportContext:
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


def evaluate_table(predictions: Path, experiment: Experiment | None = None) -> Evaluated:
    """Figures, guard and report of a Prediction table from anywhere."""
    from moodscale.evaluate.evaluate import evaluate
    from moodscale.evaluate.report.write import write_report
    from moodscale.evaluate.table import read_predictions

    table = read_predictions(predictions)
    evaluation = evaluate(table, experiment.evaluate if experiment else None)
    report = write_report(
        evaluation, table, ReportContext(title=predictions.stem), predictions.with_suffix(".report.html")
    )
    return Evaluated(evaluation, predictions, report)


def _train_prevalence(manifest: Manifest) -> Prevalence | None:
    from moodscale.evaluate.baselines import Prevalence

    clips = manifest.clips(Split.TRAIN).select(["person", "depressed"]).to_pandas()
    if clips.empty:
        return None
    people = clips.groupby("person")["depressed"].first()
    return Prevalence(clip=float(clips["depressed"].mean()), participant=float(people.mean()), source="training split")


def _track_evaluation(experiment: Experiment, result: Evaluated) -> None:
    tracker = open_tracker(experiment)
    state = tracker.find(run_key(experiment))
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
    figures = {
        f"{result.evaluation.split}/{level}_{name}": value
        for level, given in (("participant", result.evaluation.participant), ("clip", result.evaluation.clip))
        for name, value in given.values.items()
        if value is not None
    }
    held = tracker.logged_steps(figures)
    fresh = {name: value for name, value in figures.items() if step not in held.get(name, ())}
    if fresh:
        tracker.log_points([MetricPoint(step, time.time_ns() // 1_000_000, fresh)])
