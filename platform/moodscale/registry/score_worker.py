"""What scores in a worker process: parts in, stored parts and a line about each out. Knows no Ray.

The model is loaded once, from its package, by the code that runs here; the package is the one that the driver saw.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moodscale.config import ConfigError
from moodscale.prepare.manifest import Manifest
from moodscale.registry.package import MODEL_FILE, PACKAGE, open_package, sha256
from moodscale.registry.predict import check_model_directory, find_version
from moodscale.registry.score_parts import Part, PartFacts, write_part
from moodscale.registry.serving.base import Answer, ServedModel, Session, serving_of
from moodscale.registry.sessions import SessionReader, select_interviews
from moodscale.registry.store import RegistryStore
from moodscale.storage import location, scratch_directory


@dataclass(frozen=True)
class Package:
    """A package on this machine's disk, checked in full.

    Attributes:
        model: ``models:/NAME/VERSION``, or the folder of the package.
        sha256: of ``model.json``, which holds the hashes of every other file.
    """

    model: str
    directory: Path
    sha256: str
    model_version: str
    serving: str
    target: str

    def open(self, settings: Mapping[str, Any] | None = None) -> ServedModel:
        """Build the model; see :meth:`moodscale.registry.serving.base.Serving.open`."""
        serving = serving_of(self.serving)
        facts = open_package(self.directory)
        return serving.open(self.directory, facts, {**serving.model_config, **(settings or {})})


def fetch_package(model: str, tracking_uri: str = "") -> Package:
    """A package as it was registered, on this machine and checked against its hashes.

    Args:
        model: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, or the folder of a package.
        tracking_uri: of the MLflow that holds it; not needed for a folder.
    Raises:
        ConfigError: no such version, or it was not registered by moodscale.
        ValueError: a pickle, or a file that is missing, changed or not listed.
    """
    directory = Path(model)
    if (directory / MODEL_FILE).is_file():
        facts, label = open_package(directory), str(directory)
    else:
        if not tracking_uri:
            raise ConfigError("no registry named: give --tracking-uri, or set MLFLOW_TRACKING_URI")
        store = RegistryStore(tracking_uri)
        version = find_version(store, model)
        # Kept as long as this process: a model may read of its files later.
        fetched = store.download(version, Path(tempfile.mkdtemp(prefix="model-", dir=scratch_directory())))
        facts, directory = check_model_directory(fetched), fetched / "artifacts" / PACKAGE
        label = f"models:/{version.name}/{version.version}"
    return Package(label, directory, sha256(directory / MODEL_FILE), facts.model_version, facts.serving, facts.target)


@dataclass(frozen=True)
class Work:
    """Everything that a worker needs to know. Picklable.

    Attributes:
        settings: of the serving's ``model_config``.
        plan: the plan's digest.
    """

    model: str
    tracking_uri: str = field(repr=False)
    package_sha256: str
    manifest: str
    manifest_hash: str
    selection: str
    out: str
    plan: str
    settings: Mapping[str, Any]
    num_threads: int


@dataclass(frozen=True)
class Line:
    """What became of a part; without ``facts``, why it could not be scored. Never words, never scores."""

    name: str
    facts: PartFacts | None = None
    error: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Line:
        values = json.loads(text)
        facts = None if values["facts"] is None else PartFacts(**values["facts"])
        return cls(values["name"], facts, values["error"])


class Worker:
    """A model and a manifest in memory."""

    def __init__(self, work: Work) -> None:
        """Load both.

        Raises:
            ConfigError, ValueError: the package or the manifest is not what the driver saw, or cannot be used here.
        """
        import torch

        torch.set_num_threads(max(1, work.num_threads))
        manifest = Manifest.open(work.manifest)
        if manifest.hash != work.manifest_hash:
            raise ConfigError(f"{work.manifest}: the manifest changed while it was scored; submit the job again")
        package = fetch_package(work.model, work.tracking_uri)
        if package.sha256 != work.package_sha256:
            raise ConfigError(f"{work.model}: this machine found another package than the driver; submit again")
        self.model = package.open(work.settings)
        self.reader = SessionReader(manifest, select_interviews(manifest, work.selection))
        self.work = work

    def run(self, part: Part) -> Line:
        """Score a part and store it. What cannot be read or scored costs the part, and no other."""
        try:
            rows = score_sessions(self.model, [self.reader.session(key) for key in part.keys])
        except ValueError as error:  # a CorpusError, or a score that is no number
            return Line(part.name, error=str(error))
        return Line(part.name, write_part(location(self.work.out), part.name, rows, self.work.plan))


def score_sessions(model: ServedModel, sessions: Sequence[Session]) -> list[dict[str, Any]]:
    """A row of ``SCORE_SCHEMA`` for each interview, in their order.

    Raises:
        CorpusError: a recording that cannot be read.
    """
    refused = [model.refusal(session) for session in sessions]
    answers = iter(model.score([session for session, why in zip(sessions, refused, strict=True) if not why]))
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return [
        {
            "person": session.person,
            "interview_id": session.interview_id,
            "corpus": session.corpus,
            **_columns(None if why else next(answers)),
            "not_scored": why or None,
            "model_version": model.facts.model_version,
            "scored_at": at,
        }
        for session, why in zip(sessions, refused, strict=True)
    ]


def _columns(answer: Answer | None) -> dict[str, Any]:
    given = asdict(answer) if answer is not None else dict.fromkeys(Answer.__dataclass_fields__)
    return {**given, "items": None if given["items"] is None else list(given["items"])}
