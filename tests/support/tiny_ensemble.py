"""Trained runs of one manifest, clips and transcripts, as an ensemble finds them: nobody's voice and words."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow import MlflowClient

from moodscale.config import validate
from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.prepare.build import build_manifest
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from moodscale.registry.ensemble_build import BuiltEnsemble, build_ensemble
from moodscale.registry.ensemble_config import EnsembleConfig
from moodscale.registry.judgement import Judgement
from moodscale.registry.reload import Request
from moodscale.tracking.mlflow import MlflowConfig
from moodscale.train.config import OptimConfig, TrainConfig
from moodscale.train.driver import TrainJob, _claim_directory
from tiny import recipe_config
from tiny_daic import Session, write_corpus
from tiny_registry import load, write_checkpoint
from tiny_severity import score_with, severity_recipe

CLIP_S = 1.0
CANARY = "quagmirish"
"""A word that everybody says, and that may be nowhere else."""
BOTH = ("runs:/clips", "runs:/words")
NUM = {"train": 4, "validation": 20, "test": 6}


@dataclass(frozen=True)
class Runs:
    """A storage folder with the runs ``clips``, ``words`` and ``more_words``, all evaluated."""

    storage: Path

    @property
    def manifest(self) -> Path:
        return self.storage / "manifest"

    @property
    def tracking(self) -> MlflowConfig:
        return MlflowConfig(uri=f"sqlite:///{self.storage / 'mlflow.db'}", patience_s=0)

    @property
    def uri(self) -> str:
        return self.tracking.resolve_uri(str(self.storage))

    def build(
        self, name: str, members: tuple[str, ...] = BOTH, storage: Path | None = None, **config: Any
    ) -> BuiltEnsemble:
        """An ensemble of runs below ``storage``, by default the shared ones."""
        place = storage or self.storage
        settings = EnsembleConfig(members=members, name=name, **config)
        directory = str(place / "ensembles" / name)
        return build_ensemble(settings, str(self.manifest), str(place), directory, self.uri, "cpu")

    def copied(self, target: Path, *names: str) -> Path:
        """A storage folder of its own with copies of runs, of the same manifest."""
        for name in names or ("clips", "words"):
            shutil.copytree(self.storage / name, target / name)
        return target

    def judgement(self, built: BuiltEnsemble, verdict: str = "pass") -> Judgement:
        return Judgement(
            guard_verdict=verdict,
            guard_reasons=(),
            model_versions=(built.model_version,),
            target=built.fit.target,
            figures={"test.interview.mae": 4.5},
        )

    def registering(self, built: BuiltEnsemble) -> dict[str, Any]:
        return {
            "built": built,
            "tracking": self.tracking,
            "storage_path": str(self.storage),
            "run_key": built.config.name,
            "judgement": self.judgement(built),
        }

    def client(self) -> MlflowClient:
        return MlflowClient(self.uri, registry_uri=self.uri)


def sessions() -> list[Session]:
    """Everybody talks for a few seconds, in words and noise of their own."""
    rng = np.random.default_rng(11)
    splits = [split for split, num in NUM.items() for _ in range(num)]
    found = []
    for index, split in enumerate(splits):
        rows = [
            (0.0, 1.0, "Ellie", "how are you"),
            (1.0, 4.5 + index % 2, "Participant", f"{CANARY} {'so ' * (index % 7)} {chr(97 + index % 26) * 6}"),
        ]
        audio = (rng.normal(size=16_000 * 6) * 0.02 * (1 + index % 9)).astype(np.float32)
        found.append(Session(str(400 + index), split, score=(5 * index) % 23, gender=index % 2, rows=rows, audio=audio))
    return found


def make_runs(storage: Path) -> Runs:
    write_corpus(storage / "corpus", sessions())
    config = validate(PrepareConfig, {"clip_s": CLIP_S, "transcripts": "as_is"})
    build_manifest(DaicWozConfig(path=str(storage / "corpus")), config, storage / "manifest")
    # Answers of equal length, or a random model's scores are all 1.
    clips = recipe_config(answers=("Healthy", "Depressed"), clip_s=CLIP_S)
    add_run(storage, "clips", clips, {"temperature": 1.2, "threshold": 0.4, "participant_threshold": 0.4})
    for step, name in ((5, "words"), (9, "more_words")):
        recipe = severity_recipe(instrument="PHQ-8")
        add_run(storage, name, recipe, {"target": "total", "unit": "interview"}, step=step)
    return Runs(storage)


def add_run(
    storage: Path, name: str, recipe: Any, evaluation: dict[str, Any], manifest: Path | None = None, step: int = 5
) -> TrainJob:
    """A run with a checkpoint of random weights, its Prediction table and what its evaluation said."""
    job = TrainJob(
        name=name,
        seed=0,
        run_dir=str(storage / name),
        manifest=str(manifest or storage / "manifest"),
        recipe=recipe,
        optim=OptimConfig(),
        train=TrainConfig.model_validate({"use_gpu": False, "engine": {"precision": "fp32"}}),
    )
    (storage / name).mkdir(exist_ok=True)
    _claim_directory(job, Manifest.open(job.manifest).hash)
    checkpoint = write_checkpoint(job, step, scale=0.3)
    version = score_with(job, checkpoint, storage / name / "predictions.parquet")
    figures = dict.fromkeys(("mae", "rmse", "pearson_r", "ccc", "mean_error", "auc_at_10"), 1.0)
    content = {
        "split": "test",
        "threshold_source": "validation",
        "guard": {"verdict": "pass", "reasons": []},
        "model_versions": [version],
        "participant": {},
        "clip": {},
        **figures,
        **evaluation,
    }
    (storage / name / "evaluation.json").write_text(json.dumps(content))
    return job


def rows_of(request: Request) -> pd.DataFrame:
    columns: dict[str, Any] = {}
    if request.messages is not None:
        columns["messages"] = list(request.messages)
    if request.waveforms:
        columns["waveform"] = list(request.waveforms)
    rows = pd.DataFrame(columns)
    return rows.assign(sample_rate_hz=16_000) if request.waveforms else rows


def in_this_process(request: Request, timeout_s: float) -> list[dict[str, Any]]:
    """Load what was stored, here: what a fresh process adds is tested once, and takes seconds each time."""
    del timeout_s
    client = MlflowClient(request.tracking_uri, registry_uri=request.tracking_uri)
    location = client.get_logged_model(request.model_uri.removeprefix("models:/")).artifact_location
    answers: list[dict[str, Any]] = (
        load(Path(location.removeprefix("file://"))).predict(rows_of(request)).to_dict(orient="records")
    )
    return answers


def change_table(path: Path, change: Any) -> None:
    """Replace a Parquet table by what ``change`` makes of its frame; metadata stay."""
    table = pq.read_table(path)
    frame = change(table.to_pandas(ignore_metadata=True))
    pq.write_table(pa.Table.from_pandas(frame, schema=table.schema, preserve_index=False), path)
