"""Which clips an epoch shows, in which order and with which weight: planned from the manifest, seeded, no model needed.

A plan is a function of (rows, settings, seed, epoch) alone. Every rank computes it for itself and takes its own slice,
so order and loss do not depend on the number of workers, and a resumed run continues in the middle of the same plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodscale.train.config import ClassWeighting, SamplingConfig

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class ClipIndex:
    """The columns of the training clips that sampling looks at, one entry a clip."""

    persons: NDArray[Any]
    depressed: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.persons)


def plan_epoch(clips: ClipIndex, sampling: SamplingConfig, seed: int, epoch: int) -> Indices:
    """Row indices of one epoch, in training order.

    Natural sampling shows each clip once. Balancing keeps the epoch's length and deals it out evenly over classes,
    over people, or over the people within a class; a person who has fewer clips than their share repeats them, each
    as often as any other.
    """
    if len(clips) == 0:
        raise ValueError("the training split has no clips; look at the manifest's summary for why")
    rng = np.random.default_rng([seed, epoch])
    pools = _pools(clips, sampling.max_clips_per_speaker, rng)
    size = sum(len(pool) for pool in pools.values())
    quotas = _quotas(clips, pools, sampling, size)
    chosen = [_repeat(pools[person], quota, rng) for person, quota in quotas.items()]
    return rng.permutation(np.concatenate(chosen))


def class_weights(clips: ClipIndex, weighting: ClassWeighting) -> tuple[float, float]:
    """Loss weights of (not depressed, depressed), averaging to one over the training clips."""
    counts = np.bincount(clips.depressed, minlength=2).astype(float)
    if weighting.scheme == "none" or (counts == 0).any():
        return 1.0, 1.0
    if weighting.scheme == "inverse_frequency":
        raw = 1.0 / counts
    else:
        raw = (1 - weighting.beta) / (1 - weighting.beta**counts)
    weights = raw * counts.sum() / (raw * counts).sum()
    return float(weights[0]), float(weights[1])


def rank_slice(step_rows: int, rank: int, world_size: int, micro_batch: int, accumulation: int) -> list[range]:
    """Positions within one effective batch that ``rank`` runs, a range a micro-batch.

    Positions past ``step_rows`` (an epoch's last, shorter batch) still appear: they are run with weight zero, so that
    every rank makes equally many calls.
    """
    assert step_rows <= world_size * micro_batch * accumulation
    first = rank * accumulation * micro_batch
    return [range(first + i * micro_batch, first + (i + 1) * micro_batch) for i in range(accumulation)]


def num_steps(num_rows: int, effective_batch: int) -> int:
    """Optimizer steps of an epoch; the last may be smaller, none is dropped."""
    return -(-num_rows // effective_batch)


def _pools(clips: ClipIndex, cap: int | None, rng: np.random.Generator) -> dict[Any, Indices]:
    pools = {}
    for person in sorted(set(clips.persons.tolist())):
        rows = np.flatnonzero(clips.persons == person)
        pools[person] = rng.permutation(rows)[:cap]
    return pools


def _quotas(clips: ClipIndex, pools: dict[Any, Indices], sampling: SamplingConfig, size: int) -> dict[Any, int]:
    """Clips a person is shown, summing to ``size``."""
    people = list(pools)
    own = np.array([len(pools[person]) for person in people], dtype=float)
    label = np.array([clips.depressed[pools[person][0]] for person in people])
    share = np.ones(len(people)) if sampling.speaker_balanced else own
    if sampling.class_balanced:
        totals = np.array([share[label == value].sum() for value in (0, 1)])
        if (totals > 0).all():
            share = share / totals[label]
    return dict(zip(people, _round_to_sum(share / share.sum() * size, size), strict=True))


def _round_to_sum(exact: NDArray[np.float64], total: int) -> list[int]:
    """Largest remainders."""
    floor = np.floor(exact + 1e-9).astype(int)
    order = np.argsort(-(exact - floor), kind="stable")
    floor[order[: total - floor.sum()]] += 1
    return [int(value) for value in floor]


def _repeat(rows: Indices, quota: int, rng: np.random.Generator) -> Indices:
    rounds = [rng.permutation(rows) for _ in range(-(-quota // len(rows)))]
    return np.concatenate([*rounds, rows[:0]])[:quota]
