"""Figures against hand-computed values and against scikit-learn and SciPy; resamples against repeated rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk

from moodscale.evaluate.bootstrap import draw_resamples
from moodscale.evaluate.severity.agreement import band_agreement, band_index, calibration, limits_of_agreement
from moodscale.evaluate.severity.figures import (
    everybody,
    metric_samples,
    moment_samples,
    percentiles,
    ranking_samples,
    severity_figures,
    threshold_figures,
)
from moodscale.evaluate.severity.units import Severities, build_severities

Tables = Callable[..., pd.DataFrame]


def units_of(predicted: list[float], label: list[float], person: list[int] | None = None) -> Severities:
    owner = np.asarray(person if person is not None else range(len(label)), dtype=np.intp)
    return Severities(
        predicted=np.asarray(predicted, dtype=np.float64),
        label=np.asarray(label, dtype=np.float64),
        person=owner,
        keys=tuple(f"u{index}" for index in range(len(label))),
        people=tuple(f"p{index}" for index in range(int(owner.max()) + 1)),
    )


@pytest.fixture
def units(simulate: Tables) -> Severities:
    return build_severities(simulate(splits=("test",)))


def point(units: Severities) -> dict[str, float]:
    return {name: float(values[0]) for name, values in moment_samples(units, everybody(units)).items()}


def test_hand_computed_figures() -> None:
    """Errors 1, -1, 2, -2; labels 2, 6, 10, 18 (mean 9), predictions 3, 5, 12, 16 (mean 9)."""
    found = point(units_of([3, 5, 12, 16], [2, 6, 10, 18]))
    assert found["mae"] == pytest.approx(1.5)
    assert found["rmse"] == pytest.approx(np.sqrt(2.5))
    assert found["mean_error"] == pytest.approx(0.0)
    # Variances 27.5 and 35, covariance 30: (27.5 + 35 - 2.5) / 2.
    assert found["pearson_r"] == pytest.approx(30 / np.sqrt(27.5 * 35))
    assert found["ccc"] == pytest.approx(60 / 62.5)
    assert found["slope"] == pytest.approx(30 / 27.5)
    assert found["intercept"] == pytest.approx(9 - 9 * 30 / 27.5)
    assert found["sd"] == pytest.approx(np.sqrt(10 / 3))
    assert found["upper"] == pytest.approx(1.96 * np.sqrt(10 / 3))
    assert found["proportional_slope"] == pytest.approx(2 * (27.5 - 35) / 122.5)


def test_figures_are_those_of_scikit_learn_and_scipy(units: Severities) -> None:
    found, label, predicted = point(units), units.label, units.predicted
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(label, predicted))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(label, predicted))
    assert found["pearson_r"] == pytest.approx(stats.pearsonr(label, predicted).statistic)
    line = stats.linregress(predicted, label)
    assert found["slope"] == pytest.approx(line.slope)
    assert found["intercept"] == pytest.approx(line.intercept)
    assert found["sd"] == pytest.approx(np.std(predicted - label, ddof=1))
    bias = stats.linregress((predicted + label) / 2, predicted - label)
    assert found["proportional_slope"] == pytest.approx(bias.slope)
    shift = (predicted.mean() - label.mean()) ** 2
    concordance = 2 * np.cov(label, predicted, ddof=0)[0, 1] / (label.var() + predicted.var() + shift)
    assert found["ccc"] == pytest.approx(concordance)


def test_a_resample_is_the_table_with_its_persons_repeated(units: Severities) -> None:
    drawn = draw_resamples(units.strata, 5, seed=3)
    samples, moments = metric_samples(units, drawn), moment_samples(units, drawn)
    ranked = ranking_samples(units, [3, 10, 15], drawn)
    for row, weights in enumerate(drawn):
        index = np.repeat(np.arange(units.num), weights[units.person].astype(int))
        label, predicted = units.label[index], units.predicted[index]
        assert samples["mae"][row] == pytest.approx(sk.mean_absolute_error(label, predicted))
        assert samples["pearson_r"][row] == pytest.approx(stats.pearsonr(label, predicted).statistic)
        assert moments["sd"][row] == pytest.approx(np.std(predicted - label, ddof=1))
        assert moments["intercept"][row] == pytest.approx(stats.linregress(predicted, label).intercept)
        for threshold, (auc, precision) in ranked.items():
            assert auc[row] == pytest.approx(sk.roc_auc_score(label >= threshold, predicted))
            assert precision[row] == pytest.approx(sk.average_precision_score(label >= threshold, predicted))
        assert samples["auc_at_10"][row] == ranked[10][0][row]


def test_ties_count_half_as_in_scikit_learn() -> None:
    units = units_of([5, 5, 5, 8, 8, 2], [12, 3, 11, 14, 2, 1])
    [(auc, precision)] = ranking_samples(units, [10], everybody(units)).values()
    assert auc[0] == pytest.approx(sk.roc_auc_score(units.label >= 10, units.predicted))
    assert precision[0] == pytest.approx(sk.average_precision_score(units.label >= 10, units.predicted))


def test_a_threshold_with_one_person_in_a_class_is_skipped_and_says_so() -> None:
    """Both totals of 20 or more are of one person: two units, but one person."""
    units = units_of([4, 6, 12, 19, 22], [3, 5, 11, 20, 21], person=[0, 1, 2, 3, 3])
    at = {entry.threshold: entry for entry in threshold_figures(units, [3, 10, 20, 24], np.ones((0, 4)), 0.95)}
    assert at[10].auc == 1.0
    assert at[10].num_positive == 3
    assert at[20].auc is None
    assert "1 person(s) at or above 20" in at[20].skipped
    assert "0 person(s) at or above 24" in at[24].skipped
    assert "0 below" in at[3].skipped


def test_a_constant_has_no_correlation_and_no_concordance() -> None:
    units = units_of([7.3] * 4, [2, 6, 10, 18])
    found = severity_figures(units, draw_resamples(units.strata, 50, 0), 0.95)
    assert found.values["pearson_r"] is None
    assert found.ci["pearson_r"] is None
    assert found.values["ccc"] == pytest.approx(0.0, abs=1e-12)
    assert found.values["auc_at_10"] == 0.5


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Errors are standard normal: their mean absolute value is sqrt(2 / pi)."""
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        label = rng.integers(0, 28, 100).astype(float)
        units = units_of(list(label + rng.normal(size=100)), list(label))
        low, high = severity_figures(units, draw_resamples(units.strata, 400, seed), 0.95).ci["mae"] or (0.0, 0.0)
        held += low <= np.sqrt(2 / np.pi) <= high
    assert 0.89 <= held / 200 <= 0.99


def test_an_interval_of_a_person_with_many_units_is_wider_than_by_units() -> None:
    rng = np.random.default_rng(0)
    bias = np.repeat(rng.normal(0, 3, 12), 10)
    label = rng.integers(0, 28, 120).astype(float)
    by_person = units_of(list(label + bias), list(label), person=list(np.repeat(np.arange(12), 10)))
    by_unit = units_of(list(label + bias), list(label))
    width = []
    for units in (by_person, by_unit):
        strata = np.zeros(units.num_persons, dtype=np.intp)
        low, high = severity_figures(units, draw_resamples(strata, 500, 0), 0.95).ci["mean_error"] or (0.0, 0.0)
        width.append(high - low)
    assert width[0] > 2 * width[1]


def test_mostly_undefined_samples_have_no_interval() -> None:
    assert percentiles(np.array([1.0, 2.0, np.nan]), 0.95) is None
    assert percentiles(np.empty(0), 0.95) is None
    assert percentiles(np.append(np.linspace(0, 1, 99), np.nan), 0.9) == pytest.approx((0.05, 0.95))


def test_bands_take_the_nearest_whole_total() -> None:
    totals = np.array([0.0, 4.0, 4.49, 4.5, 9.4, 9.5, 14.0, 15.0, 19.5, 27.0])
    assert band_index(totals).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 4, 4]


def test_kappa_is_that_of_scikit_learn(units: Severities) -> None:
    found = band_agreement(units, draw_resamples(units.strata, 100, 0), 0.95)
    bands = band_index(units.label), band_index(units.predicted)
    kappa = found.estimates.values["quadratic_weighted_kappa"]
    assert kappa == pytest.approx(sk.cohen_kappa_score(*bands, weights="quadratic"))
    assert np.array_equal(found.confusion, sk.confusion_matrix(*bands, labels=range(5)))
    assert found.estimates.values["exact"] == pytest.approx(np.mean(bands[0] == bands[1]))
    low, high = found.estimates.ci["quadratic_weighted_kappa"] or (1.0, 0.0)
    assert low < float(kappa or 0.0) < high


def test_calibration_bins_hold_every_unit_once_and_rising_predictions(units: Severities) -> None:
    found = calibration(units, 5, draw_resamples(units.strata, 100, 0), 0.95)
    assert sum(entry.num for entry in found.bins) == units.num
    means = [entry.predicted for entry in found.bins]
    assert means == sorted(means)
    assert all(entry.label_ci and entry.label_ci[0] <= entry.label <= entry.label_ci[1] for entry in found.bins)


def test_equal_predictions_share_a_bin() -> None:
    units = units_of([5.0] * 9 + [20.0], list(range(10)))
    found = calibration(units, 5, np.ones((0, 10)), 0.95)
    assert [entry.num for entry in found.bins] == [9, 1]
    assert found.bins[0].label == pytest.approx(4.0)


def test_shrinking_predictions_have_a_proportional_bias(simulate: Tables) -> None:
    units = build_severities(simulate(num_people=300, slope=0.4, noise=1.0, splits=("test",)))
    found = limits_of_agreement(units, draw_resamples(units.strata, 200, 0), 0.95)
    ends = found.ci["proportional_slope"]
    assert ends is not None
    assert ends[1] < -0.5
    assert found.values["lower"] < found.values["bias"] < found.values["upper"]  # type: ignore[operator]


def test_the_limits_hold_about_95_percent_of_normal_errors() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(5, 20, 2000).astype(float)
    error = rng.normal(0.5, 2.0, 2000)
    found = limits_of_agreement(units_of(list(label + error), list(label)), np.ones((0, 2000)), 0.95).values
    share = np.mean((error > float(found["lower"] or 0)) & (error < float(found["upper"] or 0)))
    assert share == pytest.approx(0.95, abs=0.015)
