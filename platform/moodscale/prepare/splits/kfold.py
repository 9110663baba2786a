"""k-fold and repeated k-fold cross-validation by person: one manifest a fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from moodscale.prepare.splits.base import Person, SplitConfig
from moodscale.prepare.splits.dealing import deal, hold_out
from moodscale.schema import Split


class KFoldSplitConfig(SplitConfig):
    """Every person is tested once in each repeat.

    ``splits.fold`` and ``splits.repeat`` name one part of the whole, so that a sweep runs over them.
    """

    kind: Literal["kfold"] = "kfold"
    num_folds: int = Field(default=5, ge=2, le=100)
    fold: int = Field(default=0, ge=0, description="which fold is tested on, from 0")
    repeat: int = Field(default=0, ge=0, description="which shuffling, for repeated k-fold")
    validation: float = Field(default=0.1, ge=0, lt=1, description="share of the other folds' people")
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _fold_exists(self) -> KFoldSplitConfig:
        if self.fold >= self.num_folds:
            raise ValueError(f"fold={self.fold} of num_folds={self.num_folds} does not exist; the last is one less")
        return self

    def assign(self, people: Sequence[Person]) -> Mapping[str, Split]:
        folds = deal(people, self.num_folds, f"{self.seed}/{self.repeat}", "splits.kind=kfold")
        tested = set(folds[self.fold])
        others = [person for person in people if person.key not in tested]
        seed = f"{self.seed}/{self.repeat}/{self.fold}"
        assigned = hold_out(others, {Split.VALIDATION: self.validation}, seed, "splits.kind=kfold")
        return assigned | dict.fromkeys(sorted(tested), Split.TEST)
