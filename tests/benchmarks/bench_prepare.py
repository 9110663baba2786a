"""Preparing against a plain librosa loop, and peak memory as the corpus grows.

    python tests/benchmarks/bench_prepare.py [--sessions 192] [--minutes 15] [--repeats 5] [--json]

Throughput: `prepare` on a local Ray that is up already, and the loop that a script would have (load the whole file at
16 kHz, slice the participant's turns, concatenate, cut), taken in turn; the median of the ratios counts. The loop
makes no checks, hashes nothing and keeps no manifest. Memory: the highest sum of proportional set sizes over the
preparing process and its Ray workers, at 1x, 4x and 16x the sessions. Exits 1 where an expectation is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pandas as pd
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.prepare.config import PrepareConfig
from tiny_daic import people, write_labels, write_session

RATIO_EXPECTED = 1.3
GROWTH_ALLOWED = 0.10
NUM_RECORDINGS = 16
"""Different wavs; further sessions are hard links to them, so that a corpus of 50 h takes 0.5 GB of disk."""


def write(root: Path, num_sessions: int, minutes: float) -> Path:
    """Sessions of noise, alternating turns."""
    root.mkdir(parents=True)
    draw = np.random.default_rng(0)
    sessions = people(num_sessions)
    for index, session in enumerate(sessions):
        folder = root / f"{session.id}_P"
        session.duration_s = minutes * 60
        first = root / f"{sessions[index % NUM_RECORDINGS].id}_P"
        if index < NUM_RECORDINGS:
            noise = draw.standard_normal(round(session.duration_s * 16_000), dtype=np.float32)
            session.audio = noise * np.float32(0.05)
        else:
            session.audio = b""
        write_session(folder, session)
        session.audio = None
        if index >= NUM_RECORDINGS:
            wav = folder / f"{session.id}_AUDIO.wav"
            wav.unlink()
            os.link(first / f"{first.name[:-2]}_AUDIO.wav", wav)
    write_labels(root, sessions)
    return root


def librosa_loop(root: Path) -> int:
    """What a script would do. Returns the number of clips."""
    num_clips = 0
    for folder in sorted(root.glob("*_P")):
        number = folder.name[:-2]
        turns = pd.read_csv(folder / f"{number}_TRANSCRIPT.csv", sep="\t")
        turns = turns[turns["speaker"] == "Participant"]
        waveform, rate = librosa.load(folder / f"{number}_AUDIO.wav", sr=16_000)
        speech = np.concatenate(
            [
                waveform[round(start * rate) : round(stop * rate)]
                for start, stop in zip(turns["start_time"], turns["stop_time"], strict=True)
            ]
        )
        clips = [speech[at : at + 10 * 16_000] for at in range(0, len(speech) - 10 * 16_000 + 1, 10 * 16_000)]
        num_clips += len(clips)
    return num_clips


def ours(root: Path, scratch: Path) -> int:
    from moodscale.prepare.driver import prepare

    out = scratch / "manifest"
    shutil.rmtree(out, ignore_errors=True)
    return prepare(DaicWozConfig(path=str(root)), PrepareConfig(), out).num_clips


def start_ray() -> None:
    import ray

    ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)


def throughput(root: Path, scratch: Path, repeats: int, minutes: float, sessions: int) -> dict[str, Any]:
    import ray

    start_ray()
    num_clips = {ours(root, scratch), librosa_loop(root)}  # warms both, and both must cut the same
    if len(num_clips) != 1:
        raise SystemExit(f"the two do not do the same job: {num_clips} clips")
    pairs = []
    for _ in range(repeats):
        begun = time.perf_counter()
        librosa_loop(root)
        between = time.perf_counter()
        ours(root, scratch)
        pairs.append((between - begun, time.perf_counter() - between))
    ray.shutdown()
    ratios = [loop_s / ours_s for loop_s, ours_s in pairs]
    hours = sessions * minutes / 60
    return {
        "recorded_hours": hours,
        "num_clips": num_clips.pop(),
        "loop_s": statistics.median(loop_s for loop_s, _ in pairs),
        "prepare_s": statistics.median(ours_s for _, ours_s in pairs),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ratio": statistics.median(ratios),
    }


class PeakMemory(threading.Thread):
    """Samples the proportional set size of this process and its Ray workers: shared pages count once."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(0.05):
            self.peak_bytes = max(self.peak_bytes, sum(_pss(process) for process in self._processes()))

    def _processes(self) -> list[psutil.Process]:
        own = psutil.Process()
        try:
            workers = [child for child in own.children(recursive=True) if child.name().startswith("ray::")]
        except psutil.NoSuchProcess:
            workers = []
        return [own, *workers]


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def measure_memory(root: Path, scratch: Path) -> None:
    """In a process of its own: prepare once, print the peak in bytes."""
    start_ray()
    sampler = PeakMemory()
    sampler.start()
    ours(root, scratch)
    sampler.stopped.set()
    sampler.join()
    print(f"peak_bytes={sampler.peak_bytes}")


def memory(scratch: Path, base: int, minutes: float) -> dict[str, Any]:
    peaks = {}
    for factor in (1, 4, 16):
        root = write(scratch / f"x{factor}", base * factor, minutes)
        command = [sys.executable, __file__, "--measure-memory", str(root), str(scratch)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks[factor] = int(output.rsplit("peak_bytes=", 1)[1]) / 2**20
        shutil.rmtree(root)
    return {"peak_mib": peaks, "growth": {factor: peak / peaks[1] - 1 for factor, peak in peaks.items()}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=192)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure-memory", nargs=2, metavar=("CORPUS", "SCRATCH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure_memory:
        measure_memory(*(Path(one) for one in arguments.measure_memory))
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-prepare-") as folder:
        scratch = Path(folder)
        root = write(scratch / "corpus", arguments.sessions, arguments.minutes)
        speed = throughput(root, scratch, arguments.repeats, arguments.minutes, arguments.sessions)
        shutil.rmtree(root)
        peaks = memory(scratch, max(arguments.sessions // 16, 8), arguments.minutes)
    growth = max(peaks["growth"].values())
    passed = speed["ratio"] >= RATIO_EXPECTED and growth <= GROWTH_ALLOWED
    print(
        f"{speed['recorded_hours']:.0f} h, {speed['num_clips']:,} clips: librosa loop {speed['loop_s']:.1f} s, "
        f"prepare {speed['prepare_s']:.1f} s; ratio {speed['ratio']:.2f} (expected ≥ {RATIO_EXPECTED}) "
        f"of {speed['ratios']}"
    )
    shown = ", ".join(f"{factor}x {peak:.0f} MiB" for factor, peak in peaks["peak_mib"].items())
    print(f"peak memory: {shown}; growth {growth:+.1%} (allowed {GROWTH_ALLOWED:+.0%})")
    if arguments.json:
        print(json.dumps({"throughput": speed, "memory": peaks, "passed": passed}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
