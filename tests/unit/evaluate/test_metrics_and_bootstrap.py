"""The vectorised bootstrap against scikit-learn on rows that are really repeated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from moodscale.evaluate.bootstrap import curve_bands, draw_resamples, intervals, resampled_figures
from moodscale.evaluate.metrics import METRICS, calibration_line, expected_calibration_error, point_figures
from moodscale.evaluate.table import to_predictions
from moodscale.evaluate.units import Scored, build_units, logit

Simulate = Callable[..., pd.DataFrame]


def scored(simulate: Simulate, decimals: int = 1, **settings: float) -> Scored:
    """Coarsely rounded scores, so that ties occur."""
    frame = to_predictions(simulate(**settings).round({"score": decimals})).frame
    return build_units(frame[frame["split"] == "test"]).clips


def repeat(units: Scored, times: np.ndarray) -> Scored:
    rows = np.repeat(np.arange(units.num), times.astype(int)[units.person])
    return Scored(units.score[rows], units.label[rows], units.person[rows], units.num_persons)


@pytest.mark.parametrize("metric", METRICS)
def test_a_resample_equals_the_figure_of_the_repeated_rows(simulate: Simulate, metric: str) -> None:
    units = scored(simulate, num_participants=18, effect=1.0)
    strata = build_units(to_predictions(simulate(num_participants=18, effect=1.0, num_validation=0)).frame).strata
    drawn = draw_resamples(strata, 8, seed=1)
    found = resampled_figures(units, 0.45, 10, drawn)[metric]
    for row, times in enumerate(drawn):
        expected = point_figures(repeat(units, times), 0.45, 10, "clips").values[metric]
        assert found[row] == pytest.approx(expected, abs=1e-6)


def test_point_figures_are_scikit_learns(simulate: Simulate) -> None:
    units = scored(simulate)
    figures = point_figures(units, 0.5, 10, "clips").values
    predicted = units.score >= 0.5
    assert figures["auc"] == sk.roc_auc_score(units.label, units.score)
    assert figures["f1"] == sk.f1_score(units.label, predicted)
    assert figures["brier"] == pytest.approx(np.mean((units.score - units.label) ** 2))


def test_the_calibration_line_is_a_logistic_regression(simulate: Simulate) -> None:
    units = scored(simulate, decimals=6)
    line = calibration_line(units)
    assert line is not None
    model = LogisticRegression(C=np.inf, tol=1e-10).fit(logit(units.score)[:, None], units.label)
    assert line[0] == pytest.approx(model.intercept_[0], abs=1e-4)
    assert line[1] == pytest.approx(model.coef_[0, 0], abs=1e-4)


def test_a_perfectly_calibrated_score_has_no_calibration_error() -> None:
    score = np.array([0.25, 0.25, 0.25, 0.25, 1.0])
    label = np.array([True, False, False, False, True])
    assert expected_calibration_error(Scored(score, label, np.arange(5), 5), 10) == 0.0


def test_undefined_figures_are_none_and_explained() -> None:
    one_class = Scored(np.array([0.2, 0.3, 0.4]), np.array([False, False, False]), np.arange(3), 3)
    figures = point_figures(one_class, 0.5, 10, "clips")
    assert figures.values["auc"] is None
    assert figures.values["recall"] is None
    assert figures.values["precision"] is None
    assert figures.values["balanced_accuracy"] is None
    assert figures.values["specificity"] == 1.0
    assert any("AUC" in note and "0 of 3" in note for note in figures.notes)


def test_auc_is_skipped_with_one_unit_in_a_class() -> None:
    lonely = Scored(np.array([0.2, 0.3, 0.9]), np.array([False, False, True]), np.arange(3), 3)
    figures = point_figures(lonely, 0.5, 10, "participants")
    assert figures.values["auc"] is None
    assert any("1 of 3" in note for note in figures.notes)


def test_every_resample_keeps_the_number_of_persons_of_each_label() -> None:
    strata = np.array([0] * 20 + [1] * 7 + [2] * 3)
    drawn = draw_resamples(strata, 200, seed=0)
    for stratum, size in ((0, 20), (1, 7), (2, 3)):
        assert (drawn[:, strata == stratum].sum(axis=1) == size).all()


def test_the_bootstrap_is_seeded() -> None:
    strata = np.array([0] * 10 + [1] * 5)
    assert (draw_resamples(strata, 50, 3) == draw_resamples(strata, 50, 3)).all()
    assert (draw_resamples(strata, 50, 3) != draw_resamples(strata, 50, 4)).any()


def test_clip_intervals_are_as_wide_as_persons_make_them(simulate: Simulate) -> None:
    """Copying every clip ten times adds no information, so it must not narrow the interval."""
    units = scored(simulate, num_participants=40, effect=1.0)
    copied = Scored(*(np.repeat(part, 10) for part in (units.score, units.label, units.person)), units.num_persons)
    strata = np.bincount(units.person, weights=units.label) > 0
    drawn = draw_resamples(strata.astype(np.intp), 500, seed=0)
    one = intervals(resampled_figures(units, 0.5, 10, drawn), 0.95)["auc"]
    ten = intervals(resampled_figures(copied, 0.5, 10, drawn), 0.95)["auc"]
    assert one == pytest.approx(ten)


def test_the_auc_interval_covers_the_truth(simulate: Simulate) -> None:
    """Coverage over repeated studies of 40 people, of a nominal 95 %."""
    frame = to_predictions(simulate(num_participants=4000, effect=1.2, num_validation=0, num_clips=2)).frame
    truth = point_figures(build_units(frame).participants, 0.5, 10, "participants").values["auc"]
    covered = 0
    for seed in range(200):
        study = to_predictions(
            simulate(num_participants=40, effect=1.2, num_validation=0, num_clips=2, seed=seed + 1)
        ).frame
        units = build_units(study)
        drawn = draw_resamples(units.strata, 300, seed)
        pair = intervals(resampled_figures(units.participants, 0.5, 10, drawn), 0.95)["auc"]
        assert pair is not None
        covered += pair[0] <= truth <= pair[1]
    assert 0.89 <= covered / 200 <= 0.99


def test_a_figure_undefined_in_many_resamples_has_no_interval() -> None:
    assert intervals({"precision": np.array([0.5] * 8 + [np.nan] * 2)}, 0.95) == {"precision": None}
    assert intervals({"precision": np.array([0.5] * 99 + [np.nan])}, 0.95) == {"precision": (0.5, 0.5)}


def test_the_curve_band_holds_the_curve(simulate: Simulate) -> None:
    units = scored(simulate, decimals=6)
    strata = (np.bincount(units.person, weights=units.label) > 0).astype(np.intp)
    bands = curve_bands(units, draw_resamples(strata, 400, 0), 0.95)
    fall_out, recall, _ = sk.roc_curve(units.label, units.score)
    curve = np.interp(bands["grid"], fall_out, recall)
    assert (bands["roc_low"] <= bands["roc_high"]).all()
    assert np.mean((bands["roc_low"] - 1e-9 <= curve) & (curve <= bands["roc_high"] + 1e-9)) > 0.95


def test_blocks_do_not_change_a_resample(simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    units = scored(simulate)
    strata = (np.bincount(units.person, weights=units.label) > 0).astype(np.intp)
    drawn = draw_resamples(strata, 60, 0)
    whole = resampled_figures(units, 0.5, 10, drawn)
    monkeypatch.setattr("moodscale.evaluate.bootstrap._BLOCK", units.num * 7)
    parts = resampled_figures(units, 0.5, 10, drawn)
    for name in METRICS:
        np.testing.assert_allclose(whole[name], parts[name], rtol=1e-6)
