"""A severity model's calibration and interval: what they are, what they cover, and when they say they cannot."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from moodscale.registry.severity_point import Calibration, SeverityPoint, conformal_quantile, fit_point, severity_band
from moodscale.schema import Instrument


def people(num: int, seed: int = 0, slope: float = 0.5, noise: float = 1.5) -> tuple[Any, Any, Any]:
    """Raw scores that are labels pressed together and shifted, as a regressor's are."""
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 28, num).astype(float)
    raw = np.clip(slope * label + 6 + draw.normal(0, noise, num), 0, 27)
    return raw, label, np.array([f"p{i}" for i in range(num)], dtype=object)


def test_the_conformal_quantile_is_the_rank_that_the_theorem_names() -> None:
    residuals = np.arange(1.0, 20.0)[::-1]  # 19 of them: rank ceil(20 * 0.9) = 18
    assert conformal_quantile(residuals, 0.9) == 18.0
    assert conformal_quantile(residuals, 0.95) == 19.0
    assert conformal_quantile(residuals, 0.96) is None
    assert conformal_quantile(np.arange(1.0, 10.0), 0.9) == 9.0, "nine are enough for 0.9, in floating point too"
    assert conformal_quantile(np.arange(1.0, 9.0), 0.9) is None


def test_without_calibration_the_half_width_is_the_quantile_of_the_plain_residuals() -> None:
    raw, label, person = people(39)
    point = fit_point(raw, label, person, Instrument.PHQ9, "none", level=0.9)
    assert point.half_width == pytest.approx(np.sort(np.abs(raw - label))[35])
    assert (point.calibration.kind, point.num_people, point.notes) == ("none", 39, ())


@pytest.mark.parametrize("kind", ["none", "linear", "isotonic"])
def test_the_interval_holds_about_its_level_of_new_people(kind: Any) -> None:
    inside = []
    for seed in range(40):
        point = fit_point(*people(99, seed), Instrument.PHQ9, kind, level=0.9)
        raw, label, _ = people(400, seed + 1000)
        scores = point.score(raw)
        low, high = np.array([point.interval(score) for score in scores]).T
        inside.append(np.mean((low <= label) & (label <= high)))
    assert np.mean(inside) == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("kind", ["linear", "isotonic"])
def test_a_calibration_stretches_scores_that_lie_too_close_together(kind: Any) -> None:
    raw, label, person = people(99)
    plain = fit_point(raw, label, person, Instrument.PHQ9, "none")
    point = fit_point(raw, label, person, Instrument.PHQ9, kind)
    new, truth, _ = people(500, seed=7)
    assert np.abs(point.score(new) - truth).mean() < np.abs(plain.score(new) - truth).mean() - 0.5
    assert point.half_width < plain.half_width
    assert np.all(np.diff(point.score(np.linspace(0, 27, 50))) >= 0), "no calibration turns the order round"
    assert point.score(np.array([-50.0, 500.0])).tolist()[1] <= 27.0


def test_scores_and_intervals_stay_within_the_instruments_range() -> None:
    point = SeverityPoint(Instrument.PHQ8, Calibration("linear", slope=3.0, intercept=-5.0), 4.0, 0.9, 50)
    assert point.score(np.array([0.0, 5.0, 20.0])).tolist() == [0.0, 10.0, 24.0]
    assert point.interval(2.0) == (0.0, 6.0)
    assert point.interval(23.0) == (19.0, 24.0)


def test_too_few_people_have_the_whole_range_for_an_interval_and_it_is_said() -> None:
    raw, label, person = people(6)
    point = fit_point(raw, label, person, Instrument.PHQ9, "linear", level=0.9)
    assert point.calibration.kind == "none"
    assert point.half_width == 27.0
    assert point.interval(9.0) == (0.0, 27.0)
    assert any("6 validation people are too few for a linear calibration" in note for note in point.notes)
    assert any("6 validation interviews are too few" in note and "(it needs 9)" in note for note in point.notes)


def test_scores_that_fall_as_labels_rise_are_not_turned_round() -> None:
    raw, label, person = people(60)
    point = fit_point(27 - raw, label, person, Instrument.PHQ9, "linear")
    assert point.calibration.kind == "none"
    assert "do not rise with the labels" in point.notes[0]


def test_a_collapsed_model_gets_no_calibration_and_a_wide_interval() -> None:
    _, label, person = people(60)
    point = fit_point(np.full(60, 9.0), label, person, Instrument.PHQ9, "isotonic")
    assert point.calibration.kind == "none"
    assert point.half_width > 10


def test_residuals_are_of_a_calibration_that_had_not_seen_the_person() -> None:
    """Labels that nothing predicts: in-sample, isotonic steps fit them; held out, they are missed by more."""
    draw = np.random.default_rng(3)
    raw, label = np.sort(draw.uniform(0, 27, 60)), draw.integers(0, 28, 60).astype(float) + np.arange(60) * 0.05
    label = np.clip(label, 0, 27)
    person = np.array([f"p{i // 2}" for i in range(60)], dtype=object)
    point = fit_point(raw, label, np.array([f"p{i}" for i in range(60)]), Instrument.PHQ9, "isotonic", level=0.8)
    in_sample = np.sort(np.abs(point.score(raw) - label))[int(np.ceil(61 * 0.8)) - 1]
    assert point.half_width > in_sample
    assert fit_point(raw, label, person, Instrument.PHQ9, "linear").num_people == 30


def test_points_survive_json_and_refuse_what_no_point_has() -> None:
    for kind in ("none", "linear", "isotonic"):
        point = fit_point(*people(99), Instrument.PHQ9, kind)  # type: ignore[arg-type]
        again = SeverityPoint.from_json(json.loads(json.dumps(point.to_json())))
        assert again == point
    values = point.to_json()
    for broken in (
        {"calibration": {"kind": "isotonic", "x": [2.0, 1.0], "y": [0.0, 1.0]}},
        {"calibration": {"kind": "linear", "slope": -1.0, "intercept": 0.0}},
        {"calibration": {"kind": "linear", "slope": float("nan"), "intercept": 0.0}},
        {"calibration": {"kind": "cubic"}},
        {"instrument": "GAD-7"},
    ):
        with pytest.raises(ValueError):
            SeverityPoint.from_json({**values, **broken})
    with pytest.raises(ValueError, match="lacks 'level'"):
        SeverityPoint.from_json({name: value for name, value in values.items() if name != "level"})


def test_no_interview_and_missing_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="needs validation interviews"):
        fit_point(np.array([]), np.array([]), np.array([]), Instrument.PHQ9)
    with pytest.raises(ValueError, match="needs validation interviews"):
        fit_point(np.array([np.nan]), np.array([1.0]), np.array(["p"]), Instrument.PHQ9)


def test_bands_are_those_of_the_questionnaire() -> None:
    names = [severity_band(score) for score in (0.0, 4.4, 4.6, 9.6, 14.9, 27.0)]
    assert names == ["minimal", "minimal", "mild", "moderate", "moderately severe", "severe"]
