"""A manifest and a checkpoint in, the Prediction table out: Ray Data decodes on CPUs and scores on an actor pool."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from moodscale.config import validate
from moodscale.models.lora import ADAPTER_FILE, apply_adapter, load_adapter
from moodscale.prepare.manifest import Manifest
from moodscale.ray_runtime import keep_quiet
from moodscale.recipes.base import Examples, Score
from moodscale.schema import Split
from moodscale.storage import Place, display, location, write_table
from moodscale.train.checkpoint import Checkpoint
from moodscale.train.cluster import connect
from moodscale.train.driver import TrainJob
from moodscale.train.engine import DTYPES
from moodscale.train.predict import in_order_of_length, prediction_table
from moodscale.train.stream import decode_block, unpack_block

logger = logging.getLogger(__name__)

PREDICTIONS = "predictions.parquet"
DEFAULT_SPLITS = (Split.VALIDATION, Split.TEST)


class Scorer:
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
        batch = {
            name: tensor.to(self.device, self.dtype if tensor.is_floating_point() else tensor.dtype)
            for name, tensor in self.recipe.collate_prompts(unpack_block(block)).items()
        }
        scores = self.recipe.predict(self.model, batch)
        return pa.table(
            {
                "position": block["position"],
                "score": pa.array([score.score for score in scores], pa.float64()),
                "score_normalised": pa.array([score.score_normalised for score in scores], pa.float64()),
                "answer": pa.array([score.answer for score in scores], pa.string()),
                "items": pa.array([score.items for score in scores], pa.list_(pa.float64())),
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
    best = best_checkpoint(job)
    manifest = Manifest.open(job.manifest)
    manifest.check_people_disjoint()
    version = model_version(job.name, best.path)
    made_from = {"model_version": version, "manifest": manifest.hash, "splits": [str(split) for split in splits]}
    path = job.directory / PREDICTIONS
    if path.is_file() and _made_from(path) == made_from:
        logger.info("%s already holds the scores of %s", display(path), version)
        return path
    recipe = job.recipe.build()
    examples = Examples.concatenated([recipe.examples(manifest, split, reader="predict") for split in splits])
    scores = score_examples(job, examples, manifest)
    table = prediction_table(recipe, examples.table.to_pylist(), scores, version)
    write_table(path, table.replace_schema_metadata({"moodscale": json.dumps(made_from)}))
    logger.info("scored %d %ss with %s", len(examples), recipe.unit, version)
    return path


def best_checkpoint(job: TrainJob) -> Checkpoint:
    """The checkpoint that a job's predictions come from.

    Raises:
        ValueError: there is none yet.
    """
    best = job.store().best() or job.store().latest()
    if best is None:
        raise ValueError(f"{job.run_dir} has no checkpoint; run `moodscale train` first")
    return best


def _made_from(path: UPath) -> Any:
    with path.open("rb") as stream:
        metadata = pq.read_schema(stream).metadata or {}
    return json.loads(metadata.get(b"moodscale", b"null"))


def score_examples(job: TrainJob, examples: Examples, manifest: Manifest) -> list[Score]:
    """Score any examples, labelled or not, with the best checkpoint; one score each, in their order."""
    import ray.data

    adapter = str(best_checkpoint(job).path / ADAPTER_FILE)
    connect(job.train)
    size = job.train.eval_batch
    order = in_order_of_length(examples)
    numbered = examples.table.take(order).append_column("position", pa.array(order, pa.int64()))
    blocks = [numbered.slice(i, size) for i in range(0, len(numbered), size)]
    dataset = ray.data.from_arrow(blocks)
    keep_quiet(dataset.context)
    scored = dataset.map_batches(
        decode_block,
        fn_kwargs={"loader": job.recipe.build().loader(manifest)},
        batch_format="pyarrow",
        batch_size=None,
        num_cpus=1,
    ).map_batches(
        Scorer,
        fn_constructor_args=(job.to_json(), adapter),
        batch_format="pyarrow",
        batch_size=size,
        compute=ray.data.ActorPoolStrategy(size=job.train.num_workers),
        num_cpus=job.train.cpus_per_worker,
        num_gpus=1 if job.train.use_gpu else 0,
    )
    found: dict[int, Score] = {}
    for row in scored.iter_rows():
        assert row["position"] not in found, "an example was scored twice"
        items = None if row["items"] is None else tuple(row["items"])
        found[row["position"]] = Score(row["score"], row["score_normalised"], row["answer"], items)
    if found.keys() != set(range(len(examples))):
        raise RuntimeError(f"{len(found)} of {len(examples)} examples came back scored; nothing was written")
    return [found[position] for position in range(len(examples))]
