"""Dealing people out in proportion to their classes, corpora and genders, seeded."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from moodscale.config import ConfigError
from moodscale.prepare.splits.base import Person
from moodscale.schema import Split

_Stratum = tuple[tuple[str, ...], str]


def hold_out(
    people: Sequence[Person], fractions: Mapping[Split, float], seed: int | str, setting: str
) -> dict[str, Split]:
    """Hold out fractions of the people, the rest is trained on.

    Per class, held-out people are dealt to corpora and genders in proportion. Classes come first: at a tenth of a
    small corpus a held-out part without one class could not be evaluated, so each part that is asked for gets at
    least one person of each class.

    Args:
        fractions: of the people, by the split that they go to, in the order of drawing.
        setting: for the message, e.g. ``splits.kind=stratified``.
    Raises:
        ConfigError: a class has too few people.
    """
    assigned: dict[str, Split] = {}
    draw = random.Random(seed)
    for depressed in (False, True):
        members = [person for person in people if person.depressed is depressed]
        wanted = {
            split: max(1, half_up(fraction * len(members))) for split, fraction in fractions.items() if fraction > 0
        }
        if wanted and sum(wanted.values()) >= len(members):
            name = "depressed" if depressed else "not depressed"
            raise ConfigError(
                f"{setting}: {len(members)} people are {name}, too few for {sum(wanted.values())} "
                "held out and one to train on; lower the shares or use more people"
            )
        strata = _strata(members, draw)
        for split, count in wanted.items():
            for stratum, number in _proportional({key: len(keys) for key, keys in strata.items()}, count).items():
                for _ in range(number):
                    assigned[strata[stratum].pop()] = split
        assigned.update({key: Split.TRAIN for keys in strata.values() for key in keys})
    return dict(sorted(assigned.items()))


def deal(people: Sequence[Person], num_parts: int, seed: int | str, setting: str) -> list[list[str]]:
    """Parts of nearly equal size, each with its share of each class, corpus and gender.

    Raises:
        ConfigError: fewer people of a class than parts.
    """
    draw = random.Random(seed)
    parts: list[list[str]] = [[] for _ in range(num_parts)]
    position = 0
    for depressed in (False, True):
        members = [person for person in people if person.depressed is depressed]
        if len(members) < num_parts:
            name = "depressed" if depressed else "not depressed"
            raise ConfigError(f"{setting}: {len(members)} people are {name}, fewer than {num_parts} folds; lower them")
        for keys in _strata(members, draw).values():
            for key in keys:
                parts[position % num_parts].append(key)
                position += 1
    return [sorted(part) for part in parts]


def half_up(value: float) -> int:
    """Round a half up: ``round`` would take 2.5 to 2 and 3.5 to 4."""
    return int(value + 0.5)


def _strata(members: Sequence[Person], draw: random.Random) -> dict[_Stratum, list[str]]:
    """Person keys by corpora and gender, shuffled; sorted before, so that the order they came in does not matter."""
    strata = {
        stratum: sorted(person.key for person in members if (person.corpora, person.gender) == stratum)
        for stratum in sorted({(person.corpora, person.gender) for person in members})
    }
    for keys in strata.values():
        draw.shuffle(keys)
    return strata


def _proportional(sizes: Mapping[_Stratum, int], count: int) -> dict[_Stratum, int]:
    """Deal ``count`` in proportion to sizes by largest remainder, never more than a size."""
    total = sum(sizes.values())
    exact = {key: count * size / total for key, size in sizes.items()}
    dealt = {key: int(value) for key, value in exact.items()}
    by_remainder = sorted(exact, key=lambda key: (dealt[key] - exact[key], key))
    for key in by_remainder[: count - sum(dealt.values())]:
        dealt[key] += 1
    return dealt
