"""The mathematics of an ensemble: links, weights, calibration and an uncertainty, from validation scores alone.

Each stage is judged on people whom the stages before it had not seen (cross-fitting by person), so no row is used
twice in a way that flatters:

1. A link takes a classifier's probability to points of the questionnaire. Members that give totals have none.
2. Weights are the simplex least squares of the out-of-fold linked scores, pulled towards equal ones.
3. The calibration is fitted on combined scores that links and weights of the *other* folds' people gave.
4. The interval's half-width is the conformal quantile of what all three together, fitted on the other folds, miss by.

What is served are links, weights and calibration fitted once more on everybody. No fold mends that the members'
checkpoints were chosen on these very people: the interval holds somewhat fewer new people than its level says.

Shape legend: M members, N interviews. A person counts once, however many interviews they have.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from moodscale.registry.ensemble_config import EnsembleConfig
from moodscale.registry.ensemble_maps import Floats, Identity, Map, fit_line, fit_map, is_flat
from moodscale.registry.ensemble_result import Disagreement, EnsembleFit, FittedOn, Interval, combine, spread
from moodscale.schema import Instrument, Split

MIN_PEOPLE = 10
"""Fewer people of validation fit nothing: equal weights, no calibration, and no member that needs a link."""
MIN_PEOPLE_ISOTONIC = 50
"""The same of a step curve, which follows fewer people's noise."""
_TIE = 1e-5
"""The pull, relative to the residuals, that makes members which cannot be told apart share their weight."""


@dataclass(frozen=True)
class MemberScores:
    """Validation scores of all members over the same interviews.

    Attributes:
        members: (M,) names.
        targets: (M,) ``total`` or ``depressed``: what each member's score is.
        target: the ensemble's: ``depressed`` where all members are classifiers, else ``total``.
        instrument: of the totals; ``None`` for target ``depressed``.
        unit_ids, persons, splits: (N,).
        labels: (N,) totals, or 0 and 1.
        scores_MN: the members' own scores.
    """

    members: tuple[str, ...]
    targets: tuple[str, ...]
    target: str
    instrument: Instrument | None
    unit_ids: tuple[str, ...]
    persons: tuple[str, ...]
    splits: tuple[str, ...]
    labels: Floats = field(repr=False)
    scores_MN: Floats = field(repr=False)

    @property
    def num_people(self) -> int:
        return len(set(self.persons))


@dataclass(frozen=True)
class _Rows:
    """Numbers alone: what cross-fitting takes apart. ``weight`` sums to the number of people."""

    scores_MN: Floats
    labels: Floats
    weight: Floats
    person: np.ndarray[tuple[int], np.dtype[np.intp]]

    def only(self, keep: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> _Rows:
        return _Rows(self.scores_MN[:, keep], self.labels[keep], self.weight[keep], self.person[keep])


@dataclass(frozen=True)
class _Combiner:
    """Links, weights and calibration; :func:`combine` is what an :class:`EnsembleFit` does with them."""

    links: tuple[Map, ...]
    weights: Floats
    range: tuple[float, float]
    calibration: Map = field(default_factory=Identity)

    def __call__(self, scores_MN: Floats) -> tuple[Floats, Floats]:
        """(N,) combined and (M, N) linked scores."""
        return combine(self.links, self.weights, self.calibration, self.range, scores_MN)


def fit_ensemble(data: MemberScores, config: EnsembleConfig) -> EnsembleFit:
    """Fit on validation rows.

    Raises:
        ValueError: a row of another split, shapes or ids that do not fit, a score that cannot be one, or too few people
            for what has to be fitted; says which setting needs less.
    """
    check_scores(data)
    fitter = _Fitter(data, config)
    rows, notes = fitter.rows, []
    combiner = fitter.fit(rows)
    if is_flat(combiner.calibration):
        # It would answer everybody with the mean: no calibration mends scores that do not tell people apart.
        notes.append("validation scores do not rise with the labels: no calibration was fitted")
        fitter = _Fitter(data, config.model_copy(update={"calibration": "none"}))
        combiner = fitter.fit(rows)
    notes += [
        f"{name} does not rise with the labels of validation: it says the same of everybody in this ensemble"
        for name, link in zip(data.members, combiner.links, strict=True)
        if is_flat(link)
    ]
    # Where nothing is fitted, every row is as good as one of other people.
    expected, linked_MN = fitter.cross_fitted(rows, fitter.fit) if fitter.is_fitted else combiner(rows.scores_MN)
    residual = np.abs(rows.labels - expected)
    disagreement = spread(combiner.weights, linked_MN)
    low, high = fitter.range
    interval = _interval(residual, rows.weight, config.interval_level, high - low, fitter.is_fitted)
    if not interval.is_bounded:
        notes.append(
            f"{data.num_people} validation people are too few for an interval of level {config.interval_level:g}: it "
            "is the whole range"
        )
    return EnsembleFit(
        members=data.members,
        targets=data.targets,
        target=data.target,
        instrument=data.instrument,
        links=combiner.links,
        weights=tuple(map(float, combiner.weights)),
        weighting=config.weights,
        calibration=combiner.calibration,
        interval=interval,
        disagreement=_growth(disagreement, residual, rows.weight),
        fitted_on=FittedOn(len(data.unit_ids), data.num_people, fitter.num_folds if fitter.is_fitted else 0),
        notes=tuple(notes),
    )


def out_of_fold_links(data: MemberScores, config: EnsembleConfig) -> Floats:
    """(M, N) members' scores on the ensemble's scale, each by a link that had not seen the person."""
    check_scores(data)
    fitter = _Fitter(data, config)
    return fitter.linked_out_of_fold(fitter.rows)


def check_scores(data: MemberScores) -> None:
    """Refuse what must not be fitted on.

    Raises:
        ValueError: naming the row's unit or the member.
    """
    num = len(data.unit_ids)
    if num == 0:
        raise ValueError("there is no validation interview to fit an ensemble on; prepare a validation split")
    for unit_id, split in zip(data.unit_ids, data.splits, strict=True):
        if split != Split.VALIDATION:
            raise ValueError(f"unit {unit_id} is of split {split}: an ensemble is fitted on validation rows only")
    if len(set(data.unit_ids)) != num:
        raise ValueError(f"{num - len(set(data.unit_ids))} of {num} units occur twice; score every interview once")
    if data.scores_MN.shape != (len(data.members), num) or data.labels.shape != (num,) or len(data.persons) != num:
        raise ValueError(f"scores of shape {data.scores_MN.shape} for {len(data.members)} members and {num} interviews")
    if (data.target == "depressed") != all(target == "depressed" for target in data.targets):
        raise ValueError(f"target {data.target!r} does not fit members with targets {', '.join(data.targets)}")
    low, high = score_range(data.target, data.instrument)
    _check_within(data.labels, low, high, "labels")
    for name, target, scores in zip(data.members, data.targets, data.scores_MN, strict=True):
        _check_within(scores, *score_range(target, data.instrument), f"scores of {name}")


def score_range(target: str, instrument: Instrument | None) -> tuple[float, float]:
    """The least and the greatest score that can be."""
    if target == "depressed":
        return 0.0, 1.0
    if instrument is None:
        raise ValueError("totals need the instrument that they are of")
    return 0.0, float(instrument.max_total)


def simplex_weights(linked_MN: Floats, labels: Floats, weight: Floats, shrinkage: float) -> Floats:
    """(M,) the non-negative weights that sum to one and minimise the squared error, pulled towards equal ones.

    The pull is a normal prior around 1/M with the standard deviation 1/M (over the root of ``shrinkage``): it adds
    ``shrinkage · s² · M² · |w - 1/M|²`` to the sum of squares over people, with the residual variance s² of the best
    weights without any pull. So it fades with the number of people, and vanishes where a combination fits exactly.

    Because the weights sum to one, labels minus combination is a product of the members' residuals and w, the pull
    is one of (I - 1/M) and w, and the whole objective is |B w|². The simplex minimum of that is the non-negative
    least-squares solution u of B u = 0, sum(u) = 1 in one stacked system, divided by its sum: for any direction the
    best length leaves q / (1 + q), which grows with q = |B w|².
    """
    num_members = len(linked_MN)
    residual_NM = np.sqrt(weight)[:, None] * (labels[:, None] - linked_MN.T)
    free = _simplex(residual_NM, _TIE * float(np.sqrt((residual_NM**2).sum())))
    freedom = float(weight.sum()) - (num_members - 1)
    if freedom <= 0:
        return np.full(num_members, 1.0 / num_members)
    variance = float(((residual_NM @ free) ** 2).sum()) / freedom
    if shrinkage == 0 or variance == 0:
        return free
    return _simplex(residual_NM, math.sqrt(shrinkage * variance) * num_members)


def _simplex(residual_NM: Floats, pull: float) -> Floats:
    from scipy.optimize import nnls

    num_members = residual_NM.shape[1]
    centred_MM = np.eye(num_members) - 1.0 / num_members
    scale = float(np.sqrt((residual_NM**2).sum())) or 1.0  # keeps the system's last row in proportion
    stacked = np.vstack([residual_NM / scale, pull / scale * centred_MM, np.ones((1, num_members))])
    aim = np.zeros(len(stacked))
    aim[-1] = 1.0
    found = np.asarray(nnls(stacked, aim)[0], dtype=np.float64)
    return np.asarray(found / found.sum(), dtype=np.float64)


class _Fitter:
    """The stages of one fit."""

    def __init__(self, data: MemberScores, config: EnsembleConfig) -> None:
        self.config = config
        self.range = score_range(data.target, data.instrument)
        self.needs_link = tuple(target != data.target for target in data.targets)
        self.is_fitted = any(self.needs_link) or config.weights == "validation" or config.calibration != "none"
        self.num_folds = min(config.num_folds, data.num_people)
        is_isotonic = config.calibration == "isotonic" or (any(self.needs_link) and config.link == "isotonic")
        if is_isotonic and data.num_people < MIN_PEOPLE_ISOTONIC:
            raise ValueError(
                f"validation has {data.num_people} people, and an isotonic curve needs at least "
                f"{MIN_PEOPLE_ISOTONIC}: set ensemble.calibration and ensemble.link to linear"
            )
        if self.is_fitted and data.num_people < MIN_PEOPLE:
            raise ValueError(
                f"validation has {data.num_people} people, and links, weights or a calibration need at least "
                f"{MIN_PEOPLE}: set ensemble.weights=equal and ensemble.calibration=none with members of one target, "
                "or prepare a larger validation split"
            )
        self.rows, self.keys = _numbers(data)

    def fit(self, rows: _Rows) -> _Combiner:
        """All three stages."""
        combiner = self._links_and_weights(rows)
        if self.config.calibration == "none":
            return combiner
        combined, _ = self.cross_fitted(rows, self._links_and_weights)
        calibration = fit_map(self.config.calibration, combined, rows.labels, rows.weight)
        return replace(combiner, calibration=calibration)

    def linked_out_of_fold(self, rows: _Rows) -> Floats:
        """(M, N)"""
        if not any(self.needs_link):
            return rows.scores_MN
        return self.cross_fitted(rows, lambda part: self._combiner(part, None))[1]

    def cross_fitted(self, rows: _Rows, fit: Callable[[_Rows], _Combiner]) -> tuple[Floats, Floats]:
        """(N,) combined and (M, N) linked scores, each by what was fitted on other people."""
        combined, linked_MN = np.empty(len(rows.labels)), np.empty_like(rows.scores_MN)
        for held_out in self._folds(rows):
            combined[held_out], linked_MN[:, held_out] = fit(rows.only(~held_out))(rows.scores_MN[:, held_out])
        return combined, linked_MN

    def _links_and_weights(self, rows: _Rows) -> _Combiner:
        if self.config.weights == "equal":
            return self._combiner(rows, None)
        linked_MN = self.linked_out_of_fold(rows)
        return self._combiner(rows, simplex_weights(linked_MN, rows.labels, rows.weight, self.config.shrinkage))

    def _combiner(self, rows: _Rows, weights: Floats | None) -> _Combiner:
        """With links of ``rows``, and equal weights where none are given."""
        links = tuple(
            fit_map(self.config.link, scores, rows.labels, rows.weight, on_logit=True) if needs else Identity()
            for needs, scores in zip(self.needs_link, rows.scores_MN, strict=True)
        )
        equal = np.full(len(links), 1.0 / len(links))
        return _Combiner(links, equal if weights is None else weights, self.range)

    def _folds(self, rows: _Rows) -> Iterator[np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """People dealt out in the order of their labels: every fold spans the range, whatever the rows' order."""
        people = np.unique(rows.person)
        mean = {int(one): float(rows.labels[rows.person == one].mean()) for one in people}
        ordered = sorted((int(one) for one in people), key=lambda one: (mean[one], self.keys[one]))
        num = min(self.num_folds, len(ordered))
        for fold in range(num):
            yield np.isin(rows.person, ordered[fold::num])


def _numbers(data: MemberScores) -> tuple[_Rows, list[str]]:
    """Rows, and by person a key that orders people of equal labels without regard to their names."""
    names, person = np.unique(np.array(data.persons, dtype=object).astype(str), return_inverse=True)
    weight = 1.0 / np.bincount(person)[person]
    keys = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    rows = _Rows(
        scores_MN=np.asarray(data.scores_MN, dtype=np.float64),
        labels=np.asarray(data.labels, dtype=np.float64),
        weight=weight,
        person=person.astype(np.intp),
    )
    return rows, keys


def _interval(residual: Floats, weight: Floats, level: float, widest: float, is_fitted: bool) -> Interval:
    """The smallest half-width that ``level`` of P + 1 people's worth of residuals stay within, the last one unknown
    (split conformal: Lei et al. 2018, section 2.2; the residuals of other folds: Barber et al. 2021). Where all people
    together are not enough for the level, it is the whole range."""
    order = np.argsort(residual, kind="stable")
    reached = np.cumsum(weight[order])
    needed = level * (float(weight.sum()) + 1.0)
    position = int(np.searchsorted(reached, needed - 1e-9))
    is_bounded = position < len(residual)
    return Interval(
        level=level,
        half_width=min(float(residual[order[position]]), widest) if is_bounded else widest,
        method="cross_conformal" if is_fitted else "split_conformal",
        is_bounded=is_bounded,
    )


def _growth(disagreement: Floats, residual: Floats, weight: Floats) -> Disagreement:
    intercept, slope = fit_line(disagreement, residual, weight)
    return Disagreement(
        mean=float(weight @ disagreement) / float(weight.sum()),
        error_at_none=max(0.0, intercept),
        error_growth=slope,
        rank_correlation=_rank_correlation(disagreement, residual),
    )


def _rank_correlation(x: Floats, y: Floats) -> float | None:
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(x, y).statistic)


def _check_within(values: Floats, low: float, high: float, what: str) -> None:
    if not np.isfinite(values).all():
        raise ValueError(f"{what}: {int((~np.isfinite(values)).sum())} are not numbers")
    outside = int(((values < low) | (values > high)).sum())
    if outside:
        raise ValueError(f"{what}: {outside} are outside {low:g} to {high:g}")
