"""One corpus is tested on, the others are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from moodscale.config import ConfigError
from moodscale.prepare.splits.base import Person, SplitConfig
from moodscale.prepare.splits.dealing import hold_out
from moodscale.schema import Split


class LeaveOneCorpusOutSplitConfig(SplitConfig):
    """A person of the held-out corpus is tested on wherever they are: a corpus that shares people shrinks by them."""

    kind: Literal["leave_one_corpus_out"] = "leave_one_corpus_out"
    held_out: str = Field(description="the corpus that is tested on, e.g. cmdc")
    validation: float = Field(default=0.1, ge=0, lt=1, description="share of the other corpora's people")
    seed: int = Field(default=0, ge=0)

    def assign(self, people: Sequence[Person]) -> Mapping[str, Split]:
        corpora = sorted({corpus for person in people for corpus in person.corpora})
        if self.held_out not in corpora:
            raise ConfigError(
                f"splits.held_out={self.held_out} is none of the corpora with labelled people: {', '.join(corpora)}"
            )
        others = [person for person in people if self.held_out not in person.corpora]
        if not others:
            raise ConfigError(
                f"splits.held_out={self.held_out}: everybody is in it, so there is nobody to train on; "
                "add a corpus of other people"
            )
        tested = {person.key: Split.TEST for person in people if self.held_out in person.corpora}
        fractions = {Split.VALIDATION: self.validation}
        return tested | hold_out(others, fractions, self.seed, "splits.kind=leave_one_corpus_out")
