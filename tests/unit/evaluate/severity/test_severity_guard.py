"""The severity guard passes sound models, fails those without information, and says why."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from moodscale.evaluate.config import SeverityConfig
from moodscale.evaluate.severity.evaluate import SeverityEvaluation, evaluate_severity
from moodscale.evaluate.severity.guard import correlation_p_value
from moodscale.evaluate.severity.units import Severities

Tables = Callable[..., pd.DataFrame]
QUICK = SeverityConfig(num_bootstrap=200)


def codes(evaluation: SeverityEvaluation) -> set[str]:
    return {reason.code for reason in evaluation.guard.reasons}


def warned(evaluation: SeverityEvaluation) -> set[str]:
    return {warning.code for warning in evaluation.guard.warnings}


def test_a_sound_model_passes(simulate: Tables) -> None:
    found = evaluate_severity(simulate(), QUICK)
    assert found.guard.verdict == "pass", found.guard.reasons
    assert found.guard.p_value == pytest.approx(1 / 2001)


def test_sound_models_pass_nearly_always(simulate: Tables) -> None:
    passed = [
        evaluate_severity(simulate(num_people=50, noise=2.5, seed=seed), QUICK).guard.verdict == "pass"
        for seed in range(30)
    ]
    assert np.mean(passed) >= 0.95


def test_shuffled_scores_fail_and_the_interval_of_r_holds_zero(simulate: Tables) -> None:
    held, failed = 0, 0
    for seed in range(40):
        table = simulate(num_people=40, seed=seed, several=0.0)
        table["score"] = np.random.default_rng(seed).permutation(table["score"].to_numpy())
        found = evaluate_severity(table, QUICK)
        low, high = found.figures.ci["pearson_r"] or (1.0, 1.0)
        held += low <= 0.0 <= high
        failed += found.guard.verdict == "fail"
    assert held >= 34
    assert failed == 40


def test_shuffled_scores_near_the_median_do_not_pass_by_beating_the_mean(simulate: Tables) -> None:
    """On skewed severity answers around the median have a smaller MAE than the mean, and carry nothing."""
    failed = 0
    for seed in range(30):
        table = simulate(num_people=120, seed=seed, several=0.0)
        table["score"] = 5.0 + np.random.default_rng(seed).uniform(-1.5, 1.5, len(table))
        failed += evaluate_severity(table, QUICK).guard.verdict == "fail"
    assert failed >= 29


def test_a_constant_fails_for_its_correlation_and_its_spread(simulate: Tables) -> None:
    assert {"collapsed_predictions", "correlation_not_above_zero", "not_better_than_mean"} <= codes(
        evaluate_severity(simulate().assign(score=9.0), QUICK)
    )


def test_right_rankings_squeezed_around_the_mean_have_collapsed(simulate: Tables) -> None:
    table = simulate(noise=0.5)
    table["score"] = 7.0 + 0.05 * (table["score"] - 7.0)
    found = evaluate_severity(table, QUICK)
    assert (found.figures.values["pearson_r"] or 0.0) > 0.9
    assert "collapsed_predictions" in codes(found)
    table["score"] = 7.0 + 4.0 * (table["score"] - 7.0)
    assert "narrow_predictions" in warned(evaluate_severity(table, QUICK))


def test_a_biased_model_with_a_right_ranking_is_not_better_than_the_mean(simulate: Tables) -> None:
    table = simulate(noise=1.0)
    table["score"] = (table["score"] + 12.0).clip(0, 27)
    assert codes(evaluate_severity(table, QUICK)) == {"not_better_than_mean"}


def test_without_a_bootstrap_the_guard_does_not_pass(simulate: Tables) -> None:
    found = evaluate_severity(simulate(noise=0.5), QUICK.model_copy(update={"num_bootstrap": 0}))
    assert codes(found) == {"no_intervals"}
    assert found.figures.ci["mae"] is None


def test_two_participants_prove_nothing() -> None:
    table = pd.DataFrame(
        {
            "person": ["a", "b"],
            "unit": "interview",
            "unit_id": ["1", "2"],
            "target": "total",
            "label": [2, 20],
            "score": [2.0, 20.0],
            "instrument": "PHQ-9",
        }
    )
    assert "too_few_participants" in codes(evaluate_severity(table, QUICK))


def test_a_perfect_order_of_four_people_may_be_chance() -> None:
    table = pd.DataFrame(
        {
            "person": list("abcd"),
            "unit": "interview",
            "unit_id": list("1234"),
            "target": "total",
            "label": [1, 8, 14, 22],
            "score": [1.5, 8.5, 14.5, 21.5],
            "instrument": "PHQ-9",
        }
    )
    found = evaluate_severity(table, QUICK)
    assert "correlation_may_be_chance" in codes(found)
    assert "few_participants" in warned(found)


def test_the_permutation_test_is_exact_on_a_small_case() -> None:
    """The best of 4! = 24 orders of four people."""
    values = np.array([1.0, 2.0, 4.0, 8.0])
    units = Severities(values, values, np.arange(4), tuple("1234"), tuple("abcd"))
    assert correlation_p_value(units, 20_000, seed=0) == pytest.approx(1 / 24, abs=0.005)


def test_a_median_that_beats_the_model_is_pointed_out(simulate: Tables) -> None:
    table = simulate(num_people=200, noise=1.0)
    assert "median_beats_model" not in warned(evaluate_severity(table, QUICK))
    table["score"] = (table["score"] * 0.3 + 10.0).clip(0, 27)
    found = evaluate_severity(table, QUICK)
    [_, median] = found.baselines
    assert (found.figures.values["mae"] or 0.0) > (median.figures.values["mae"] or 0.0)
    assert "median_beats_model" in warned(found)


def test_gaps_between_genders_are_pointed_out(simulate: Tables) -> None:
    table = simulate(num_people=150, noise=1.0, slope=1.0)
    male = table["gender"] == "male"
    table.loc[male, "score"] = (table.loc[male, "score"] + 3.0).clip(0, 27)
    assert {"gender_gap", "gender_bias_gap"} <= warned(evaluate_severity(table, QUICK))
    unknown = table.assign(gender=table["gender"].where(male, "unknown"))
    assert not {"gender_gap", "gender_bias_gap"} & warned(evaluate_severity(unknown, QUICK))
