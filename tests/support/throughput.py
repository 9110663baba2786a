"""How fast a recipe trains: the real loop and engine on one process, decoding left out of the measurement."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tiny import clip_table, free_port

PUBLISHED_CLIPS = 7244
"""Clips of the paper's training split."""


@dataclass(frozen=True)
class Throughput:
    """Of one configuration on this machine's device, over steady steps."""

    clips_per_s: float
    tflop_per_clip: float
    losses: tuple[float, ...]
    peak_gb: float | None
    """Allocated at most while training; None without a GPU."""
    planned_gb: float
    """The plan's total without its reserve, which is not allocated through torch."""
    device: str

    @property
    def epoch_minutes(self) -> float:
        return PUBLISHED_CLIPS / self.clips_per_s / 60

    @property
    def tflops(self) -> float:
        return self.clips_per_s * self.tflop_per_clip


class RepeatedClip:
    """One clip's features for every row: made once, so that no step waits for data."""

    def __init__(self, features: np.ndarray[Any, Any]) -> None:
        self.array = features

    def features(self, rows: pa.Table) -> Iterator[np.ndarray[Any, Any]]:
        for _ in range(len(rows)):
            yield self.array


def measure(
    rank: int, recipe: dict[str, Any], train: dict[str, Any], num_steps: int, num_warm_up: int = 2, device: str = "cpu"
) -> Throughput:
    """Train ``num_warm_up + num_steps`` optimizer steps as the only member of a process group."""
    import torch

    from moodscale.config import validate
    from moodscale.recipes.clips import examples_of
    from moodscale.recipes.qwen2_audio import Qwen2AudioRecipeConfig
    from moodscale.train import loop
    from moodscale.train.checkpoint import CheckpointStore
    from moodscale.train.config import OptimConfig, TrainConfig
    from moodscale.train.engine import DTYPES, Engine
    from moodscale.train.plan import plan

    once = {"phases": [{"schedule": "constant"}], "checkpoints": {"every_steps": 10**6}, "num_workers": 1}
    settings = validate(TrainConfig, {**train, **once})
    config = validate(Qwen2AudioRecipeConfig, recipe)
    built, optim = config.build(), OptimConfig()
    noise = np.random.default_rng(0).normal(scale=0.1, size=round(config.clip_s * 16_000)).astype(np.float32)
    features = built.features()(noise)
    with torch.device(device):  # billions of random weights are drawn where they will be used: seconds, not minutes
        model = built.build_model(DTYPES[settings.engine.precision], settings.engine.gradient_checkpointing)
    is_cuda = device.startswith("cuda")
    if is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    ends: list[float] = []
    losses: list[float] = []

    def on_step(step: int, total: int, metrics: dict[str, float]) -> None:
        if is_cuda:
            torch.cuda.synchronize()
        ends.append(time.perf_counter())
        losses.append(metrics.get("train/loss", float("nan")))

    clips = clip_table((num_warm_up + num_steps) * settings.effective_batch)
    with tempfile.TemporaryDirectory() as directory:
        loop.run(
            loop.Job(
                recipe=built,
                train=settings,
                optim=optim,
                seed=0,
                train_examples=examples_of(clips),
                validation_examples=examples_of(clips.slice(0, 0)),
                stream=RepeatedClip(features),
                store=CheckpointStore(Path(directory), 1, "loss"),
                on_step=on_step,
            ),
            Engine(model, settings, optim),
        )
    seconds = statistics.median(np.diff(ends[num_warm_up - 1 :]).tolist())
    planned = plan(built, settings)
    return Throughput(
        clips_per_s=settings.effective_batch / seconds,
        tflop_per_clip=planned.tflop_per_unit(),
        losses=tuple(losses),
        peak_gb=torch.cuda.max_memory_allocated() / 1e9 if is_cuda else None,
        planned_gb=planned.configured.memory.total / 1e9 - planned.reserve_gb,
        device=torch.cuda.get_device_name() if is_cuda else "CPU",
    )


def measure_on_gpu(recipe: dict[str, Any], train: dict[str, Any], num_steps: int) -> Throughput:
    """:func:`measure` in a process of its own, whose GPU memory is free again afterwards."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure_alone, free_port(), recipe, train, num_steps).result()


def _measure_alone(port: int, recipe: dict[str, Any], train: dict[str, Any], num_steps: int) -> Throughput:
    os.environ.pop("DS_ACCELERATOR", None)
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    import torch
    import torch.distributed as dist

    torch.cuda.set_device(0)
    dist.init_process_group("nccl", rank=0, world_size=1)
    try:
        return measure(0, recipe, train, num_steps, device="cuda:0")
    finally:
        dist.destroy_process_group()
