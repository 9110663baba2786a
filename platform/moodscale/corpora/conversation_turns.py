"""A conversation as it stands in its file → messages in order of time, with every defect counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from moodscale.corpora.joining import parse_time
from moodscale.schema import CorpusError, Speaker, Turn

DEFECTS = {
    "empty_message": ("message(s) without words", "left out"),
    "invalid_message": ("message(s) that are no {role: text, content: text}", "left out"),
    "unknown_role": ("message(s) by neither user nor assistant", "kept, neither participant nor interviewer"),
    "bad_message_time": ("message(s) whose 'at' is no time", "take the time of the message before"),
    "out_of_order_messages": ("conversation(s) whose messages go back in time", "sorted by time"),
    "naive_time": ("conversation(s) with times without a zone", "taken as UTC"),
    "empty_conversation": ("conversation(s) without a usable message", "left out"),
    "duplicate_conversation": ("conversation(s) that stand in the file twice, the same", "kept once"),
}
"""What a defect of conversations is called in the ledger, what was found, and what was done."""

_SPEAKERS = {"user": Speaker.PARTICIPANT, "assistant": Speaker.INTERVIEWER}


@dataclass(frozen=True)
class Message:
    speaker: Speaker
    us: int
    text: str = field(repr=False)


@dataclass(frozen=True)
class Conversation:
    """Messages in order of time. A message without a time has that of the message before, the first its beginning."""

    messages: tuple[Message, ...] = field(repr=False)
    defects: Counter[str]


def read_conversation(values: dict[str, Any]) -> Conversation:
    """Understand one conversation.

    Raises:
        CorpusError: it has no time, or its messages are no list.
    """
    began = parse_time(values.get("started_at"))
    if began is None:
        raise CorpusError("bad_time: started_at is no ISO 8601 time; correct it")
    given = values.get("messages")
    if not isinstance(given, list):
        raise CorpusError("messages is no list; write it as [{role, content, at}, …]")
    defects: Counter[str] = Counter()
    messages: list[Message] = []
    naive, now = began.naive, began.us
    for one in given:
        content = one.get("content") if isinstance(one, dict) else None
        if not isinstance(content, str):
            defects["invalid_message"] += 1
            continue
        at = None if one.get("at") is None else parse_time(one["at"])
        defects["bad_message_time"] += one.get("at") is not None and at is None
        if at is not None:
            naive, now = naive or at.naive, at.us
        text = content.encode("utf-8", "replace").decode("utf-8").replace("\0", " ").strip()
        if not text:
            defects["empty_message"] += 1
            continue
        role = one.get("role")
        speaker = _SPEAKERS.get(role, Speaker.UNKNOWN) if isinstance(role, str) else Speaker.UNKNOWN
        defects["unknown_role"] += speaker is Speaker.UNKNOWN
        messages.append(Message(speaker, now, text))
    defects["naive_time"] += naive
    defects["out_of_order_messages"] += any(later.us < earlier.us for earlier, later in pairwise(messages))
    defects["empty_conversation"] += not messages
    return Conversation(tuple(sorted(messages, key=lambda message: message.us)), +defects)


def to_turns(conversations: Sequence[Conversation]) -> tuple[Turn, ...]:
    """Messages as turns: seconds from the earliest message, ``recording`` the place of the conversation."""
    first_us = min((message.us for one in conversations for message in one.messages), default=0)
    return tuple(
        Turn(message.speaker, (message.us - first_us) / 1e6, (message.us - first_us) / 1e6, message.text, place)
        for place, one in enumerate(conversations)
        for message in one.messages
    )
