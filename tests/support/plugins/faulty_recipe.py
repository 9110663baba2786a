"""An outside plug-in, ``kind: plugins.faulty_recipe``: the ordinary recipe, with accidents at named moments.

An accident happens in one rank's n-th call of ``collate`` (one call a micro-batch of training), once: a file in
``accidents_dir`` says that it did, whatever process asks next. The accidents happen in their order, and one process
meets at most one of them: ranks are some calls apart, and the next accident must not fall in the group that the last
one is ending.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch.distributed as dist

from moodscale.config import Config
from moodscale.recipes.base import Batch, Row
from moodscale.recipes.qwen2_audio import Qwen2AudioRecipeConfig
from moodscale.recipes.qwen2_audio.recipe import Qwen2AudioRecipe

HOLD_S = 300.0


class Accident(Config):
    rank: int
    call: int
    """Calls of ``collate`` since this process built its recipe, the first is 1."""
    what: Literal["raise", "hold"]
    """``hold`` waits to be killed, with its process id in the file."""


class FaultyRecipe(Qwen2AudioRecipe):
    def __init__(self, config: FaultyRecipeConfig) -> None:
        super().__init__(config)
        self.accidents = config.accidents
        self.directory = Path(config.accidents_dir)
        self.num_calls = 0
        pending = (number for number in range(len(self.accidents)) if not happened(self.directory, number))
        self.next_accident = next(pending, None)

    def collate(self, rows: Sequence[Row], features: Sequence[np.ndarray[Any, Any]]) -> Batch:
        self.num_calls += 1
        if self.next_accident is not None and not happened(self.directory, self.next_accident):
            accident = self.accidents[self.next_accident]
            if accident.rank == dist.get_rank() and accident.call == self.num_calls:
                self._happen(self.next_accident, accident)
        return super().collate(rows, features)

    def _happen(self, number: int, accident: Accident) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        partial = self.directory / f".{number}"
        partial.write_text(json.dumps({"pid": os.getpid()}))
        partial.rename(self.directory / str(number))
        if accident.what == "raise":
            raise ArithmeticError(f"accident {number} on rank {accident.rank}")
        time.sleep(HOLD_S)


class FaultyRecipeConfig(Qwen2AudioRecipeConfig):
    kind: Literal["plugins.faulty_recipe"] = "plugins.faulty_recipe"  # type: ignore[assignment]
    accidents: tuple[Accident, ...] = ()
    accidents_dir: str

    def build(self) -> FaultyRecipe:
        return FaultyRecipe(self)


def happened(directory: Path, number: int) -> int | None:
    """Process id of the accident, once it has happened."""
    path = directory / str(number)
    return int(json.loads(path.read_text())["pid"]) if path.exists() else None
