"""Models in the registry: register, predict, score, ensemble."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodscale.config import ConfigError
from moodscale.experiment import Experiment
from moodscale.storage import check_reachable, local_copy
from moodscale.tracking.base import redact
from moodscale.verbs.evaluating import EVALUATION
from moodscale.verbs.training import open_tracker, run_key, storage_of

if TYPE_CHECKING:
    from moodscale.registry.register import Registered


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


def predict_registered(model: str, wavs: Sequence[Path], tracking_uri: str | None) -> list[dict[str, Any]]:
    """Recordings → P(depressed) by a registered model."""
    from moodscale.registry.predict import predict_from_registry

    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise ConfigError("no registry named: give --tracking-uri, or set MLFLOW_TRACKING_URI")
    return predict_from_registry(model, wavs, uri)
