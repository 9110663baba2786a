"""Learning rates by step."""

from __future__ import annotations

import math

import pytest

from moodscale.train.config import OptimConfig, PhaseConfig
from moodscale.train.schedule import learning_rate

OPTIM = OptimConfig(lr=1e-3)


def rates(phase: PhaseConfig, total: int) -> list[float]:
    return [learning_rate(phase, OPTIM, step, total) for step in range(total)]


def test_linear_falls_from_the_peak_by_equal_amounts() -> None:
    found = rates(PhaseConfig(schedule="linear"), 4)
    assert found == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3])


def test_cosine_falls_from_the_peak_through_the_half_towards_zero() -> None:
    found = rates(PhaseConfig(schedule="cosine"), 100)
    assert found[0] == pytest.approx(1e-3)
    assert found[50] == pytest.approx(0.5e-3)
    assert found[25] == pytest.approx(0.5e-3 * (1 + math.cos(math.pi / 4)))
    assert 0 < found[-1] < 1e-6
    assert found == sorted(found, reverse=True)


def test_constant_stays() -> None:
    assert rates(PhaseConfig(schedule="constant"), 5) == [1e-3] * 5


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_warm_up_climbs_to_the_peak_and_no_step_has_rate_zero(schedule: str) -> None:
    phase = PhaseConfig.model_validate({"schedule": schedule, "warmup_fraction": 0.3})
    found = rates(phase, 10)
    assert found[:3] == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3])
    assert found[3] == pytest.approx(1e-3)
    assert min(found) > 0
    assert max(found) == pytest.approx(1e-3)


def test_a_phases_own_rate_goes_before_the_optimizers() -> None:
    assert learning_rate(PhaseConfig(schedule="linear", lr=5e-5), OPTIM, 0, 10) == pytest.approx(5e-5)


@pytest.mark.parametrize("warmup", [0.0, 0.99])
def test_a_phase_of_one_step_trains_at_the_peak(warmup: float) -> None:
    for schedule in ("linear", "cosine", "constant"):
        phase = PhaseConfig.model_validate({"schedule": schedule, "warmup_fraction": warmup})
        assert learning_rate(phase, OPTIM, 0, 1) == pytest.approx(1e-3)
