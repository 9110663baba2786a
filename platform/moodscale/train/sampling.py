"""Which examples an epoch shows, in which order and with which weight: planned from the manifest, seeded, no model.

A plan is a function of (rows, settings, seed, epoch) alone. Every rank computes it for itself and takes its own slice,
so order and loss do not depend on the number of workers, and a resumed run continues in the middle of the same plan.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodscale.train.config import ClassWeighting, SamplingConfig

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class ExampleIndex:
    """What sampling looks at, one entry an example.

    Attributes:
        persons: (N,) person keys.
        strata: (N,) class of each, 0 to ``num_strata`` - 1.
        lengths: (N,) what batches are padded by, where examples differ in it.
    """

    persons: NDArray[Any]
    strata: NDArray[Any]
    num_strata: int = 2
    lengths: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.persons)


def plan_epoch(
    examples: ExampleIndex, sampling: SamplingConfig, seed: int, epoch: int, effective_batch: int = 1
) -> Indices:
    """Row indices of one epoch, in training order.

    Natural sampling shows each example once. Balancing keeps the epoch's length and deals it out evenly over classes,
    over people, or over the people within a class; a person who has fewer examples than their share repeats them,
    each as often as any other. With ``length_buckets`` the examples of a batch are about equally long.

    Args:
        effective_batch: examples an optimizer step, which only ``length_buckets`` looks at.
    """
    if len(examples) == 0:
        raise ValueError("the training split has no examples; look at the manifest's summary for why")
    rng = np.random.default_rng([seed, epoch])
    pools = _pools(examples, sampling.max_clips_per_speaker, rng)
    size = sum(len(pool) for pool in pools.values())
    quotas = _quotas(examples, pools, sampling, size)
    chosen = [_repeat(pools[key], quota, rng) for key, quota in quotas.items()]
    plan = rng.permutation(np.concatenate(chosen))
    if sampling.length_buckets is None or examples.lengths is None:
        return plan
    return _bucketed(plan, examples.lengths, effective_batch, sampling.length_buckets, rng)


def class_weights(examples: ExampleIndex, weighting: ClassWeighting) -> tuple[float, ...]:
    """Loss weights of the classes, averaging to one over the training examples; a class without any has 1."""
    counts = np.bincount(examples.strata.astype(np.int64), minlength=examples.num_strata).astype(float)
    present = counts > 0
    weights = np.ones(len(counts))
    if weighting.scheme == "none" or present.sum() < 2:
        return tuple(weights.tolist())
    if weighting.scheme == "inverse_frequency":
        raw = 1.0 / counts[present]
    else:
        raw = (1 - weighting.beta) / (1 - weighting.beta ** counts[present])
    weights[present] = raw * counts.sum() / (raw * counts[present]).sum()
    return tuple(weights.tolist())


def rank_slice(step_rows: int, rank: int, world_size: int, micro_batch: int, accumulation: int) -> list[range]:
    """Positions within one effective batch that ``rank`` runs, a range a micro-batch.

    Positions past ``step_rows`` (an epoch's last, shorter batch) still appear: they are run with weight zero, so that
    every rank makes equally many calls. Ranks run neighbours at the same time: where a batch is sorted by length,
    nobody waits for one who has the long ones.
    """
    assert step_rows <= world_size * micro_batch * accumulation
    blocks = range(rank, world_size * accumulation, world_size)
    return [range(block * micro_batch, (block + 1) * micro_batch) for block in blocks]


def num_steps(num_rows: int, effective_batch: int) -> int:
    """Optimizer steps of an epoch; the last may be smaller, none is dropped."""
    return -(-num_rows // effective_batch)


def _bucketed(
    plan: Indices, lengths: NDArray[Any], effective_batch: int, num_batches: int, rng: np.random.Generator
) -> Indices:
    """Sort within pools of ``num_batches`` batches, then put the batches in random order; a shorter one stays last."""
    pool = effective_batch * num_batches
    by_length = [part[np.argsort(lengths[part], kind="stable")] for part in _cut(plan, pool)]
    batches = _cut(np.concatenate(by_length), effective_batch)
    whole = [batch for batch in batches if len(batch) == effective_batch]
    order = rng.permutation(len(whole))
    return np.concatenate([*(whole[place] for place in order), *batches[len(whole) :]])


def _cut(rows: Indices, size: int) -> list[Indices]:
    return [rows[first : first + size] for first in range(0, len(rows), size)]


_Key = tuple[Any, int]
"""A person and one of their classes: almost everybody has one, who filled in two questionnaires may have two."""


def _pools(examples: ExampleIndex, cap: int | None, rng: np.random.Generator) -> dict[_Key, Indices]:
    pools: dict[_Key, Indices] = {}
    for person in sorted(set(examples.persons.tolist())):
        rows = rng.permutation(np.flatnonzero(examples.persons == person))[:cap]
        for stratum in sorted(set(examples.strata[rows].tolist())):
            pools[person, stratum] = rows[examples.strata[rows] == stratum]
    return pools


def _quotas(examples: ExampleIndex, pools: dict[_Key, Indices], sampling: SamplingConfig, size: int) -> dict[_Key, int]:
    """Examples that a person is shown for a class, summing to ``size``."""
    keys = list(pools)
    own = np.array([len(pools[key]) for key in keys], dtype=float)
    classes_of = Counter(person for person, _ in keys)
    share = np.array([1 / classes_of[person] for person, _ in keys]) if sampling.speaker_balanced else own
    if sampling.class_balanced:
        label = np.array([stratum for _, stratum in keys])
        totals = np.bincount(label, weights=share, minlength=examples.num_strata)
        share = share / totals[label]
    return dict(zip(keys, _round_to_sum(share / share.sum() * size, size), strict=True))


def _round_to_sum(exact: NDArray[np.float64], total: int) -> list[int]:
    """Largest remainders."""
    floor = np.floor(exact + 1e-9).astype(int)
    order = np.argsort(-(exact - floor), kind="stable")
    floor[order[: total - floor.sum()]] += 1
    return [int(value) for value in floor]


def _repeat(rows: Indices, quota: int, rng: np.random.Generator) -> Indices:
    rounds = [rng.permutation(rows) for _ in range(-(-quota // len(rows)))]
    return np.concatenate([*rounds, rows[:0]])[:quota]
