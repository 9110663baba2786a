"""A person out of a store of features: the parts of their recordings, and records that name them."""

from __future__ import annotations

from collections.abc import Iterable

from upath import UPath

from moodscale.features.record import RECORDS_DIR
from moodscale.features.store import EXTRACTOR_FILE
from moodscale.forget.action import Action, removing_files, removing_trees


def find_in_store(store: UPath, audio_hashes: Iterable[str], manifest_hashes: Iterable[str]) -> list[Action]:
    """What the store has of recordings, and the records of the manifests that had the person.

    A record lists the parts of its manifest, and who lacks what; those of other manifests that name the recordings go
    too, or they would name parts that are not there. Without it the next run reads the parts once. Records go first.
    """
    hashes, manifests = sorted(audio_hashes), tuple(manifest_hashes)
    actions: list[Action] = []
    if not store.is_dir():
        return actions
    for key in sorted(store.iterdir(), key=lambda entry: entry.name):
        if not (key / EXTRACTOR_FILE).is_file():
            continue
        records = [] if not (key / RECORDS_DIR).is_dir() else list((key / RECORDS_DIR).iterdir())
        own = [one for one in records if one.name.startswith(manifests) or _names(one, hashes)]
        if own:
            actions.append(Action("records", key, "lists of a manifest's windows", len(own), removing_files(own)))
        subjects = [place for one in hashes if (place := key / one[:2] / one).is_dir()]
        if subjects:
            number = sum(1 for place in subjects for _ in place.iterdir())
            actions.append(Action("features", key, "windows", number, removing_trees(subjects)))
    return actions


def _names(record: UPath, audio_hashes: Iterable[str]) -> bool:
    data = record.read_bytes()
    return any(hash_.encode() in data for hash_ in audio_hashes)
