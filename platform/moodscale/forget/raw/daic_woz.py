"""DAIC-WOZ and E-DAIC: a session's folder or archive, and a row in every table with a participant's number."""

from __future__ import annotations

import re

from upath import UPath

from moodscale.corpora.base import FolderCorpusConfig
from moodscale.corpora.reading.tables import to_whole_number
from moodscale.forget.raw.base import RawData, SharedTable
from moodscale.storage import location

PREFIX = "daic:"
_COLUMNS = ("Participant_ID", "participant_ID", "Participant")
_FOLDERS = ("", "data", "labels")


def raw_data(config: FolderCorpusConfig, person: str) -> RawData:
    """What the corpus has of ``daic:300``: sessions and tables at the top, in ``data/`` and in ``labels/``."""
    number = to_whole_number(person.removeprefix(PREFIX))
    if not person.startswith(PREFIX) or number is None:
        return RawData()
    root = location(config.path)
    session = re.compile(rf"(?:\._)?0*{number}_P(?:\..+)?")
    entries = [entry for name in _FOLDERS for entry in _entries(root / name if name else root)]
    return RawData(
        tuple(entry for entry in entries if session.fullmatch(entry.name)),
        tuple(
            SharedTable(entry, _COLUMNS, lambda cell: to_whole_number(cell) == number)
            for entry in entries
            if entry.name.endswith(".csv") and not entry.name.startswith("._")
        ),
    )


def _entries(folder: UPath) -> list[UPath]:
    return sorted(folder.iterdir(), key=lambda entry: entry.name) if folder.is_dir() else []
