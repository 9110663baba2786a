"""PHQ-8 and PHQ-9 answers of people who do not exist."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from moodscale.schema import DEPRESSED_FROM

NUM_ITEMS = 8

Answers = tuple[int, ...]
"""One answer, 0 to 3, an item: interest, mood, sleep, fatigue, appetite, failure, concentration, movement; in the
PHQ-9 also self-harm."""

_LOADINGS = np.array([0.80, 0.84, 0.66, 0.72, 0.66, 0.78, 0.72, 0.64, 0.66])
"""Correlation of each item with the one severity behind all."""
_THRESHOLDS = np.array(
    [
        # an item's standard-normal cut points for answers 1, 2 and 3: fatigue and sleep are the most often
        # affirmed, slowed movement and self-harm the least, as in population samples of the questionnaire
        [-0.02, 0.71, 1.35],
        [-0.05, 0.69, 1.33],
        [-0.29, 0.41, 0.98],
        [-0.47, 0.33, 0.95],
        [-0.05, 0.63, 1.23],
        [0.03, 0.71, 1.31],
        [0.01, 0.73, 1.35],
        [0.48, 1.13, 1.73],
        [0.92, 1.55, 2.05],
    ]
)


def draw_answers(rng: np.random.Generator, num_people: int, num_items: int = NUM_ITEMS) -> npt.NDArray[np.int64]:
    """Answers [num_people, num_items]: a severity common to the items, noise of each item, and cut points.

    Args:
        num_items: 8 or 9.
    """
    loadings = _LOADINGS[:num_items]
    severity = rng.standard_normal((num_people, 1))
    noise = rng.standard_normal((num_people, num_items))
    tendency = loadings * severity + np.sqrt(1 - loadings**2) * noise
    answers: npt.NDArray[np.int64] = np.sum(tendency[:, :, None] > _THRESHOLDS[:num_items], axis=2, dtype=np.int64)
    return answers


def total(answers: Answers) -> int:
    return sum(answers)


def is_depressed(answers: Answers) -> bool:
    return total(answers) >= DEPRESSED_FROM
