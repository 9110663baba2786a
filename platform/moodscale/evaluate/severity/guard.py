"""The severity guard: does this model know more about a person than an average does?

The verdict is ``fail`` where any of these holds; each is a reason with its numbers.

- ``too_few_participants``: fewer than three, nothing can be told.
- ``no_intervals``: there was no bootstrap, so nothing is shown to differ from anything.
- ``collapsed_predictions``: (next to) everybody gets the same total.
- ``correlation_not_above_zero``: Pearson's r is undefined, or its confidence interval holds 0 or less.
- ``correlation_may_be_chance``: a random pairing of predictions with participants reaches r too often (a one-sided
  permutation test at the interval's own level, over participants' means). A percentile interval is too narrow for
  two dozen people; this test is exact at any number.
- ``not_better_than_mean``: the paired difference of the MAE to the training mean's does not leave 0 out in the
  model's favour.

The training median often has a smaller MAE than the mean where most people score low. A model that ranks people well
may still not reach it, so that is a warning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from moodscale.evaluate.config import SeverityConfig, SeverityGuardLimits
from moodscale.evaluate.guard import Finding, Verdict
from moodscale.evaluate.severity.baselines import MEAN, MEDIAN, Baseline
from moodscale.evaluate.severity.figures import SeverityFigures, defined, everybody, moment_samples
from moodscale.evaluate.severity.units import Severities
from moodscale.evaluate.units import Floats

MIN_PERSONS = 3
"""A line through two participants is always perfect."""


@dataclass(frozen=True)
class SeverityEvidence:
    """What the guard looks at: the units, their figures, those by gender, and the baselines."""

    units: Severities
    figures: SeverityFigures
    by_gender: Mapping[str, SeverityFigures]
    baselines: Sequence[Baseline]


def judge_severity(evidence: SeverityEvidence, config: SeverityConfig) -> Verdict:
    """Apply the rules above."""
    limits, units = config.guard, evidence.units
    reasons, warnings = _spread(units, limits)
    p_value = None
    if units.num_persons < MIN_PERSONS:
        text = f"{units.num_persons} participant(s): at least {MIN_PERSONS} are needed before anything can be told."
        reasons.append(Finding("too_few_participants", text))
    else:
        p_value = correlation_p_value(units, limits.num_permutations, config.seed + 1)
        reasons += _correlation(evidence.figures, p_value, config.confidence)
    if not config.num_bootstrap:
        reasons.append(Finding("no_intervals", "There are no confidence intervals; set num_bootstrap."))
    else:
        reasons += _against_mean(evidence)
    warnings += [*_against_median(evidence), *_few(units, limits), *_genders(evidence, limits)]
    return Verdict(reasons=tuple(reasons), warnings=tuple(warnings), p_value=p_value)


def correlation_p_value(units: Severities, num_permutations: int, seed: int) -> float | None:
    """Share of random pairings of participants' mean predictions with mean labels that reach the observed correlation,
    the observed pairing counted in. ``None`` where all predictions or all labels are the same."""
    count = np.bincount(units.person, minlength=units.num_persons)
    predicted = _standardised(np.bincount(units.person, units.predicted, units.num_persons) / count)
    label = _standardised(np.bincount(units.person, units.label, units.num_persons) / count)
    if predicted is None or label is None:
        return None
    observed = float(predicted @ label)
    rng = np.random.default_rng(seed)
    reached, done, block = 0, 0, max(1, 1_000_000 // len(count))
    while done < num_permutations:
        size = min(block, num_permutations - done)
        shuffled = rng.permuted(np.tile(predicted, (size, 1)), axis=1)
        reached += int((shuffled @ label >= observed - 1e-9).sum())
        done += size
    return (1 + reached) / (1 + num_permutations)


def _standardised(values: Floats) -> Floats | None:
    centred = values - values.mean()
    length = float(np.linalg.norm(centred))
    return None if length < 1e-9 else np.asarray(centred / length, dtype=np.float64)


def _spread(units: Severities, limits: SeverityGuardLimits) -> tuple[list[Finding], list[Finding]]:
    ratio = defined(moment_samples(units, everybody(units))["spread_ratio"])
    if ratio is None:
        return [], []
    message = (
        f"The predictions' standard deviation is {units.predicted.std():.2f}, the labels' {units.label.std():.2f} "
        f"(ratio {ratio:.2f}"
    )
    if ratio < limits.min_spread_ratio:
        return [Finding("collapsed_predictions", f"{message}; at least {limits.min_spread_ratio:g} is asked for).")], []
    if ratio < limits.warn_spread_ratio:
        return [], [Finding("narrow_predictions", f"{message}): severe cases are underestimated, mild ones over.")]
    return [], []


def _correlation(figures: SeverityFigures, p_value: float | None, confidence: float) -> list[Finding]:
    code = "correlation_not_above_zero"
    r, interval = figures.values["pearson_r"], figures.ci.get("pearson_r")
    if r is None:
        return [Finding(code, "Pearson's r is undefined: all predictions or all labels are the same.")]
    reasons = []
    if interval is not None and interval[0] <= 0.0:
        ends = f"{interval[0]:.3f} to {interval[1]:.3f}"
        reasons.append(Finding(code, f"Pearson's r {r:.3f}, {100 * confidence:g} % CI {ends}: not above 0."))
    if p_value is None or p_value > (1.0 - confidence) / 2.0:
        reached = "undefined" if p_value is None else f"{p_value:.3f}"
        reasons.append(
            Finding(
                "correlation_may_be_chance",
                f"A random pairing of predictions with participants reaches their correlation with probability "
                f"{reached}; at most {(1.0 - confidence) / 2.0:.3f} is asked for.",
            )
        )
    return reasons


def _against_mean(evidence: SeverityEvidence) -> list[Finding]:
    [mean] = [baseline for baseline in evidence.baselines if baseline.name == MEAN]
    found = mean.comparison.differences["mae"]
    if found.better == "first":
        return []
    ends = "no interval" if found.ci is None else f"difference CI {found.ci[0]:.2f} to {found.ci[1]:.2f}"
    return [
        Finding(
            "not_better_than_mean",
            f"MAE {found.first:.2f}, always answering the training mean ({mean.value:.2f}) {found.second:.2f}: {ends}, "
            "not below 0.",
        )
    ]


def _against_median(evidence: SeverityEvidence) -> list[Finding]:
    [median] = [baseline for baseline in evidence.baselines if baseline.name == MEDIAN]
    found = median.comparison.differences["mae"]
    if found.difference is None or found.difference < 0:
        return []
    message = f"MAE {found.first:.2f}, always answering the training median ({median.value:g}) {found.second:.2f}."
    return [Finding("median_beats_model", message)]


def _few(units: Severities, limits: SeverityGuardLimits) -> list[Finding]:
    if units.num_persons >= limits.warn_participants:
        return []
    return [Finding("few_participants", f"{units.num_persons} participants: every figure is rough.")]


def _genders(evidence: SeverityEvidence, limits: SeverityGuardLimits) -> list[Finding]:
    """One finding a figure; ``unknown`` is no gender to be compared."""
    warnings = []
    known = {name: figures for name, figures in evidence.by_gender.items() if name != "unknown"}
    for metric, name, code in (("mae", "MAE", "gender_gap"), ("mean_error", "Mean error", "gender_bias_gap")):
        values = {gender: value for gender, figures in known.items() if (value := figures.values[metric]) is not None}
        if len(values) < 2:
            continue
        least, most = min(values, key=lambda key: values[key]), max(values, key=lambda key: values[key])
        if values[most] - values[least] > limits.warn_gender_gap:
            text = f"{name} {values[least]:.2f} ({least}) against {values[most]:.2f} ({most})."
            warnings.append(Finding(code, text))
    return warnings
