"""Training, what it would need, and the tracked run that belongs to an experiment."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from moodscale.experiment import Experiment
from moodscale.prepare.manifest import Manifest
from moodscale.storage import check_reachable, location
from moodscale.tracking.base import RunSpec, Tracker
from moodscale.tracking.environment import environment_tags
from moodscale.train.driver import TrainSummary
from moodscale.train.driver import train as run_training

if TYPE_CHECKING:
    from moodscale.train.plan import Plan


def train(experiment: Experiment) -> TrainSummary:
    """Manifest → adapter."""
    check_reachable(experiment.run_dir)
    manifest = Manifest.open(str(experiment.manifest_dir))
    return run_training(experiment.train_job(), open_tracker(experiment), run_spec(experiment, manifest.hash))


def plan(experiment: Experiment, num_units: int | None = None, utilisation: float = 0.4) -> Plan:
    """What the experiment would need; no GPU, no download."""
    from moodscale.train.plan import plan as compute_plan

    recipe = experiment.recipe.build()
    return compute_plan(recipe, experiment.train, num_units, utilisation=utilisation)


def open_tracker(experiment: Experiment) -> Tracker:
    """The experiment's tracker; files it keeps go to ``storage_path``."""
    return experiment.tracking.open(storage_of(experiment))


def storage_of(experiment: Experiment) -> str:
    return str(location(experiment.storage_path))


def run_key(experiment: Experiment) -> str:
    """The tracked run's key: one run an experiment directory, however often its jobs are submitted."""
    return f"{experiment.name}.{hashlib.sha256(str(experiment.run_dir).encode()).hexdigest()[:8]}"


def run_spec(experiment: Experiment, manifest_hash: str) -> RunSpec:
    tags = {**environment_tags(), "moodscale.manifest": manifest_hash, "moodscale.recipe": experiment.recipe.kind}
    return RunSpec(run_key=run_key(experiment), name=experiment.name, config=experiment.to_json(), tags=tags)
