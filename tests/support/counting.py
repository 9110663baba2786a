"""What one step of a model really computes and keeps, by PyTorch's own account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Counted:
    """Operations of the two passes, and bytes kept for the second beside the model's own."""

    forward_flops: int
    backward_flops: int
    kept_bytes: int


def count(model: nn.Module, batch: Mapping[str, Any]) -> Counted:
    """One forward and one backward pass."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage
        return tensor

    forward = FlopCounterMode(display=False)
    with forward, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(**batch).sum()
    backward = FlopCounterMode(display=False)
    with backward:
        loss.backward()
    kept = sum(storage.nbytes() for storage in storages.values())
    return Counted(forward.get_total_flops(), backward.get_total_flops(), kept)
