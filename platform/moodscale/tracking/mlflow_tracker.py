"""Runs in MLflow, the journal's copy and what the driver logs.

Nothing global is touched: no active run, no ``set_tracking_uri``; one explicit client per tracker. Exceptions of
MLflow and of its database layer quote what was sent, so none of them leaves this module.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from moodscale.config import ConfigError
from moodscale.tracking.base import (
    ATTEMPT_TAG,
    CHANGED_PARAMS_TAG,
    RUN_KEY_TAG,
    MetricPoint,
    RunSpec,
    RunState,
    RunStatus,
    TrackerError,
    flatten_params,
    redact,
    redact_values,
    safe_tags,
)

_logger = logging.getLogger(__name__)

CONFIG_HASH_TAG = "moodscale.config_hash"
MAX_METRICS_PER_REQUEST = 1000
MAX_PARAMS_PER_REQUEST = 100
_PERMANENT = {
    "ALREADY_EXISTS",
    "BAD_REQUEST",
    "FEATURE_DISABLED",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "NOT_FOUND",
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
    "UNAUTHENTICATED",
}
_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 10.0

R = TypeVar("R")


class MlflowTracker:
    """A run in MLflow. See :class:`moodscale.tracking.base.Tracker`.

    Args:
        uri: tracking URI.
        experiment: created where absent.
        artifact_location: of an experiment created here; None leaves it to the server.
        patience_s: how long calls other than the metrics' keep trying while MLflow is unreachable.
    """

    def __init__(
        self, uri: str, experiment: str = "moodscale", artifact_location: str | None = None, patience_s: float = 180.0
    ) -> None:
        self._uri = uri
        self._experiment = experiment
        self._artifact_location = artifact_location
        self._patience_s = patience_s
        self._run_id: str | None = None
        self._client = self._plainly("opening MLflow", lambda: MlflowClient(tracking_uri=uri, registry_uri=uri))

    @property
    def place(self) -> str:
        return redact(self._uri)

    @property
    def run_id(self) -> str:
        if self._run_id is None:
            raise RuntimeError("no run yet: call start_or_resume() or attach() first")
        return self._run_id

    def find(self, run_key: str) -> RunState | None:
        run = self._patiently("looking for the run", lambda: self._find(run_key))
        return None if run is None else _state(run)

    def start_or_resume(self, spec: RunSpec) -> RunState:
        run, created = self._patiently("starting the run", lambda: self._find_or_create(spec))
        self._run_id = run.info.run_id
        attempt = 1 if created else _state(run).attempt + 1
        tags = safe_tags({**spec.tags, ATTEMPT_TAG: str(attempt)})
        if not created:
            self._patiently("reopening the run", lambda: self._client.update_run(self.run_id, RunStatus.RUNNING.value))
        self._log_params_once(run, spec, tags)
        self._log_config(run, spec, attempt)
        return RunState(self.run_id, RunStatus.RUNNING, attempt)

    def attach(self, run_id: str) -> RunState:
        run = self._patiently("attaching to the run", lambda: self._client.get_run(run_id))
        self._run_id = run_id
        return _state(run)

    def logged_steps(self, keys: Iterable[str]) -> dict[str, set[int]]:
        def read() -> dict[str, set[int]]:
            return {key: {m.step for m in self._client.get_metric_history(self.run_id, key)} for key in keys}

        return self._plainly("reading logged metrics", read)

    def log_points(self, points: Sequence[MetricPoint]) -> None:
        for batch in _batches(points):
            self._plainly("logging metrics", partial(self._client.log_batch, self.run_id, metrics=batch))

    def log_artifact(self, path: Path, folder: str = "") -> None:
        log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        self._patiently("storing an artifact", lambda: log(self.run_id, str(path), folder or None))

    def log_dict(self, values: Mapping[str, Any], name: str) -> None:
        text = json.dumps(redact_values(values), indent=2, sort_keys=True)
        self._patiently("storing an artifact", lambda: self._client.log_text(self.run_id, text, name))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._log_in_batches([], [RunTag(key, value) for key, value in safe_tags(tags).items()])

    def finish(self, status: RunStatus) -> None:
        self._patiently("closing the run", lambda: self._client.set_terminated(self.run_id, status.value))

    def _find(self, run_key: str) -> Run | None:
        # Run keys hold no quotes (RunSpec checks), so this filter cannot be broken out of.
        experiment = self._client.get_experiment_by_name(self._experiment)
        if experiment is None:
            return None
        found = self._client.search_runs(
            [experiment.experiment_id],
            filter_string=f"tags.`{RUN_KEY_TAG}` = '{run_key}'",
            order_by=["attributes.start_time ASC"],
            max_results=1,
        )
        return found[0] if found else None

    def _find_or_create(self, spec: RunSpec) -> tuple[Run, bool]:
        # Looking again before each try: a request that timed out may have been carried out.
        run = self._find(spec.run_key)
        if run is not None:
            return run, False
        tags = {RUN_KEY_TAG: spec.run_key, ATTEMPT_TAG: "1"}
        return self._client.create_run(self._experiment_id(), tags=tags, run_name=spec.name), True

    def _experiment_id(self) -> str:
        experiment = self._client.get_experiment_by_name(self._experiment)
        if experiment is None:
            try:
                return str(self._client.create_experiment(self._experiment, self._artifact_location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                experiment = self._client.get_experiment_by_name(self._experiment)
        if experiment.lifecycle_stage != "active":
            raise ConfigError(
                f"tracking.experiment={self._experiment!r} was deleted in MLflow; restore it there or name another"
            )
        return str(experiment.experiment_id)

    def _log_params_once(self, run: Run, spec: RunSpec, tags: dict[str, str]) -> None:
        params = flatten_params(spec.config)
        held: dict[str, str] = run.data.params
        changed = sorted(key for key in params.keys() & held.keys() if params[key] != held[key])
        if changed:
            _logger.warning("resumed with other values than the run began with: %s", ", ".join(changed))
            tags |= safe_tags({CHANGED_PARAMS_TAG: ", ".join(changed)})
        missing = [Param(key, value) for key, value in params.items() if key not in held]
        self._log_in_batches(missing, [RunTag(key, value) for key, value in tags.items()])

    def _log_in_batches(self, params: list[Param], tags: list[RunTag]) -> None:
        size = MAX_PARAMS_PER_REQUEST
        for start in range(0, max(len(params), len(tags)), size):
            write = partial(
                self._client.log_batch,
                self.run_id,
                params=params[start : start + size],
                tags=tags[start : start + size],
            )
            self._patiently("writing params and tags", write)

    def _log_config(self, run: Run, spec: RunSpec, attempt: int) -> None:
        config = json.loads(json.dumps(redact_values(spec.config), default=str))
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]
        held = run.data.tags.get(CONFIG_HASH_TAG)
        if held == digest:
            return
        self.log_dict(config, "config.json" if held is None else f"config_attempt_{attempt}.json")
        self.set_tags({CONFIG_HASH_TAG: digest})

    def _patiently(self, operation: str, call: Callable[[], R]) -> R:
        deadline = time.monotonic() + self._patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return self._plainly(operation, call)
            except TrackerError as error:
                if not error.transient or time.monotonic() + pause_s > deadline:
                    raise
                _logger.warning("%s; trying again in %.1f s", error, pause_s)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    def _plainly(self, operation: str, call: Callable[[], R]) -> R:
        failure: TrackerError
        try:
            return call()
        except (ConfigError, TrackerError):
            raise
        except MlflowException as error:
            code = str(error.error_code)
            failure = TrackerError(operation, self._uri, f"MLflow says {code}", transient=code not in _PERMANENT)
        except ConnectionError as error:
            failure = TrackerError(operation, self._uri, type(error).__name__, transient=True)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            failure = TrackerError(operation, self._uri, reason, transient=error.errno is None)
        except Exception as error:
            failure = TrackerError(operation, self._uri, type(error).__name__, transient=False)
        # Raised outside the handlers: the new exception then has no context to print, which would quote the payload.
        raise failure


def _state(run: Run) -> RunState:
    status = run.info.status
    known = RunStatus(status) if status in RunStatus.__members__ else RunStatus.RUNNING
    attempt = run.data.tags.get(ATTEMPT_TAG, "1")
    return RunState(run.info.run_id, known, int(attempt) if attempt.isdecimal() else 1)


def _batches(points: Sequence[MetricPoint]) -> Iterator[list[Metric]]:
    batch: list[Metric] = []
    for point in points:
        if batch and len(batch) + len(point.metrics) > MAX_METRICS_PER_REQUEST:
            yield batch
            batch = []
        batch += [Metric(key, value, point.time_ms, point.step) for key, value in point.metrics.items()]
    if batch:
        yield batch
