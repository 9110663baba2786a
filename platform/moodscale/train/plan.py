"""What a training job would need, computed on the meta device: no GPU, no download.

Memory per GPU is arithmetic (:mod:`moodscale.train.memory`); time is an example's operations over the chip's peak at
an assumed utilisation. That is an input and not a finding: measure it once on the machine, then plan with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from moodscale.recipes.base import Recipe
from moodscale.train.config import OptimConfig, TrainConfig
from moodscale.train.engine import deepspeed_config
from moodscale.train.memory import GB, Memory, ModelFacts, Setting, memory

MICRO_BATCHES = (1, 2, 4, 8, 16)
BUSY_TOKENS = 1000
"""Tokens of a micro-batch from which a GPU is kept busy: below, launching kernels costs more than recomputing."""
NUM_UNITS = {"clip": 7244, "interview": 6283}
"""Examples of an epoch where nobody says how many: the published training splits."""
DEFAULT_BUCKET_VALUES = 500_000_000
"""DeepSpeed's ``reduce_bucket_size`` where the engine's configuration does not set one."""
MAX_WORKERS = 64
"""As far as advice looks for a number of GPUs that is large enough."""


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU: its memory in 10⁹ bytes and its dense peak in TFLOP/s."""

    name: str
    memory_gb: float
    tflops_16bit: float
    tflops_fp32: float

    def tflops(self, precision: str) -> float:
        return self.tflops_fp32 if precision == "fp32" else self.tflops_16bit


H100 = Gpu("H100 80GB SXM", memory_gb=80, tflops_16bit=989, tflops_fp32=67)
A800 = Gpu("A800 80GB", memory_gb=80, tflops_16bit=312, tflops_fp32=19.5)


@dataclass(frozen=True)
class Row:
    """One setting and what it needs."""

    setting: Setting
    memory: Memory

    def fits(self, gpu: Gpu) -> bool:
        return self.memory.total <= gpu.memory_gb * GB


@dataclass(frozen=True)
class Plan:
    """The answer of :func:`plan`.

    Attributes:
        unit: what an example is, as the recipe names it.
        num_units: examples an epoch.
        configured: the configuration as given.
        rows: every ZeRO stage × micro-batch × checkpointing × offload at the configured precision and workers.
        utilisation: share of the chip's peak that the hours assume.
        bucket_values: numbers in DeepSpeed's reduction buffer.
    """

    facts: ModelFacts
    train: TrainConfig
    gpus: tuple[Gpu, ...]
    unit: str
    num_units: int
    utilisation: float
    reserve_gb: float
    bucket_values: int
    configured: Row
    rows: tuple[Row, ...]

    @property
    def one(self) -> str:
        """``a clip``, ``an interview``."""
        return f"{'an' if self.unit[0] in 'aeiou' else 'a'} {self.unit}"

    def tflop_per_unit(self, setting: Setting | None = None) -> float:
        """Forward, backward and, with checkpointing, recomputation of one example."""
        setting = setting or self.configured.setting
        return self.facts.cost.train_flops(setting.gradient_checkpointing) / 1e12

    def hours_per_epoch(self, gpu: Gpu, setting: Setting | None = None) -> float:
        """Wall-clock hours of one epoch on the configured number of GPUs, at the assumed utilisation."""
        setting = setting or self.configured.setting
        rate = gpu.tflops(setting.precision) * self.utilisation * self.train.num_workers
        return self.num_units * self.tflop_per_unit(setting) / rate / 3600

    @cached_property
    def recommended(self) -> dict[str, Row | None]:
        """By GPU, the setting to write; None where nothing fits."""
        return {gpu.name: self._recommend(gpu) for gpu in self.gpus}

    def smallest(self, gpu: Gpu, offload: bool) -> Row | None:
        """The setting that takes the least of the GPU's memory, with anything in the host's memory or without.

        ``None`` where even that does not fit.
        """
        rows = [row for row in self.rows if (row.setting.offload != "none") is offload and row.fits(gpu)]
        return min(rows, key=lambda row: row.memory.total, default=None)

    def _recommend(self, gpu: Gpu) -> Row | None:
        return _recommend(self.rows, gpu, self.train.num_workers, -(-BUSY_TOKENS // self.facts.cost.tokens))

    @cached_property
    def advice(self) -> list[str]:
        """Sentences that name fields and values, each with the GPUs that it holds for."""
        holds: dict[str, list[str]] = {}
        for gpu in self.gpus:
            for sentence in _advise(self, gpu):
                holds.setdefault(sentence, []).append(gpu.name)
        return [f"{' and '.join(names)}: {sentence}" for sentence, names in holds.items()]

    def row_of(self, setting: Setting, num_workers: int | None = None) -> Row:
        """The row of any setting."""
        workers = num_workers or self.train.num_workers
        return Row(setting, memory(self.facts, setting, workers, self.bucket_values, self.reserve_gb * GB))

    def to_json(self) -> dict[str, Any]:
        """Sizes in GB (10⁹ bytes) on each GPU; ``host_gb`` is each worker's share of the host's memory.

        Keys name the unit: ``tflop_per_clip`` and ``num_clips``, or ``tflop_per_interview`` and ``num_interviews``.
        """
        return {
            "trainable_params": self.facts.trainable_params,
            "total_params": self.facts.total_params,
            f"tflop_per_{self.unit}": round(self.tflop_per_unit(), 3),
            "tflop_parts": {
                "forward": round(self.facts.cost.forward_flops / 1e12, 3),
                "backward": round(self.facts.cost.backward_flops / 1e12, 3),
                "recompute": round(self.facts.cost.recompute_flops / 1e12, 3),
            },
            "assumptions": {
                f"num_{self.unit}s": self.num_units,
                "num_workers": self.train.num_workers,
                "effective_batch": self.train.effective_batch,
                "utilisation": self.utilisation,
                "reserve_gb": self.reserve_gb,
                "gpus": [vars(gpu) for gpu in self.gpus],
            },
            "config": self._row_json(self.configured),
            "memory": [self._row_json(row) for row in self.rows],
            "epoch": {gpu.name: self._epoch_json(gpu, self.configured) for gpu in self.gpus},
            "config_fits": {gpu.name: self.configured.fits(gpu) for gpu in self.gpus},
            "advice": self.advice,
            "smallest": {
                gpu.name: {
                    name: row and self._row_json(row)
                    for name, offload in (("without_offload", False), ("with_offload", True))
                    for row in [self.smallest(gpu, offload)]
                }
                for gpu in self.gpus
            },
            "recommended": {
                gpu.name: row and {**self._row_json(row), "epoch": self._epoch_json(gpu, row)}
                for gpu in self.gpus
                for row in [self.recommended[gpu.name]]
            },
        }

    def _row_json(self, row: Row) -> dict[str, Any]:
        setting = row.setting
        return {
            "zero_stage": setting.zero_stage,
            "micro_batch": setting.micro_batch,
            "gradient_checkpointing": setting.gradient_checkpointing,
            "offload": setting.offload,
            "precision": setting.precision,
            "accumulation": self.train.effective_batch // (self.train.num_workers * setting.micro_batch),
            "gb": row.memory.to_json(),
            "total_gb": round(row.memory.total / GB, 3),
            "host_gb": round(row.memory.host / GB, 3),
            f"tflop_per_{self.unit}": round(self.tflop_per_unit(setting), 3),
            "fits": {gpu.name: row.fits(gpu) for gpu in self.gpus},
        }

    def _epoch_json(self, gpu: Gpu, row: Row) -> dict[str, float]:
        hours = self.hours_per_epoch(gpu, row.setting)
        return {"hours": round(hours, 4), "gpu_hours": round(hours * self.train.num_workers, 4)}


def plan(
    recipe: Recipe,
    train: TrainConfig,
    num_units: int | None = None,
    gpus: Sequence[Gpu] = (H100, A800),
    utilisation: float = 0.4,
    reserve_gb: float = 6.0,
) -> Plan:
    """Compute what a job needs; each worker is taken to have one GPU.

    Args:
        num_units: examples an epoch; by default as many as the published training split of such units has.
        utilisation: share of the peak that training reaches (good LoRA on one H100: 0.40–0.43).
        reserve_gb: kept free on each GPU for the CUDA context, kernels' workspaces and fragmentation.
    Raises:
        ValueError: an input outside its range.
    """
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation={utilisation} is a share of the chip's peak: give a number in (0, 1]")
    unit = recipe.unit
    if num_units is None:
        num_units = NUM_UNITS.get(unit, 1000)
    if num_units < 1:
        raise ValueError(f"num_{unit}s={num_units}: an epoch has at least one {unit}")
    if reserve_gb < 0:
        raise ValueError(f"reserve_gb={reserve_gb} cannot be negative")
    zero = deepspeed_config(train, OptimConfig())["zero_optimization"]
    facts = ModelFacts.of(recipe.build_meta(), recipe.cost())
    bucket_values = int(zero.get("reduce_bucket_size", DEFAULT_BUCKET_VALUES))

    def row(setting: Setting) -> Row:
        return Row(setting, memory(facts, setting, train.num_workers, bucket_values, reserve_gb * GB))

    return Plan(
        facts=facts,
        train=train,
        gpus=tuple(gpus),
        unit=unit,
        num_units=num_units,
        utilisation=utilisation,
        reserve_gb=reserve_gb,
        bucket_values=bucket_values,
        configured=row(configured_setting(train)),
        rows=tuple(row(setting) for setting in settings(train)),
    )


def choose(plan: Plan, gpu: Gpu) -> tuple[int, bool, int]:
    """What to write into ``train.micro_batch``, ``train.engine.gradient_checkpointing`` and ``….zero_stage``.

    Raises:
        ValueError: nothing fits without offloading; the message says what would.
    """
    row = plan.recommended[gpu.name]
    if row is None or row.setting.offload != "none":
        raise ValueError(f"no micro-batch and ZeRO stage fit on {gpu.name}. " + " ".join(_advise(plan, gpu)))
    return row.setting.micro_batch, row.setting.gradient_checkpointing, row.setting.zero_stage


def configured_setting(train: TrainConfig) -> Setting:
    engine = train.engine
    return Setting(
        zero_stage=engine.zero_stage,
        micro_batch=train.micro_batch,
        gradient_checkpointing=engine.gradient_checkpointing,
        offload_optimizer=engine.offload_optimizer,
        offload_parameters=engine.offload_parameters,
        precision=engine.precision,
    )


def settings(train: TrainConfig) -> list[Setting]:
    """Every combination that leaves the configuration's effective batch, workers and precision as they are."""
    share = train.effective_batch // train.num_workers
    micro_batches = sorted({size for size in (*MICRO_BATCHES, train.micro_batch) if share % size == 0})
    offloads = [(0, False, False), *((stage, o, False) for stage in (1, 2, 3) for o in (False, True)), (3, True, True)]
    return [
        Setting(stage, size, checkpointing, optimizer, parameters, train.engine.precision)
        for (stage, optimizer, parameters), size, checkpointing in itertools.product(
            offloads, micro_batches, (False, True)
        )
    ]


_OFFLOADS = ("none", "optimizer", "parameters", "optimizer+parameters")


def _recommend(rows: Iterable[Row], gpu: Gpu, num_workers: int, busy_micro_batch: int) -> Row | None:
    """Offload least, then shard least, then do not recompute, then the largest micro-batch.

    A setting that keeps the GPU busy goes first. With several workers ZeRO starts at 1, which sends as much as plain
    data parallelism and shards the optimizer's states for nothing; one worker has nobody to share with.
    """
    fitting = [row for row in rows if row.fits(gpu) and (row.setting.zero_stage > 0 or num_workers == 1)]
    if not fitting:
        return None
    busy = min(busy_micro_batch, max(row.setting.micro_batch for row in rows))

    def rank(row: Row) -> tuple[int, bool, int, bool, int]:
        chosen = row.setting
        return (
            _OFFLOADS.index(chosen.offload),
            chosen.micro_batch < busy,
            chosen.zero_stage,
            chosen.gradient_checkpointing,
            -chosen.micro_batch,
        )

    return min(fitting, key=rank)


def _advise(plan: Plan, gpu: Gpu) -> list[str]:
    configured, best = plan.configured, plan.recommended[gpu.name]
    needed, available = configured.memory.total / GB, gpu.memory_gb
    if not configured.fits(gpu):
        part, size = max(configured.memory.parts.items(), key=lambda item: item[1])
        problem = (
            f"the configuration does not fit: {needed:.1f} GB of {available:g} GB, "
            f"{size / GB:.1f} GB of it {part.replace('_', ' ')}."
        )
        return [f"{problem} {_repair(plan, gpu)}"]
    fits = f"the configuration fits: {needed:.1f} GB of {available:g} GB"
    if best is None or best.setting == configured.setting:
        return [f"{fits}, as recommended."]
    saved = 1 - plan.tflop_per_unit(best.setting) / plan.tflop_per_unit()
    gain = f", {saved:.0%} fewer operations {plan.one}" if saved > 0.005 else ""
    changes = _changes(configured.setting, best.setting)
    return [f"{fits}.", f"faster or smaller: {changes} ({best.memory.total / GB:.1f} GB{gain})."]


def _repair(plan: Plan, gpu: Gpu) -> str:
    """The smallest change that fits: fewest fields, the cheapest ones first."""
    own = plan.configured.setting
    fitting = [row for row in plan.rows if row.fits(gpu)]
    if own.precision == "fp32" and all(row.setting.offload_parameters for row in fitting):
        halved = plan.row_of(replace(own, precision="bf16"))
        size = f"{halved.memory.total / GB:.1f} GB"
        return f"The weights do not fit in fp32. Set train.engine.precision: bf16 ({size}) and plan again."
    if not fitting:
        return "No setting fits, however many such GPUs share the weights: it takes GPUs with more memory."
    nearest = min(fitting, key=lambda row: _distance(own, row.setting))
    change = f"Set {_changes(own, nearest.setting)}: {nearest.memory.total / GB:.1f} GB."
    if nearest.setting.offload_parameters:
        return f"{change} That moves every weight over the host's bus at each step. {_more_gpus(plan, gpu)}"
    return change


def _more_gpus(plan: Plan, gpu: Gpu) -> str:
    """How many workers could shard the weights between them, instead of offloading."""
    own = plan.configured.setting
    smallest = Setting(3, 1, gradient_checkpointing=True, precision=own.precision)
    for workers in range(plan.train.num_workers + 1, MAX_WORKERS + 1):
        row = plan.row_of(smallest, workers)
        if row.fits(gpu):
            batch = -(-plan.train.effective_batch // workers) * workers
            also = f", train.effective_batch: {batch}" if batch != plan.train.effective_batch else ""
            changes = _changes(own, smallest)
            size = f"{row.memory.total / GB:.1f} GB"
            return f"Faster on more GPUs: train.num_workers: {workers}{also}, {changes}: {size}."
    return f"Sharding over {MAX_WORKERS} GPUs instead would not fit."


def _distance(own: Setting, other: Setting) -> tuple[int, int, int, bool, int]:
    changed = sum(
        (
            own.micro_batch != other.micro_batch,
            own.gradient_checkpointing != other.gradient_checkpointing,
            own.zero_stage != other.zero_stage,
            own.offload_optimizer != other.offload_optimizer,
            own.offload_parameters != other.offload_parameters,
        )
    )
    return (
        changed,
        _OFFLOADS.index(other.offload),
        abs(own.zero_stage - other.zero_stage),
        own.gradient_checkpointing != other.gradient_checkpointing,
        -other.micro_batch,
    )


def _changes(own: Setting, other: Setting) -> str:
    """What to write, as ``field: value``, for every field that differs."""
    fields = {
        "train.micro_batch": (own.micro_batch, other.micro_batch),
        "train.engine.gradient_checkpointing": (own.gradient_checkpointing, other.gradient_checkpointing),
        "train.engine.zero_stage": (own.zero_stage, other.zero_stage),
        "train.engine.offload_optimizer": (own.offload_optimizer, other.offload_optimizer),
        "train.engine.offload_parameters": (own.offload_parameters, other.offload_parameters),
    }
    return ", ".join(
        f"{field}: {str(new).lower() if isinstance(new, bool) else new}"
        for field, (old, new) in fields.items()
        if old != new
    )
