"""A request's conversations as a model of transcripts reads them: JSON text → turns.

A row is either one conversation, ``[{"role": "user", "content": …}, …]``, or several, ``[[…], […]]``, the newest last.
No message here and no ``repr`` holds a word of it: a row is named by its number, a message by its place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from moodscale.schema import Speaker

MESSAGES = "messages"
"""The column of a request."""
MAX_CHARACTERS = 16 * 2**20
"""Of one row: years of conversations. Beyond it something else was sent."""
ROLES: Mapping[str, Speaker] = {
    "user": Speaker.PARTICIPANT,
    "assistant": Speaker.INTERVIEWER,
    "unknown": Speaker.UNKNOWN,
}
"""``unknown`` is for recordings whose transcripts do not say who speaks."""
HOW_TO_ASK = (
    f"give a DataFrame, or a list of dictionaries, with a column {MESSAGES!r}: JSON text of a list of "
    '{"role": "user" or "assistant", "content": text}, or of a list of such lists, the newest last'
)

_ROLE_OF = {speaker: role for role, speaker in ROLES.items()}


def read_messages(given: Any, name: str) -> list[dict[str, Any]]:
    """One row → turns in order: ``speaker``, ``text`` and ``recording`` (the number of the conversation).

    Args:
        name: of the row, for messages.
    Raises:
        ValueError: naming the row and the field, never what is in it.
    """
    field = f"{name}: {MESSAGES}"
    if not isinstance(given, str):
        raise ValueError(f"{field} must be JSON text, not {type(given).__name__}; {HOW_TO_ASK}")
    if len(given) > MAX_CHARACTERS:
        raise ValueError(f"{field} has {len(given):,} characters, more than {MAX_CHARACTERS:,}; send the newest ones")
    try:
        values = json.loads(given)
    except (ValueError, RecursionError):
        values = None
    # Raised outside the handler: the parser's own error holds the whole text.
    if not isinstance(values, list):
        raise ValueError(f"{field} is not the JSON text of a list; {HOW_TO_ASK}")
    several = bool(values) and all(isinstance(one, list) for one in values)
    conversations = values if several else [values]
    turns = []
    for number, conversation in enumerate(conversations):
        for position, message in enumerate(conversation):
            place = f"{field}[{number}][{position}]" if several else f"{field}[{position}]"
            turns.append({**_message(message, place), "recording": number})
    if not turns:
        raise ValueError(f"{field} holds no message; {HOW_TO_ASK}")
    return turns


def write_messages(turns: Sequence[Mapping[str, Any]]) -> str:
    """What :func:`read_messages` reads, from a manifest's turns: their order stays, and a conversation ends where the
    next turn is of another recording."""
    conversations = [
        [{"role": _ROLE_OF[Speaker(turn["speaker"])], "content": turn["text"] or ""} for turn in own]
        for _, own in groupby(turns, key=lambda turn: turn["recording"])
    ]
    return json.dumps(conversations)


def read_messages_file(path: Path) -> str:
    """The text of a file with one row's messages, checked.

    Raises:
        ValueError: no such file, not UTF-8, or not messages; names the file.
    """
    try:
        if path.stat().st_size > 4 * MAX_CHARACTERS:
            raise ValueError(f"{path.name}: larger than any conversation")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        text = None
    except OSError:
        raise ValueError(f"{path.name}: there is no such file, or it cannot be read") from None
    if text is None:
        raise ValueError(f"{path.name}: is not UTF-8 text; {HOW_TO_ASK}")
    read_messages(text, path.name)
    return text


def _message(message: Any, place: str) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise ValueError(f"{place} is no message; {HOW_TO_ASK}")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in ROLES:
        raise ValueError(f"{place}.role is none of {', '.join(ROLES)}; leave instructions to a model out")
    if not isinstance(content, str):
        raise ValueError(f"{place}.content must be text, not {type(content).__name__}")
    return {"speaker": ROLES[role].value, "text": content}
