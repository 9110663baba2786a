"""Memory of one training worker's GPU, part by part, from counts alone.

Adapters on frozen base weights change the usual ZeRO table. Gradients, fp32 master weights and both moments exist for
the adapter only, so stages 1 and 2, which shard just those, spare megabytes; stage 3 shards the base weights too, and
pays by gathering every layer in both passes of every micro-batch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from moodscale.models.cost import CostModel

GB = 1e9
VALUE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
LIVE_PARAMETERS = 1_000_000_000
"""Gathered weights that ZeRO-3 keeps on a GPU at most: DeepSpeed's default ``stage3_max_live_parameters``."""


@dataclass(frozen=True)
class ModelFacts:
    """What the arithmetic needs of a model.

    Attributes:
        total_params: base and adapter.
        trainable_params: the adapter's.
        largest_module_params: frozen parameters of the largest single module, which ZeRO-3 gathers whole.
        cost: of one example.
    """

    total_params: int
    trainable_params: int
    largest_module_params: int
    cost: CostModel

    @classmethod
    def of(cls, model: nn.Module, cost: CostModel) -> ModelFacts:
        """Count a model, usually one on the meta device."""
        return cls(
            total_params=sum(parameter.numel() for parameter in model.parameters()),
            trainable_params=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
            largest_module_params=max(
                sum(p.numel() for p in module.parameters(recurse=False) if not p.requires_grad)
                for module in model.modules()
            ),
            cost=cost,
        )

    @property
    def frozen_params(self) -> int:
        return self.total_params - self.trainable_params


@dataclass(frozen=True)
class Setting:
    """The choices that decide memory; field names as in ``TrainConfig`` and its ``engine``."""

    zero_stage: int
    micro_batch: int
    gradient_checkpointing: bool
    offload_optimizer: bool = False
    offload_parameters: bool = False
    precision: str = "bf16"

    @property
    def offload(self) -> str:
        if self.offload_parameters:
            return "optimizer+parameters" if self.offload_optimizer else "parameters"
        return "optimizer" if self.offload_optimizer else "none"


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU by part, and in the host's memory by worker.

    Attributes:
        base_weights: frozen weights at rest.
        adapter_weights: the adapter in the precision of the computation.
        gradients: the adapter's, with the fp32 copy that is accumulated or stepped from.
        optimizer_states: fp32 master weights and AdamW's two moments, of the adapter.
        activations: kept for the backward pass of one micro-batch.
        workspace: gradients of the one block that is at work.
        head_logits: logits of the scored positions, their fp32 copy and log-probabilities.
        communication: reduction buffers, and the weights that ZeRO-3 has gathered.
        reserve: CUDA context, kernels' and NCCL's workspaces, fragmentation: an allowance, not a computation.
        host: in the host's memory, where something is offloaded (not part of the total).
    """

    base_weights: float
    adapter_weights: float
    gradients: float
    optimizer_states: float
    activations: float
    workspace: float
    head_logits: float
    communication: float
    reserve: float
    host: float = 0.0

    @property
    def parts(self) -> dict[str, float]:
        """Bytes by part, without the host's."""
        return {name: value for name, value in asdict(self).items() if name != "host"}

    @property
    def total(self) -> float:
        return sum(self.parts.values())

    def to_json(self) -> dict[str, Any]:
        """Gigabytes (10⁹ bytes)."""
        return {name: round(value / GB, 3) for name, value in self.parts.items()}


def memory(model: ModelFacts, setting: Setting, num_workers: int, bucket_values: int, reserve_bytes: float) -> Memory:
    """The memory of one of ``num_workers`` GPUs.

    Args:
        bucket_values: numbers in DeepSpeed's reduction buffer, allocated in full whatever the gradients' size.
    """
    stage, value_bytes = setting.zero_stage, VALUE_BYTES[setting.precision]
    shards = num_workers if stage >= 1 else 1
    kept = model.cost.kept(setting.gradient_checkpointing)

    base = model.frozen_params * value_bytes / (num_workers if stage == 3 else 1)
    # Stages 0 and 1 accumulate whole gradients, 2 and 3 a worker's share of them.
    gradients = model.trainable_params * (value_bytes + 4) / (num_workers if stage >= 2 else 1)
    is_own_master = stage == 0 and setting.precision == "fp32"
    states = model.trainable_params * (8 if is_own_master else 12) / shards
    host = 0.0
    if setting.offload_optimizer:
        host, states = host + states, 0.0
    if setting.offload_parameters:
        host, base = host + base, 0.0
    return Memory(
        base_weights=base,
        adapter_weights=model.trainable_params * value_bytes,  # too small to be worth sharding; ZeRO-3 keeps it whole
        gradients=gradients,
        optimizer_states=states,
        activations=kept.num_bytes(value_bytes) * setting.micro_batch,
        workspace=model.cost.block.num_bytes(value_bytes) * setting.micro_batch,
        head_logits=model.cost.head_logits * (8 + (value_bytes if value_bytes < 4 else 0)) * setting.micro_batch,
        communication=_communication(model, stage, value_bytes, num_workers, bucket_values),
        reserve=reserve_bytes,
        host=host,
    )


def _communication(model: ModelFacts, stage: int, value_bytes: int, num_workers: int, bucket_values: int) -> float:
    if stage == 0:
        return float(model.trainable_params * value_bytes) if num_workers > 1 else 0.0
    # ZeRO-1 stages the fp32 accumulator, the others the gradients themselves.
    bucket = bucket_values * (4 if stage == 1 else value_bytes)
    if stage < 3:
        return float(bucket)
    gathered = max(min(model.frozen_params, LIVE_PARAMETERS), model.largest_module_params)
    return float(bucket + gathered * value_bytes)
