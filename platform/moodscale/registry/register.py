"""A trained model into the registry: its best checkpoint, packed, once it answers as it was evaluated."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moodscale.evaluate.table import Predictions, read_predictions
from moodscale.models.lora import ADAPTER_FILE, apply_adapter, load_adapter
from moodscale.prepare.manifest import Manifest
from moodscale.recipes.base import Recipe
from moodscale.registry.compare import check_model, compare
from moodscale.registry.config import RegistryConfig
from moodscale.registry.facts import TrainedFacts, digests_of
from moodscale.registry.judgement import Judgement
from moodscale.registry.package import PACKAGE, PackageSources, base_fingerprint, pack
from moodscale.registry.reload import Reloader, score_in_fresh_process
from moodscale.registry.serving.base import TrainedServing, serving_for
from moodscale.registry.store import RegistryStore, registry_uri
from moodscale.registry.versions import Candidate, Registered, register_candidate, registered_before
from moodscale.schema import Split
from moodscale.storage import location
from moodscale.tracking.base import TrackerConfig
from moodscale.train.checkpoint import Checkpoint
from moodscale.train.driver import TrainJob
from moodscale.train.engine import DTYPES
from moodscale.train.labels import open_labels
from moodscale.train.predict_job import best_checkpoint, model_version


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
    before = registered_before(store, config, label, point)
    if before is not None:
        return before
    manifest = Manifest.open(job.manifest)
    expected = serving.expected(recipe, manifest, table, point, config.compare_clips)
    with tempfile.TemporaryDirectory(prefix="moodscale-register-") as folder:
        package = Path(folder) / PACKAGE
        package.mkdir()
        facts = pack_job(job, recipe, best, manifest, judgement, label, name, serving, point, package)
        candidate = Candidate(
            folder=Path(folder),
            facts=facts,
            label=label,
            serving=serving,
            judgement=judgement,
            tags=_tags(facts, judgement),
            unit=expected.unit,
            check=lambda answers: compare(expected, answers, config.tolerance.of(facts.precision)),
            waveforms=expected.waveforms,
            messages=expected.messages,
        )
        return register_candidate(store, run_id, config, candidate, reloader)


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


def _tags(facts: TrainedFacts, judgement: Judgement) -> dict[str, str]:
    source, revision = facts.base.get("source"), facts.base.get("revision")
    return {
        "moodscale.adapter_sha256": facts.adapter_sha256,
        "moodscale.base": str(source) if revision is None else f"{source}@{revision}",
        "moodscale.base_fingerprint": facts.base_fingerprint,
        **({"moodscale.threshold_source": judgement.threshold_source} if judgement.threshold_source else {}),
    }
