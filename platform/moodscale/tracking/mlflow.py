"""``kind: mlflow``: runs in MLflow; SQLite on the storage by default, a server by its URI.

Settings alone: MLflow takes seconds to import, and only ``open`` and ``probe`` need it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from moodscale.config import ConfigError
from moodscale.tracking.base import TrackerConfig

if TYPE_CHECKING:
    from moodscale.tracking.mlflow_tracker import MlflowTracker

# MLflow's own retries take about four minutes a call, inside which a stop cannot be heard. The journal and the
# configuration's patience are the retries here; what the user has set in the environment stands.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")


class MlflowConfig(TrackerConfig):
    """Runs in MLflow."""

    kind: Literal["mlflow"] = "mlflow"
    uri: str | None = None
    """Tracking URI; by default the environment's ``MLFLOW_TRACKING_URI``, else SQLite in the storage directory."""
    experiment: str = Field("moodscale", min_length=1, max_length=500)
    patience_s: float = Field(180.0, ge=0)
    """How long the driver's own calls (start, artifacts, finish) keep trying while MLflow is away. Metrics do not
    wait: they stay in the journal."""

    def resolve_uri(self, storage_path: str) -> str:
        """The tracking URI in force.

        Raises:
            ConfigError: SQLite would have to live in an object store.
        """
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI")
        if uri:
            return uri
        if "://" in storage_path:
            raise ConfigError(
                f"tracking.uri is not set and storage_path={storage_path!r} cannot hold a SQLite file; "
                "set tracking.uri or MLFLOW_TRACKING_URI to a server or a database"
            )
        return f"sqlite:///{Path(storage_path).resolve() / 'mlflow.db'}"

    def open(self, storage_path: str) -> MlflowTracker:
        from moodscale.tracking.mlflow_tracker import MlflowTracker

        uri = self.resolve_uri(storage_path)
        return MlflowTracker(uri, self.experiment, sqlite_artifacts(uri), self.patience_s)

    def probe(self, storage_path: str) -> str:
        uri = self.resolve_uri(storage_path)
        database = sqlite_file(uri)
        if database is not None and not database.exists():
            # Looking would create it.
            return f"{uri} (created by the first run)"
        from moodscale.tracking.mlflow_tracker import MlflowTracker

        tracker = MlflowTracker(uri, self.experiment, patience_s=0)
        tracker.find("probe")
        return tracker.place


def sqlite_file(uri: str) -> Path | None:
    """The database file of a SQLite URI; None for every other URI."""
    return Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None


def sqlite_artifacts(uri: str) -> str | None:
    """Where artifacts of a SQLite store lie: beside the database file. A server decides for itself: None."""
    database = sqlite_file(uri)
    if database is None:
        return None
    database.parent.mkdir(parents=True, exist_ok=True)
    return (database.parent / "mlartifacts").as_uri()
