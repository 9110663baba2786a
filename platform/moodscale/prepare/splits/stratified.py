"""A seeded split over people that keeps the share of each class, corpus and gender in every part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from moodscale.prepare.splits.base import Person, SplitConfig
from moodscale.prepare.splits.dealing import hold_out
from moodscale.schema import Split


class StratifiedSplitConfig(SplitConfig):
    kind: Literal["stratified"] = "stratified"
    validation: float = Field(default=0.1, ge=0, lt=1, description="share of the people")
    test: float = Field(default=0.1, ge=0, lt=1, description="share of the people")
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _leaves_training(self) -> StratifiedSplitConfig:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation + test = {self.validation + self.test:g} leaves nobody to train on; lower them"
            )
        return self

    def assign(self, people: Sequence[Person]) -> Mapping[str, Split]:
        fractions = {Split.TEST: self.test, Split.VALIDATION: self.validation}
        return hold_out(people, fractions, self.seed, "splits.kind=stratified")
