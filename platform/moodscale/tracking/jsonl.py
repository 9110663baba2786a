"""``kind: jsonl``: runs as plain files, for where no MLflow is wanted.

A run is a directory ``<storage>/tracking/<run key>/`` with ``run.json`` (id, name, status, attempt, params, tags),
``metrics.jsonl`` (a journal, see ``tracking/journal.py``) and ``artifacts/``.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from moodscale.config import ConfigError
from moodscale.tracking.base import (
    ATTEMPT_TAG,
    CHANGED_PARAMS_TAG,
    RUN_KEY_TAG,
    MetricPoint,
    RunSpec,
    RunState,
    RunStatus,
    TrackerConfig,
    TrackerError,
    flatten_params,
    redact_values,
    safe_tags,
)
from moodscale.tracking.journal import JournalWriter, read_journal


class JsonlConfig(TrackerConfig):
    """Runs as files in a directory."""

    kind: Literal["jsonl"] = "jsonl"
    directory: str | None = None
    """Where the runs lie; by default ``tracking/`` in the storage directory."""

    def open(self, storage_path: str) -> JsonlTracker:
        return JsonlTracker(self._resolve(storage_path))

    def probe(self, storage_path: str) -> str:
        directory = self._resolve(storage_path)
        present = directory.absolute()
        while not present.exists():
            present = present.parent
        if not present.is_dir() or not os.access(present, os.W_OK):
            raise TrackerError("looking at the directory", str(directory), f"{present} not writable", transient=False)
        return str(directory)

    def _resolve(self, storage_path: str) -> Path:
        directory = self.directory or f"{storage_path.rstrip('/')}/tracking"
        if "://" in directory:
            raise ConfigError(f"tracking.directory={directory!r} must be on a file system; set it, or use kind mlflow")
        return Path(directory)


class JsonlTracker:
    """A run in a directory. See :class:`moodscale.tracking.base.Tracker`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._run: Path | None = None

    @property
    def place(self) -> str:
        return str(self._run or self._directory)

    def find(self, run_key: str) -> RunState | None:
        values = self._read(self._directory / _folder(run_key))
        return None if values is None else _state(values)

    def start_or_resume(self, spec: RunSpec) -> RunState:
        self._run = self._directory / _folder(spec.run_key)
        held = self._read(self._run)
        params = flatten_params(spec.config)
        tags = safe_tags({**spec.tags, RUN_KEY_TAG: spec.run_key})
        config_name = "config.json"
        if held is None:
            values: dict[str, Any] = {"run_id": uuid.uuid4().hex, "attempt": 1, "params": params, "tags": tags}
        else:
            attempt = int(held["attempt"]) + 1
            changed = sorted(key for key in params.keys() & held["params"].keys() if params[key] != held["params"][key])
            if changed:
                tags |= safe_tags({CHANGED_PARAMS_TAG: ", ".join(changed)})
                config_name = f"config_attempt_{attempt}.json"
            values = {
                **held,
                "attempt": attempt,
                "params": {**params, **held["params"]},
                "tags": {**held["tags"], **tags},
            }
        values["tags"][ATTEMPT_TAG] = str(values["attempt"])
        values |= {"name": spec.name, "status": RunStatus.RUNNING.value}
        self._write(values)
        self.log_dict(spec.config, config_name)
        return _state(values)

    def attach(self, run_id: str) -> RunState:
        for folder in sorted(self._directory.glob("*")):
            values = self._read(folder)
            if values is not None and values["run_id"] == run_id:
                self._run = folder
                return _state(values)
        raise TrackerError("attaching to the run", str(self._directory), "no run of that id", transient=False)

    def logged_steps(self, keys: Iterable[str]) -> dict[str, set[int]]:
        steps: dict[str, set[int]] = {key: set() for key in keys}
        for point in read_journal(self._path / "metrics.jsonl"):
            for key in point.metrics.keys() & steps.keys():
                steps[key].add(point.step)
        return steps

    def log_points(self, points: Sequence[MetricPoint]) -> None:
        with JournalWriter(self._path / "metrics.jsonl") as journal:
            for point in points:
                journal.append(point.step, point.metrics, point.time_ms)
            journal.commit()

    def log_artifact(self, path: Path, folder: str = "") -> None:
        target = self._artifact(folder)
        target.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True)
        else:
            shutil.copy2(path, target / path.name)

    def log_dict(self, values: Mapping[str, Any], name: str) -> None:
        _write_json(self._artifact(name), redact_values(values))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        values = self._values()
        values["tags"].update(safe_tags(tags))
        self._write(values)

    def finish(self, status: RunStatus) -> None:
        self._write({**self._values(), "status": status.value})

    @property
    def _path(self) -> Path:
        if self._run is None:
            raise RuntimeError("no run yet: call start_or_resume() or attach() first")
        return self._run

    def _artifact(self, name: str) -> Path:
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise ValueError(f"artifact name {name!r} must be a relative path without '..'")
        return self._path / "artifacts" / relative

    def _values(self) -> dict[str, Any]:
        values = self._read(self._path)
        if values is None:
            raise TrackerError("reading the run", str(self._path), "run.json is missing", transient=False)
        return values

    def _read(self, folder: Path) -> dict[str, Any] | None:
        try:
            values: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            raise TrackerError("reading the run", str(folder), "run.json is not JSON", transient=False) from None
        return values

    def _write(self, values: Mapping[str, Any]) -> None:
        _write_json(self._path / "run.json", values)


def _folder(run_key: str) -> str:
    return run_key.replace(":", "_")


def _state(values: Mapping[str, Any]) -> RunState:
    return RunState(str(values["run_id"]), RunStatus(values["status"]), int(values["attempt"]))


def _write_json(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.write_text(json.dumps(values, indent=2, sort_keys=True, default=str), encoding="utf-8")
    os.replace(temporary, path)
