"""The guard must fail what knows nothing, however it is dressed up, and pass what knows something."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from moodscale.evaluate.config import EvaluateConfig, GuardLimits
from moodscale.evaluate.evaluate import Evaluation, evaluate
from moodscale.evaluate.guard import chance_p_value
from moodscale.evaluate.units import Scored

Tables = Callable[..., pd.DataFrame]
QUICK = EvaluateConfig(num_bootstrap=300, guard=GuardLimits(num_permutations=400))


def codes(evaluation: Evaluation) -> set[str]:
    return {reason.code for reason in evaluation.guard.reasons}


def warned(evaluation: Evaluation) -> set[str]:
    return {warning.code for warning in evaluation.guard.warnings}


def persons_for(matrix: tuple[int, int, int, int], how: str) -> list[str]:
    """Ways to hand a matrix' clips (in the order TP, FN, FP, TN) to persons."""
    tp, fn, fp, tn = matrix
    num = tp + fn + fp + tn
    if how == "a clip a person":
        return [f"p{row}" for row in range(num)]
    if how == "blocks of twenty":
        return [f"p{row // 20}" for row in range(num)]
    if how == "dealt round, labels mixed":
        return [f"p{row % 47}" for row in range(num)]
    if how == "dealt round within the label":
        return [f"d{row % 14}" for row in range(tp + fn)] + [f"n{row % 33}" for row in range(fp + tn)]
    if how == "at random within the label":
        rng = np.random.default_rng(0)
        return [f"d{k}" for k in rng.integers(14, size=tp + fn)] + [f"n{k}" for k in rng.integers(33, size=fp + tn)]
    # The kindest of all: each depressed person has a hit, and one single person has every false alarm.
    missed = [f"d{row % max(tp, 1)}" for row in range(fn)]
    return [f"d{row}" for row in range(tp)] + missed + ["n0"] * fp + [f"n{row + 1}" for row in range(tn)]


@pytest.mark.parametrize(
    "how",
    [
        "a clip a person",
        "blocks of twenty",
        "dealt round, labels mixed",
        "dealt round within the label",
        "at random within the label",
        "kindest",
    ],
)
def test_the_papers_matrices_fail_whoever_spoke_the_clips(
    from_matrix: Tables, p1_matrix: tuple[int, int, int, int], how: str
) -> None:
    found = evaluate(from_matrix(p1_matrix, persons_for(p1_matrix, how)), QUICK)
    assert found.guard.verdict == "fail"
    assert "clips_not_above_constants" in codes(found)
    reason = next(r for r in found.guard.reasons if r.code == "clips_not_above_constants")
    assert "0.700" in reason.message


@pytest.mark.parametrize("shift", [0.0, 1.5, -1.5])
def test_a_sound_model_passes_even_with_biased_probabilities(simulate: Tables, shift: float) -> None:
    found = evaluate(simulate(num_participants=30, effect=2.0, shift=shift, seed=4), QUICK)
    auc = found.participant.values["auc"]
    assert auc is not None
    assert auc > 0.85
    assert found.guard.verdict == "pass", found.guard.reasons


def test_a_sound_model_passes_without_validation_rows(simulate: Tables) -> None:
    found = evaluate(simulate(num_participants=30, effect=2.0, num_validation=0, seed=4), QUICK)
    assert found.guard.verdict == "pass", found.guard.reasons


def test_sound_models_pass_nearly_always(simulate: Tables) -> None:
    passed = [
        evaluate(simulate(effect=2.2, seed=seed).drop(columns="gender"), QUICK).guard.verdict == "pass"
        for seed in range(40)
    ]
    assert np.mean(passed) >= 0.95


def random_models_that_pass(simulate: Tables, seeds: range) -> float:
    passed = 0
    for seed in seeds:
        num_participants = 24 + seed % 17
        table = simulate(num_participants, effect=0.0, seed=seed, num_validation=14, num_clips=4)
        passed += evaluate(table.drop(columns="gender"), QUICK).guard.verdict == "pass"
    return passed / len(seeds)


def test_random_models_fail(simulate: Tables) -> None:
    assert random_models_that_pass(simulate, range(60)) <= 0.03


@pytest.mark.slow
def test_random_models_fail_in_five_hundred_studies(simulate: Tables) -> None:
    assert random_models_that_pass(simulate, range(1000, 1500)) <= 0.03


def test_accuracy_below_the_majority_alone_is_a_warning(simulate: Tables) -> None:
    """A low threshold finds everyone and calls many others: poor accuracy, sound ranking."""
    table = simulate(num_participants=60, effect=2.5, seed=1)
    found = evaluate(table, QUICK.model_copy(update={"threshold": 0.15}))
    accuracy = found.participant.values["accuracy"]
    assert accuracy is not None
    assert accuracy < 0.7
    assert found.guard.verdict == "pass", found.guard.reasons
    assert "accuracy_below_majority" in warned(found)


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_calling_everybody_or_nobody_depressed_fails(simulate: Tables, threshold: float) -> None:
    found = evaluate(simulate(effect=2.5), QUICK.model_copy(update={"threshold": threshold}))
    assert "collapsed_prevalence" in codes(found)


def test_a_constant_score_fails(simulate: Tables) -> None:
    found = evaluate(simulate().assign(score=0.3), QUICK)
    assert {"auc_not_above_chance", "ranking_may_be_chance"} <= codes(found)


def test_a_perfect_ranking_of_four_people_proves_nothing() -> None:
    table = pd.DataFrame(
        {"person": list("abcd"), "unit_id": list("1234"), "label": [1, 1, 0, 0], "score": [0.9, 0.8, 0.2, 0.1]}
    )
    found = evaluate(table, QUICK)
    assert found.participant.ci["auc"] == (1.0, 1.0)
    assert codes(found) == {"ranking_may_be_chance"}
    assert "interval_without_width" in warned(found)


def test_one_person_in_a_class_cannot_be_judged() -> None:
    table = pd.DataFrame({"person": list("abc"), "unit_id": list("123"), "label": [1, 0, 0], "score": [0.9, 0.2, 0.1]})
    found = evaluate(table, QUICK)
    assert "too_few_participants" in codes(found)
    assert found.participant.values["auc"] is None


def test_without_a_bootstrap_the_guard_does_not_pass(simulate: Tables) -> None:
    found = evaluate(simulate(effect=3.0), QUICK.model_copy(update={"num_bootstrap": 0}))
    assert codes(found) == {"auc_not_above_chance"}
    assert found.participant.ci["auc"] is None


def test_the_permutation_test_is_exact_on_a_small_case() -> None:
    """Three of six, perfectly ranked: one of C(6, 3) = 20 relabellings."""
    people = Scored(np.arange(6) / 6, np.arange(6) >= 3, np.arange(6), 6)
    assert chance_p_value(people, 20_000, seed=0) == pytest.approx(1 / 20, abs=0.005)


def test_a_length_baseline_as_good_as_the_model_is_pointed_out(simulate: Tables) -> None:
    table = simulate(num_participants=40, effect=1.5)
    table["duration_s"] = np.where(table["label"] == 1, 5.0, 50.0)
    assert "length_explains_as_much" in warned(evaluate(table, QUICK))


def test_a_gap_between_genders_is_pointed_out(simulate: Tables) -> None:
    table = simulate(num_participants=60, effect=3.0)
    rng = np.random.default_rng(0)
    male = table["gender"] == "male"
    table.loc[male, "score"] = rng.uniform(size=int(male.sum()))
    assert "gender_gap" in warned(evaluate(table, QUICK))
