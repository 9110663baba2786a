"""Who is in two places: people in several splits, recordings under several people, and what corpora share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from moodscale.inspect.gather import own_id, short_names
from moodscale.prepare.manifest import Manifest
from moodscale.schema import Split


@dataclass(frozen=True)
class PersonInSplits:
    """One person in more than one split. ``places`` are manifests and splits."""

    person: str
    places: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SameRecording:
    """One recording under more than one person: the same samples, decoded.

    Attributes:
        places: manifest, person, corpus' interview and split (empty where it has no label).
        across_splits: whether the people are in different splits, so that a test would be on training audio.
    """

    audio_hash: str
    places: tuple[tuple[str, str, str, str], ...]
    across_splits: bool


@dataclass(frozen=True)
class Shared:
    """People that two corpora or two manifests have both."""

    first: str
    second: str
    num_people: int


@dataclass(frozen=True)
class Overlap:
    """What was found over all the manifests."""

    num_people: dict[str, int]
    """By manifest, those in a split."""
    people: tuple[PersonInSplits, ...]
    recordings: tuple[SameRecording, ...]
    corpora: tuple[Shared, ...]
    manifests: tuple[Shared, ...]

    @property
    def disjoint(self) -> bool:
        """Nobody is in two splits, and no recording belongs to two people."""
        return not self.people and not self.recordings

    def to_json(self) -> dict[str, Any]:
        return {"disjoint": self.disjoint, **asdict(self)}


def find_overlap(manifests: Sequence[Manifest]) -> Overlap:
    """Compare people and recordings within and across manifests. No label is read, so no read of a test is counted."""
    names = short_names([manifest.path for manifest in manifests])
    splits: dict[str, set[tuple[str, str]]] = defaultdict(set)
    recordings: dict[str, set[tuple[str, str, str, str]]] = defaultdict(set)
    corpora: dict[str, set[str]] = defaultdict(set)
    by_manifest: dict[str, set[str]] = {}
    for name, manifest in zip(names, manifests, strict=True):
        own = by_manifest.setdefault(name, set())
        for split in Split:
            for person in manifest.people(split):
                splits[person].add((name, split.value))
        for row in manifest.without_labels("interviews").to_pylist():
            own.add(row["person"])
            corpora[row["corpus"]].add(row["person"])
            if row["split"] is not None:
                splits[row["person"]].add((name, row["split"]))
            for recording in row["recordings"]:
                # Silence of equal length is equal, whoever kept it.
                if recording["peak"] > 0:
                    interview = f"{row['corpus']}:{own_id(row['corpus'], row['interview_id'])}"
                    recordings[recording["audio_hash"]].add((name, row["person"], interview, row["split"] or ""))
        for row in manifest.without_labels("clips").group_by(["person", "split"]).aggregate([]).to_pylist():
            splits[row["person"]].add((name, row["split"]))
    return Overlap(
        {name: len({p for p, places in splits.items() if any(one == name for one, _ in places)}) for name in names},
        tuple(
            PersonInSplits(person, tuple(sorted(places)))
            for person, places in sorted(splits.items())
            if len({split for _, split in places}) > 1
        ),
        tuple(
            SameRecording(hash_, tuple(sorted(places)), len({split for *_, split in places if split}) > 1)
            for hash_, places in sorted(recordings.items())
            if len({person for _, person, *_ in places}) > 1
        ),
        _shared(corpora),
        _shared(by_manifest),
    )


def _shared(people: dict[str, set[str]]) -> tuple[Shared, ...]:
    return tuple(Shared(a, b, len(people[a] & people[b])) for a, b in combinations(sorted(people), 2))
