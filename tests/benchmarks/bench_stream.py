"""Our streams against a torch DataLoader that does the same decoding and log-mel, in clips a second.

    python tests/benchmarks/bench_stream.py [--repeats 5] [--clips 960] [--quick] [--json]

Each gives one epoch of clips in the same order to a consumer that only looks at them, on two CPUs: two workers of the
DataLoader, two Ray Data tasks at a time, two threads. "steady" leaves an epoch's first fifth out, in which processes
start. All must give the same features, bit for bit. There is no expectation: a stream has to be faster than the model,
and not more.
"""

from __future__ import annotations

import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import common
import numpy as np
import pyarrow as pa
import torch

NUM_WORKERS = 2


class LoadedClips(torch.utils.data.Dataset[torch.Tensor]):
    """What a script would write."""

    def __init__(self, rows: list[dict[str, Any]], loader: Any) -> None:
        self.rows, self.loader = rows, loader

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.loader(self.rows[index]))


def from_dataloader(loader: Any, clips: pa.Table) -> Iterable[np.ndarray[Any, Any]]:
    batches = torch.utils.data.DataLoader(
        LoadedClips(clips.to_pylist(), loader), batch_size=common.EFFECTIVE_BATCH, num_workers=NUM_WORKERS
    )
    for batch in batches:
        yield from batch.numpy()


def epoch(features: Iterable[np.ndarray[Any, Any]], num_clips: int) -> tuple[float, float, str]:
    """Clips a second over the whole epoch and without its first fifth, and a digest of all features."""
    digest = hashlib.sha256()
    skipped = num_clips // 5
    begun = time.perf_counter()
    after_start = begun
    count = 0
    for array in features:
        count += 1
        digest.update(array.data if array.flags.c_contiguous else array.tobytes())
        if count == skipped:
            after_start = time.perf_counter()
    ended = time.perf_counter()
    if count != num_clips:
        raise SystemExit(f"{count} of {num_clips} clips came")
    return num_clips / (ended - begun), (num_clips - skipped) / (ended - after_start), digest.hexdigest()


def main() -> int:
    parser = common.arguments(__doc__)
    parser.add_argument("--clips", type=int, default=960)
    options = parser.parse_args()
    torch.set_num_threads(1)
    import ray
    import runners

    from moodscale.recipes.clips import ClipLoader
    from moodscale.train.stream import LocalStream, RayStream

    num_clips, repeats = (48, 2) if options.quick else (options.clips, options.repeats)
    runners.start_ray()
    with tempfile.TemporaryDirectory(prefix="bench-stream-") as folder:
        corpus = common.write_recordings(Path(folder) / "corpus", num_clips, 2.0 if options.quick else 10.0)
        loader = ClipLoader(corpus.roots, common.recipe_config("random", quick=options.quick).build().features())
        contenders: dict[str, Callable[[], Iterable[np.ndarray[Any, Any]]]] = {
            "DataLoader": lambda: from_dataloader(loader, corpus.clips),
            "LocalStream": lambda: LocalStream(loader, num_threads=NUM_WORKERS).features(corpus.clips),
            "RayStream": lambda: RayStream(loader, cpus=NUM_WORKERS).features(corpus.clips),
        }
        whole: dict[str, list[float]] = {name: [] for name in contenders}
        steady: dict[str, list[float]] = {name: [] for name in contenders}
        digests = set()
        for turn in range(repeats + 1):
            for name, make in contenders.items():
                rate, steady_rate, digest = epoch(make(), num_clips)
                digests.add(digest)
                if turn:
                    whole[name].append(rate)
                    steady[name].append(steady_rate)
    ray.shutdown()
    ratios = [
        common.at_most(f"{name} over DataLoader, clips/s, {part}", rates[name], rates["DataLoader"])
        for name in ("LocalStream", "RayStream")
        for part, rates in (("whole epoch", whole), ("steady", steady))
    ]
    facts = {"clips_per_s": {name: round(statistics.median(rates)) for name, rates in whole.items()}}
    return common.report(ratios, facts, options, [common.Equal("features", float(len(digests) - 1), 0.0)])


if __name__ == "__main__":
    sys.exit(main())
