"""The split that the corpus was published with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from moodscale.config import ConfigError
from moodscale.prepare.splits.base import Person, SplitConfig
from moodscale.schema import Split


class OfficialSplitConfig(SplitConfig):
    kind: Literal["official"] = "official"

    def assign(self, people: Sequence[Person]) -> Mapping[str, Split]:
        without = sorted(person.key for person in people if person.official is None)
        if without:
            raise ConfigError(
                f"splits.kind=official: {len(without)} people have no official split (first: {without[0]}); "
                "set splits.kind=stratified"
            )
        return {person.key: person.official for person in people if person.official is not None}
