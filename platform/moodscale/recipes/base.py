"""A recipe answers four questions: what an example is, which model is built, the loss, what a prediction is.

Everything around it (sampling, streaming, engines, checkpoints, evaluation) is shared by all recipes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from moodscale.config import Component

if TYPE_CHECKING:
    import torch
    from torch import nn

    from moodscale.models.cost import CostModel

Row = Mapping[str, Any]
"""One row of the manifest's clips, as plain Python values."""
Batch: TypeAlias = "dict[str, torch.Tensor]"


@dataclass(frozen=True)
class Score:
    """What a model says of one unit. ``score`` is P(depressed)."""

    score: float
    score_normalised: float | None = None
    answer: str | None = None


class Features(Protocol):
    """Waveforms → what the model reads. Runs in data workers: picklable, light, no model."""

    def __call__(self, waveform: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]: ...


class Recipe(Protocol):
    """A system that can be trained. Holds no weights: ``build_model`` makes them."""

    def features(self) -> Features:
        """The transform that data workers apply."""

    def collate(self, rows: Sequence[Row], features: Sequence[np.ndarray[Any, Any]]) -> Batch:
        """Training examples with their labels, as CPU tensors."""

    def collate_prompts(self, features: Sequence[np.ndarray[Any, Any]]) -> Batch:
        """Examples without labels, for :meth:`predict`."""

    def num_targets(self, row: Row) -> int:
        """Scored tokens of a training example: the unit in which losses are averaged."""

    def build_model(self, dtype: torch.dtype, gradient_checkpointing: bool = False) -> nn.Module:
        """Base model with adapters; ``forward(**batch)`` returns each example's summed loss ``[B]`` in fp32."""

    def build_meta(self) -> nn.Module:
        """The same on the meta device: shapes without memory."""

    def predict(self, model: nn.Module, batch: Batch) -> list[Score]:
        """Score a batch. Makes the same number of model calls whatever the content (ranks must not diverge)."""

    def cost(self) -> CostModel:
        """FLOPs and memory of one clip."""

    def base_reference(self) -> dict[str, Any]:
        """What identifies the base weights: source, revision, sizes."""

    def save_assets(self, directory: Path) -> None:
        """Write what a registered model needs beside its adapter (the processor's files)."""

    def load_assets(self, directory: Path) -> None:
        """Use the files of :meth:`save_assets` from now on, instead of what the base model's source holds today."""


class RecipeConfig(Component):
    """A recipe's settings; ``build`` makes the recipe."""

    def build(self) -> Recipe:
        raise NotImplementedError
