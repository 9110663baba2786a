"""The DeepSpeed engine, wrapped so that the loop sees four verbs: accumulate, step, save, load."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from moodscale.config import ConfigError
from moodscale.models.lora import ADAPTER_FILE, apply_adapter, load_adapter, save_adapter, trainable
from moodscale.recipes.base import Batch
from moodscale.train.config import OptimConfig, TrainConfig

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_TAG = "engine"
BUCKET_VALUES = 30_000_000
"""Numbers in DeepSpeed's communication buffers, which it allocates in full: its default of 5e8 takes 1 to 2 GB, where
the largest published adapter has 27 million parameters."""


def deepspeed_config(train: TrainConfig, optim: OptimConfig) -> dict[str, Any]:
    """DeepSpeed's JSON for a job; made anew for every job, never shared between trials."""
    zero: dict[str, Any] = {
        "stage": train.engine.zero_stage,
        "reduce_bucket_size": BUCKET_VALUES,
        "allgather_bucket_size": BUCKET_VALUES,
    }
    if train.engine.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if train.engine.offload_parameters:
        zero["offload_param"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    config: dict[str, Any] = {
        "train_batch_size": train.effective_batch,
        "train_micro_batch_size_per_gpu": train.micro_batch,
        "gradient_accumulation_steps": train.accumulation,
        "gradient_clipping": optim.max_grad_norm,
        "zero_optimization": zero,
        # torch's AdamW serves every stage and device; DeepSpeed's own needs a compiler where it runs.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
    }
    if train.engine.precision == "bf16":
        config["bf16"] = {"enabled": True}
    if train.engine.precision == "fp16":
        config["fp16"] = {"enabled": True, "initial_scale_power": 16, "loss_scale_window": 500, "hysteresis": 2}
    return config


class Engine:
    """A model under DeepSpeed ZeRO in this process' place of the process group."""

    def __init__(self, model: nn.Module, train: TrainConfig, optim: OptimConfig) -> None:
        if not torch.cuda.is_available():
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
        import deepspeed  # here, after the accelerator is named: the import chooses it

        from moodscale.train.safe_checkpoint import WeightsOnlyCheckpointEngine

        # On CPUs DeepSpeed would compile a shared-memory reduction when a job starts; gloo does it without a compiler.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

        if train.engine.precision == "fp16" and not deepspeed.accelerator.get_accelerator().is_fp16_supported():
            raise ConfigError("train.engine.precision=fp16: this device cannot compute in it; take bf16 or fp32")
        self.train_config = train
        self._deepspeed = deepspeed
        self._parameters = trainable(model)
        optimizer = torch.optim.AdamW(
            self._parameters.values(),
            lr=optim.lr,
            betas=optim.betas,
            eps=optim.eps,
            weight_decay=optim.weight_decay,
        )
        self.engine, *_ = deepspeed.initialize(
            model=model, optimizer=optimizer, config=deepspeed_config(train, optim), dist_init_required=False
        )
        self.engine.checkpoint_engine = WeightsOnlyCheckpointEngine()
        self.device: torch.device = self.engine.device
        self.rank = dist.get_rank()
        self.world_size = dist.get_world_size()

    @property
    def model(self) -> nn.Module:
        """The module without the engine, for predicting."""
        module: nn.Module = self.engine.module
        return module

    def accumulate(self, batch: Batch, weights_B: torch.Tensor, denominator: float) -> torch.Tensor:
        """Forward and backward of one micro-batch.

        The engine divides by the accumulation steps and averages over ranks; both are undone here, so that the
        gradient is that of Σ wᵢ·lossᵢ / denominator over the whole effective batch, whatever its split.

        Returns:
            this micro-batch's share Σ wᵢ·lossᵢ / denominator, detached.
        """
        losses_B = self.engine(**self.to_device(batch))
        share = (losses_B * weights_B.to(losses_B.device)).sum() / denominator
        self.engine.backward(share * (self.world_size * self.train_config.accumulation))
        detached: torch.Tensor = share.detach()
        return detached

    def advance(self) -> None:
        """Tell the engine that a micro-batch is done which is not the step's last."""
        self.engine.step()

    def step(self, lr: float, discard: bool) -> float | None:
        """Apply the accumulated gradients.

        Args:
            discard: drop them instead; every rank must pass the same.
        Returns:
            the gradient's norm before clipping, or None where no update was made (discarded, or fp16 overflow).
        """
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr
        if discard and self.train_config.engine.zero_stage == 0:
            # ZeRO drops non-finite gradients by itself; without it nothing checks, so the update is left out here.
            self.engine.set_gradient_accumulation_boundary(False)
            self.engine.step()
            self.engine.set_gradient_accumulation_boundary(None)
            self.engine.optimizer.zero_grad()
            self.engine.zero_grad()
            return None
        self.engine.step()
        if discard or not self.engine.was_step_applied():
            return None
        norm = self.engine.get_global_grad_norm()
        return float(norm) if norm is not None else None

    def reset_optimizer(self) -> None:
        """Forget the moments: a phase begins with a fresh optimizer."""
        for state in self._inner_optimizer().state.values():
            for value in state.values():
                if isinstance(value, torch.Tensor):
                    value.zero_()

    def _inner_optimizer(self) -> torch.optim.Optimizer:
        optimizer = self.engine.optimizer
        inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
        return inner

    def to_device(self, batch: Batch) -> Batch:
        moved = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        if self.train_config.engine.precision != "fp32":
            dtype = DTYPES[self.train_config.engine.precision]
            moved = {
                name: tensor.to(dtype) if tensor.is_floating_point() and not name.startswith("targets") else tensor
                for name, tensor in moved.items()
            }
        return moved

    @contextmanager
    def predicting(self) -> Iterator[nn.Module]:
        """The model in evaluation mode, back in training mode afterwards."""
        self.model.eval()
        try:
            yield self.model
        finally:
            self.model.train()

    def adapter_state(self) -> dict[str, torch.Tensor]:
        """The adapter gathered from all ranks (a collective: every rank must call it)."""
        with self._gathered():
            return {name: parameter.detach().clone().cpu() for name, parameter in self._parameters.items()}

    @contextmanager
    def _gathered(self, modifier_rank: int | None = None) -> Iterator[None]:
        if self.train_config.engine.zero_stage < 3:
            yield
            return
        with self._deepspeed.zero.GatheredParameters(list(self._parameters.values()), modifier_rank=modifier_rank):
            yield

    def save(self, directory: Path) -> None:
        """Every rank writes its shard of the engine's state; rank 0 writes the adapter beside it."""
        self.engine.save_checkpoint(
            str(directory), tag=_TAG, client_state={}, save_latest=False, exclude_frozen_parameters=True
        )
        state = self.adapter_state()
        if self.rank == 0:
            save_adapter(state, directory / ADAPTER_FILE)
            for script in directory.glob("zero_to_*.py"):
                script.unlink()  # DeepSpeed's conversion scripts: a checkpoint holds state, not code

    def load(self, directory: Path) -> None:
        """Continue exactly: weights, moments, loss scale.

        Raises:
            ValueError: the engine refuses the state.
        """
        path, _ = self.engine.load_checkpoint(str(directory), tag=_TAG, load_module_strict=False)
        if path is None:
            raise ValueError(f"{directory}: DeepSpeed found no state for rank {self.rank} of {self.world_size}")

    def load_adapter(self, directory: Path) -> None:
        """Weights only, with a fresh optimizer: for another world size, or from another run."""
        state = load_adapter(directory / ADAPTER_FILE)
        with self._gathered(modifier_rank=0):
            apply_adapter(self.engine.module, state)
        optimizer = self.engine.optimizer
        if hasattr(optimizer, "refresh_fp32_params"):
            optimizer.refresh_fp32_params()
        elif hasattr(optimizer, "_restore_from_bit16_weights"):
            optimizer._restore_from_bit16_weights()
        self.reset_optimizer()
