"""Settings of an ensemble: who is in it, how they are combined, and where it is registered."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from moodscale.config import Config
from moodscale.registry.config import ALIAS_PATTERN, NAME_PATTERN, ToleranceConfig

MEMBER = re.compile(
    r"^(?:models:/(?P<model>[A-Za-z0-9][A-Za-z0-9._-]{0,199})"
    r"(?:@(?P<alias>[A-Za-z][A-Za-z0-9_-]{0,99})|/(?P<version>[0-9]{1,9}))"
    r"|runs:/(?P<run>[A-Za-z0-9][A-Za-z0-9._-]{0,99}))$"
)
"""How a member is named."""


class EnsembleConfig(Config):
    """Several models of the same interviews, answering as one.

    Whatever is fitted (links, weights, calibration, the interval) is fitted on the validation split's people.
    """

    members: tuple[str, ...]
    """Two or more of ``models:/NAME/VERSION``, ``models:/NAME@ALIAS`` (a registered model) and
    ``runs:/EXPERIMENT`` (the best checkpoint of an experiment of the same ``storage_path``)."""
    weights: Literal["equal", "validation"] = "equal"
    """``validation``: non-negative weights that sum to one, by least squares."""
    shrinkage: float = Field(1.0, ge=0, le=1e6)
    """How strongly fitted weights are pulled towards equal ones. At 1 a weight is expected, before anything is seen,
    within about its own size of 1 / members; the pull counts less the more people there are. 0 pulls nothing."""
    link: Literal["linear", "isotonic"] = "linear"
    """How a classifier's probability becomes points of the questionnaire beside members that give totals: a line on
    the logit, or an isotonic step curve, which needs more people."""
    calibration: Literal["none", "linear", "isotonic"] = "none"
    """A last non-decreasing map of the combined score, fitted on scores of people whom the weights had not seen."""
    interval_level: float = Field(0.9, ge=0.5, lt=1)
    """Share of people whose questionnaire the interval from ``low`` to ``high`` should hold."""
    num_folds: int = Field(5, ge=2, le=50)
    """Groups of validation people for cross-fitting."""
    name: str = Field("moodscale_ensemble", pattern=NAME_PATTERN)
    """The registered model that gets the new version."""
    alias: str = Field("candidate", pattern=ALIAS_PATTERN)
    compare_interviews: int = Field(8, ge=1)
    """Validation interviews that the reloaded ensemble scores again."""
    tolerance: ToleranceConfig = ToleranceConfig()
    """Of each member's own score, by the member's precision; of totals, times the questionnaire's range."""
    reload_timeout_s: float = Field(3600.0, gt=0)

    @field_validator("members")
    @classmethod
    def _members_are_two_and_different(cls, members: tuple[str, ...]) -> tuple[str, ...]:
        for member in members:
            if MEMBER.match(member) is None:
                raise ValueError(
                    f"{member[:200]!r} names no member; write models:/NAME/VERSION, models:/NAME@ALIAS or "
                    "runs:/EXPERIMENT"
                )
        if len(members) < 2:
            raise ValueError("an ensemble has at least two members; `moodscale register` is for a single model")
        twice = sorted({member for member in members if members.count(member) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is named twice; each member counts once, its weight is `weights`' to say")
        return members
