"""A recipe answers four questions: what an example is, which model is built, the loss, what a prediction is.

Everything around it (sampling, streaming, engines, checkpoints, evaluation) is shared by all recipes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from moodscale.config import Component
from moodscale.prepare.manifest import Manifest
from moodscale.schema import Split

if TYPE_CHECKING:
    import torch
    from torch import nn

    from moodscale.models.cost import CostModel

Array: TypeAlias = "np.ndarray[Any, Any]"
Row = Mapping[str, Any]
"""One row of a recipe's examples, as plain Python values."""
Batch: TypeAlias = "dict[str, torch.Tensor]"
"""Tensors by name. Those whose names begin with ``targets`` stay in fp32 whatever the engine computes in."""


@dataclass(frozen=True)
class Score:
    """What a model says of one unit.

    Attributes:
        score: P(depressed), or the questionnaire's total, as the recipe's ``target`` says.
        items: the questionnaire's items, where the model gives them; the total is their sum then.
    """

    score: float
    score_normalised: float | None = None
    answer: str | None = None
    items: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Examples:
    """Units that can be trained on or scored, in a fixed order.

    Attributes:
        table: N rows; what the recipe's loader, ``collate`` and ``predictions`` read.
        unit_ids: (N,) each unit's own key, such as a clip's; what messages name.
        persons: (N,) person keys.
        strata: (N,) the class that balancing and weighting look at, 0 to ``num_strata`` - 1.
        num_strata: how many classes the recipe tells apart, whether or not all occur.
        weights: (N,) each example's own weight in the loss; 1 where a questionnaire was filled in.
        lengths: (N,) what a batch is padded by (tokens, or a number that grows with them); ``None`` where all units
            are about equally long.
    """

    table: pa.Table
    unit_ids: tuple[str, ...]
    persons: tuple[str, ...]
    strata: Array
    num_strata: int
    weights: Array
    lengths: Array | None = None

    def __len__(self) -> int:
        return len(self.unit_ids)

    @classmethod
    def concatenated(cls, parts: Sequence[Examples]) -> Examples:
        """Several parts of one recipe's examples, one after the other."""
        lengths = [part.lengths for part in parts if part.lengths is not None]
        return cls(
            table=pa.concat_tables([part.table for part in parts]),
            unit_ids=tuple(one for part in parts for one in part.unit_ids),
            persons=tuple(one for part in parts for one in part.persons),
            strata=np.concatenate([part.strata for part in parts]),
            num_strata=parts[0].num_strata,
            weights=np.concatenate([part.weights for part in parts]),
            lengths=np.concatenate(lengths) if len(lengths) == len(parts) else None,
        )

    def __repr__(self) -> str:
        return f"Examples({len(self)} units of {len(set(self.persons))} people)"


class Loader(Protocol):
    """One row → what the model reads of it: a float32 or int32 array. Runs in data workers: picklable, light, no
    model."""

    def __call__(self, row: Row) -> Array: ...


class Recipe(Protocol):
    """A system that can be trained. Holds no weights: ``build_model`` makes them."""

    unit: str
    """What is scored, as the Prediction table names it: ``clip``, ``interview``."""
    target: str
    """What a score is: ``depressed`` (a probability) or ``total`` (a questionnaire's points)."""

    def examples(
        self, manifest: Manifest, split: Split | str | None, reader: str = "", labels: pa.Table | None = None
    ) -> Examples:
        """The units of a split.

        Args:
            split: ``None`` for people without a label, who may be scored.
            reader: who reads, where the test split is counted.
            labels: ``TRAINING_LABELS``: exactly these interviews, of the training split and of people without a label.
        Raises:
            ConfigError: the manifest or the labels lack what this recipe needs; says which setting brings it.
        """

    def loader(self, manifest: Manifest, cache: str | None = None) -> Loader:
        """What data workers apply to a row.

        Args:
            cache: folder or URI that computed features may be kept in.
        """

    def collate(self, rows: Sequence[Row], features: Sequence[Array]) -> Batch:
        """Training examples with their labels, as CPU tensors. A tensor ``attention_mask`` tells the padding."""

    def collate_prompts(self, features: Sequence[Array]) -> Batch:
        """Examples without labels, for :meth:`predict`."""

    def num_targets(self, row: Row) -> int:
        """Scored parts of a training example (tokens, answers): the unit in which losses are averaged."""

    def build_model(self, dtype: torch.dtype, gradient_checkpointing: bool = False) -> nn.Module:
        """Base model with adapters; ``forward(**batch)`` returns each example's summed loss ``[B]`` in fp32."""

    def build_meta(self) -> nn.Module:
        """The same on the meta device: shapes without memory."""

    def predict(self, model: nn.Module, batch: Batch) -> list[Score]:
        """Score a batch. Makes the same number of model calls whatever the content (ranks must not diverge)."""

    def predictions(self, row: Row, score: Score) -> list[dict[str, Any]]:
        """A labelled unit's rows of the Prediction table, without ``split`` and ``model_version``."""

    def selection(self, table: pa.Table) -> dict[str, float]:
        """Figures of one validation pass, from its Prediction table: what a checkpoint is chosen by."""

    def cost(self) -> CostModel:
        """FLOPs and memory of one unit."""

    def base_reference(self) -> dict[str, Any]:
        """What identifies the base weights: source, revision, sizes."""

    def save_assets(self, directory: Path) -> None:
        """Write what a registered model needs beside its adapter (the processor's files)."""

    def load_assets(self, directory: Path) -> None:
        """Use the files of :meth:`save_assets` from now on, instead of what the base model's source holds today."""


class RecipeConfig(Component):
    """A recipe's settings; ``build`` makes the recipe."""

    best_by: ClassVar[str] = "participant_auc"
    """Validation metric that names the best checkpoint where ``train.checkpoints.metric`` does not."""

    def build(self) -> Recipe:
        raise NotImplementedError


TRAINING_LABELS = pa.schema(
    [
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("interview_id", pa.string(), nullable=False),
        pa.field("person", pa.string(), nullable=False),
        pa.field("instrument", pa.string(), nullable=False),
        pa.field("total", pa.float64(), nullable=False),
        pa.field("items", pa.list_(pa.float64())),
        pa.field("weight", pa.float64(), nullable=False),
    ]
)
"""Labels to train on where they are not the manifest's alone: one row an interview, ``items`` null or of the
instrument's number, each null where nobody knows it. A label that a model gave need not be a whole number."""
