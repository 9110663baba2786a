"""Examples and a model in, the Prediction table out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import torch.distributed as dist

from moodscale.recipes.base import Examples, Recipe, Row, Score
from moodscale.schema import PREDICTION_SCHEMA
from moodscale.train.engine import Engine
from moodscale.train.stream import Stream


def score_rows(recipe: Recipe, engine: Engine, examples: Examples, stream: Stream, batch_size: int) -> pa.Table:
    """Score ``examples`` over all ranks of the process group; every rank gets the whole table.

    Each rank takes every world-size-th example, in the order of their lengths. Ranks make equally many calls (a short
    rank repeats its first one), and the gathered ids must be exactly the asked ones: a split that silently loses rows
    would flatter or harm a model.
    """
    rank, world_size = engine.rank, engine.world_size
    order = in_order_of_length(examples)
    own = order[rank::world_size]
    length = -(-len(order) // world_size)
    own += [own[0] if own else 0] * (length - len(own))
    features = stream.features(examples.table.take(own))
    scores: list[Score] = []
    while batch := list(islice(features, batch_size)):
        scores += recipe.predict(engine.model, engine.to_device(recipe.collate_prompts(batch)))
    gathered: list[Any] = [None] * world_size
    dist.all_gather_object(gathered, list(zip(own, scores, strict=True)))
    by_index = {index: score for part in gathered for index, score in part}
    assert sorted(by_index) == list(range(len(examples))), "every example is scored, none twice"
    return prediction_table(recipe, examples.table.to_pylist(), [by_index[i] for i in range(len(examples))])


def in_order_of_length(examples: Examples) -> list[int]:
    """Positions of the examples, those of about the same length together: batches of them hold little padding."""
    if examples.lengths is None:
        return list(range(len(examples)))
    return [int(position) for position in np.argsort(examples.lengths, kind="stable")]


def prediction_table(
    recipe: Recipe, rows: Sequence[Row], scores: Sequence[Score], model_version: str = "in-training"
) -> pa.Table:
    """Labelled examples' rows with their scores, in the Prediction schema."""
    return pa.Table.from_pylist(
        [
            {**predicted, "split": row["split"], "model_version": model_version}
            for row, score in zip(rows, scores, strict=True)
            for predicted in recipe.predictions(row, score)
        ],
        schema=PREDICTION_SCHEMA,
    )
