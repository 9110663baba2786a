"""Pack, reload in a fresh process, compare; only then a version and its alias.

Registering is safe to repeat: a model that has its version is found by its tags, and a registration that was
interrupted between version and alias is completed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow.pyfunc
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import Model

from moodscale.evaluate.table import Predictions, read_predictions
from moodscale.models.lora import ADAPTER_FILE, apply_adapter, load_adapter
from moodscale.prepare.manifest import Manifest
from moodscale.recipes.base import Recipe
from moodscale.registry.compare import Comparison, Expected, ModelMismatchError, check_model, compare
from moodscale.registry.config import RegistryConfig
from moodscale.registry.facts import PackageFacts, TrainedFacts, digests_of
from moodscale.registry.judgement import Judgement
from moodscale.registry.lineage import MANIFEST_TAG
from moodscale.registry.package import (
    INTENDED_USE,
    PACKAGE,
    PackageSources,
    base_fingerprint,
    copy_code,
    pack,
    requirements,
)
from moodscale.registry.reload import Reloader, Request, score_in_fresh_process
from moodscale.registry.serving.base import Serving, TrainedServing, serving_for
from moodscale.registry.store import RegistryStore, registry_uri
from moodscale.schema import Split
from moodscale.storage import location
from moodscale.tracking.base import TrackerConfig, TrackerError
from moodscale.train.checkpoint import Checkpoint
from moodscale.train.driver import TrainJob
from moodscale.train.engine import DTYPES
from moodscale.train.labels import open_labels
from moodscale.train.predict_job import best_checkpoint, model_version

logger = logging.getLogger(__name__)

MODEL_VERSION_TAG = "moodscale.model_version"
POINT_TAG = "moodscale.operating_point"
COMPARE_TAG = "moodscale.compare"
_SCRIPT = "registry/pyfunc_model.py"
_MAX_POINT_TEXT = 1000


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


def register(
    job: TrainJob,
    tracking: TrackerConfig,
    storage_path: str,
    run_id: str,
    config: RegistryConfig,
    judgement: Judgement,
    predictions: Path,
    reloader: Reloader = score_in_fresh_process,
) -> Registered:
    """Give a job's best checkpoint a version in the registry, once it was shown to score as it was evaluated.

    A guard verdict of ``fail`` does not keep a model from being a candidate; it is tagged and said, and promotion
    is another step's decision.

    Args:
        tracking: must be ``kind: mlflow``; ``storage_path`` is what its default URI is relative to.
        run_id: the tracked run that trained the model.
        judgement: of the evaluation of exactly this checkpoint.
        predictions: the Prediction table that evaluation read, with its validation rows.
        reloader: how the logged model is loaded and scored.
    Raises:
        ConfigError: runs are not tracked in MLflow.
        ValueError: no checkpoint, a broken manifest, or an evaluation or table of another model.
        ModelMismatchError: the reloaded model differs, or cannot be loaded; it gets no version.
        TrackerError: MLflow could not be reached or refused.
    """
    store = RegistryStore(registry_uri(tracking, storage_path))
    best = best_checkpoint(job)
    label = model_version(job.name, best.path)
    judgement.check_is_of(label)
    recipe = job.recipe.build()
    name, serving = serving_for(recipe)
    table = _table(predictions, label, judgement, serving)
    point = serving.operating_point(judgement, table, config)
    existing = _existing(store, config.name, label, point)
    if existing is not None:
        return _already(store, config, existing, label)
    manifest = Manifest.open(job.manifest)
    expected = serving.expected(recipe, manifest, table, point, config.compare_clips)
    with tempfile.TemporaryDirectory(prefix="moodscale-register-") as folder:
        target = _made(Path(folder) / PACKAGE)
        facts = pack_job(job, recipe, best, manifest, judgement, label, name, serving, point, target)
        tags = _tags(facts, judgement)
        model = store.start_model(store.experiment_of(run_id), run_id, tags)
        comparison = _log_and_compare(store, model, run_id, Path(folder), expected, facts, serving, config, reloader)
        store.accept(model.model_id, run_id)
    tags[COMPARE_TAG] = json.dumps(asdict(comparison))
    version = store.create_version(config.name, model, run_id, tags, _description(facts, judgement))
    _move_alias(store, config, version)
    _say_verdict(judgement, config, version)
    logger.info(
        "registered %s as version %s of %s (%d %ss compared, largest difference %.2g)",
        label,
        version,
        config.name,
        comparison.num_compared,
        expected.unit,
        comparison.max_difference,
    )
    return _registered(config, version, label, judgement.guard_verdict, comparison, already=False)


def _table(predictions: Path, label: str, judgement: Judgement, serving: TrainedServing) -> Predictions:
    if judgement.target != serving.target:
        raise ValueError(
            f"the evaluation is of target {judgement.target!r}, the recipe's is {serving.target!r}; run `moodscale "
            "evaluate` again"
        )
    table = read_predictions(predictions)
    check_model(table, label)
    return table


def pack_job(
    job: TrainJob,
    recipe: Recipe,
    best: Checkpoint,
    manifest: Manifest,
    judgement: Judgement,
    label: str,
    serving_name: str,
    serving: TrainedServing,
    point: Mapping[str, Any],
    directory: Path,
) -> TrainedFacts:
    """Write a checkpoint's package into an empty directory.

    The model is built once, so that its base can be told apart from any other and the adapter is known to fit.

    Args:
        manifest: that the job was trained on.
        label: the model's version.
        point: of ``serving.operating_point``.
    """
    precision = job.train.engine.precision
    model = recipe.build_model(DTYPES[precision])
    with job.store().file(best.path, ADAPTER_FILE) as adapter:
        apply_adapter(model, load_adapter(adapter))
        fingerprint = base_fingerprint(model)
        del model
        sources = PackageSources(
            serving=serving_name,
            model_version=label,
            recipe=job.recipe,
            base_fingerprint=fingerprint,
            precision=precision,
            manifest_hash=manifest.hash,
            operating_point=point,
            guard_verdict=judgement.guard_verdict,
            trained_people=trained_people(job, manifest),
            **serving.cutting(manifest),
        )
        return pack(sources, recipe, adapter, directory)


def trained_people(job: TrainJob, manifest: Manifest) -> tuple[str, ...]:
    """Digests of everyone whose label a job's model has learned from, in training or in choosing on validation.

    With a table of labels these are its people, and those that its labellers had learned from: what a labeller knew of
    them is in the labels.
    """
    validation = digests_of(manifest.people(Split.VALIDATION))
    if job.labels is None:
        return tuple(sorted({*validation, *digests_of(manifest.people(Split.TRAIN))}))
    labels = open_labels(location(job.labels), manifest)
    taught = {person for labeller in labels.labellers.values() for person in labeller.learned_from}
    return tuple(sorted({*validation, *digests_of(labels.people), *taught}))


def _log_and_compare(
    store: RegistryStore,
    model: LoggedModel,
    run_id: str,
    folder: Path,
    expected: Expected,
    facts: TrainedFacts,
    serving: Serving,
    config: RegistryConfig,
    reloader: Reloader,
) -> Comparison:
    """Store the model's files and score with what was stored; whatever goes wrong, the logged model is withdrawn."""
    try:
        saved = folder / "model"
        save_model(saved, folder, model, run_id, facts, serving)
        store.upload(model.model_id, saved)
        request = Request(
            f"models:/{model.model_id}",
            store.uri,
            waveforms=expected.waveforms,
            messages=expected.messages or None,
        )
        answers = _reloaded(reloader, request, config.reload_timeout_s)
        return compare(expected, answers, config.tolerance.of(facts.precision))
    except BaseException as error:
        _withdraw(store, model.model_id, error)
        raise


def _reloaded(reloader: Reloader, request: Request, timeout_s: float) -> list[dict[str, Any]]:
    try:
        return reloader(request, timeout_s)
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


def save_model(
    directory: Path, folder: Path, model: LoggedModel, run_id: str, facts: PackageFacts, serving: Serving
) -> None:
    """Write an MLflow model from code around the package at ``folder / PACKAGE``.

    Requirements are given, so MLflow neither guesses nor looks any up.
    """
    content = Model(
        artifact_path=model.artifact_location, model_uuid=model.model_id, run_id=run_id, model_id=model.model_id
    )
    code = copy_code(_made(folder / "source"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no input example on purpose: it would be somebody's recording
        mlflow.pyfunc.save_model(
            path=str(directory),
            mlflow_model=content,
            python_model=str(code / _SCRIPT),
            artifacts={PACKAGE: str(folder / PACKAGE)},
            code_paths=[str(code)],
            pip_requirements=requirements(),
            signature=serving.signature(),
            model_config=dict(serving.model_config),
            metadata={"model_version": facts.model_version, "intended_use": INTENDED_USE},
        )


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _tags(facts: TrainedFacts, judgement: Judgement) -> dict[str, str]:
    source, revision = facts.base.get("source"), facts.base.get("revision")
    return {
        **package_tags(facts),
        "moodscale.adapter_sha256": facts.adapter_sha256,
        "moodscale.base": str(source) if revision is None else f"{source}@{revision}",
        "moodscale.base_fingerprint": facts.base_fingerprint,
        "moodscale.guard_reasons": ", ".join(judgement.guard_reasons) or "none",
        **({"moodscale.threshold_source": judgement.threshold_source} if judgement.threshold_source else {}),
        **{f"moodscale.figure.{name}": f"{value:.6g}" for name, value in judgement.figures.items()},
    }


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


def _description(facts: TrainedFacts, judgement: Judgement) -> str:
    reasons = f" ({', '.join(judgement.guard_reasons)})" if judgement.guard_reasons else ""
    return f"{facts.model_version}. Collapse guard: {judgement.guard_verdict}{reasons}. {INTENDED_USE}"


def _existing(store: RegistryStore, name: str, label: str, point: Mapping[str, Any]) -> ModelVersion | None:
    """The version that holds this very model at this very operating point."""
    for version in store.versions(name):
        if version.tags.get(MODEL_VERSION_TAG) == label and version.tags.get(POINT_TAG) == _point_text(point):
            return version
    return None


def _already(store: RegistryStore, config: RegistryConfig, existing: ModelVersion, label: str) -> Registered:
    version = str(existing.version)
    if _alias_tag(config.alias) not in existing.tags:
        logger.info("version %s of %s has no alias yet: its registration was interrupted", version, config.name)
        _move_alias(store, config, version)
    else:
        logger.info("%s is version %s of %s already; nothing changed", label, version, config.name)
    comparison = Comparison(**json.loads(existing.tags[COMPARE_TAG]))
    verdict = existing.tags.get("moodscale.guard_verdict", "unknown")
    return _registered(config, version, label, verdict, comparison, already=True)


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
