"""CMDC: a person's folder in every part, files that patterns name elsewhere, and a row of the label table."""

from __future__ import annotations

from moodscale.corpora.cmdc import CmdcConfig
from moodscale.corpora.cmdc_person import paths_of
from moodscale.forget.raw.base import RawData, SharedTable
from moodscale.storage import location

PREFIX = "cmdc:"


def raw_data(config: CmdcConfig, person: str) -> RawData:
    """What the corpus has of ``cmdc:HC01``."""
    id_ = person.removeprefix(PREFIX)
    if not person.startswith(PREFIX) or not id_.isalnum():
        return RawData()
    root = location(config.path)
    bases = [folder for folder in (root / "CMDC_EULA", root) if folder.is_dir()]
    parts = [part for base in bases for part in base.iterdir() if part.is_dir()]
    folders = [part / id_ for part in parts if (part / id_).is_dir()]
    patterns = (config.audio_pattern, config.transcript_pattern, config.openface_pattern)
    named = {
        path
        for folder in folders
        for pattern in patterns
        if pattern
        for path in paths_of(pattern, folder.relative_to(root).as_posix(), id_).values()
    }
    inside = tuple(folder.relative_to(root).as_posix() + "/" for folder in folders)
    outside = [root / path for path in sorted(named) if not path.startswith(inside) and (root / path).is_file()]
    tables = [base / config.info_table for base in bases if (base / config.info_table).is_file()]
    return RawData(
        (*outside, *folders),
        tuple(SharedTable(table, (config.id_column,), lambda cell: cell.upper() == id_) for table in tables),
    )
