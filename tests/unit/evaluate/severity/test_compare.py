"""Paired differences: zero with oneself, smaller intervals than unpaired ones, and only over the same units."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from moodscale.evaluate.config import SeverityConfig
from moodscale.evaluate.severity.compare import COMPARED, compare_models

Tables = Callable[..., pd.DataFrame]
QUICK = SeverityConfig(num_bootstrap=200)


def yes_no(seed: int, noise: float) -> pd.DataFrame:
    """Two clips a person; everybody has the same label in every table of one size."""
    rng = np.random.default_rng(seed)
    label = (np.arange(40) % 3 == 0).astype(int)
    person = np.repeat(np.arange(40), 2)
    logit = 3.0 * (label[person] - 0.5) + rng.normal(0, noise, 80)
    return pd.DataFrame(
        {
            "person": [f"p{index}" for index in person],
            "unit_id": [f"c{row}" for row in range(80)],
            "label": label[person],
            "score": 1 / (1 + np.exp(-logit)),
        }
    )


def test_a_model_differs_from_itself_by_nothing(simulate: Tables) -> None:
    found = compare_models(simulate(), simulate(), config=QUICK)
    assert set(found.differences) == set(COMPARED)
    for difference in found.differences.values():
        assert difference.difference == 0.0
        assert difference.ci == (0.0, 0.0)
        assert difference.better is None


def test_the_order_of_the_rows_does_not_matter(simulate: Tables) -> None:
    first = simulate()
    second = first.assign(score=(first["score"] * 0.5 + 4))
    one = compare_models(first, second, config=QUICK)
    other = compare_models(first, second.sample(frac=1.0, random_state=0), config=QUICK)
    assert one.to_json() == other.to_json()


def test_turned_around_the_sign_and_the_winner_turn(simulate: Tables) -> None:
    good, poor = simulate(noise=1.0), simulate(noise=1.0)
    poor["score"] = (poor["score"] + np.random.default_rng(0).normal(0, 5, len(poor))).clip(0, 27)
    one, other = compare_models(good, poor, config=QUICK), compare_models(poor, good, config=QUICK)
    for name in COMPARED:
        there, back = one.differences[name], other.differences[name]
        assert there.difference == pytest.approx(-float(back.difference or 0.0))
        assert (there.better, back.better) == ("first", "second"), name


def test_a_pair_is_told_apart_where_separate_intervals_overlap(simulate: Tables) -> None:
    """The second model is the first plus a small error of everybody: what both find hard cancels."""
    first = simulate(slope=1.0, noise=4.0, num_people=150)
    error = np.sign(first["score"] - first["label"])
    second = first.assign(score=(first["score"] + 0.2 * error).clip(0, 27))
    found = compare_models(first, second, config=QUICK).differences["mae"]
    assert found.better == "first"
    assert found.ci is not None
    assert found.ci[1] - found.ci[0] < 0.2


def test_a_rescaled_model_is_not_better_by_rounding(simulate: Tables) -> None:
    first = simulate()
    second = first.assign(score=(first["score"] * 0.37 + 5.1))
    found = compare_models(first, second, config=QUICK).differences["pearson_r"]
    assert found.difference == pytest.approx(0.0, abs=1e-12)
    assert found.better is None


def test_other_units_are_refused_with_both_names(simulate: Tables) -> None:
    table = simulate()
    fewer = table[table["unit_id"] != "test-3-0"]
    with pytest.raises(ValueError, match=r"1 unit\(s\) \(such as 'test-3-0'\) of ensemble absent from single"):
        compare_models(table, fewer, ("ensemble", "single"), config=QUICK)


def test_other_labels_are_refused_and_not_shown(simulate: Tables) -> None:
    table, other = simulate(), simulate()
    row = other.index[other["unit_id"] == "test-3-0"][0]
    other.loc[row, "label"] = (other.loc[row, "label"] + 11) % 28
    with pytest.raises(ValueError, match=r"column label: 1 unit\(s\) .*between ensemble and single") as caught:
        compare_models(table, other, ("ensemble", "single"), config=QUICK)
    assert str(other.loc[row, "label"]) not in str(caught.value)


def test_the_same_unit_of_another_person_is_refused(simulate: Tables) -> None:
    table = simulate()
    other = table.assign(person=table["person"].replace("test:3", "test:300"))
    with pytest.raises(ValueError, match="column person"):
        compare_models(table, other, config=QUICK)


def test_other_instruments_are_refused(simulate: Tables) -> None:
    table = simulate(instrument="PHQ-8")
    with pytest.raises(ValueError, match="first has PHQ-8, second PHQ-9"):
        compare_models(table, table.assign(instrument="PHQ-9"), config=QUICK)


def test_a_rival_that_names_no_instrument_is_taken_to_be_of_the_same(simulate: Tables) -> None:
    table = simulate(instrument="PHQ-8")
    found = compare_models(table, table.drop(columns="instrument"), config=QUICK)
    assert found.differences["mae"].difference == 0.0


def test_yes_no_models_are_compared_by_participant() -> None:
    sharp, blunt = yes_no(0, 0.5), yes_no(1, 4.0)
    found = compare_models(sharp, blunt, ("sharp", "blunt"), target="depressed", config=QUICK)
    people = blunt.groupby("person").agg(label=("label", "first"), score=("score", "mean"))
    assert found.differences["auc"].second == pytest.approx(sk.roc_auc_score(people["label"], people["score"]))
    brier = sk.brier_score_loss(people["label"], people["score"])
    assert found.differences["brier"].second == pytest.approx(brier)
    assert found.differences["auc"].better == "first"
    assert found.differences["brier"].better == "first"
    assert found.num_persons == 40


def test_a_comparison_is_plain_json(simulate: Tables) -> None:
    table = simulate()
    constant = table.assign(score=7.0)
    found = compare_models(table, constant, config=QUICK)
    assert found.differences["pearson_r"].difference is None
    assert json.loads(json.dumps(found.to_json(), allow_nan=False)) == found.to_json()
