"""Stratified bootstrap over participants, all resamples at once.

A resample is a row of multiplicities: how often each person was drawn. The numbers of depressed and not depressed
persons stay as they are. A clip weighs as often as its person was drawn, so clip-level figures carry the
participants' uncertainty too: clips of one person are not independent.

Shape legend: B resamples, P persons, N units, G distinct scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from moodscale.evaluate.metrics import METRICS, MIN_PER_CLASS, Interval, bin_index, calibration_line
from moodscale.evaluate.units import Bools, Floats, Ints, Scored, logit

_BLOCK = 1_000_000
"""Weights held at once: resamples are taken in blocks so that memory does not grow with the table."""
_SLOPE_LIMIT = 20_000_000
"""Resamples times units up to which the slope is refitted for every resample."""
_CURVE_POINTS = 101


def draw_resamples(strata: Ints, num: int, seed: int) -> Floats:
    """(B, P) multiplicities, drawn with replacement within each stratum.

    Args:
        strata: (P,) the stratum of each person.
    """
    rng = np.random.default_rng(seed)
    drawn = np.zeros((num, len(strata)), dtype=np.float64)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        drawn[:, members] = rng.multinomial(len(members), np.full(len(members), 1.0 / len(members)), size=num)
    return drawn


def resampled_figures(scored: Scored, threshold: float, num_bins: int, drawn: Floats) -> dict[str, Floats]:
    """(B,) values of every metric, NaN where a resample leaves it undefined."""
    return {
        **resampled_label_figures(scored, scored.score >= threshold, drawn),
        **_additive(scored, num_bins, drawn),
        **_ranking(scored, drawn),
        "calibration_slope": _slopes(scored, drawn),
    }


def resampled_label_figures(scored: Scored, predicted: Bools, drawn: Floats) -> dict[str, Floats]:
    """(B,) values of the metrics of yes/no predictions."""
    cells = np.stack([scored.label & predicted, scored.label & ~predicted, ~scored.label & predicted], axis=1)
    tp, fn, fp = (drawn @ _per_person(scored, cells)).T
    total = drawn @ _per_person(scored, np.ones((scored.num, 1)))[:, 0]
    tn = total - tp - fn - fp
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, specificity = tp / (tp + fn), tn / (tn + fp)
        return {
            "accuracy": (tp + tn) / total,
            "balanced_accuracy": (recall + specificity) / 2,
            "f1": np.where(tp + fn > 0, 2 * tp / (2 * tp + fp + fn), np.nan),
            "precision": tp / (tp + fp),
            "recall": recall,
            "specificity": specificity,
            "predicted_prevalence": (tp + fp) / total,
        }


def intervals(samples: Mapping[str, Floats], confidence: float) -> dict[str, Interval | None]:
    """Percentile intervals; ``None`` where more than a tenth of the resamples leave the figure undefined."""
    found: dict[str, Interval | None] = {}
    tails = [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0]
    for name in METRICS:
        if name not in samples:
            continue
        values = samples[name][np.isfinite(samples[name])]
        if len(values) < max(1.0, 0.9 * len(samples[name])):
            found[name] = None
        else:
            low, high = np.quantile(values, tails)
            found[name] = (float(low), float(high))
    return found


def auc_samples(scored: Scored, drawn: Floats) -> Floats:
    """(B,) ranking AUC of every resample."""
    return _ranking(scored, drawn)["auc"]


def curve_bands(scored: Scored, drawn: Floats, confidence: float) -> dict[str, Floats]:
    """Pointwise bands of the ROC and the precision-recall curve.

    Returns:
        ``grid`` (101,) from 0 to 1; ``roc_low``, ``roc_high``: recall at a false-positive rate of ``grid``;
        ``pr_low``, ``pr_high``: precision at a recall of ``grid``.
    """
    grid = np.linspace(0.0, 1.0, _CURVE_POINTS)
    roc = np.empty((len(drawn), _CURVE_POINTS))
    pr = np.empty((len(drawn), _CURVE_POINTS))
    row = 0
    for tp, fp in _cumulated(scored, drawn):
        for hits, alarms in zip(tp, fp, strict=True):
            recall, fall_out = hits / hits[-1], alarms / alarms[-1]
            roc[row] = np.interp(grid, np.append(0.0, fall_out), np.append(0.0, recall))
            precision = hits / np.maximum(hits + alarms, 1e-12)
            first = int(np.searchsorted(hits + alarms, 0.5))
            pr[row] = np.interp(grid, recall[first:], precision[first:])
            row += 1
    tails = [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0]
    roc_low, roc_high = np.quantile(roc, tails, axis=0)
    pr_low, pr_high = np.quantile(pr, tails, axis=0)
    return {"grid": grid, "roc_low": roc_low, "roc_high": roc_high, "pr_low": pr_low, "pr_high": pr_high}


def reliability_bands(scored: Scored, num_bins: int, drawn: Floats, confidence: float) -> dict[str, Floats]:
    """Observed share of depressed by equal-width score bin.

    Returns:
        (bins,) arrays: ``num`` units, ``score`` (mean), ``observed`` share, ``low`` and ``high`` of its interval.
        An empty bin is NaN.
    """
    cell = scored.person * num_bins + bin_index(scored.score, num_bins)

    def table(weights: Floats) -> Floats:
        flat = np.bincount(cell, weights=weights, minlength=scored.num_persons * num_bins)
        return np.asarray(flat.reshape(scored.num_persons, num_bins), dtype=np.float64)

    num, positive = table(np.ones(scored.num)), table(scored.label.astype(np.float64))
    low, high = np.full(num_bins, np.nan), np.full(num_bins, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (drawn @ positive) / (drawn @ num)
        for index in range(num_bins):
            values = share[np.isfinite(share[:, index]), index]
            if len(values):
                low[index], high[index] = np.quantile(values, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
        total = num.sum(axis=0)
        mean, observed = table(scored.score).sum(axis=0) / total, positive.sum(axis=0) / total
    return {"num": total, "score": mean, "observed": observed, "low": low, "high": high}


def _per_person(scored: Scored, values: NDArray[np.generic]) -> Floats:
    """(N, K) → (P, K) sums."""
    sums = [
        np.bincount(scored.person, weights=column.astype(np.float64), minlength=scored.num_persons)
        for column in values.T
    ]
    return np.stack(sums, axis=1)


def _additive(scored: Scored, num_bins: int, drawn: Floats) -> dict[str, Floats]:
    total = drawn @ _per_person(scored, np.ones((scored.num, 1)))[:, 0]
    brier = drawn @ _per_person(scored, ((scored.score - scored.label) ** 2)[:, None])[:, 0]
    cell = scored.person * num_bins + bin_index(scored.score, num_bins)
    gaps = np.bincount(cell, weights=scored.score - scored.label, minlength=scored.num_persons * num_bins)
    ece = np.abs(drawn @ gaps.reshape(scored.num_persons, num_bins)).sum(axis=1)
    return {"brier": brier / total, "ece": ece / total}


def _ranking(scored: Scored, drawn: Floats) -> dict[str, Floats]:
    if scored.num_smaller_class < MIN_PER_CLASS:
        undefined = np.full(len(drawn), np.nan)
        return {"auc": undefined, "average_precision": undefined}
    auc, precision = np.empty(len(drawn)), np.empty(len(drawn))
    row = 0
    for tp, fp in _cumulated(scored, drawn):
        block = slice(row, row + len(tp))
        hits = np.diff(tp, axis=1, prepend=0.0)
        # A positive outranks every negative further down and ties with half of those in its own group.
        below = fp[:, -1:] - fp + np.diff(fp, axis=1, prepend=0.0) / 2
        auc[block] = (hits * below).sum(axis=1) / (tp[:, -1] * fp[:, -1])
        precision[block] = (hits * tp / np.maximum(tp + fp, 1e-12)).sum(axis=1) / tp[:, -1]
        row += len(tp)
    return {"auc": auc, "average_precision": precision}


def _cumulated(scored: Scored, drawn: Floats) -> Iterator[tuple[Floats, Floats]]:
    """True and false positives, (b, G) each, when everything down to the g-th highest distinct score is called."""
    order = np.argsort(-scored.score, kind="stable")
    score, label, person = scored.score[order], scored.label[order], scored.person[order]
    starts = np.flatnonzero(np.append(True, score[1:] != score[:-1]))
    for block in _blocks(drawn, scored.num):
        weight = block[:, person]
        positive = np.add.reduceat(weight * label, starts, axis=1)
        everything = np.add.reduceat(weight, starts, axis=1)
        yield np.cumsum(positive, axis=1), np.cumsum(everything - positive, axis=1)


def _slopes(scored: Scored, drawn: Floats) -> Floats:
    """Calibration slopes by Newton's method from the full sample's line; NaN where it does not settle."""
    slopes = np.full(len(drawn), np.nan)
    start = calibration_line(scored) if scored.num_smaller_class >= MIN_PER_CLASS else None
    if start is None or len(drawn) * scored.num > _SLOPE_LIMIT:
        return slopes
    x = logit(scored.score)
    powers = np.stack([np.ones_like(x), x, x * x], axis=1)
    row = 0
    for block in _blocks(drawn, scored.num):
        weight = block[:, scored.person]
        a, b = np.full(len(block), start[0]), np.full(len(block), start[1])
        size = np.full(len(block), np.inf)
        for _ in range(12):
            p = 1.0 / (1.0 + np.exp(-np.clip(a[:, None] + b[:, None] * x, -30.0, 30.0)))
            curvature = (weight * p * (1.0 - p)) @ powers
            gradient = (weight * (scored.label - p)) @ powers[:, :2]
            det = curvature[:, 0] * curvature[:, 2] - curvature[:, 1] ** 2
            with np.errstate(invalid="ignore", divide="ignore"):
                step_a = (curvature[:, 2] * gradient[:, 0] - curvature[:, 1] * gradient[:, 1]) / det
                step_b = (curvature[:, 0] * gradient[:, 1] - curvature[:, 1] * gradient[:, 0]) / det
            size = np.maximum(np.abs(step_a), np.abs(step_b))
            damp = np.minimum(1.0, 2.0 / np.maximum(size, 1e-12))
            a, b = a + damp * step_a, b + damp * step_b
            if np.all(~np.isfinite(size) | (size < 1e-6)):
                break
        slopes[row : row + len(block)] = np.where(np.isfinite(size) & (size < 1e-3), b, np.nan)
        row += len(block)
    return slopes


def _blocks(drawn: Floats, num_units: int) -> Iterator[Floats]:
    rows = max(1, _BLOCK // max(1, num_units))
    for first in range(0, len(drawn), rows):
        yield drawn[first : first + rows]
