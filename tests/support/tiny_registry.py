"""A trained job as the registry finds it: a real manifest, a checkpoint whose adapter is not the base's, its scores."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from mlflow import MlflowClient

from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.models.lora import ADAPTER_FILE, apply_adapter, save_adapter, trainable
from moodscale.prepare.audio import read_clip
from moodscale.prepare.build import build_manifest
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from moodscale.registry.judgement import Judgement
from moodscale.registry.reload import Request
from moodscale.registry.speech_point import SpeechPoint
from moodscale.tracking import RunSpec
from moodscale.tracking.mlflow import MlflowConfig
from moodscale.train.checkpoint import Position
from moodscale.train.config import OptimConfig, TrainConfig
from moodscale.train.driver import TrainJob
from moodscale.train.predict import prediction_table
from moodscale.train.predict_job import model_version
from tiny import recipe_config
from tiny_daic import people, write_corpus

CLIP_S = 2.0
POINT = SpeechPoint(temperature=1.5, clip_threshold=0.4, threshold=0.45)


@dataclasses.dataclass(frozen=True)
class Trained:
    """Everything that ``register`` is given."""

    storage: Path
    job: TrainJob
    tracking: MlflowConfig
    run_id: str
    judgement: Judgement
    predictions: Path
    model_version: str

    @property
    def uri(self) -> str:
        return self.tracking.resolve_uri(str(self.storage))

    def wav(self, number: int = 0) -> Path:
        return sorted((self.storage / "corpus").rglob("*.wav"))[number]

    def arguments(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "tracking": self.tracking,
            "storage_path": str(self.storage),
            "run_id": self.run_id,
            "judgement": self.judgement,
            "predictions": self.predictions,
        }


def write_checkpoint(job: TrainJob, step: int, scale: float = 0.1) -> Path:
    """A checkpoint with a random adapter: LoRA's B is zero at the start and would hide that it is not applied."""
    model = job.recipe.build().build_model(torch.float32)
    generator = torch.Generator().manual_seed(step)
    store = job.store()
    staging = store.prepare(step)
    state = {name: torch.randn(p.shape, generator=generator) * scale for name, p in trainable(model).items()}
    save_adapter(state, staging / ADAPTER_FILE)
    position = Position(step=step, phase=2, epoch=0, step_in_epoch=0, plan_seed=0, world_size=1)
    return store.commit(position, {job.recipe.best_by: 0.5 + step / 1000})


def write_predictions(job: TrainJob, checkpoint: Path, path: Path) -> str:
    """Score validation and test clips in this process, one by one, and write the Prediction table."""
    from moodscale.models.lora import load_adapter

    recipe = job.recipe.build()
    model = recipe.build_model(torch.float32)
    apply_adapter(model, load_adapter(checkpoint / ADAPTER_FILE))
    model.eval()
    manifest = Manifest.open(job.manifest)
    rows = [row for split in ("validation", "test") for row in manifest.clips(split).to_pylist()]
    transform = recipe.features()
    scores = [
        score
        for row in rows
        for score in recipe.predict(model, recipe.collate_prompts([transform(read_clip(manifest.roots, row))]))
    ]
    version = model_version(job.name, checkpoint)
    pq.write_table(prediction_table(recipe, rows, scores, version), path)
    return version


def make_trained(storage: Path) -> Trained:
    rng = np.random.default_rng(5)
    sessions = [
        dataclasses.replace(one, audio=(rng.normal(size=16_000 * 12) * 0.1 * (index + 1)).astype(np.float32))
        for index, one in enumerate(people(8, duration_s=12.0))
    ]
    write_corpus(storage / "corpus", sessions)
    build_manifest(
        DaicWozConfig(path=str(storage / "corpus")), PrepareConfig(clip_s=CLIP_S), storage / "run" / "manifest"
    )
    job = TrainJob(
        name="tiny",
        seed=0,
        run_dir=str(storage / "run"),
        manifest=str(storage / "run" / "manifest"),
        recipe=recipe_config(answers=("Healthy", "Depressed")),  # equally long, or a random model's scores are all 1
        optim=OptimConfig(),
        train=TrainConfig.model_validate({"use_gpu": False, "engine": {"precision": "fp32"}}),
    )
    checkpoint = write_checkpoint(job, 7)
    version = write_predictions(job, checkpoint, storage / "run" / "predictions.parquet")
    tracking = MlflowConfig(uri=f"sqlite:///{storage / 'mlflow.db'}", patience_s=0)
    run_id = tracking.open(str(storage)).start_or_resume(RunSpec("tiny", "tiny")).run_id
    judgement = Judgement(
        point=POINT,
        threshold_source="validation",
        guard_verdict="fail",
        guard_reasons=("auc_not_above_chance",),
        model_versions=(version,),
        figures={"test.participant.auc": 0.5},
    )
    return Trained(storage, job, tracking, run_id, judgement, storage / "run" / "predictions.parquet", version)


def in_process(request: Request, timeout_s: float) -> list[dict[str, Any]]:
    """Load what was stored, in this process: what a fresh one adds is tested once, and takes seconds each time."""
    del timeout_s
    client = MlflowClient(request.tracking_uri, registry_uri=request.tracking_uri)
    location = client.get_logged_model(request.model_uri.removeprefix("models:/")).artifact_location
    if request.messages is not None:
        rows = pd.DataFrame({"messages": list(request.messages)})
    else:
        rows = pd.DataFrame({"waveform": list(request.waveforms), "sample_rate_hz": 16_000})
    return load(Path(location.removeprefix("file://"))).predict(rows).to_dict(orient="records")


def load(directory: Path, **config: Any) -> Any:
    before = list(sys.path)
    try:
        return mlflow.pyfunc.load_model(str(directory), model_config=config)
    finally:
        sys.path[:] = before


def stored_model(uri: str, name: str, version: str = "1") -> Path:
    """Where a registered version's files lie."""
    location = MlflowClient(uri, registry_uri=uri).get_model_version_download_uri(name, version)
    return Path(location.removeprefix("file://"))


def table_with_scores(path: Path, change: Any, out: Path) -> Path:
    """A copy of a Prediction table with other scores."""
    table = pq.read_table(path)
    scores = pa.array(change(np.array(table["score"])), pa.float64())
    index = table.schema.get_field_index("score")
    pq.write_table(table.set_column(index, table.schema.field(index), scores), out)
    return out
