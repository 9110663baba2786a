"""Simulated Prediction tables of totals: a person's severity, a questionnaire or two, a prediction with noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest


def simulate_totals(
    num_people: int = 80,
    noise: float = 3.0,
    seed: int = 0,
    slope: float = 0.8,
    several: float = 0.2,
    items: bool = False,
    instrument: str = "PHQ-9",
    splits: tuple[str, ...] = ("test", "train"),
) -> pd.DataFrame:
    """Skewed severity; predictions are ``7 + slope (label - 7)`` with normal noise, clipped to the range."""
    rng = np.random.default_rng(seed)
    top = 27 if instrument == "PHQ-9" else 24
    rows: list[dict[str, object]] = []
    for split in splits:
        for index in range(num_people):
            severity = min(rng.gamma(1.6, 4.5), top)
            for number in range(2 if rng.random() < several else 1):
                label = float(np.clip(round(severity + rng.normal()), 0, top))
                predicted = float(np.clip(7 + slope * (label - 7) + rng.normal(0, noise), 0, top))
                base = {
                    "person": f"{split}:{index}",
                    "unit": "interview",
                    "unit_id": f"{split}-{index}-{number}",
                    "split": split,
                    "gender": "female" if index % 2 else "male",
                    "model_version": "7",
                    "instrument": instrument,
                }
                rows.append({**base, "target": "total", "label": label, "score": predicted})
                for item in range(1, 10 if items else 1):
                    value = float(np.clip(round(label / 9 + rng.normal(0, 0.6)), 0, 3))
                    score = float(np.clip(value + rng.normal(0, 0.7), 0, 3))
                    rows.append({**base, "target": f"item_{item}", "label": value, "score": score})
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def simulate() -> Callable[..., pd.DataFrame]:
    return simulate_totals
