"""Clips and a model in, the Prediction table out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
import torch.distributed as dist

from moodscale.recipes.base import Recipe, Row, Score
from moodscale.schema import PREDICTION_SCHEMA
from moodscale.train.engine import Engine
from moodscale.train.stream import Stream


def score_rows(recipe: Recipe, engine: Engine, clips: pa.Table, stream: Stream, batch_size: int) -> pa.Table:
    """Score ``clips`` over all ranks of the process group; every rank gets the whole table.

    Each rank takes every world-size-th clip. Ranks make equally many calls (a short rank repeats its first clip), and
    the gathered ids must be exactly the asked ones: a split that silently loses rows would flatter or harm a model.
    """
    rank, world_size = engine.rank, engine.world_size
    own = list(range(rank, len(clips), world_size))
    length = -(-len(clips) // world_size)
    own += [own[0] if own else 0] * (length - len(own))
    features = stream.features(clips.take(own))
    scores: list[Score] = []
    while batch := list(islice(features, batch_size)):
        scores += recipe.predict(engine.model, engine.to_device(recipe.collate_prompts(batch)))
    gathered: list[Any] = [None] * world_size
    dist.all_gather_object(gathered, list(zip(own, scores, strict=True)))
    by_index = {index: score for part in gathered for index, score in part}
    assert sorted(by_index) == list(range(len(clips))), "every clip is scored, none twice"
    return prediction_table(clips.to_pylist(), [by_index[i] for i in range(len(clips))])


def score_locally(
    recipe: Recipe, model: Any, rows: Sequence[Row], features: Iterator[Any], batch_size: int, model_version: str
) -> pa.Table:
    """Score ``rows`` in this process alone."""
    scores: list[Score] = []
    while batch := list(islice(features, batch_size)):
        scores += recipe.predict(model, recipe.collate_prompts(batch))
    return prediction_table(rows, scores, model_version)


def prediction_table(rows: Sequence[Row], scores: Sequence[Score], model_version: str = "in-training") -> pa.Table:
    """Rows of the manifest's clips with their scores, in the Prediction schema."""
    return pa.Table.from_pylist(
        [
            {
                "person": row["person"],
                "unit": "clip",
                "unit_id": row["clip_id"],
                "target": "depressed",
                "label": float(row["depressed"]),
                "score": score.score,
                "split": row["split"],
                "model_version": model_version,
                "corpus": row["corpus"],
                "gender": row["gender"],
                "duration_s": row["duration_s"],
                "num_turns": row["num_turns"],
                "score_normalised": score.score_normalised,
                "answer": score.answer,
            }
            for row, score in zip(rows, scores, strict=True)
        ],
        schema=PREDICTION_SCHEMA,
    )
