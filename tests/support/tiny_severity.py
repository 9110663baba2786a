"""A trained severity model as the registry finds it: chats of people who do not exist, a one-layer language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from moodscale.config import validate
from moodscale.corpora.conversations import ConversationsConfig
from moodscale.models.lora import ADAPTER_FILE, apply_adapter, load_adapter
from moodscale.prepare.build import build_manifest
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from moodscale.recipes.transcript_severity import TranscriptSeverityRecipeConfig
from moodscale.registry.judgement import Judgement
from moodscale.schema import Split
from moodscale.tracking import RunSpec
from moodscale.tracking.mlflow import MlflowConfig
from moodscale.train.config import OptimConfig, TrainConfig
from moodscale.train.driver import TrainJob
from moodscale.train.predict import prediction_table
from moodscale.train.predict_job import model_version
from tiny_chats import chat, label, write_log
from tiny_registry import Trained, write_checkpoint

CANARY = "zanzibarish"
"""A word that is said in every conversation, and may be nowhere else."""
NUM_LABELLED, NUM_UNLABELLED = 40, 3

RECIPE: dict[str, Any] = {
    "kind": "transcript_severity",
    "model": {"source": "random"},
    "backbone": {
        "model_type": "bert",
        "sizes": {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "vocab_size": 512,
            "max_position_embeddings": 128,
        },
    },
    "lora": {"r": 4, "alpha": 8, "dropout": 0.0},
    "instrument": "PHQ-9",
    "context": {"window_tokens": 64, "max_windows": 2},
    "target": "items",
}


def severity_recipe(**changes: Any) -> TranscriptSeverityRecipeConfig:
    return validate(TranscriptSeverityRecipeConfig, {**RECIPE, **changes})


def told(number: int) -> tuple[dict[str, str], ...]:
    """Two turns of the user's, whose words and lengths differ from person to person."""
    words = " ".join(f"{CANARY} day {number * day}" for day in range(1, 2 + number % 5))
    return (
        {"role": "assistant", "content": "how have you been?"},
        {"role": "user", "content": words},
        {"role": "assistant", "content": "tell me more"},
        {"role": "user", "content": f"{chr(97 + number % 26) * (5 + number)} {CANARY}"},
    )


def write_chats(root: Path, num: int = NUM_LABELLED, num_unlabelled: int = NUM_UNLABELLED) -> Path:
    """People with two conversations and a PHQ-9 each; then people without a questionnaire."""
    rows, labels = [], []
    for number in range(num + num_unlabelled):
        user = f"u{number:03d}"
        rows += [
            chat(user, f"{user}-{day}", f"2025-03-0{day}T12:00:00+00:00", messages=told(number + day)) for day in (1, 2)
        ]
        if number < num:
            total = number * 7 % 28
            items = [total // 9 + (item < total % 9) for item in range(9)]
            labels.append(label(user, total=sum(items), items=items))
    return write_log(root, rows, labels)


def chat_manifest(root: Path, corpus: Path, **settings: Any) -> Manifest:
    splits = {"kind": "stratified", "validation": 0.4, "test": 0.2, "seed": 0}
    config = validate(PrepareConfig, {"transcripts": "as_is", "splits": splits, **settings})
    build_manifest(ConversationsConfig(path=str(corpus)), config, root)
    return Manifest.open(root)


def severity_job(run: Path, manifest: Path, **recipe: Any) -> TrainJob:
    return TrainJob(
        name="severe",
        seed=0,
        run_dir=str(run),
        manifest=str(manifest),
        recipe=severity_recipe(**recipe),
        optim=OptimConfig(),
        train=TrainConfig.model_validate({"use_gpu": False, "engine": {"precision": "fp32"}}),
    )


def score_with(job: TrainJob, checkpoint: Path, out: Path) -> str:
    """Score validation and test interviews in this process, one by one, and write the Prediction table."""
    built = job.recipe.build()
    model = built.build_model(torch.float32)
    apply_adapter(model, load_adapter(checkpoint / ADAPTER_FILE))
    model.eval()
    manifest = Manifest.open(job.manifest)
    loader = built.loader(manifest)
    rows = [
        row for split in (Split.VALIDATION, Split.TEST) for row in built.examples(manifest, split).table.to_pylist()
    ]
    scores = [one for row in rows for one in built.predict(model, built.collate_prompts([loader(row)]))]
    version = model_version(job.name, checkpoint)
    pq.write_table(prediction_table(built, rows, scores, version), out)
    return version


def make_severity(storage: Path, **recipe: Any) -> Trained:
    """Everything that ``register`` is given, for a severity model."""
    chat_manifest(storage / "run" / "manifest", write_chats(storage / "corpus"))
    job = severity_job(storage / "run", storage / "run" / "manifest", **recipe)
    checkpoint = write_checkpoint(job, 3, scale=0.3)
    version = score_with(job, checkpoint, storage / "run" / "predictions.parquet")
    tracking = MlflowConfig(uri=f"sqlite:///{storage / 'mlflow.db'}", patience_s=0)
    run_id = tracking.open(str(storage)).start_or_resume(RunSpec("severe", "severe")).run_id
    judgement = Judgement(
        guard_verdict="pass",
        guard_reasons=(),
        model_versions=(version,),
        target="total",
        figures={"test.interview.mae": 4.5},
    )
    return Trained(storage, job, tracking, run_id, judgement, storage / "run" / "predictions.parquet", version)
