"""No split: a manifest of interviews that are only scored, and of nobody with a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from moodscale.config import ConfigError
from moodscale.prepare.splits.base import Person, SplitConfig
from moodscale.schema import Split


class NoSplitConfig(SplitConfig):
    kind: Literal["none"] = "none"
    needs_labels: ClassVar[bool] = False

    def assign(self, people: Sequence[Person]) -> Mapping[str, Split]:
        if people:
            raise ConfigError(
                f"splits.kind=none: {len(people)} people have a label, and it is for interviews that are only scored; "
                "leave the labels out (corpus.labels=null), or choose another way of splitting"
            )
        return {}
