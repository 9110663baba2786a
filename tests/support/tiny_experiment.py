"""A whole experiment, tiny but real: synthesised interviews, a one-layer model, two ZeRO workers, MLflow on SQLite.

`Runner` starts the main that users start, in a process of its own, with a Ray of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from tiny import SIZES

REPOSITORY = Path(__file__).parents[2]
SUPPORT = Path(__file__).parent
JOBS = REPOSITORY / "jobs"

STEPS_AN_EPOCH = 8
EVERY_STEPS = 3
"""Checkpoint interval."""

SETTINGS: dict[str, Any] = {
    "name": "tiny",
    "seed": 5,
    "corpus": {"kind": "daic_woz"},
    "prepare": {
        "clip_s": 2.0,
        "splits": {"kind": "stratified", "validation": 0.25, "test": 0.25, "seed": 0},
        "num_cpus": 2,
    },
    "recipe": {
        "kind": "qwen2_audio",
        "model": {"source": "random"},
        "sizes": dict(SIZES),
        "clip_s": 2.0,
        "greedy_tokens": 2,
    },
    "optim": {"lr": 5e-3},
    "train": {
        "phases": [{"schedule": "linear"}, {"schedule": "cosine"}],
        "num_workers": 2,
        "use_gpu": False,
        "cpus_per_worker": 1,
        "data_cpus": 1,
        "effective_batch": 8,
        "micro_batch": 4,
        "engine": {"zero_stage": 2, "precision": "fp32"},
        "checkpoints": {"every_steps": EVERY_STEPS},
        "log_every_s": 1.0,
        "max_failures": 1,
    },
    "evaluate": {"num_bootstrap": 200},
    "tracking": {"kind": "mlflow"},
    "registry": {"name": "tiny"},
}

WAIT_S = 540.0


def write_config(path: Path, **changes: Any) -> Path:
    """The tiny experiment as a YAML file. ``changes`` are ``section__field=value``."""
    settings = json.loads(json.dumps(SETTINGS))
    for name, value in changes.items():
        *sections, last = name.split("__")
        inner = settings
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Done:
    """A process that ended."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """What ``--json`` put on the last line of stdout."""
        values: dict[str, Any] = json.loads(self.out.strip().splitlines()[-1])
        return values

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass
class Started:
    """A verb that runs."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    mark: str

    def wait(self, timeout_s: float = WAIT_S) -> Done:
        code = self.process.wait(timeout_s)
        return Done(code, self.out.read_text(errors="replace"), self.err.read_text(errors="replace"))

    def ours(self) -> list[psutil.Process]:
        """Every living process of this run: Ray's, and its workers'."""
        return [one for one in psutil.process_iter() if _marked(one, self.mark)]

    def train_workers(self) -> list[psutil.Process]:
        return sorted((p for p in self.ours() if "RayTrainWorker" in _title(p)), key=lambda p: p.pid)

    def kill_driver(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def gone(self, timeout_s: float = 180.0) -> list[str]:
        """Titles of this run's processes that are still there after the time.

        Ray's agents outlive a killed node by up to a minute: they try that long to tell its dead head about it.
        """
        wait_for(lambda: not self.ours(), timeout_s, fail=False)
        return [_title(process).strip() for process in self.ours()]

    def end(self) -> None:
        """Leave nothing behind, however the test ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        for process in self.ours():
            with contextlib.suppress(psutil.Error):
                process.kill()


@dataclass
class Runner:
    """Runs verbs of one experiment in processes of their own."""

    directory: Path
    config: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    prefix: Sequence[str] = ()
    """What the command is run under, such as ``unshare``."""
    started: list[Started] = field(default_factory=list)

    def start(self, verb: str, *overrides: str, as_json: bool = True) -> Started:
        number = len(self.started)
        mark = hashlib.sha256(f"{self.directory}{number}{time.time_ns()}".encode()).hexdigest()[:16]
        options = ["--json"] if as_json else []
        command = [sys.executable, str(JOBS / f"{verb}.py"), str(self.config), *overrides, *options]
        out, err = self.directory / f"{number}-{verb}.out", self.directory / f"{number}-{verb}.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [*self.prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=self._environment(mark),
                cwd=self.directory,
                start_new_session=True,
            )
        self.started.append(Started(process, out, err, mark))
        return self.started[-1]

    def run(self, verb: str, *overrides: str, as_json: bool = True) -> Done:
        return self.start(verb, *overrides, as_json=as_json).wait()

    def end(self) -> None:
        for one in self.started:
            one.end()

    def _environment(self, mark: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))}
        return {
            **kept,
            "OMP_NUM_THREADS": "1",
            "MOODSCALE_TEST_RUN": mark,
            "PYTHONPATH": str(SUPPORT),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            **self.environment,
        }


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get("MOODSCALE_TEST_RUN") == mark
    except psutil.Error:
        return False


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def wait_for(condition: Callable[[], Any], timeout_s: float = WAIT_S, fail: bool = True) -> Any:
    """The condition's first true value."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            if fail:
                raise AssertionError(f"not so after {timeout_s:.0f} s")
            return value
        time.sleep(0.05)
    return value


def last_step(run_dir: Path) -> int:
    """Newest step in the journal, without trusting that its last line is whole."""
    path = run_dir / "journal.jsonl"
    if not path.exists():
        return -1
    found = re.findall(r'^\{"step":(\d+),', path.read_text(errors="replace"), re.MULTILINE)
    return int(found[-1]) if found else -1


def losses(run_dir: Path) -> dict[int, float]:
    """Training loss by step; every step exactly once, or this fails."""
    from moodscale.tracking.journal import read_journal

    points = read_journal(run_dir / "journal.jsonl")
    found = [(point.step, point.metrics["train/loss"]) for point in points if "train/lr" in point.metrics]
    assert len(found) == len(dict(found)), "a step is in the journal twice"
    return dict(found)


@dataclass(frozen=True)
class Tracked:
    """What MLflow holds of the one run."""

    run_id: str
    status: str
    tags: dict[str, str]
    history: dict[str, dict[int, float]]


def tracked(storage: Path) -> Tracked:
    """The only run in the storage's SQLite, its metrics each step exactly once (or this fails)."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert len(runs) == 1, f"{len(runs)} runs"
    run = runs[0]
    history = {}
    for key in run.data.metrics:
        points = client.get_metric_history(run.info.run_id, key)
        again = [step for step, count in Counter(point.step for point in points).items() if count > 1]
        assert not again, f"{key} was logged more than once at steps {again}"
        history[key] = {point.step: point.value for point in points}
    return Tracked(run.info.run_id, run.info.status, dict(run.data.tags), history)


def contents(*directories: Path, ignore: Sequence[str] = ()) -> dict[str, tuple[str, int]]:
    """Hash and time of change of every file below."""
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for directory in directories
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not any(part in path.name for part in ignore)
    }
