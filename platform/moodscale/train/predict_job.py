"""A manifest and a checkpoint in, the Prediction table out: Ray Data decodes on CPUs and scores on an actor pool."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from moodscale.config import validate
from moodscale.models.lora import ADAPTER_FILE, apply_adapter, load_adapter
from moodscale.prepare.manifest import Manifest
from moodscale.ray_runtime import keep_quiet
from moodscale.recipes.base import Score
from moodscale.schema import Split
from moodscale.storage import Place, display, location, write_table
from moodscale.train.cluster import connect
from moodscale.train.driver import TrainJob
from moodscale.train.engine import DTYPES
from moodscale.train.predict import prediction_table
from moodscale.train.stream import ClipLoader, decode_block

logger = logging.getLogger(__name__)

PREDICTIONS = "predictions.parquet"
DEFAULT_SPLITS = (Split.VALIDATION, Split.TEST)


class ClipScorer:
    """An actor that holds the model; features in, scores out."""

    def __init__(self, job: dict[str, Any], adapter: str) -> None:
        import torch

        parsed = validate(TrainJob, job, source="prediction job")
        self.device = torch.device("cuda" if parsed.train.use_gpu else "cpu")
        self.dtype = DTYPES[parsed.train.engine.precision]
        self.recipe = parsed.recipe.build()
        self.model = self.recipe.build_model(self.dtype)
        place = location(adapter)
        with parsed.store().file(place.parent, place.name) as path:
            apply_adapter(self.model, load_adapter(path))
        self.model.to(self.device).eval()

    def __call__(self, block: pa.Table) -> pa.Table:
        features = [
            np.frombuffer(data.as_buffer(), dtype=np.float32).reshape(shape)
            for shape, data in zip(block["shape"].to_pylist(), block["features"], strict=True)
        ]
        batch = {
            name: tensor.to(self.device, self.dtype if tensor.is_floating_point() else tensor.dtype)
            for name, tensor in self.recipe.collate_prompts(features).items()
        }
        scores = self.recipe.predict(self.model, batch)
        return pa.table(
            {
                "position": block["position"],
                "score": pa.array([score.score for score in scores], pa.float64()),
                "score_normalised": pa.array([score.score_normalised for score in scores], pa.float64()),
                "answer": pa.array([score.answer for score in scores], pa.string()),
            }
        )


def model_version(name: str, checkpoint: Place) -> str:
    """Name, step and adapter hash: two models never share one."""
    digest = hashlib.sha256((checkpoint / ADAPTER_FILE).read_bytes()).hexdigest()
    return f"{name}@{checkpoint.name}:{digest[:12]}"


def predict(job: TrainJob, splits: Sequence[Split] = DEFAULT_SPLITS) -> UPath:
    """Score the splits with the best checkpoint; a table of the same model and manifest is kept as it is.

    Returns:
        the Parquet file.
    Raises:
        ValueError: there is no checkpoint yet, or the manifest has one person in two splits.
    """
    best = job.store().best() or job.store().latest()
    if best is None:
        raise ValueError(f"{job.run_dir} has no checkpoint; run `moodscale train` first")
    manifest = Manifest.open(job.manifest)
    manifest.check_people_disjoint()
    version = model_version(job.name, best.path)
    made_from = {"model_version": version, "manifest": manifest.hash, "splits": [str(split) for split in splits]}
    path = job.directory / PREDICTIONS
    if path.is_file() and _made_from(path) == made_from:
        logger.info("%s already holds the scores of %s", display(path), version)
        return path
    clips = pa.concat_tables([manifest.clips(split, reader="predict") for split in splits])
    scores = _score(job, clips, manifest, str(best.path / ADAPTER_FILE))
    table = prediction_table(clips.to_pylist(), scores, version)
    write_table(path, table.replace_schema_metadata({"moodscale": json.dumps(made_from)}))
    logger.info("scored %d clips with %s", len(table), version)
    return path


def _made_from(path: UPath) -> Any:
    with path.open("rb") as stream:
        metadata = pq.read_schema(stream).metadata or {}
    return json.loads(metadata.get(b"moodscale", b"null"))


def _score(job: TrainJob, clips: pa.Table, manifest: Manifest, adapter: str) -> list[Score]:
    import ray.data

    connect(job.train)
    size = job.train.eval_batch
    numbered = clips.append_column("position", pa.array(range(len(clips)), pa.int64()))
    blocks = [numbered.slice(i, size) for i in range(0, len(clips), size)]
    dataset = ray.data.from_arrow(blocks)
    keep_quiet(dataset.context)
    scored = dataset.map_batches(
        decode_block,
        fn_kwargs={"loader": ClipLoader(manifest.roots, job.recipe.build().features())},
        batch_format="pyarrow",
        batch_size=None,
        num_cpus=1,
    ).map_batches(
        ClipScorer,
        fn_constructor_args=(job.to_json(), adapter),
        batch_format="pyarrow",
        batch_size=size,
        compute=ray.data.ActorPoolStrategy(size=job.train.num_workers),
        num_cpus=job.train.cpus_per_worker,
        num_gpus=1 if job.train.use_gpu else 0,
    )
    found: dict[int, Score] = {}
    for row in scored.iter_rows():
        assert row["position"] not in found, "a clip was scored twice"
        found[row["position"]] = Score(row["score"], row["score_normalised"], row["answer"])
    if found.keys() != set(range(len(clips))):
        raise RuntimeError(f"{len(found)} of {len(clips)} clips came back scored; nothing was written")
    return [found[position] for position in range(len(clips))]
