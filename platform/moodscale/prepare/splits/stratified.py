"""A seeded split over people that keeps the share of each class and gender in every part."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from moodscale.config import ConfigError
from moodscale.prepare.splits.base import Person, SplitConfig
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
        """Per class, held-out people are dealt to the genders in proportion.

        Classes come first: at a tenth of a small corpus a held-out part without one class could not be evaluated, so
        each part that is asked for gets at least one person of each class.
        """
        assigned: dict[str, Split] = {}
        draw = random.Random(self.seed)
        for depressed in (False, True):
            members = [person for person in people if person.depressed is depressed]
            wanted = {
                split: max(1, _half_up(fraction * len(members)))
                for split, fraction in ((Split.TEST, self.test), (Split.VALIDATION, self.validation))
                if fraction > 0
            }
            if wanted and sum(wanted.values()) >= len(members):
                name = "depressed" if depressed else "not depressed"
                raise ConfigError(
                    f"splits.kind=stratified: {len(members)} people are {name}, too few for {sum(wanted.values())} "
                    "held out and one to train on; lower the shares or use more people"
                )
            strata = _strata(members, draw)
            for split, count in wanted.items():
                for gender, number in _proportional({key: len(keys) for key, keys in strata.items()}, count).items():
                    for _ in range(number):
                        assigned[strata[gender].pop()] = split
            assigned.update({key: Split.TRAIN for keys in strata.values() for key in keys})
        return dict(sorted(assigned.items()))


def _strata(members: Sequence[Person], draw: random.Random) -> dict[str, list[str]]:
    """Person keys by gender, shuffled; sorted before, so that the order they came in does not matter."""
    strata = {
        gender: sorted(person.key for person in members if person.gender == gender)
        for gender in sorted({person.gender for person in members})
    }
    for keys in strata.values():
        draw.shuffle(keys)
    return strata


def _proportional(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """Deal ``count`` in proportion to sizes by largest remainder, never more than a size."""
    total = sum(sizes.values())
    exact = {key: count * size / total for key, size in sizes.items()}
    dealt = {key: int(value) for key, value in exact.items()}
    by_remainder = sorted(exact, key=lambda key: (dealt[key] - exact[key], key))
    for key in by_remainder[: count - sum(dealt.values())]:
        dealt[key] += 1
    return dealt


def _half_up(value: float) -> int:
    return int(value + 0.5)
