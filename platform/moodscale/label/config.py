"""Settings of pseudo-labelling: who teaches, how many rounds, and how labels are taken over."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny

from moodscale.config import Config, by_kind
from moodscale.label.teachers.base import TeacherConfig
from moodscale.label.teachers.lexicon import LexiconConfig


class LabelConfig(Config):
    """Rounds of pseudo-labels.

    In round 1 the teacher labels the interviews of people without a questionnaire, and a model learns from true and
    pseudo-labels. In every later round, models trained out of fold label those interviews anew, and a model learns from
    that. True labels never change.
    """

    teacher: Annotated[SerializeAsAny[TeacherConfig], by_kind("moodscale.label.teachers", TeacherConfig)] = (
        LexiconConfig()
    )
    answers: str | None = None
    """Folder or URI of the teacher's answers; by default one of the storage that all experiments share."""
    allow_partial: bool = False
    """Go on with what is labelled where a limit (of cost, of failures in a row) stopped the teacher early."""
    rounds: int = Field(2, ge=1, le=20)
    """At most so many; see ``patience``."""
    patience: int = Field(1, ge=1)
    """Stop after so many rounds in a row that did not better the best validation figure."""
    metric: Literal["mae", "rmse", "pearson_r"] = "mae"
    """Validation figure of the recipe that rounds are judged by."""
    folds: int = Field(3, ge=2, le=20)
    """Groups of people; the model that labels a group anew has learned from the others alone."""
    relabel: Literal["blend", "replace"] = "blend"
    blend: float = Field(0.5, gt=0, le=1)
    """Of ``blend``: share of the new label, the rest is what it was."""
    min_confidence: float = Field(0.0, ge=0, le=1)
    """Pseudo-labels below are left out of a round. A teacher says its own; of a model it is one minus the distance
    between its answer and the label before, as a share of the instrument's range."""
    weight: float = Field(0.5, gt=0, le=1)
    """Of a pseudo-label in the loss, beside 1 of a true one."""
    weight_by_confidence: bool = True
    """Times its confidence."""
    num_agreement: int = Field(200, ge=0)
    """Validation interviews that the teacher scores too, to be compared with their questionnaires; those answers are
    no labels. 0 asks for none."""
    num_orders: int = Field(10, ge=0)
    """Interviews that the teacher scores once more with an order added ("score 0"), to report how far that moves it."""
