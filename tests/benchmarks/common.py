"""What the training benchmarks share: a small checkpoint, recordings, and runners that take turns on the same cores.

A runner is a program of its own process (a bare loop, our loop, a Trainer script). The race lets one run at a time:
A does a turn of steps, then B, then A again, so that whatever else the machine does falls on both. A turn's first
step is left out: it fills pipelines that an interruption drained.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pyarrow as pa
import soundfile

from moodscale.schema import CLIP_SCHEMA

EFFECTIVE_BATCH = 8
LEARNING_RATE = 2e-4
SEED = 3

SMALL = {
    "audio_layers": 4,
    "audio_width": 256,
    "audio_heads": 4,
    "audio_ffn": 1024,
    "text_layers": 4,
    "text_width": 512,
    "text_heads": 8,
    "text_kv_heads": 8,
    "text_ffn": 1408,
    "vocab_size": 8192,
}
"""About 25 million parameters: a bare step of eight 10 s clips takes seconds on a CPU."""
TINY = {
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
"""What ``--quick`` runs: shows that a benchmark works, measures nothing."""


@dataclass(frozen=True)
class Corpus:
    """Clips on disk."""

    clips: pa.Table
    roots: Mapping[str, Path]


def write_recordings(root: Path, num_clips: int, clip_s: float = 10.0, num_files: int = 8) -> Corpus:
    """16 kHz wavs of coloured noise; a clip is three turns of one of them, as a manifest has it."""
    root.mkdir(parents=True)
    draw = np.random.default_rng(0)
    per_file = -(-num_clips // num_files)
    turn_s = clip_s / 3
    for number in range(num_files):
        noise = draw.standard_normal(round(per_file * (clip_s + 1.5) * 16_000), dtype=np.float32)
        loudness = 0.02 + 0.2 * np.abs(np.sin(np.arange(len(noise), dtype=np.float32) * (number + 1) / 16_000))
        soundfile.write(root / f"{number:03d}.wav", noise * loudness * 0.3, 16_000, subtype="PCM_16")
    rows = []
    for index in range(num_clips):
        number, first_s = index % num_files, (index // num_files) * (clip_s + 1.5)
        starts = [first_s + turn * (turn_s + 0.5) for turn in range(3)]
        segments = [{"start_s": start, "stop_s": start + turn_s} for start in starts[:2]]
        segments.append({"start_s": starts[2], "stop_s": starts[2] + clip_s - 2 * turn_s})
        rows.append(
            {
                "clip_id": f"{number:03d}-{index // num_files:04d}",
                "person": f"bench:{number}",
                "interview_id": f"{number}",
                "corpus": "bench",
                "split": "train",
                "root": "bench",
                "path": f"{number:03d}.wav",
                "sample_rate_hz": 16_000,
                "segments": segments,
                "duration_s": clip_s,
                "num_turns": 3,
                "instrument": "PHQ-8",
                "total": 15 if number % 2 else 3,
                "depressed": number % 2,
                "gender": "female" if number % 4 < 2 else "male",
            }
        )
    return Corpus(pa.Table.from_pylist(rows, schema=CLIP_SCHEMA), {"bench": root})


def recipe_config(source: str, quick: bool, pad_to_30_s: bool = False) -> Any:
    """The recipe on the benchmark's model, without dropout: losses can be compared."""
    from moodscale.recipes.qwen2_audio import TARGETS, Qwen2AudioRecipeConfig

    return Qwen2AudioRecipeConfig.model_validate(
        {
            "model": {"source": source},
            "sizes": TINY if quick else SMALL,
            "lora": {"targets": TARGETS, "dropout": 0.0},
            "pad_to_30_s": pad_to_30_s,
        }
    )


def write_checkpoint(directory: Path, quick: bool) -> Path:
    """Random weights and their processor, as files that any program of transformers loads."""
    import torch

    from moodscale.models import qwen2_audio as architecture
    from moodscale.models.processor import special_token_ids

    recipe = recipe_config("random", quick).build()
    ids = special_token_ids(recipe.processor)
    model = architecture.load(recipe.config.model, recipe.config.sizes, torch.float32, ids, "sdpa")
    model.save_pretrained(str(directory))
    recipe.save_assets(directory)
    return directory


class Laps:
    """A runner's side of a race: it says when a step is done and stops there while it is the others' turn."""

    def __init__(self, connection: Connection, steps: int) -> None:
        self._connection = connection
        self.steps = steps
        """Steps a turn."""
        self._step_s: list[float] = []
        self._cpu_s: list[float] = []
        self._losses: list[float] = []
        self._begun = self._cpu_begun = 0.0

    def ready(self) -> None:
        """Everything is built: wait for the first turn."""
        self._connection.send(("ready", None))
        self._connection.recv()
        self._start_clocks()

    def step(self, loss: float) -> None:
        self._step_s.append(time.perf_counter() - self._begun)
        self._cpu_s.append(time.process_time() - self._cpu_begun)
        self._losses.append(loss)
        if len(self._step_s) == self.steps:
            self._connection.send(("turn", (self._step_s, self._cpu_s, self._losses)))
            self._step_s, self._cpu_s, self._losses = [], [], []
            self._connection.recv()
        self._start_clocks()

    def _start_clocks(self) -> None:
        self._begun, self._cpu_begun = time.perf_counter(), time.process_time()


Runner = Callable[[Laps, int, Any], None]
"""``runner(laps, turns, settings)`` trains ``turns × laps.steps`` steps; a module's function."""


@dataclass
class Record:
    """What one runner did: seconds a step by turn, and losses.

    ``cpu_s`` is the processor time of its whole process: what other jobs on the machine take is not in it, and
    neither is waiting.
    """

    turns_s: list[list[float]] = field(default_factory=list)
    turns_cpu_s: list[list[float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def steady_s(self) -> list[float]:
        """The median step of each turn, without its first step; the first turn, which warms up, is left out."""
        return [statistics.median(turn[1:]) for turn in self.turns_s[1:]]

    @property
    def steady_cpu_s(self) -> list[float]:
        """The same in processor time."""
        return [statistics.median(turn[1:]) for turn in self.turns_cpu_s[1:]]

    @property
    def turn_s(self) -> list[float]:
        """Whole turns, the first step and so an epoch's start included."""
        return [sum(turn) for turn in self.turns_s[1:]]


def race(runners: Mapping[str, tuple[Runner, Any]], steps: int, repeats: int) -> dict[str, Record]:
    """Run the runners in turn, each in its own process: one turn to warm up, then ``repeats`` that count.

    Raises:
        RuntimeError: a runner failed; its traceback is the message.
    """
    assert steps >= 2, "a turn's first step is left out"
    context = multiprocessing.get_context("spawn")
    turns = repeats + 1
    racing = {}
    for name, (runner, settings) in runners.items():
        ours, theirs = context.Pipe()
        process = context.Process(target=_run, args=(theirs, runner, settings, steps, turns))
        process.start()
        theirs.close()
        racing[name] = (process, ours)
        _receive(name, ours, "ready")
    records = {name: Record() for name in runners}
    try:
        for _ in range(turns):
            for name, (_, connection) in racing.items():
                connection.send("go")
                step_s, cpu_s, losses = _receive(name, connection, "turn")
                records[name].turns_s.append(step_s)
                records[name].turns_cpu_s.append(cpu_s)
                records[name].losses.extend(losses)
        for _, connection in racing.values():
            connection.send("go")
        for process, _ in racing.values():
            process.join(120)
    finally:
        for process, _ in racing.values():
            process.kill()
    return records


def _run(connection: Connection, runner: Runner, settings: Any, steps: int, turns: int) -> None:
    import torch

    torch.set_num_threads(1)
    try:
        runner(Laps(connection, steps), turns, settings)
    except BaseException:
        connection.send(("failed", traceback.format_exc()))
        raise


def _receive(name: str, connection: Connection, wanted: str) -> Any:
    try:
        kind, value = connection.recv()
    except EOFError:
        raise RuntimeError(f"{name}: its process ended without a word") from None
    if kind != wanted:
        raise RuntimeError(f"{name}: {value}")
    return value


@dataclass(frozen=True)
class Ratio:
    """Ratios of interleaved pairs."""

    name: str
    values: Sequence[float]
    expected: str = ""
    passed: bool = True

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        spread = f"{min(self.values):.3f} to {max(self.values):.3f} in {len(self.values)} pairs"
        expected = f"; expected {self.expected}: {'met' if self.passed else 'MISSED'}" if self.expected else ""
        return f"{self.name}: {self.median:.3f} ({spread}{expected})"

    def to_json(self) -> dict[str, Any]:
        return {"ratio": self.median, "min": min(self.values), "max": max(self.values), "passed": self.passed}


def at_most(name: str, above: Sequence[float], below: Sequence[float], limit: float | None = None) -> Ratio:
    """``above / below``, pair by pair."""
    values = [a / b for a, b in zip(above, below, strict=True)]
    if limit is None:
        return Ratio(name, values)
    return Ratio(name, values, f"≤ {limit:g}", statistics.median(values) <= limit)


def at_least(name: str, above: Sequence[float], below: Sequence[float], limit: float) -> Ratio:
    """``above / below``, pair by pair."""
    values = [a / b for a, b in zip(above, below, strict=True)]
    return Ratio(name, values, f"≥ {limit:g}", statistics.median(values) >= limit)


@dataclass(frozen=True)
class Equal:
    """That two programs did the same work: how far apart their results are, and how far they may be."""

    name: str
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.difference <= self.tolerance  # false for a NaN

    def __str__(self) -> str:
        verdict = "equal" if self.passed else "NOT EQUAL"
        return f"{self.name}: {verdict} (largest relative difference {self.difference:.1e}, allowed {self.tolerance:g})"


def equal_losses(records: Mapping[str, Record], tolerance: float = 1e-3) -> Equal:
    """The largest relative difference between any two runners' losses at the same step.

    Both train, so rounding in one step is carried into the next: the tolerance is not one step's.
    """
    table = np.array([record.losses for record in records.values()])
    return Equal("losses", float(((table.max(axis=0) - table.min(axis=0)) / table.mean(axis=0)).max()), tolerance)


def loss_facts(record: Record) -> dict[str, Any]:
    return {"steps": len(record.losses), "first_loss": record.losses[0], "last_loss": record.losses[-1]}


def arguments(doc: str | None, repeats: int = 5) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=repeats, help="pairs that count, after one to warm up")
    parser.add_argument("--quick", action="store_true", help="a tiny model, two pairs: shows that it runs, no more")
    parser.add_argument("--json", action="store_true", help="a summary as the last line")
    return parser


def report(
    ratios: Sequence[Ratio], facts: Mapping[str, Any], options: argparse.Namespace, equal: Sequence[Equal]
) -> int:
    """Print, and give the exit status: 1 where results differ, or a ratio misses what is expected of it.

    ``--quick`` measures nothing, so there only the results count.
    """
    for name, value in facts.items():
        print(f"{name}: {value}")
    for line in (*equal, *ratios):
        print(line)
    same = all(one.passed for one in equal)
    passed = same and all(ratio.passed for ratio in ratios)
    if options.json:
        shown = {ratio.name: ratio.to_json() for ratio in ratios}
        differences = {one.name: one.difference for one in equal}
        print(json.dumps({"ratios": shown, "differences": differences, "equal": same, "passed": passed, **facts}))
    sys.stdout.flush()
    return 0 if passed or (options.quick and same) else 1
