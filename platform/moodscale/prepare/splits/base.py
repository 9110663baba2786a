"""What a way of splitting is given and gives back."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moodscale.config import Component
from moodscale.schema import Split


@dataclass(frozen=True)
class Person:
    """A labelled person, as far as splitting looks.

    Attributes:
        key: the global person key, e.g. ``daic:300``.
        official: the corpus' own split, where it has one.
    """

    key: str
    depressed: bool
    gender: str
    official: Split | None


class SplitConfig(Component, abc.ABC):
    """A way of splitting people."""

    @abc.abstractmethod
    def assign(self, people: Sequence[Person]) -> Mapping[str, Split]:
        """A split for each person, the same in every run and for every order of ``people``.

        Raises:
            ConfigError: the people cannot be split this way.
        """
