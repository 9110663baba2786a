"""Taking a person's recordings out of a store of features, under every key."""

from __future__ import annotations

import re
from collections.abc import Collection

from moodscale import storage
from moodscale.features.record import RECORDS_DIR

_KEY = re.compile(r"[0-9a-f]{32}")


def forget_recordings(store: str | storage.Place, audio_hashes: Collection[str]) -> int:
    """Remove every part of these recordings, and every record that names one; returns how many parts there were.

    Records of other manifests are left. One that goes is made again by the next ``extract`` of its manifest, which
    finds the other recordings' parts in place. Normalising statistics are sums over a whole training split: a manifest
    without the person has its own.
    """
    root = storage.location(store)
    num_removed = 0
    if not root.exists():
        return 0
    for directory in [one for one in root.iterdir() if _KEY.fullmatch(one.name)]:
        records = directory / RECORDS_DIR
        # The record goes first: none may name parts that are not there.
        for record in list(records.iterdir()) if records.exists() else []:
            text = record.read_text(encoding="utf-8")
            if any(digest in text for digest in audio_hashes):
                record.unlink()
        for digest in audio_hashes:
            parts = directory / digest[:2] / digest
            if parts.exists():
                num_removed += sum(one.name.endswith(".arrow") for one in parts.iterdir())
                storage.remove_tree(parts)
    return num_removed
