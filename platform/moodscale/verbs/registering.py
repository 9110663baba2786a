"""Models in the registry: register, ensemble, predict, score."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodscale.config import ConfigError
from moodscale.experiment import Experiment
from moodscale.storage import check_reachable, local_copy, write_bytes
from moodscale.tracking.base import redact
from moodscale.verbs.evaluating import EVALUATION, REPORT, Evaluated, track_evaluation, write_page
from moodscale.verbs.judging import (
    RIVAL,
    TOTAL,
    Beside,
    bag_of_words_rival,
    is_severity,
    judge_probabilities,
    judge_totals,
    reads_words,
    rounds_of,
)
from moodscale.verbs.training import open_tracker, run_key, storage_of

if TYPE_CHECKING:
    from moodscale.evaluate.severity.compare import Comparison
    from moodscale.evaluate.table import Predictions
    from moodscale.registry.ensemble_build import BuiltEnsemble
    from moodscale.registry.score import ScoreSummary
    from moodscale.registry.versions import Registered

ENSEMBLES = "ensembles"


def register(experiment: Experiment) -> RegisteredHere:
    """The evaluated checkpoint → a version in the registry, reloaded and compared before it gets one."""
    from moodscale.registry.judgement import Judgement
    from moodscale.registry.register import register as register_model
    from moodscale.registry.store import registry_uri
    from moodscale.train.predict_job import PREDICTIONS

    run_dir, storage = experiment.run_dir, storage_of(experiment)
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


def predict_registered(model: str, files: Sequence[Path], tracking_uri: str | None) -> list[dict[str, Any]]:
    """Recordings or conversations → what a registered model says of each."""
    from moodscale.registry.predict import predict_from_registry

    return predict_from_registry(model, files, _uri(tracking_uri))


def score_registered(
    model: str, manifest: str, out: str, tracking_uri: str | None, split: str, num_workers: int, batch: int
) -> ScoreSummary:
    """Interviews of a manifest → Parquet with a score each, by a registered model."""
    from moodscale.registry.score import score

    return score(model, _uri(tracking_uri), manifest, out, split=split, num_workers=num_workers, batch=batch)


def _uri(given: str | None) -> str:
    uri = given or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise ConfigError("no registry named: give --tracking-uri, or set MLFLOW_TRACKING_URI")
    return uri


@dataclass(frozen=True)
class Ensembled:
    """An ensemble, judged (beside the experiment's own model, where that was evaluated) and registered."""

    built: BuiltEnsemble
    evaluated: Evaluated
    registered: Registered
    tracking_uri: str

    def to_json(self) -> dict[str, Any]:
        return {
            **self.evaluated.to_json(),
            **self.registered.to_json(),
            "ensemble": self.built.to_json(),
            "tracking_uri": redact(self.tracking_uri),
        }


def ensemble(experiment: Experiment) -> Ensembled:
    """Members → one model: fitted on validation, judged on test, registered as one version."""
    from moodscale.evaluate.table import read_predictions
    from moodscale.registry.ensemble_build import build_ensemble
    from moodscale.registry.ensemble_register import register_ensemble
    from moodscale.registry.judgement import Judgement
    from moodscale.registry.store import registry_uri

    config = experiment.ensemble
    if config is None:
        raise ConfigError("ensemble.members is not set: name two or more, e.g. [runs:/one, models:/other/3]")
    storage = storage_of(experiment)
    uri = registry_uri(experiment.tracking, storage)
    directory = experiment.run_dir / ENSEMBLES / config.name
    check_reachable(directory)
    built = build_ensemble(config, str(experiment.manifest_dir), storage, str(directory), uri)
    with local_copy(built.predictions) as path:
        table = read_predictions(path)
    comparisons = _with_own_model(experiment, table, built.fit.target)
    if built.fit.target == TOTAL:
        beside = Beside(rounds_of(experiment), built.summary, comparisons)
        rivals = {RIVAL: bag_of_words_rival(experiment, built.manifest, table)} if reads_words(experiment) else {}
        judged = judge_totals(table, experiment.evaluate, built.manifest, rivals, beside)
    else:
        config_of_interviews = experiment.evaluate.model_copy(update={"unit": "interview"})
        judged = judge_probabilities(table, config_of_interviews, built.manifest)
    num_reads = built.manifest.num_test_reads()
    result = Evaluated(judged, built.predictions, directory / REPORT, num_reads, comparisons)
    write_page(experiment, built.manifest, result, ensemble=config.name)
    write_bytes(directory / EVALUATION, json.dumps(judged.evaluation.to_json(), indent=1).encode())
    key = f"{config.name}.{hashlib.sha256(str(directory).encode()).hexdigest()[:8]}"
    registered = register_ensemble(built, experiment.tracking, storage, key, Judgement.of(judged.evaluation))
    track_evaluation(experiment, result, key)
    return Ensembled(built, result, registered, uri)


def _with_own_model(experiment: Experiment, table: Predictions, target: str) -> list[Comparison]:
    """The ensemble beside the experiment's own model, the one of true labels alone, over the same people."""
    from moodscale.evaluate.severity.compare import compare_models
    from moodscale.evaluate.table import read_predictions
    from moodscale.train.predict_job import PREDICTIONS

    own = experiment.run_dir / PREDICTIONS
    if target != TOTAL or not own.is_file():
        return []
    with local_copy(own) as path:
        single = read_predictions(path)
    if not is_severity(single):
        return []
    return [compare_models(table, single, ("ensemble", experiment.name), "total", experiment.evaluate.severity)]
