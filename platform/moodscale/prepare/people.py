"""Who the people of a manifest are: one person may have several interviews, in several corpora."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from moodscale.config import ConfigError
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.splits.base import Person
from moodscale.prepare.tables import CollectedInterview
from moodscale.schema import CorpusError, Repair, Split


def assign_splits(prepared: Sequence[CollectedInterview], config: PrepareConfig) -> dict[str, Split]:
    """A split for everyone with a label, clips or not: who is where must not depend on whose speech is cut.

    Raises:
        CorpusError: nobody has a label, or a corpus puts one person in two of its own splits.
        ConfigError: the people cannot be split as asked.
    """
    people = labelled_people([one.row for one in prepared if one.row is not None])
    if not people and config.splits.needs_labels:
        raise CorpusError(
            "no interview has a label, so there is nothing to train on; check the label tables, or say "
            "prepare.splits={kind: none} where they are only to be scored"
        )
    assigned = config.splits.assign(people)
    missing = sorted({person.key for person in people} - assigned.keys())
    if missing:
        raise ConfigError(f"splits.kind={config.splits.kind}: gave {len(missing)} people no split, first {missing[0]}")
    return dict(assigned)


def labelled_people(rows: Sequence[Mapping[str, Any]]) -> list[Person]:
    """One entry a person, from rows of ``INTERVIEW_SCHEMA``.

    With several questionnaires a person counts as depressed who was so at any of them.
    """
    people: dict[str, Person] = {}
    for row in rows:
        if row["depressed"] is None:
            continue
        key, corpus = row["person"], row["corpus"]
        earlier = people.get(key, Person(key, False, "unknown"))
        official = dict(earlier.official)
        if row["official_split"] is not None:
            split = Split(row["official_split"])
            if official.setdefault(corpus, split) is not split:
                raise CorpusError(f"person {key} is in two official splits of {corpus}: {official[corpus]} and {split}")
        people[key] = Person(
            key,
            earlier.depressed or bool(row["depressed"]),
            row["gender"] if earlier.gender == "unknown" else earlier.gender,
            tuple(sorted({*earlier.corpora, corpus})),
            official,
        )
    return list(people.values())


def compare_people(rows: Sequence[Mapping[str, Any]]) -> list[Repair]:
    """Ledger lines for people in several corpora whose gender or score differs between them: nothing is changed.

    A gender code is documented by few corpora; somebody who is in one that spells it out shows whether it was
    understood.
    """
    by_person: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        by_person.setdefault(row["person"], {}).setdefault(row["corpus"], row)
    lines = []
    for person, own in sorted(by_person.items()):
        for (first, a), (second, b) in combinations(sorted(own.items()), 2):
            genders = {a["gender"], b["gender"]}
            where = f"{first} and {second}"
            if len(genders) > 1 and "unknown" not in genders:
                before = f"{a['gender']} in {first}, {b['gender']} in {second}"
                lines.append(_line(b, "gender_disagrees", where, before))
            if a["total"] is not None and a["instrument"] == b["instrument"] and a["total"] != b["total"]:
                lines.append(_line(b, "total_disagrees", where, f"the totals of {person} differ"))
    return lines


def _line(row: Mapping[str, Any], defect: str, where: str, before: str) -> Repair:
    return Repair(
        row["corpus"], row["interview_id"], defect, where, before, "kept as they are", "person in two corpora"
    )
