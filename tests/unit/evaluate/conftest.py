"""Simulated Prediction tables: a person's latent severity plus noise, clip by clip."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

P1_MATRICES = {"base": (195, 80, 443, 200), "phase 1": (48, 227, 147, 496), "phase 2": (32, 243, 133, 510)}


def simulate_predictions(
    num_participants: int = 30,
    effect: float = 2.0,
    seed: int = 0,
    num_validation: int = 20,
    num_clips: int = 8,
    shift: float = 0.0,
) -> pd.DataFrame:
    """Three in ten are depressed; ``effect`` is what depression adds to a person's logit, ``shift`` a bias of all."""
    rng = np.random.default_rng(seed)
    parts = []
    for split, count in (("test", num_participants), ("validation", num_validation)):
        label = (np.arange(count) < round(0.3 * count)).astype(int)
        severity = effect * (label - 0.5) + rng.normal(0.0, 0.8, count) + shift
        size = rng.integers(max(1, num_clips // 2), num_clips * 3 // 2 + 1, count)
        person = np.repeat(np.arange(count), size)
        score = 1.0 / (1.0 + np.exp(-(severity[person] + rng.normal(0.0, 1.0, len(person)))))
        parts.append(
            pd.DataFrame(
                {
                    "person": [f"{split}:{index}" for index in person],
                    "unit_id": [f"{split}-{row}" for row in range(len(person))],
                    "label": label[person],
                    "score": score,
                    "split": split,
                    "gender": np.where(person % 2 == 0, "female", "male"),
                    "duration_s": 10.0,
                    "num_turns": rng.integers(1, 4, len(person)),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def table_from_matrix(matrix: tuple[int, int, int, int], person: list[str] | None = None) -> pd.DataFrame:
    """Hard scores with the given true positives, false negatives, false positives and true negatives."""
    tp, fn, fp, tn = matrix
    label = [1] * (tp + fn) + [0] * (fp + tn)
    score = [1] * tp + [0] * fn + [1] * fp + [0] * tn
    keys = person or [f"p{row}" for row in range(len(label))]
    return pd.DataFrame({"person": keys, "unit_id": range(len(label)), "label": label, "score": score})


@pytest.fixture(scope="session")
def simulate() -> Callable[..., pd.DataFrame]:
    return simulate_predictions


@pytest.fixture(scope="session")
def from_matrix() -> Callable[..., pd.DataFrame]:
    return table_from_matrix


@pytest.fixture(params=list(P1_MATRICES))
def p1_matrix(request: pytest.FixtureRequest) -> tuple[int, int, int, int]:
    return P1_MATRICES[request.param]
