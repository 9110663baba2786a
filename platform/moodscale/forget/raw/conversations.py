"""Conversations: a user's lines of the files of conversations, and rows of the label table."""

from __future__ import annotations

from moodscale.corpora.conversations import ConversationsConfig
from moodscale.forget.raw.base import RawData, SharedTable
from moodscale.storage import location

_ENDS = (".jsonl", ".jsonl.gz", ".parquet")


def raw_data(config: ConversationsConfig, person: str) -> RawData:
    """What the folder has of ``conv:USER``."""
    prefix = f"{config.person_prefix}:"
    user = person.removeprefix(prefix)
    if not person.startswith(prefix) or not user:
        return RawData()
    root = location(config.path)
    files = [root / f"{config.conversations}{end}" for end in _ENDS]
    folder = root / config.conversations
    if folder.is_dir():
        files += sorted((one for one in folder.iterdir() if one.name.endswith(_ENDS)), key=lambda one: one.name)
    if config.labels is not None:
        files += [root / f"{config.labels}{end}" for end in (".csv", ".parquet")]
    return RawData(
        (), tuple(SharedTable(file, ("user_id",), lambda cell: cell == user) for file in files if file.is_file())
    )
