"""Extracting features against a plain loop, a second run, and peak memory as the corpus grows.

    python tests/benchmarks/bench_extract.py [--interviews 16] [--minutes 20] [--repeats 5] [--quick] [--json]

Throughput: `extract` into an empty store on a local Ray that is up already, its actors' start and model loading
included, and the loop that a script would have (librosa loads an interview, its windows go one at a time through the
same tiny HuBERT on torch's default number of threads, features are saved as fp16), taken in turn; the median of the
ratios counts, and both must give the same features. Second run: the same again, with nothing missing. Memory: the
highest sum of proportional set sizes over the driver and its Ray workers, at 1x, 4x and 16x the interviews. Exits 1
where an expectation is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.pop("OMP_NUM_THREADS", None)  # the loop gets torch's own default
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import librosa
import numpy as np
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from bench_prepare import PeakMemory, start_ray

from moodscale.config import validate
from moodscale.features.config import ExtractConfig
from moodscale.features.driver import ExtractSummary, extract
from moodscale.features.extractors.transformers_audio import TransformersAudioConfig, _build
from moodscale.features.store import FeatureStore
from tiny_features import TinyManifest, noise

RATIO_EXPECTED = 1.3
SECOND_RUN_EXPECTED = 20.0
GROWTH_ALLOWED = 0.10
TOLERANCE = 2e-2
"""Features are about 1 in size and fp16 in both: a last bit of the largest."""
NUM_RECORDINGS = 8
"""Different wavs; further interviews are hard links to them."""
WINDOW_S, CONTEXT_S = 30.0, 1.0
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": [32] * 7,
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 4,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}
MODEL = {"kind": "transformers_audio", "model": {"source": "random"}, "architecture": "hubert", "sizes": SIZES}


def write(root: Path, num_interviews: int, minutes: float) -> TinyManifest:
    """Interviews of noise; the linked ones have hashes of their own, so that nothing is shared."""
    root.mkdir(parents=True)
    manifest = TinyManifest(root)
    num_samples = round(minutes * 60 * 16_000)
    for index in range(num_interviews):
        path = root / f"{index}.wav"
        if index < NUM_RECORDINGS:
            soundfile.write(path, noise(num_samples, seed=index), 16_000, subtype="PCM_16")
        else:
            os.link(root / f"{index % NUM_RECORDINGS}.wav", path)
        facts = {"root": "corpus", "path": path.name, "sample_rate_hz": 16_000, "num_samples": num_samples}
        row = manifest.add()
        row["recordings"] = [{**facts, "audio_hash": hashlib.sha256(str(index).encode()).hexdigest()[:32]}]
    return manifest


def config() -> ExtractConfig:
    return validate(ExtractConfig, {"extractors": [MODEL], "window_s": WINDOW_S, "context_s": CONTEXT_S})


def ours(manifest: TinyManifest, store: Path) -> ExtractSummary:
    return extract(manifest, config(), str(store))


def plain_loop(manifest: TinyManifest, model: Any, preprocess: Any, out: Path) -> int:
    """What a script would do. Returns the number of windows."""
    out.mkdir(exist_ok=True)
    window, halo = round(WINDOW_S * 16_000), round(CONTEXT_S * 16_000)
    num_windows = 0
    for row in manifest.rows:
        recording = row["recordings"][0]
        waveform, _ = librosa.load(str(manifest.roots["corpus"] / recording["path"]), sr=16_000)
        frames = []
        for start in range(0, len(waveform), window):
            first = max(start - halo, 0)
            heard = waveform[first : start + window + halo]
            inputs = preprocess(heard, sampling_rate=16_000, return_tensors="pt").input_values
            with torch.no_grad():
                states = model(inputs).last_hidden_state[0]
            skipped = (start - first) // 320
            frames.append(states[skipped : skipped + window // 320].numpy().astype(np.float16))
            num_windows += 1
        np.save(out / f"{recording['audio_hash']}.npy", np.concatenate(frames))
    return num_windows


def compare(manifest: TinyManifest, summary: ExtractSummary, store: Path, out: Path) -> float:
    """Largest difference between the features of the two, over some interviews."""
    parts = FeatureStore(store, summary.extractors[0].key)
    worst = 0.0
    for row in manifest.rows[:2]:
        recording = row["recordings"][0]
        values, valid = parts.read(recording["audio_hash"], 0.0, recording["num_samples"] / 16_000)
        expected = np.load(out / f"{recording['audio_hash']}.npy")
        if values.shape != expected.shape or not valid.all():
            raise SystemExit(f"the two do not do the same job: {values.shape} and {expected.shape}")
        worst = max(worst, float(np.abs(values.astype(np.float32) - expected.astype(np.float32)).max()))
    if worst > TOLERANCE:
        raise SystemExit(f"the two do not do the same job: features differ by {worst:g}")
    return worst


def throughput(manifest: TinyManifest, scratch: Path, repeats: int) -> dict[str, Any]:
    import ray

    start_ray()
    model, preprocess = _build(validate(TransformersAudioConfig, MODEL))
    model.eval()
    # Warms both.
    summary = ours(manifest, scratch / "warm")
    num_windows = plain_loop(manifest, model, preprocess, scratch / "loop")
    difference = compare(manifest, summary, scratch / "warm", scratch / "loop")
    runs = []
    for turn in range(repeats):
        store = scratch / f"store{turn}"
        begun = time.perf_counter()
        plain_loop(manifest, model, preprocess, scratch / "loop")
        looped = time.perf_counter()
        first = ours(manifest, store)
        extracted = time.perf_counter()
        second = ours(manifest, store)
        again = time.perf_counter()
        if second.num_computed or second.content_hash != first.content_hash or first.num_computed != num_windows:
            raise SystemExit("the second run is not the first's")
        runs.append((looped - begun, extracted - looped, again - extracted))
        shutil.rmtree(store)
    ray.shutdown()
    ratios = [loop_s / first_s for loop_s, first_s, _ in runs]
    seconds = [first_s / second_s for _, first_s, second_s in runs]
    return {
        "num_windows": num_windows,
        "loop_windows_s": num_windows / statistics.median(run[0] for run in runs),
        "extract_windows_s": num_windows / statistics.median(run[1] for run in runs),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ratio": statistics.median(ratios),
        "second_run_ratios": [round(ratio, 1) for ratio in seconds],
        "second_run_ratio": statistics.median(seconds),
        "difference": difference,
    }


def measure_memory(root: Path, num_interviews: int, minutes: float) -> None:
    """In a process of its own: extract once, print the peak in bytes."""
    start_ray()
    manifest = write(root / "corpus", num_interviews, minutes)
    sampler = PeakMemory()
    sampler.start()
    ours(manifest, root / "store")
    sampler.stopped.set()
    sampler.join()
    print(f"peak_bytes={sampler.peak_bytes}")


def memory(scratch: Path, base: int, minutes: float) -> dict[str, Any]:
    peaks = {}
    for factor in (1, 4, 16):
        root = scratch / f"x{factor}"
        command = [sys.executable, __file__, "--measure-memory", str(root), str(base * factor)]
        output = subprocess.run(
            [*command, "--minutes", str(minutes)], check=True, capture_output=True, text=True
        ).stdout
        peaks[factor] = int(output.rsplit("peak_bytes=", 1)[1]) / 2**20
        shutil.rmtree(root)
    return {"peak_mib": peaks, "growth": {factor: peak / peaks[1] - 1 for factor, peak in peaks.items()}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interviews", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two short interviews: nothing is measured")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure-memory", nargs=2, metavar=("FOLDER", "INTERVIEWS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure_memory:
        folder, num_interviews = arguments.measure_memory
        measure_memory(Path(folder), int(num_interviews), arguments.minutes)
        return 0
    interviews, minutes, repeats = arguments.interviews, arguments.minutes, arguments.repeats
    if arguments.quick:
        interviews, minutes, repeats = 2, 1.2, 1
    with tempfile.TemporaryDirectory(prefix="bench-extract-") as folder:
        scratch = Path(folder)
        speed = throughput(write(scratch / "corpus", interviews, minutes), scratch, repeats)
        # Long enough at 1x for both actors to have been at their peak together.
        peaks = None if arguments.quick else memory(scratch, max(interviews // 4, 1), minutes)
    if peaks is None:
        print(json.dumps({"throughput": speed}))
        return 0
    growth = max(peaks["growth"].values())
    passed = (
        speed["ratio"] >= RATIO_EXPECTED
        and speed["second_run_ratio"] >= SECOND_RUN_EXPECTED
        and growth <= GROWTH_ALLOWED
    )
    print(
        f"{speed['num_windows']:,} windows: loop {speed['loop_windows_s']:.1f} a second, extract "
        f"{speed['extract_windows_s']:.1f}; ratio {speed['ratio']:.2f} (expected ≥ {RATIO_EXPECTED}) "
        f"of {speed['ratios']}; features differ by {speed['difference']:.1g} at most"
    )
    print(
        f"second run: {speed['second_run_ratio']:.0f} times faster (expected ≥ {SECOND_RUN_EXPECTED:g}) "
        f"of {speed['second_run_ratios']}"
    )
    shown = ", ".join(f"{factor}x {peak:.0f} MiB" for factor, peak in peaks["peak_mib"].items())
    print(f"peak memory: {shown}; growth {growth:+.1%} (allowed {GROWTH_ALLOWED:+.0%})")
    if arguments.json:
        print(json.dumps({"throughput": speed, "memory": peaks, "passed": passed}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
