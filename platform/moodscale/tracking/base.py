"""The Tracker protocol: one run, its metric points, its artifacts; and what every tracker shares.

A training step never waits for a tracker. Points go to the journal (``tracking/journal.py``) first; the driver
copies them to a tracker behind the step.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from moodscale.config import Component

_CREDENTIALS = re.compile(r"://[^/@\s]+@")
_RUN_KEY = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}$")
_METRIC_KEY = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.:\- ]*(/[A-Za-z0-9_][A-Za-z0-9_.:\- ]*)*$")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.\- /]")
MAX_NAME_LENGTH = 250
MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 8000
RUN_KEY_TAG = "moodscale.run_key"
ATTEMPT_TAG = "moodscale.attempt"
CHANGED_PARAMS_TAG = "moodscale.params_changed"


class TrackerError(RuntimeError):
    """A tracker could not do something. Names the operation, the place and the kind of failure, never the payload."""

    def __init__(self, operation: str, place: str, cause: str, *, transient: bool) -> None:
        super().__init__(f"{operation} at {redact(place)} failed: {cause}")
        self.transient = transient
        """Whether the same call may succeed later (the tracker is unreachable or busy)."""


class RunStatus(enum.StrEnum):
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


@dataclass(frozen=True)
class MetricPoint:
    """What was measured at one global step."""

    step: int
    time_ms: int
    """Wall clock since the epoch, in milliseconds, of the first time this point was written."""
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class RunSpec:
    """What a run is. ``run_key`` names it for good: the same key resumes the same run."""

    run_key: str
    name: str
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The whole configuration: flattened into params once, and kept complete as an artifact of each attempt."""
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _RUN_KEY.match(self.run_key):
            raise ValueError(
                f"run_key={self.run_key!r} may hold letters, digits and _ . : - (at most 200, letter or digit first)"
            )


@dataclass(frozen=True)
class RunState:
    """What a tracker knows of a run."""

    run_id: str
    status: RunStatus
    attempt: int
    """1 for the first start, one more for every resume."""


class Tracker(Protocol):
    """Where one run is written.

    Every call is safe to repeat. Calls raise :class:`TrackerError`; a missing run raises it with
    ``transient=False``.
    """

    @property
    def place(self) -> str:
        """Where the run can be looked at, without credentials."""

    def find(self, run_key: str) -> RunState | None:
        """The run of that key, if it was ever started."""

    def start_or_resume(self, spec: RunSpec) -> RunState:
        """Create the run of ``spec.run_key``, or reopen it: same run id, status RUNNING, attempt + 1.

        Params are written once. A param whose value differs on a resume keeps its first value (trackers hold
        params immutable); its name is recorded in the tag ``moodscale.params_changed``.
        """

    def attach(self, run_id: str) -> RunState:
        """Direct the calls below to an existing run, without reopening it."""

    def logged_steps(self, keys: Iterable[str]) -> dict[str, set[int]]:
        """The steps the tracker already holds, for each of ``keys``."""

    def log_points(self, points: Sequence[MetricPoint]) -> None:
        """Write points, in order, in as few requests as the tracker allows."""

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Keep a copy of a file, or of a directory's content, under ``folder`` of the run's artifacts."""

    def log_dict(self, values: Mapping[str, Any], name: str) -> None:
        """Keep ``values`` as the JSON artifact ``name`` (a relative path), replacing an earlier one."""

    def set_tags(self, tags: Mapping[str, str]) -> None: ...

    def finish(self, status: RunStatus) -> None: ...


class TrackerConfig(Component):
    """Base of ``tracking:`` sections; ``kind`` names the module that writes the runs."""

    kind: str

    def open(self, storage_path: str) -> Tracker:
        """Connect.

        Args:
            storage_path: the experiment's storage directory; trackers that keep files put them there.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement open()")

    def probe(self, storage_path: str) -> str:
        """Find out whether runs could be written, changing nothing.

        Returns:
            Where they would go, without credentials.
        Raises:
            TrackerError: unreachable, or refused.
            ConfigError: the settings cannot work with this storage.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement probe()")


def redact(text: str) -> str:
    """``text`` with user and password cut out of every URI in it."""
    return _CREDENTIALS.sub("://***@", text)


def redact_values(value: Any) -> Any:
    """A JSON value with :func:`redact` applied to every string in it."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {str(key): redact_values(inner) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [redact_values(inner) for inner in value]
    return value


def check_metric_key(key: str) -> None:
    """Refuse early what a tracker would refuse late, where it would hold up every later point.

    Raises:
        ValueError: naming the key.
    """
    if len(key) > MAX_NAME_LENGTH or not _METRIC_KEY.match(key):
        raise ValueError(
            f"metric name {key[:80]!r} must be at most {MAX_NAME_LENGTH} letters, digits, _ . : - or spaces, "
            "in parts joined by /"
        )


def flatten_params(config: Mapping[str, Any]) -> dict[str, str]:
    """Nested configuration → ``section.field`` names and short texts that every tracker takes.

    Lists become JSON; a name or a value over MLflow's limits is cut and ends in a hash of the whole, so two
    different ones never become equal. Credentials inside URIs are cut out.
    """
    flat: dict[str, str] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                visit(f"{prefix}.{key}" if prefix else str(key), inner)
            return
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
        name = safe_name(prefix)
        if name in flat:
            name = _cut(name, MAX_NAME_LENGTH - 9) + "-" + _digest(prefix)
        flat[name] = _cut(redact(text), MAX_PARAM_LENGTH)

    visit("", redact_values(config))
    return flat


def safe_name(name: str) -> str:
    """``name`` in the characters and length trackers take for params and tags."""
    cleaned = _NOT_IN_NAMES.sub("_", name)
    parts = [part for part in cleaned.split("/") if part.strip(". ")]
    return _cut("/".join(parts) or "unnamed", MAX_NAME_LENGTH)


def safe_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {safe_name(key): _cut(redact(str(value)), MAX_TAG_LENGTH) for key, value in tags.items()}


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 10]}-{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
