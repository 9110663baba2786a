"""DeepSpeed's checkpoint files without their danger: tensors and a few plain classes, never a pickle's code."""

from __future__ import annotations

from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

_ALLOWED = [LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address]


class WeightsOnlyCheckpointEngine(TorchCheckpointEngine):  # type: ignore[misc]
    """Loads with ``weights_only=True``: DeepSpeed's own engine would run whatever a file holds."""

    def __init__(self) -> None:
        super().__init__(None)
        self.zipfile_serialization = True

    def load(self, path: str, map_location: Any = None) -> Any:
        """Read one file.

        Raises:
            ValueError: the file holds more than tensors and the allowed classes.
        """
        try:
            with torch.serialization.safe_globals(_ALLOWED):
                return torch.load(path, map_location=map_location, weights_only=True)
        except Exception as error:
            reason = str(error).splitlines()[0][:200]
            raise ValueError(f"{path}: refused as a checkpoint ({type(error).__name__}: {reason})") from None
