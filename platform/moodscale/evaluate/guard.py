"""The collapse guard: is this a model, or a constant in disguise?

The verdict is ``fail`` where any of these holds; each is a reason with its numbers.

- ``too_few_participants``: a class has fewer than two, nothing can be told.
- ``collapsed_prevalence``: at the threshold (next to) nobody, or (next to) everybody, is called depressed.
- ``auc_not_above_chance``: the participant AUC's confidence interval does not lie above 0.5, or was not computed.
- ``ranking_may_be_chance``: a random relabelling of the participants reaches the AUC too often (a one-sided
  permutation test at the interval's own level). A percentile interval is too narrow for two dozen people; this test
  is exact at any number, so a model without information passes with at most half of ``1 - confidence``.
- ``not_above_constants``: participants are not told apart better than a constant does by *any* of three measures:
  accuracy against always the majority; Brier score against always the prevalence; balanced accuracy, every
  constant's being 0.5, against ``min_balanced_accuracy``.
- ``clips_not_above_constants``: the same for clips, with their AUC against ``min_clip_auc`` as the third measure.
  Which clips belong to whom cannot hide that the clips themselves carry nothing.

Why any of three: a threshold that weighs both classes equally may well cost accuracy under a majority of 70 %, and
a model trained on balanced classes has probabilities that are too high with a ranking that is right. Neither is a
collapse; both become warnings. The constants know the evaluated rows' own prevalence here, which favours them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from moodscale.evaluate.baselines import LengthBaseline
from moodscale.evaluate.config import GuardLimits
from moodscale.evaluate.metrics import MIN_PER_CLASS, Figures
from moodscale.evaluate.units import Scored


@dataclass(frozen=True)
class Finding:
    """A short stable code and a sentence with the numbers."""

    code: str
    message: str

    def to_json(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message}


@dataclass(frozen=True)
class Verdict:
    """``pass`` or ``fail``, why, and what deserves a look without failing."""

    reasons: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    p_value: float | None

    @property
    def verdict(self) -> str:
        return "fail" if self.reasons else "pass"

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "reasons": [reason.to_json() for reason in self.reasons],
            "warnings": [warning.to_json() for warning in self.warnings],
            "p_value": self.p_value,
        }


@dataclass(frozen=True)
class Evidence:
    """What the guard looks at.

    Attributes:
        scored_participants: for the permutation test.
        gender_auc: participant AUC by gender, those that are defined.
        length: the length baselines.
        threshold_source: where the threshold comes from.
    """

    clip: Figures
    participant: Figures
    scored_participants: Scored
    gender_auc: dict[str, float]
    length: dict[str, LengthBaseline]
    threshold_source: str


def judge(evidence: Evidence, limits: GuardLimits, confidence: float, seed: int) -> Verdict:
    """Apply the rules above."""
    people = evidence.scored_participants
    reasons, warnings = _prevalence(evidence, limits)
    p_value = None
    if people.num_smaller_class < MIN_PER_CLASS:
        reasons.append(
            Finding(
                "too_few_participants",
                f"{people.num_positive} of {people.num} participants are depressed; each class needs {MIN_PER_CLASS} "
                "before anything can be told.",
            )
        )
    else:
        p_value = chance_p_value(people, limits.num_permutations, seed)
        reasons += _ranking(evidence.participant, p_value, confidence)
    failed, weak = _against_constants(evidence, limits)
    return Verdict(
        reasons=tuple(reasons + failed),
        warnings=tuple(warnings + weak + _worth_a_look(evidence, limits)),
        p_value=p_value,
    )


def chance_p_value(people: Scored, num_permutations: int, seed: int) -> float:
    """Share of random relabellings of the participants with at least this AUC, the observed one counted in."""
    rng = np.random.default_rng(seed)
    _, index, count = np.unique(people.score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2.0)[index]
    observed = float(ranks[people.label].sum())
    reached, done = 0, 0
    block = max(1, 1_000_000 // people.num)
    while done < num_permutations:
        size = min(block, num_permutations - done)
        shuffled = rng.permuted(np.tile(ranks, (size, 1)), axis=1)
        reached += int((shuffled[:, : people.num_positive].sum(axis=1) >= observed - 1e-9).sum())
        done += size
    return (1 + reached) / (1 + num_permutations)


def _prevalence(evidence: Evidence, limits: GuardLimits) -> tuple[list[Finding], list[Finding]]:
    reasons, warnings = [], []
    for level, figures in (("participants", evidence.participant), ("clips", evidence.clip)):
        num, actual = figures.counts["num"], figures.counts["num_positive"]
        called = figures.counts["tp"] + figures.counts["fp"]
        ratio = min(_ratio(called, actual), _ratio(num - called, num - actual))
        where = f" at threshold {figures.threshold:.3f}"
        hint = "; give validation rows so that a threshold can be chosen" * (evidence.threshold_source == "default")
        message = f"{called} of {num} {level} are called depressed{where}, {actual} are"
        if ratio <= limits.min_prevalence_ratio:
            reasons.append(Finding("collapsed_prevalence", message + hint + "."))
        elif ratio < limits.warn_prevalence_ratio:
            warnings.append(Finding("skewed_prevalence", message + "."))
    return reasons, warnings


def _ratio(called: int, actual: int) -> float:
    return called / actual if actual else 1.0


def _ranking(figures: Figures, p_value: float, confidence: float) -> list[Finding]:
    reasons = []
    auc, interval = figures.values["auc"], figures.ci.get("auc")
    level = f"{100 * confidence:g} %"
    if interval is None:
        reasons.append(
            Finding("auc_not_above_chance", "The participant AUC has no confidence interval; set num_bootstrap.")
        )
    elif interval[0] <= 0.5:
        reasons.append(
            Finding(
                "auc_not_above_chance",
                f"Participant AUC {auc:.3f}, {level} CI {interval[0]:.3f} to {interval[1]:.3f}: not above 0.5.",
            )
        )
    if p_value > (1.0 - confidence) / 2.0:
        reasons.append(
            Finding(
                "ranking_may_be_chance",
                f"A random relabelling of the participants reaches AUC {auc:.3f} with probability {p_value:.3f}; "
                f"at most {(1.0 - confidence) / 2.0:.3f} is asked for.",
            )
        )
    return reasons


def _against_constants(evidence: Evidence, limits: GuardLimits) -> tuple[list[Finding], list[Finding]]:
    reasons, warnings = [], []
    balanced, clip_auc = evidence.participant.values["balanced_accuracy"], evidence.clip.values["auc"]
    third = {
        "participants": ("balanced accuracy", balanced, limits.min_balanced_accuracy),
        "clips": ("AUC", clip_auc, limits.min_clip_auc),
    }
    for level, figures in (("participants", evidence.participant), ("clips", evidence.clip)):
        share = figures.counts["num_positive"] / figures.counts["num"]
        accuracy, brier = figures.values["accuracy"], figures.values["brier"]
        assert accuracy is not None
        assert brier is not None
        best_accuracy, best_brier = max(share, 1.0 - share), share * (1.0 - share)
        accuracy_text = f"accuracy {accuracy:.3f} (always the majority: {best_accuracy:.3f})"
        brier_text = f"Brier score {brier:.3f} (always the prevalence: {best_brier:.3f})"
        name, value, least = third[level]
        third_text = f"{name} {'undefined' if value is None else format(value, '.3f')} (at least {least:g})"
        if accuracy <= best_accuracy and brier >= best_brier and (value is None or value < least):
            code = "not_above_constants" if level == "participants" else "clips_not_above_constants"
            text = f"On {level} no measure beats a constant: {accuracy_text}, {brier_text}, {third_text}."
            reasons.append(Finding(code, text))
            continue
        if accuracy <= best_accuracy and level == "participants":
            warnings.append(Finding("accuracy_below_majority", f"On {level}: {accuracy_text}."))
        if brier >= best_brier and level == "participants":
            warnings.append(
                Finding("brier_above_prevalence", f"On {level}: {brier_text}; the probabilities need calibration.")
            )
    return reasons, warnings


def _worth_a_look(evidence: Evidence, limits: GuardLimits) -> list[Finding]:
    warnings = []
    people = evidence.scored_participants
    if people.num_smaller_class < limits.warn_participants_per_class:
        warnings.append(
            Finding(
                "few_participants",
                f"{people.num_positive} depressed and {people.num - people.num_positive} not depressed participants: "
                "every figure is rough.",
            )
        )
    auc = evidence.participant.values["auc"]
    interval = evidence.participant.ci.get("auc")
    if interval is not None and interval[0] == interval[1]:
        warnings.append(
            Finding(
                "interval_without_width",
                f"Participant AUC {auc:.3f} in every resample: the participants are separated completely, and the "
                "bootstrap cannot tell how much of that is luck.",
            )
        )
    for name, baseline in evidence.length.items():
        if auc is not None and baseline.auc >= auc:
            warnings.append(
                Finding(
                    "length_explains_as_much",
                    f"{name} alone reaches AUC {baseline.auc:.3f}, the model {auc:.3f}: it may have learnt how much "
                    "people speak.",
                )
            )
    if len(evidence.gender_auc) > 1:
        worst = min(evidence.gender_auc, key=lambda name: evidence.gender_auc[name])
        best = max(evidence.gender_auc, key=lambda name: evidence.gender_auc[name])
        if evidence.gender_auc[best] - evidence.gender_auc[worst] > limits.warn_gender_auc_gap:
            warnings.append(
                Finding(
                    "gender_gap",
                    f"Participant AUC {evidence.gender_auc[best]:.3f} ({best}) against "
                    f"{evidence.gender_auc[worst]:.3f} ({worst}).",
                )
            )
    return warnings
