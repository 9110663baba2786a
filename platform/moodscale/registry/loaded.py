"""A recipe's model out of its package, on a device, scoring batch by batch."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from moodscale.config import ConfigError
from moodscale.models.lora import ADAPTER_FILE, apply_adapter, load_adapter
from moodscale.recipes.base import Array, Recipe, Score
from moodscale.registry.facts import TrainedFacts
from moodscale.registry.package import ASSETS, base_fingerprint

logger = logging.getLogger(__name__)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class LoadedRecipe:
    """Weights in memory, the base checked against its fingerprint."""

    def __init__(self, directory: Path, facts: TrainedFacts, device: str, batch: int) -> None:
        """Build the model.

        Raises:
            ValueError: an adapter that does not fit, or another base model.
            ConfigError: a device that is not there, or a recipe that is refused.
        """
        self.facts = facts
        self.device = device_named(device)
        self.batch = max(1, batch)
        self.dtype = _DTYPES[facts.precision]
        self.recipe: Recipe = facts.recipe.build()
        self.recipe.load_assets(directory / ASSETS)
        model = self.recipe.build_model(self.dtype)
        if base_fingerprint(model) != facts.base_fingerprint:
            raise ValueError(
                f"the base model's weights are not those that {facts.model_version} was trained on "
                f"(source {facts.base.get('source')!r}, revision {facts.base.get('revision')!r}); "
                "put the original ones there"
            )
        apply_adapter(model, load_adapter(directory / ADAPTER_FILE))
        self.model = model.to(self.device).eval()
        logger.info("loaded %s on %s", facts.model_version, self.device)

    def scores(self, features: Iterable[Array]) -> Iterator[Score]:
        """One score a unit, in order; no more than a batch of features is held at once.

        Raises:
            ValueError: a score that is no number.
        """
        given = iter(features)
        while batch := list(islice(given, self.batch)):
            tensors = {
                name: tensor.to(self.device, self.dtype if self._is_cast(name, tensor) else tensor.dtype)
                for name, tensor in self.recipe.collate_prompts(batch).items()
            }
            for result in self.recipe.predict(self.model, tensors):
                if not np.isfinite(result.score):
                    raise ValueError(f"{self.facts.model_version} gave a score that is not a number")
                yield result

    def _is_cast(self, name: str, tensor: torch.Tensor) -> bool:
        return tensor.is_floating_point() and not name.startswith("targets")


def device_named(name: str) -> torch.device:
    """The device that a setting names; ``auto`` is a GPU where there is one.

    Raises:
        ConfigError: no device has this name, or it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device={name!r} is no device; write auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={name!r}, but there is no CUDA device here; write auto or cpu")
    return device
