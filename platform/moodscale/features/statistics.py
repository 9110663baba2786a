"""Mean and standard deviation of frames that never are in memory together (Welford; merged as Chan et al. do)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from moodscale.schema import CorpusError

Array = np.ndarray[Any, Any]
_SMALLEST_STD = 1e-6
"""A column that never moves is left at zero."""


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared distances from it, a column each. float64 ``[dim]``."""

    count: int
    mean: Array
    squares: Array

    @classmethod
    def of(cls, values: Array) -> Moments:
        """Of finite frames ``[frames, dim]``."""
        exact = values.astype(np.float64)
        mean = exact.mean(axis=0) if len(exact) else np.zeros(exact.shape[1])
        return cls(len(exact), mean, ((exact - mean) ** 2).sum(axis=0))

    def merge(self, other: Moments) -> Moments:
        """Of the frames of both."""
        if not other.count or not self.count:
            return self if self.count else other
        count = self.count + other.count
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        squares = self.squares + other.squares + apart**2 * (self.count * other.count / count)
        return Moments(count, mean, squares)

    def to_json(self) -> str:
        return json.dumps({"count": self.count, "mean": self.mean.tolist(), "squares": self.squares.tolist()})

    @classmethod
    def from_json(cls, text: str) -> Moments:
        values = json.loads(text)
        return cls(int(values["count"]), np.array(values["mean"], np.float64), np.array(values["squares"], np.float64))


def merge_all(moments: Iterable[Moments]) -> Moments | None:
    """Merged in the order given: another order gives other last bits."""
    merged: Moments | None = None
    for one in moments:
        if merged is not None and one.count and merged.count and len(one.mean) != len(merged.mean):
            raise CorpusError(
                f"feature files of one kind have {len(merged.mean)} and {len(one.mean)} columns; keep one layout"
            )
        merged = one if merged is None else merged.merge(one)
    return merged


@dataclass(frozen=True)
class Statistics:
    """What columns are normalised by. float32 ``[dim]``: what the key hashes is what is used."""

    mean: Array
    std: Array
    num_frames: int

    @classmethod
    def of(cls, moments: Moments) -> Statistics:
        """The standard deviation of the frames themselves, not of a population they would be drawn from."""
        std = np.sqrt(moments.squares / max(moments.count, 1))
        still = std < _SMALLEST_STD * np.maximum(np.abs(moments.mean), 1.0)
        return cls(moments.mean.astype(np.float32), np.where(still, 1.0, std).astype(np.float32), moments.count)

    def normalise(self, values: Array) -> Array:
        normalised: Array = (values - self.mean) / self.std
        return normalised

    def sha256(self) -> str:
        return hashlib.sha256(self.mean.astype("<f4").tobytes() + self.std.astype("<f4").tobytes()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "std": self.std.tolist(), "num_frames": self.num_frames}

    @classmethod
    def from_json(cls, values: Any) -> Statistics:
        mean, std = np.array(values["mean"], np.float32), np.array(values["std"], np.float32)
        if mean.ndim != 1 or mean.shape != std.shape or not np.isfinite(mean).all() or not (std > 0).all():
            raise ValueError("not statistics of columns")
        return cls(mean, std, int(values["num_frames"]))
