"""A version in the registry, of whatever is packed: log, reload in a fresh process, compare; only then a version and
its alias.

Registering is safe to repeat: a model that has its version is found by its tags, and a registration that was
interrupted between version and alias is completed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import Model

from moodscale.registry.compare import Comparison, ModelMismatchError
from moodscale.registry.config import RegistryConfig
from moodscale.registry.facts import PackageFacts
from moodscale.registry.judgement import Judgement
from moodscale.registry.lineage import MANIFEST_TAG
from moodscale.registry.package import INTENDED_USE, PACKAGE, copy_code, requirements
from moodscale.registry.reload import Reloader, Request
from moodscale.registry.serving.base import Serving
from moodscale.registry.store import RegistryStore
from moodscale.tracking.base import TrackerError

logger = logging.getLogger(__name__)

MODEL_VERSION_TAG = "moodscale.model_version"
POINT_TAG = "moodscale.operating_point"
COMPARE_TAG = "moodscale.compare"
_SCRIPT = "registry/pyfunc_model.py"
_MAX_POINT_TEXT = 1000

Answers = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Registered:
    """A version in the registry.

    Attributes:
        model_uri: ``models:/NAME/VERSION``.
        max_difference: largest difference of any compared unit's score, as a share of the scores' range.
        already_registered: the version was there before; nothing was compared or changed now.
    """

    name: str
    version: str
    alias: str
    model_uri: str
    model_version: str
    guard_verdict: str
    max_difference: float
    num_compared: int
    already_registered: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Candidate:
    """A package that is to become a version, if it answers as it should.

    Attributes:
        folder: of this registration alone; holds the package as ``PACKAGE``.
        label: what the version is of, for its page.
        tags: what its version says beside :func:`package_tags`.
        unit: what is compared: ``clip`` or ``interview``.
        waveforms, messages: what the reloaded model is asked; float32 at 16 kHz, or JSON text.
        check: takes the answers; raises :class:`ModelMismatchError` where they are not what was evaluated.
    """

    folder: Path
    facts: PackageFacts
    label: str
    serving: Serving
    judgement: Judgement
    tags: Mapping[str, str]
    unit: str
    check: Callable[[Answers], Comparison]
    waveforms: Sequence[np.ndarray[Any, Any]] = field(default=(), repr=False)
    messages: Sequence[str] = field(default=(), repr=False)

    def all_tags(self) -> dict[str, str]:
        reasons = ", ".join(self.judgement.guard_reasons) or "none"
        figures = {f"moodscale.figure.{name}": f"{value:.6g}" for name, value in self.judgement.figures.items()}
        return {**package_tags(self.facts), **self.tags, "moodscale.guard_reasons": reasons, **figures}

    def description(self) -> str:
        reasons = f" ({', '.join(self.judgement.guard_reasons)})" if self.judgement.guard_reasons else ""
        return f"{self.label}. Collapse guard: {self.judgement.guard_verdict}{reasons}. {INTENDED_USE}"


def registered_before(
    store: RegistryStore, config: RegistryConfig, model_version: str, point: Mapping[str, Any]
) -> Registered | None:
    """The version that holds this very model at this very operating point, if there is one.

    One that has no alias yet gets it: its registration was interrupted.
    """
    wanted = {MODEL_VERSION_TAG: model_version, POINT_TAG: _point_text(point)}
    for version in store.versions(config.name):
        if wanted.items() <= version.tags.items():
            return _completed(store, config, version, model_version)
    return None


def register_candidate(
    store: RegistryStore, run_id: str, config: RegistryConfig, candidate: Candidate, reloader: Reloader
) -> Registered:
    """Log a package, reload it, check its answers; then a version of ``config.name`` and the alias.

    Args:
        run_id: the tracked run that the model belongs to.
        reloader: how the logged model is loaded and scored.
    Raises:
        ModelMismatchError: the reloaded model differs, or cannot be loaded; it gets no version.
        TrackerError: MLflow could not be reached or refused.
    """
    facts, judgement, tags = candidate.facts, candidate.judgement, candidate.all_tags()
    model = store.start_model(store.experiment_of(run_id), run_id, tags)
    try:
        saved = candidate.folder / "model"
        _save(saved, candidate, model, run_id)
        store.upload(model.model_id, saved)
        comparison = candidate.check(_answers(store, model, candidate, config, reloader))
    except BaseException as error:
        _withdraw(store, model.model_id, error)
        raise
    store.accept(model.model_id, run_id)
    tags[COMPARE_TAG] = json.dumps(asdict(comparison))
    version = store.create_version(config.name, model, run_id, tags, candidate.description())
    _move_alias(store, config, version)
    _say_verdict(judgement, config, version)
    logger.info(
        "registered %s as version %s of %s (%d %ss compared, largest difference %.2g)",
        facts.model_version,
        version,
        config.name,
        comparison.num_compared,
        candidate.unit,
        comparison.max_difference,
    )
    return _registered(config, version, facts.model_version, judgement.guard_verdict, comparison, already=False)


def _answers(
    store: RegistryStore, model: LoggedModel, candidate: Candidate, config: RegistryConfig, reloader: Reloader
) -> Answers:
    request = Request(
        f"models:/{model.model_id}",
        store.uri,
        waveforms=candidate.waveforms,
        messages=candidate.messages or None,
    )
    try:
        return reloader(request, config.reload_timeout_s)
    except (ValueError, RuntimeError) as error:
        raise ModelMismatchError(f"the packed model does not load and score by itself: {error}") from error


def _withdraw(store: RegistryStore, model_id: str, error: BaseException) -> None:
    try:
        store.reject(
            model_id,
            f"{type(error).__name__}: {error}" if isinstance(error, ModelMismatchError) else type(error).__name__,
        )
    except TrackerError as problem:
        logger.warning("the refused model %s could not be deleted and stays PENDING: %s", model_id, problem)


def _save(directory: Path, candidate: Candidate, model: LoggedModel, run_id: str) -> None:
    """Write an MLflow model from code around the package.

    Requirements are given, so MLflow neither guesses nor looks any up.
    """
    content = Model(
        artifact_path=model.artifact_location, model_uuid=model.model_id, run_id=run_id, model_id=model.model_id
    )
    source = candidate.folder / "source"
    source.mkdir()
    code = copy_code(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no input example on purpose: it would be somebody's recording
        mlflow.pyfunc.save_model(
            path=str(directory),
            mlflow_model=content,
            python_model=str(code / _SCRIPT),
            artifacts={PACKAGE: str(candidate.folder / PACKAGE)},
            code_paths=[str(code)],
            pip_requirements=requirements(),
            signature=candidate.serving.signature(),
            model_config=dict(candidate.serving.model_config),
            metadata={"model_version": candidate.facts.model_version, "intended_use": INTENDED_USE},
        )


def package_tags(facts: PackageFacts) -> dict[str, str]:
    """What a version says of any kind of package. ``moodscale forget`` finds versions by the manifest's hash."""
    notes = "; ".join(str(note) for note in facts.operating_point.get("notes", ()))
    return {
        MODEL_VERSION_TAG: facts.model_version,
        POINT_TAG: _point_text(facts.operating_point),
        MANIFEST_TAG: facts.manifest_hash,
        "moodscale.serving": facts.serving,
        "moodscale.target": facts.target,
        "moodscale.code_hash": facts.code_hash,
        "moodscale.guard_verdict": facts.guard_verdict,
        "moodscale.num_trained_people": str(len(facts.trained_people)),
        "moodscale.intended_use": INTENDED_USE,
        **({"moodscale.operating_point.notes": notes} if notes else {}),
    }


def _point_text(point: Mapping[str, Any]) -> str:
    """A tag's length is limited, an isotonic curve's is not."""
    text = json.dumps(point, sort_keys=True)
    return text if len(text) <= _MAX_POINT_TEXT else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _completed(store: RegistryStore, config: RegistryConfig, existing: ModelVersion, model_version: str) -> Registered:
    version = str(existing.version)
    if _alias_tag(config.alias) not in existing.tags:
        logger.info("version %s of %s has no alias yet: its registration was interrupted", version, config.name)
        _move_alias(store, config, version)
    else:
        logger.info("%s is version %s of %s already; nothing changed", model_version, version, config.name)
    comparison = Comparison(**json.loads(existing.tags[COMPARE_TAG]))
    verdict = existing.tags.get("moodscale.guard_verdict", "unknown")
    return _registered(config, version, model_version, verdict, comparison, already=True)


def _alias_tag(alias: str) -> str:
    return f"moodscale.alias.{alias}"


def _move_alias(store: RegistryStore, config: RegistryConfig, version: str) -> None:
    """Set the alias and leave a trace on both versions. MLflow lets the last writer win, so who won is checked."""
    before = store.aliased(config.name, config.alias)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    store.set_alias(config.name, config.alias, version)
    tag = _alias_tag(config.alias)
    if before is not None and before != version:
        store.tag_version(config.name, before, {f"{tag}.replaced": f"by version {version} at {at}"})
    # Last: this tag says that nothing is left to do.
    store.tag_version(config.name, version, {tag: f"set at {at}, before: {f'version {before}' if before else 'none'}"})
    now = store.aliased(config.name, config.alias)
    if now != version:
        logger.warning("alias %s of %s points to version %s: somebody set it meanwhile", config.alias, config.name, now)


def _say_verdict(judgement: Judgement, config: RegistryConfig, version: str) -> None:
    if judgement.guard_verdict != "pass":
        logger.warning(
            "version %s of %s is %r with the collapse guard's verdict %s (%s): do not use its scores",
            version,
            config.name,
            config.alias,
            judgement.guard_verdict,
            ", ".join(judgement.guard_reasons),
        )


def _registered(
    config: RegistryConfig, version: str, label: str, verdict: str, comparison: Comparison, already: bool
) -> Registered:
    return Registered(
        name=config.name,
        version=version,
        alias=config.alias,
        model_uri=f"models:/{config.name}/{version}",
        model_version=label,
        guard_verdict=verdict,
        max_difference=comparison.max_difference,
        num_compared=comparison.num_compared,
        already_registered=already,
    )
