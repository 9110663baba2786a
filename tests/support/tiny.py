"""A two-layer Qwen2-Audio, clips of noise, and groups of real processes for them: shared by the training tests."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch.multiprocessing as mp

from moodscale.schema import CLIP_SCHEMA

SIZES = {
    "audio_layers": 1,
    "audio_width": 32,
    "audio_heads": 2,
    "audio_ffn": 64,
    "text_layers": 1,
    "text_width": 32,
    "text_heads": 2,
    "text_kv_heads": 2,
    "text_ffn": 64,
    "vocab_size": 1024,
}


def recipe_config(**changes: Any) -> Any:
    from moodscale.recipes.qwen2_audio import TARGETS, Qwen2AudioRecipeConfig

    lora = {"targets": TARGETS, "dropout": changes.pop("dropout", 0.1)}
    return Qwen2AudioRecipeConfig.model_validate(
        {"model": {"source": "random"}, "sizes": SIZES, "clip_s": 2.0, "greedy_tokens": 2, "lora": lora, **changes}
    )


def clip_table(num_clips: int, split: str = "train", num_people: int = 6) -> pa.Table:
    """Clips of 2 s; person i % num_people, the first third of the people depressed."""
    rows = []
    for index in range(num_clips):
        number = index % num_people
        rows.append(
            {
                "clip_id": f"{split}-{index:03d}",
                "person": f"test:{split}-{number}",
                "interview_id": f"{split}-{number}",
                "corpus": "test",
                "split": split,
                "root": "corpus",
                "path": "none.wav",
                "sample_rate_hz": 16_000,
                "segments": [{"start_s": 0.0, "stop_s": 2.0}],
                "duration_s": 2.0,
                "num_turns": 1,
                "instrument": "PHQ-8",
                "total": 15 if number < num_people / 3 else 3,
                "depressed": int(number < num_people / 3),
                "gender": "female" if number % 2 else "male",
            }
        )
    return pa.Table.from_pylist(rows, schema=CLIP_SCHEMA)


class NoiseStream:
    """Features made from the clip's id alone; ``poison`` names clips whose features are not numbers."""

    def __init__(self, transform: Any, poison: frozenset[str] = frozenset()) -> None:
        self.transform = transform
        self.poison = poison

    def features(self, rows: pa.Table) -> Iterator[Any]:
        for clip_id in rows["clip_id"].to_pylist():
            rng = np.random.default_rng(list(clip_id.encode()))
            mel = self.transform(rng.normal(size=32_000).astype(np.float32) * 0.1)
            yield mel * np.float32("nan") if clip_id in self.poison else mel


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Group:
    """Processes that form one gloo group and stay: starting them costs more than most tests."""

    def __init__(self, world_size: int) -> None:
        context = mp.get_context("spawn")
        self.answers: Any = context.Queue()
        self.tasks: list[Any] = [context.Queue() for _ in range(world_size)]
        port = free_port()
        self.processes = [
            context.Process(target=_member, args=(rank, world_size, port, tasks, self.answers), daemon=True)
            for rank, tasks in enumerate(self.tasks)
        ]
        for process in self.processes:
            process.start()

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """``function(rank, *args)`` on every member; the results by rank."""
        for tasks in self.tasks:
            tasks.put((function, args))
        answers = sorted((self.answers.get(timeout=300) for _ in self.tasks), key=lambda answer: answer[0])
        failed = [text for _, ok, text in answers if not ok]
        if failed:
            raise RuntimeError("\n".join(failed))
        return [value for _, _, value in answers]

    def close(self) -> None:
        for tasks in self.tasks:
            tasks.put(None)
        for process in self.processes:
            process.join(20)
            process.kill()


_groups: dict[int, Group] = {}


def run_group(world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """Run in the session's group of that size, started on first use."""
    if world_size not in _groups:
        _groups[world_size] = Group(world_size)
    return _groups[world_size].run(function, *args)


def close_groups() -> None:
    while _groups:
        _groups.popitem()[1].close()


def _member(rank: int, world_size: int, port: int, tasks: Any, answers: Any) -> None:
    os.environ.update(
        DS_ACCELERATOR="cpu",
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    while (task := tasks.get()) is not None:
        function, args = task
        try:
            answers.put((rank, True, function(rank, *args)))
        except BaseException as error:
            answers.put((rank, False, f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))


class ListRecorder:
    """Keeps what the loop records."""

    def __init__(self) -> None:
        self.points: list[tuple[int, dict[str, float]]] = []

    def append(self, step: int, metrics: dict[str, float]) -> None:
        self.points.append((step, metrics))

    def commit(self) -> None:
        pass


def train_once(
    rank: int,
    directory: str,
    train: dict[str, Any],
    recipe: dict[str, Any] | None = None,
    num_clips: int = 20,
    poison: tuple[str, ...] = (),
    stop_after: int | None = None,
) -> dict[str, Any]:
    """Train in this member of a group; ``stop_after`` raises after that step, as a crash would."""
    from moodscale.recipes.clips import examples_of
    from moodscale.train import loop
    from moodscale.train.checkpoint import CheckpointStore
    from moodscale.train.config import OptimConfig, TrainConfig
    from moodscale.train.engine import DTYPES, Engine

    config = TrainConfig.model_validate({"use_gpu": False, "effective_batch": 8, "log_every_s": 60, **train})
    built = recipe_config(**(recipe or {})).build()
    optim = OptimConfig(lr=5e-3)
    recorder = ListRecorder()

    def on_step(step: int, total: int, metrics: dict[str, float]) -> None:
        if stop_after is not None and step >= stop_after:
            raise KeyboardInterrupt(f"stopped after step {step}")

    engine = Engine(
        built.build_model(DTYPES[config.engine.precision], config.engine.gradient_checkpointing), config, optim
    )
    job = loop.Job(
        recipe=built,
        train=config,
        optim=optim,
        seed=3,
        train_examples=examples_of(clip_table(num_clips)),
        validation_examples=examples_of(clip_table(7, "validation")),
        stream=NoiseStream(built.features(), frozenset(poison)),
        store=CheckpointStore(Path(directory), config.checkpoints.keep, config.checkpoints.metric or "participant_auc"),
        recorder=recorder if rank == 0 else None,
        on_step=on_step,
    )
    interrupted = ""
    position = None
    try:
        position = loop.run(job, engine)
    except (KeyboardInterrupt, loop.NonFiniteLossError) as error:
        interrupted = str(error)
    losses = {step: metrics["train/loss"] for step, metrics in recorder.points if "train/loss" in metrics}
    validation = [metrics for _, metrics in recorder.points if "validation/loss" in metrics]
    adapter = {name: tensor.float().numpy().copy() for name, tensor in engine.adapter_state().items()}
    return {
        "losses": losses,
        "validation": validation,
        "position": position,
        "interrupted": interrupted,
        "adapter": adapter if rank == 0 else None,
    }
