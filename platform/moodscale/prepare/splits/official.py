"""The split that the corpus was published with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from moodscale.config import ConfigError
from moodscale.prepare.splits.base import Person, SplitConfig
from moodscale.prepare.splits.dealing import hold_out
from moodscale.schema import Split


class OfficialSplitConfig(SplitConfig):
    kind: Literal["official"] = "official"
    prefer: str | None = Field(
        default=None, description="the corpus whose split decides for people that several corpora split differently"
    )
    validation: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the official training people to validate on, for a corpus without such a part",
    )
    seed: int = Field(default=0, ge=0, description="of who they are")

    def assign(self, people: Sequence[Person]) -> Mapping[str, Split]:
        """As published; one person in several corpora goes where they agree, or where ``prefer`` says."""
        without = sorted(person.key for person in people if not person.official)
        if without:
            raise ConfigError(
                f"splits.kind=official: {len(without)} people have no official split (first: {without[0]}); "
                "set splits.kind=stratified"
            )
        assigned = {person.key: self._of(person) for person in people}
        if self.validation > 0:
            training = [person for person in people if assigned[person.key] is Split.TRAIN]
            fractions = {Split.VALIDATION: self.validation}
            assigned |= hold_out(training, fractions, self.seed, "splits.kind=official, splits.validation")
        return assigned

    def _of(self, person: Person) -> Split:
        if self.prefer is not None and self.prefer in person.official:
            return person.official[self.prefer]
        if len(set(person.official.values())) > 1:
            shown = ", ".join(f"{split} in {corpus}" for corpus, split in sorted(person.official.items()))
            raise ConfigError(
                f"splits.kind=official: {person.key} is {shown}; name the corpus that decides (splits.prefer=…), or "
                "set splits.kind=stratified"
            )
        return next(iter(person.official.values()))
