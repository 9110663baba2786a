"""What an evaluation can be told."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from moodscale.config import Config

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class GuardLimits(Config):
    """The collapse guard's limits. ``moodscale.evaluate.guard`` says what each is for."""

    min_prevalence_ratio: Probability = 0.1
    """Fail where the share called depressed (or not depressed) is below this fraction of the true share."""
    warn_prevalence_ratio: Probability = 0.5
    """Warn below this fraction."""
    min_clip_auc: Annotated[float, Field(ge=0.5, le=1.0)] = 0.55
    """Clips whose AUC is below this and that beat no constant say nothing, however they add up by person."""
    min_balanced_accuracy: Annotated[float, Field(ge=0.5, le=1.0)] = 0.6
    """Participants' balanced accuracy that counts as better than a constant's 0.5."""
    num_permutations: Annotated[int, Field(ge=200)] = 2000
    """Random relabellings of the participants for the test against chance."""
    warn_participants_per_class: Annotated[int, Field(ge=2)] = 10
    """Warn where a class has fewer participants."""
    warn_gender_auc_gap: Probability = 0.15
    """Warn where the participant AUCs of two genders lie further apart."""


class SeverityGuardLimits(Config):
    """The severity guard's limits. ``moodscale.evaluate.severity.guard`` says what each is for."""

    min_spread_ratio: Probability = 0.1
    """Fail where the predictions' standard deviation is below this fraction of the labels'."""
    warn_spread_ratio: Probability = 0.3
    """Warn below this fraction."""
    num_permutations: Annotated[int, Field(ge=200)] = 2000
    """Random pairings of predictions with participants for the test against chance."""
    warn_participants: Annotated[int, Field(ge=2)] = 30
    """Warn where there are fewer participants."""
    warn_gender_gap: Annotated[float, Field(ge=0.0)] = 1.0
    """Warn where the MAE or the mean error of two genders lies further apart, in points of the questionnaire."""


class SeverityConfig(Config):
    """How predicted questionnaire totals are judged."""

    unit: str = "interview"
    """Which unit's rows: one a questionnaire."""
    instrument: Literal["PHQ-8", "PHQ-9"] | None = None
    """The questionnaire of rows whose column ``instrument`` is empty or absent; rows that name another are refused."""
    num_bootstrap: Annotated[int, Field(ge=0)] = 2000
    """Resamples of the participants; 0 leaves the confidence intervals out (and the guard then fails)."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    seed: Annotated[int, Field(ge=0)] = 0
    first_threshold: Annotated[int, Field(ge=1, le=27)] = 3
    last_threshold: Annotated[int, Field(ge=1, le=27)] = 24
    """AUC and average precision are computed at every total from the first threshold to the last."""
    num_calibration_bins: Annotated[int, Field(ge=2, le=100)] = 5
    """Bins of equally many predictions whose mean labels are shown."""
    guard: SeverityGuardLimits = SeverityGuardLimits()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.first_threshold > self.last_threshold:
            raise ValueError(
                f"first_threshold={self.first_threshold} is above last_threshold={self.last_threshold}; swap them"
            )
        return self


class EvaluateConfig(Config):
    """How predictions are judged. The defaults are what the gates and the report use."""

    target: str = "depressed"
    """Which target's rows are evaluated."""
    unit: str | None = None
    """Which unit's rows; by default the table's only one, or ``clip`` where there are several."""
    num_bootstrap: Annotated[int, Field(ge=0)] = 2000
    """Resamples of the participants; 0 leaves the confidence intervals out (and the guard then fails)."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    seed: Annotated[int, Field(ge=0)] = 0
    threshold: Literal["validation"] | Probability = "validation"
    """``validation`` chooses on the validation rows (0.5 where there are none); a number fixes it."""
    threshold_metric: Literal["balanced_accuracy", "f1", "accuracy"] = "balanced_accuracy"
    """What the chosen threshold maximises. Youden's index has the same maximum as balanced accuracy."""
    calibrate: bool = True
    """Fit a temperature on the validation rows, where there are any."""
    num_calibration_bins: Annotated[int, Field(ge=2, le=100)] = 10
    """Equal-width bins of the expected calibration error and of the reliability diagram."""
    guard: GuardLimits = GuardLimits()
    severity: SeverityConfig = SeverityConfig()
    """How rows with target ``total`` are judged, where the recipe predicts them."""
