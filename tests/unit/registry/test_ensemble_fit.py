"""The mathematics of an ensemble against brute force, simulation and its own promises."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodscale.registry.ensemble_config import EnsembleConfig
from moodscale.registry.ensemble_fit import MemberScores, fit_ensemble, out_of_fold_links, simplex_weights
from moodscale.registry.ensemble_maps import Identity, Line, Steps, fit_map
from moodscale.registry.ensemble_result import EnsembleFit
from moodscale.schema import Instrument


def config(**changes: Any) -> EnsembleConfig:
    members = changes.pop("members", ("runs:/a", "runs:/b"))
    return EnsembleConfig(members=members, **changes)


def scores(labels: Any, *members: Any, targets: tuple[str, ...] = (), **changes: Any) -> MemberScores:
    num = len(labels)
    targets = targets or ("total",) * len(members)
    target = "depressed" if set(targets) == {"depressed"} else "total"
    values: dict[str, Any] = {
        "members": tuple("abcdefgh"[: len(members)]),
        "targets": targets,
        "target": target,
        "instrument": Instrument.PHQ8 if target == "total" else None,
        "unit_ids": tuple(f"daic_woz:{300 + index}" for index in range(num)),
        "persons": tuple(f"daic:{300 + index}" for index in range(num)),
        "splits": ("validation",) * num,
        "labels": np.asarray(labels, dtype=float),
        "scores_MN": np.array(members, dtype=float),
    }
    return MemberScores(**{**values, **changes})


def simulated(rng: np.random.Generator, num: int) -> MemberScores:
    """Two members with errors of their own on totals, and a classifier."""
    labels = np.round(24 * rng.beta(1.2, 2.5, num))
    first, second = (np.clip(labels + rng.normal(0, sd, num), 0, 24) for sd in (3.0, 5.0))
    third = 1 / (1 + np.exp(-(labels - 10 + rng.normal(0, 4, num)) / 3))
    return scores(labels, first, second, third, targets=("total", "total", "depressed"))


def objective(weights: Any, members: Any, labels: Any, pull: float) -> float:
    return float(((labels - weights @ members) ** 2).sum() + pull * ((weights - 1 / len(weights)) ** 2).sum())


@pytest.mark.parametrize("shrinkage", [0.0, 1.0, 25.0])
@pytest.mark.parametrize("seed", range(5))
def test_weights_are_the_best_on_the_simplex(seed: int, shrinkage: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.uniform(0, 24, 30)
    members = labels + rng.normal(0, [[2.0], [4.0], [7.0]], (3, 30)) + rng.normal(0, 3, (3, 1))
    weights = simplex_weights(members, labels, np.ones(30), shrinkage)
    free = simplex_weights(members, labels, np.ones(30), 0.0)
    pull = shrinkage * objective(free, members, labels, 0.0) / (30 - 2) * 9
    steps = range(201)
    grid = [np.array([i, j, 200 - i - j]) / 200 for i, j in itertools.product(steps, steps) if i + j <= 200]
    least = min(objective(one, members, labels, pull) for one in grid)
    assert objective(weights, members, labels, pull) <= least * (1 + 1e-9)
    nearest = min(grid, key=lambda one: objective(one, members, labels, pull))
    assert np.abs(weights - nearest).max() < 0.02


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 40), st.sampled_from([0.0, 1.0, 9.0]))
def test_weights_are_never_negative_and_sum_to_one(seed: int, num: int, people: int, shrinkage: float) -> None:
    rng = np.random.default_rng(seed)
    members = rng.uniform(0, 24, (num, people))
    weights = simplex_weights(members, rng.uniform(0, 24, people), rng.uniform(0.1, 1, people), shrinkage)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1, abs=1e-12)


def test_a_perfect_member_beside_noise_gets_all_the_weight() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 25, 40)
    fit = fit_ensemble(scores(labels, rng.uniform(0, 24, 40), labels), config(weights="validation"))
    assert fit.weights == pytest.approx((0, 1), abs=1e-6)
    assert fit.interval.half_width == pytest.approx(0, abs=1e-3)


def test_members_that_cannot_be_told_apart_share_the_weight() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 25, 40)
    same = np.clip(labels + rng.normal(0, 3, 40), 0, 24)
    fit = fit_ensemble(scores(labels, same, same, same), config(weights="validation", shrinkage=0))
    assert fit.weights == pytest.approx((1 / 3,) * 3, abs=1e-6)


def test_the_pull_towards_equal_weights_fades_with_the_number_of_people() -> None:
    distances = []
    for num in (12, 100, 2000):
        rng = np.random.default_rng(2)
        labels = rng.uniform(0, 24, num)
        members = labels + rng.normal(0, [[4.0], [5.0]], (2, num))
        pulled, free = (simplex_weights(members, labels, np.ones(num), shrinkage) for shrinkage in (1.0, 0.0))
        assert 0.5 < pulled[0] < free[0]
        distances.append(free[0] - pulled[0])
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.005


def test_a_person_with_many_interviews_counts_once() -> None:
    rng = np.random.default_rng(3)
    labels, members = rng.uniform(0, 24, 20), rng.uniform(0, 24, (2, 20))
    once = simplex_weights(members, labels, np.ones(20), 1.0)
    thrice = simplex_weights(np.repeat(members, 3, axis=1), np.repeat(labels, 3), np.full(60, 1 / 3), 1.0)
    assert thrice == pytest.approx(once, abs=1e-9)


def test_equal_weights_are_the_mean() -> None:
    data = scores([0, 4, 8], [1.0, 5.0, 9.0], [2.0, 7.0, 7.0])
    fit = fit_ensemble(data, config())
    answer = fit.apply(data.scores_MN)
    assert answer.score == pytest.approx([1.5, 6.0, 8.0])
    assert answer.disagreement == pytest.approx([0.5, 1.0, 1.0])
    assert fit.fitted_on.num_folds == 0
    assert fit.interval.method == "split_conformal"


def test_classifiers_alone_average_their_probabilities() -> None:
    data = scores([0, 1, 1], [0.1, 0.9, 0.4], [0.3, 0.7, 0.6], targets=("depressed", "depressed"))
    fit = fit_ensemble(data, config())
    answer = fit.apply(data.scores_MN)
    assert (fit.target, fit.instrument) == ("depressed", None)
    assert answer.score == pytest.approx([0.2, 0.8, 0.5])
    assert answer.low.min() >= 0
    assert answer.high.max() <= 1


def test_a_classifier_beside_totals_is_linked_by_a_line_on_its_logit() -> None:
    probability = np.linspace(0.05, 0.95, 30)
    labels = 10 + 2.5 * np.log(probability / (1 - probability))
    data = scores(labels, labels, probability, targets=("total", "depressed"))
    fit = fit_ensemble(data, config())
    assert fit.links[0] == Identity()
    assert isinstance(fit.links[1], Line)
    assert (fit.links[1].intercept, fit.links[1].slope) == (pytest.approx(10), pytest.approx(2.5))
    assert fit.apply(data.scores_MN).score == pytest.approx(labels)


@pytest.mark.parametrize("kind", ["linear", "isotonic"])
def test_a_member_that_is_upside_down_is_never_turned_round(kind: str) -> None:
    labels = np.linspace(1, 20, 30)
    probability = np.linspace(0.95, 0.05, 30)
    link = fit_map(kind, probability, labels, np.ones(30), on_logit=True)
    assert link(np.array([0.0, 0.3, 1.0])) == pytest.approx([labels.mean()] * 3)


def test_isotonic_maps_match_a_hand_made_pooling() -> None:
    found = fit_map("isotonic", np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 6.0, 4.0, 9.0]), np.ones(4))
    assert isinstance(found, Steps)
    assert found(np.array([0.0, 1.0, 2.0, 3.0, 3.5, 9.0])) == pytest.approx([1, 1, 5, 5, 7, 9])


def test_calibration_straightens_a_shrunken_ensemble() -> None:
    rng = np.random.default_rng(4)
    labels = rng.uniform(0, 24, 300)
    members = 9 + 0.4 * (labels - 9) + rng.normal(0, 1, (2, 300))
    data = scores(labels, *np.clip(members, 0, 24))
    plain, line, steps = (fit_ensemble(data, config(calibration=kind)) for kind in ("none", "linear", "isotonic"))
    assert isinstance(line.calibration, Line)
    assert line.calibration.slope == pytest.approx(2.2, abs=0.3)
    assert isinstance(steps.calibration, Steps)
    assert line.interval.half_width < plain.interval.half_width
    assert steps.interval.half_width < plain.interval.half_width


@pytest.mark.parametrize("kind", ["linear", "isotonic"])
def test_a_calibration_that_would_answer_everybody_alike_is_left_out_and_said(kind: str) -> None:
    labels = np.linspace(1, 20, 60)
    data = scores(labels, labels[::-1], labels[::-1])
    fit = fit_ensemble(data, config(calibration=kind))
    assert fit.calibration == Identity()
    assert fit.notes == ("validation scores do not rise with the labels: no calibration was fitted",)
    assert fit.apply(data.scores_MN).score == pytest.approx(labels[::-1])


def test_a_classifier_that_tells_nobody_apart_is_said() -> None:
    labels = np.linspace(1, 20, 30)
    data = scores(labels, labels, np.linspace(0.9, 0.1, 30), targets=("total", "depressed"))
    assert fit_ensemble(data, config()).notes == (
        "b does not rise with the labels of validation: it says the same of everybody in this ensemble",
    )


@pytest.mark.parametrize("calibration", ["none", "linear", "isotonic"])
def test_intervals_hold_the_share_that_they_promise(calibration: str) -> None:
    rng = np.random.default_rng(5)
    settings_ = config(members=("runs:/a", "runs:/b", "runs:/c"), weights="validation", calibration=calibration)
    inside = []
    for _ in range(25):
        fit = fit_ensemble(simulated(rng, 60), settings_)
        new = simulated(rng, 400)
        answer = fit.apply(new.scores_MN)
        inside.append(((answer.low <= new.labels) & (new.labels <= answer.high)).mean())
    assert 0.87 < np.mean(inside) < 0.96


def test_the_half_width_is_the_conformal_quantile() -> None:
    labels = np.zeros(19)
    errors = np.arange(1.0, 20.0)
    fit = fit_ensemble(scores(labels, errors, errors), config(interval_level=0.9))
    assert fit.interval.half_width == 18.0  # ⌈(19 + 1) · 0.9⌉ = 18th smallest
    assert fit.interval.is_bounded


def test_too_few_people_for_the_level_make_the_interval_the_whole_range() -> None:
    fit = fit_ensemble(scores([3, 5, 7], [3.0, 5.0, 7.0], [3.0, 5.0, 7.0]), config())
    assert not fit.interval.is_bounded
    assert fit.notes == ("3 validation people are too few for an interval of level 0.9: it is the whole range",)
    answer = fit.apply(np.full((2, 1), 12.0))
    assert (answer.low[0], answer.high[0]) == (0.0, 24.0)


def test_disagreement_tells_how_much_errors_grow() -> None:
    rng = np.random.default_rng(6)
    labels = rng.uniform(6, 18, 400)
    apart = rng.uniform(0, 5, 400)
    error = apart * rng.normal(0, 1, 400)
    data = scores(labels, np.clip(labels + error + apart, 0, 24), np.clip(labels + error - apart, 0, 24))
    fit = fit_ensemble(data, config())
    assert fit.disagreement.error_growth == pytest.approx(np.sqrt(2 / np.pi), abs=0.15)
    assert fit.disagreement.rank_correlation is not None
    assert fit.disagreement.rank_correlation > 0.3
    assert fit.disagreement.mean == pytest.approx(2.5, abs=0.2)


def test_nothing_fitted_on_a_person_judges_that_person() -> None:
    """A label changed by hand moves everybody's out-of-fold link but the person's own fold's."""
    rng = np.random.default_rng(7)
    data = simulated(rng, 40)
    data.labels[:] = rng.permutation(40) / 2
    settings_ = config(members=("runs:/a", "runs:/b", "runs:/c"))
    before = out_of_fold_links(data, settings_)[2]
    other = data.labels.copy()
    other[0] += 0.25  # leaves the order of people, and so the folds, as they are
    after = out_of_fold_links(MemberScores(**{**vars(data), "labels": other}), settings_)[2]
    assert after[0] == before[0]
    assert (after != before).sum() == 32


def thrice(data: MemberScores) -> MemberScores:
    """Everybody was interviewed three times, and everything was as before."""
    return MemberScores(
        **{
            **vars(data),
            "unit_ids": tuple(f"{unit}-{time}" for time in range(3) for unit in data.unit_ids),
            "persons": data.persons * 3,
            "splits": data.splits * 3,
            "labels": np.tile(data.labels, 3),
            "scores_MN": np.tile(data.scores_MN, 3),
        }
    )


def test_a_persons_interviews_are_never_in_two_folds_and_count_as_one_person() -> None:
    data = simulated(np.random.default_rng(12), 30)
    data.labels[:] = np.random.default_rng(13).permutation(30) / 2
    settings_ = config(members=("runs:/a", "runs:/b", "runs:/c"), weights="validation", calibration="linear")
    once, often = fit_ensemble(data, settings_), fit_ensemble(thrice(data), settings_)
    assert often.weights == pytest.approx(once.weights)
    assert often.interval.half_width == pytest.approx(once.interval.half_width)
    assert (often.fitted_on.num_units, often.fitted_on.num_people) == (90, 30)
    links = out_of_fold_links(thrice(data), settings_)[2].reshape(3, 30)
    assert links == pytest.approx(np.tile(out_of_fold_links(data, settings_)[2], (3, 1)))


def test_the_order_of_rows_does_not_matter() -> None:
    data = simulated(np.random.default_rng(8), 30)
    order = np.random.default_rng(9).permutation(30)
    turned = MemberScores(
        **{
            **vars(data),
            "unit_ids": tuple(data.unit_ids[i] for i in order),
            "persons": tuple(data.persons[i] for i in order),
            "labels": data.labels[order],
            "scores_MN": data.scores_MN[:, order],
        }
    )
    settings_ = config(members=("runs:/a", "runs:/b", "runs:/c"), weights="validation", calibration="linear")
    one, two = fit_ensemble(data, settings_), fit_ensemble(turned, settings_)
    assert one.weights == pytest.approx(two.weights)
    assert one.interval.half_width == pytest.approx(two.interval.half_width)


@pytest.mark.parametrize("calibration", ["none", "linear", "isotonic"])
@pytest.mark.parametrize("link", ["linear", "isotonic"])
def test_a_fit_survives_json_to_the_last_bit(link: str, calibration: str) -> None:
    data = simulated(np.random.default_rng(10), 60)
    settings_ = config(
        members=("runs:/a", "runs:/b", "runs:/c"), weights="validation", link=link, calibration=calibration
    )
    fit = fit_ensemble(data, settings_)
    again = EnsembleFit.from_json(json.loads(json.dumps(fit.to_json())))
    assert again == fit
    assert (again.apply(data.scores_MN).score == fit.apply(data.scores_MN).score).all()
    assert again.fingerprint_text() == fit.fingerprint_text()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.lists(st.floats(0, 1), min_size=1, max_size=5), st.floats(0, 24), st.floats(0, 24))
def test_answers_stay_in_the_range_and_never_fall_as_a_member_rises(
    seed: int, probabilities: list[float], first: float, second: float
) -> None:
    settings_ = config(members=("runs:/a", "runs:/b", "runs:/c"), weights="validation", calibration="isotonic")
    fit = fit_ensemble(simulated(np.random.default_rng(seed % 5), 60), settings_)
    rising = np.sort(np.array(probabilities))
    rows = np.stack([np.full(len(rising), first), np.full(len(rising), second), rising])
    answer = fit.apply(rows)
    assert (answer.low >= 0).all()
    assert (answer.high <= 24).all()
    assert ((answer.low <= answer.score) & (answer.score <= answer.high)).all()
    assert (np.diff(answer.score) >= -1e-12).all()


def test_rows_of_another_split_are_refused_by_unit() -> None:
    data = scores([1, 2], [1.0, 2.0], [1.0, 2.0], splits=("validation", "test"))
    with pytest.raises(ValueError, match=r"unit daic_woz:301 is of split test: .* validation rows only"):
        fit_ensemble(data, config())


def test_too_few_people_to_fit_on_are_refused_with_the_settings_that_need_less() -> None:
    with pytest.raises(ValueError, match=r"validation has 2 people.*ensemble\.weights=equal"):
        fit_ensemble(scores([1, 2], [1.0, 2.0], [1.0, 2.0]), config(weights="validation"))
    with pytest.raises(ValueError, match=r"2 people, and an isotonic curve needs at least 50.*ensemble\.calibration"):
        fit_ensemble(scores([1, 2], [1.0, 2.0], [1.0, 2.0]), config(calibration="isotonic"))
    with pytest.raises(ValueError, match="no validation interview"):
        fit_ensemble(scores([], [], []), config())


@pytest.mark.parametrize(
    ("first", "labels", "said"),
    [
        ([1.0, float("nan")], [1, 2], "scores of a: 1 are not numbers"),
        ([1.0, 25.0], [1, 2], "scores of a: 1 are outside 0 to 24"),
        ([1.0, 2.0], [1, 25], "labels: 1 are outside 0 to 24"),
    ],
)
def test_scores_and_labels_that_cannot_be_are_refused(first: Any, labels: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fit_ensemble(scores(labels, first, [1.0, 2.0]), config())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 0}, "not of format 1"),
        ({"weighting": None, "members": None}, "TypeError"),
        ({"calibration": {"kind": "linear", "intercept": 0.0, "slope": -1.0}}, "calibration: the linear map falls"),
        ({"calibration": {"kind": "isotonic", "x": [1.0, 1.0], "y": [0.0, 1.0]}}, "the isotonic map falls"),
        ({"calibration": {"kind": "exec"}}, "kind='exec' is no map"),
        ({"instrument": None}, "its instrument do not fit"),
    ],
)
def test_a_fit_that_was_altered_is_refused(change: dict[str, Any], said: str) -> None:
    values = fit_ensemble(scores([0, 4, 8], [1.0, 5.0, 9.0], [2.0, 7.0, 7.0]), config()).to_json()
    with pytest.raises(ValueError, match=said):
        EnsembleFit.from_json({**values, **change})


def test_weights_that_do_not_sum_to_one_are_refused() -> None:
    values = fit_ensemble(scores([0, 4, 8], [1.0, 5.0, 9.0], [2.0, 7.0, 7.0]), config()).to_json()
    values["members"][0]["weight"] = 0.6
    with pytest.raises(ValueError, match="sum to one"):
        EnsembleFit.from_json(values)


def test_no_noun_shows_scores_or_labels() -> None:
    data = scores([3, 4, 8], [1.23, 5.0, 9.0], [2.0, 7.0, 7.0])
    assert "1.23" not in repr(data)
    assert "1.23" not in repr(fit_ensemble(data, config()).apply(data.scores_MN))
