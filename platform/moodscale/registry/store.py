"""MLflow's registry behind the few operations that registration needs.

Every operation is one explicit client's; no global URI is set, no run is made active.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# One bar a directory of small files is noise in a job's log; what the user has set in the environment stands.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from moodscale.config import ConfigError
from moodscale.tracking.base import TrackerConfig, TrackerError, redact, safe_tags
from moodscale.tracking.mlflow import MlflowConfig

_MODEL_NAME = "classifier"
_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE"}


def registry_uri(tracking: TrackerConfig, storage_path: str) -> str:
    """The URI of the MLflow that holds both runs and registered models.

    Raises:
        ConfigError: runs are not tracked in MLflow.
    """
    if not isinstance(tracking, MlflowConfig):
        raise ConfigError(
            f"tracking.kind={tracking.kind!r} has no model registry; set tracking.kind: mlflow to register models"
        )
    return tracking.resolve_uri(storage_path)


class RegistryStore:
    """Logged models, versions and aliases of one MLflow."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        with self._speaking("opening the registry"):
            self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def experiment_of(self, run_id: str) -> str:
        with self._speaking(f"reading run {run_id}"):
            return str(self._client.get_run(run_id).info.experiment_id)

    def start_model(self, experiment_id: str, run_id: str, tags: Mapping[str, str]) -> LoggedModel:
        """A logged model that is still ``PENDING``: nobody should use it yet."""
        with self._speaking("creating a logged model"):
            return self._client.create_logged_model(experiment_id, _MODEL_NAME, run_id, safe_tags(tags))

    def upload(self, model_id: str, directory: Path) -> None:
        with self._speaking("storing the model's files"):
            self._client.log_model_artifacts(model_id, str(directory))

    def accept(self, model_id: str, run_id: str) -> None:
        """The model is what was evaluated: ready, and an output of its run."""
        with self._speaking("finalizing the logged model"):
            self._client.finalize_logged_model(model_id, LoggedModelStatus.READY)
            self._client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])

    def reject(self, model_id: str, reason: str) -> None:
        """Mark the model as failed, with the reason, and delete it; its files stay until MLflow's own clean-up."""
        with self._speaking("deleting the refused model"):
            self._client.set_logged_model_tags(model_id, safe_tags({"moodscale.refused": reason}))
            self._client.finalize_logged_model(model_id, LoggedModelStatus.FAILED)
            self._client.delete_logged_model(model_id)

    def versions(self, name: str) -> list[ModelVersion]:
        """Every version of a registered model, newest first; none where the name is new."""
        found: list[ModelVersion] = []
        token = None
        with self._speaking(f"reading the versions of {name}"):
            while True:
                page = self._client.search_model_versions(f"name = '{name}'", max_results=200, page_token=token)
                found += page
                token = page.token
                if not token:
                    break
        return sorted(found, key=lambda version: int(version.version), reverse=True)

    def create_version(self, name: str, model: LoggedModel, run_id: str, tags: Mapping[str, str], text: str) -> str:
        """A new version of ``name``, which is made where it is new."""
        with self._speaking(f"creating a version of {name}"):
            try:
                self._client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code not in {"RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"}:
                    raise
            # By location, not by models:/ID: a database store would look the id up at the global tracking URI.
            version = self._client.create_model_version(
                name, model.artifact_location, run_id, safe_tags(tags), description=text, model_id=model.model_id
            )
            # What MLflow's pages link a logged model to its versions by.
            link = json.dumps([{"name": name, "version": str(version.version)}])
            self._client.set_logged_model_tags(model.model_id, {MLFLOW_MODEL_VERSIONS: link})
        return str(version.version)

    def aliased(self, name: str, alias: str) -> str | None:
        """The version an alias points to."""
        try:
            return str(self._client.get_model_version_by_alias(name, alias).version)
        except MlflowException as error:
            if error.error_code in _ABSENT:
                return None
            failure = self._failure(f"reading alias {alias} of {name}", error)
        raise failure

    def set_alias(self, name: str, alias: str, version: str) -> None:
        with self._speaking(f"setting alias {alias} of {name}"):
            self._client.set_registered_model_alias(name, alias, version)

    def tag_version(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        with self._speaking(f"tagging version {version} of {name}"):
            for key, value in safe_tags(tags).items():
                self._client.set_model_version_tag(name, version, key, value)

    def find(self, name: str, version: str | None, alias: str | None) -> ModelVersion:
        """A version by number or alias.

        Raises:
            ConfigError: there is none.
        """
        label = f"{name}@{alias}" if alias else f"{name}/{version}"
        try:
            if alias:
                return self._client.get_model_version_by_alias(name, alias)
            return self._client.get_model_version(name, str(version))
        except MlflowException as error:
            if error.error_code not in _ABSENT:
                failure: Exception = self._failure(f"looking for models:/{label}", error)
            else:
                failure = ConfigError(
                    f"models:/{label} is not in the registry at {redact(self.uri)}; register one first"
                )
        raise failure

    def download(self, version: ModelVersion, directory: Path) -> Path:
        """A copy of a version's files, below ``directory``."""
        with self._speaking(f"fetching version {version.version} of {version.name}"):
            uri = self._client.get_model_version_download_uri(version.name, version.version)
            return Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=uri, dst_path=str(directory), tracking_uri=self.uri, registry_uri=self.uri
                )
            )

    @contextmanager
    def _speaking(self, operation: str) -> Iterator[None]:
        try:
            yield
            return
        except MlflowException as error:
            failure = self._failure(operation, error)
        except (ConnectionError, OSError) as error:
            failure = TrackerError(operation, self.uri, type(error).__name__, transient=True)
        # Outside the handlers, so that MLflow's own text (which may quote credentials) is not printed as context.
        raise failure

    def _failure(self, operation: str, error: MlflowException) -> TrackerError:
        return TrackerError(operation, self.uri, f"MLflow says {error.error_code}", transient=False)
