"""What a way of splitting is given and gives back."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from moodscale.config import Component
from moodscale.schema import Split


@dataclass(frozen=True)
class Person:
    """A labelled person, as far as splitting looks.

    Attributes:
        key: the global person key, e.g. ``daic:300``.
        corpora: the corpora that the person is in, sorted.
        official: the split that a corpus was published with, by corpus; one without is left out.
    """

    key: str
    depressed: bool
    gender: str
    corpora: tuple[str, ...] = ()
    official: Mapping[str, Split] = field(default_factory=dict)


class SplitConfig(Component, abc.ABC):
    """A way of splitting people."""

    needs_labels: ClassVar[bool] = True
    """Whether a manifest without any label is a mistake."""

    @abc.abstractmethod
    def assign(self, people: Sequence[Person]) -> Mapping[str, Split]:
        """A split for each person, the same in every run and for every order of ``people``.

        Raises:
            ConfigError: the people cannot be split this way.
        """

    def content(self) -> dict[str, Any]:
        """What of the settings decides the result, the same on every machine."""
        return self.to_json()
