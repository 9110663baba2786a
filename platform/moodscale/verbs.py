"""What each verb does with an experiment: the one function that the command line and `ray job submit` both run.

Each imports what it needs when it is called: a mistake in a configuration is told before torch is loaded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodscale.config import ConfigError
from moodscale.evaluate.report.context import ReportContext
from moodscale.experiment import Experiment
from moodscale.features.driver import ExtractSummary
from moodscale.features.driver import extract as extract_features
from moodscale.prepare.driver import prepare as prepare_manifest
from moodscale.prepare.manifest import Manifest
from moodscale.prepare.summary import ManifestSummary
from moodscale.schema import Split
from moodscale.storage import Place, check_reachable, display, local_copy, local_output, location, write_bytes
from moodscale.tracking.base import MetricPoint, RunSpec, Tracker, redact
from moodscale.tracking.environment import environment_tags
from moodscale.tracking.journal import read_journal
from moodscale.train.driver import JOURNAL, TrainSummary
from moodscale.train.driver import train as run_training

if TYPE_CHECKING:
    from moodscale.evaluate.baselines import Prevalence
    from moodscale.evaluate.evaluate import Evaluation
    from moodscale.forget.forget import Forgotten, Places
    from moodscale.inspect.overlap import Overlap
    from moodscale.inspect.report import DataReport
    from moodscale.registry.register import Registered
    from moodscale.train.plan import Plan

logger = logging.getLogger(__name__)

REPORT = "report.html"
EVALUATION = "evaluation.json"
DATA_REPORT = "inspect.html"


def prepare(experiment: Experiment) -> ManifestSummary:
    """Interviews → manifest."""
    check_reachable(experiment.manifest_dir)
    return prepare_manifest(experiment.corpus, experiment.prepare, str(experiment.manifest_dir))


def extract(experiment: Experiment) -> ExtractSummary:
    """Manifest → features in their store."""
    check_reachable(experiment.features_dir)
    manifest = Manifest.open(str(experiment.manifest_dir))
    return extract_features(manifest, experiment.features, str(experiment.features_dir))


@dataclass(frozen=True)
class Inspected:
    """A data report and where its page lies."""

    report: DataReport
    page: Place

    def to_json(self) -> dict[str, Any]:
        return {**self.report.to_json(), "page": display(self.page)}


def inspect(
    manifests: Sequence[str],
    out: str | None = None,
    *,
    min_cell: int = 5,
    test_labels: bool = True,
    max_clips: int = 14,
) -> Inspected:
    """Manifests → a data report and its page, by default in the first manifest's folder."""
    from moodscale.inspect.page import render_page
    from moodscale.inspect.report import inspect as look_at

    opened = _open_manifests(manifests)
    page = location(out) if out else opened[0].path / DATA_REPORT
    check_reachable(page.parent)
    result = Inspected(look_at(opened, min_cell, test_labels, max_clips), page)
    write_bytes(page, render_page(result.report).encode())
    return result


def check_overlap(manifests: Sequence[str]) -> Overlap:
    """Who is in two places over all the manifests. No label is read."""
    from moodscale.inspect.overlap import find_overlap
    from moodscale.inspect.report import check_different

    opened = _open_manifests(manifests)
    check_different(opened)
    return find_overlap(opened)


def _open_manifests(manifests: Sequence[str]) -> list[Manifest]:
    for one in manifests:
        check_reachable(location(one))
    return [Manifest.open(one) for one in manifests]


def train(experiment: Experiment) -> TrainSummary:
    """Manifest → adapter."""
    check_reachable(experiment.run_dir)
    manifest = Manifest.open(str(experiment.manifest_dir))
    return run_training(experiment.train_job(), open_tracker(experiment), run_spec(experiment, manifest.hash))


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


def forget(person: str, places: Places, really: bool = False) -> Forgotten:
    """A person out of everything that is named, and the models that learned from them."""
    from moodscale.forget.forget import forget as forget_person

    return forget_person(person, places, really)


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


def plan(experiment: Experiment, num_clips: int | None = None, utilisation: float = 0.4) -> Plan:
    """What the experiment would need; no GPU, no download."""
    from moodscale.train.plan import plan as compute_plan

    recipe = experiment.recipe.build()
    if num_clips is None:
        return compute_plan(recipe, experiment.train, utilisation=utilisation)
    return compute_plan(recipe, experiment.train, num_clips, utilisation=utilisation)


def register(experiment: Experiment) -> RegisteredHere:
    """The evaluated checkpoint → a version in the registry, reloaded and compared before it gets one."""
    from moodscale.registry.judgement import Judgement
    from moodscale.registry.register import register as register_model
    from moodscale.registry.store import registry_uri
    from moodscale.train.predict_job import PREDICTIONS

    run_dir, storage = experiment.run_dir, _storage(experiment)
    check_reachable(run_dir)
    uri = registry_uri(experiment.tracking, storage)
    if not (run_dir / EVALUATION).is_file():
        raise ConfigError(f"{run_dir / EVALUATION} is missing: run `moodscale evaluate` before `moodscale register`")
    state = open_tracker(experiment).find(run_key(experiment))
    if state is None:
        raise ConfigError(f"no tracked run of {experiment.name} at {redact(uri)}; was it trained elsewhere?")
    judgement = Judgement.from_json(json.loads((run_dir / EVALUATION).read_text()))
    with local_copy(run_dir / PREDICTIONS) as table:
        registered = register_model(
            experiment.train_job(),
            experiment.tracking,
            storage,
            state.run_id,
            experiment.registry,
            judgement,
            table,
        )
    return RegisteredHere(registered, uri)


@dataclass(frozen=True)
class RegisteredHere:
    """A registered version and the tracking server that holds it."""

    registered: Registered
    tracking_uri: str

    def to_json(self) -> dict[str, Any]:
        return {**self.registered.to_json(), "tracking_uri": redact(self.tracking_uri)}


def predict_registered(model: str, wavs: Sequence[Path], tracking_uri: str | None) -> list[dict[str, Any]]:
    """Recordings → P(depressed) by a registered model."""
    from moodscale.registry.predict import predict_from_registry

    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise ConfigError("no registry named: give --tracking-uri, or set MLFLOW_TRACKING_URI")
    return predict_from_registry(model, wavs, uri)


def open_tracker(experiment: Experiment) -> Tracker:
    """The experiment's tracker; files it keeps go to ``storage_path``."""
    return experiment.tracking.open(_storage(experiment))


def _storage(experiment: Experiment) -> str:
    return str(location(experiment.storage_path))


def run_key(experiment: Experiment) -> str:
    """The tracked run's key: one run an experiment directory, however often its jobs are submitted."""
    return f"{experiment.name}.{hashlib.sha256(str(experiment.run_dir).encode()).hexdigest()[:8]}"


def run_spec(experiment: Experiment, manifest_hash: str) -> RunSpec:
    tags = {**environment_tags(), "moodscale.manifest": manifest_hash, "moodscale.recipe": experiment.recipe.kind}
    return RunSpec(run_key=run_key(experiment), name=experiment.name, config=experiment.to_json(), tags=tags)


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
