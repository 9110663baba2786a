"""What is wrong with conversation logs and their questionnaires, planted on purpose and listed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moodscale.config import ConfigError
from moodscale.corpora.synthesize.base import PlantedDefect, SynthesizeConfig
from moodscale.corpora.synthesize.choices import choose_defects
from moodscale.corpora.synthesize.conversation_script import Demands

DEFECTS: dict[str, str] = {
    "no_label": "a user without a questionnaire; a share of the users has none in any case, and each is listed",
    "out_of_window": "conversations outside the look-back window; some users have them in any case, and each is listed",
    "duplicate_conversation": "a conversation stands in the file twice, the same both times",
    "empty_message": "a message without words",
    "bad_time": "a started_at that is no time: that conversation cannot be used",
    "unknown_role": "a message by neither user nor assistant",
    "out_of_order_messages": "two messages in the wrong order by their own times",
    "items_do_not_add_up": "the items sum to one more or one less than the total",
    "total_out_of_range": "a total of 28: that questionnaire cannot be used",
    "other_instrument": "a PHQ-8 among the questionnaires",
    "naive_time": "times without a zone",
    "invalid_line": "a line that breaks off: not JSON; listed by its number, since it does not say whose it is",
}
"""What ``defects`` may name, and what each plants. Readers call the repair or the reason the same."""

_LABELLED = Demands(labelled=True, earlier=False)
_USERS: dict[str, tuple[int, Demands]] = {
    "no_label": (1, Demands(labelled=False)),
    "out_of_window": (2, Demands(labelled=True, earlier=True)),
    "duplicate_conversation": (3, _LABELLED),
    "empty_message": (4, _LABELLED),
    "bad_time": (5, _LABELLED),
    "unknown_role": (6, _LABELLED),
    "out_of_order_messages": (7, Demands(labelled=True, earlier=False, times=True)),
    "items_do_not_add_up": (8, _LABELLED),
    "total_out_of_range": (9, Demands(labelled=True, earlier=False, one_questionnaire=True)),
    "other_instrument": (10, _LABELLED),
    "naive_time": (11, Demands(labelled=True, earlier=False, times=True)),
    "invalid_line": (12, _LABELLED),
}
"""The number of the user who has the defect, and what it needs that user to be."""

BAD_TIME = "2025-13-41T25:61:00+00:00"
_MODERATOR = "moderator"

Json = dict[str, Any]


def select(config: SynthesizeConfig) -> frozenset[str]:
    """The defects that the settings name.

    Raises:
        ConfigError: an unknown name, one that the file's format has no room for, or too few users.
    """
    impossible = ("invalid_line",) if config.format != "jsonl" else ()
    selected = choose_defects(config.defects, DEFECTS, (), impossible, f"format={config.format}")
    needed = max((_USERS[defect][0] for defect in selected), default=0)
    if config.num_participants < needed:
        raise ConfigError(f"num_participants={config.num_participants} is too few for the defects; take {needed}")
    return selected


def defect_of(number: int, selected: frozenset[str]) -> str:
    """The defect of a user, or nothing."""
    return next((defect for defect in selected if _USERS[defect][0] == number), "")


def demands_of(defect: str) -> Demands:
    return _USERS[defect][1] if defect else Demands()


def spoil_conversations(
    user_id: str, conversations: Sequence[Json], defect: str
) -> tuple[list[Json], list[PlantedDefect]]:
    """A user's conversations, as they go into the file, with the user's defect."""
    if not conversations or defect not in _SPOIL:
        return list(conversations), []
    spoiled, detail = _SPOIL[defect](list(conversations))
    return spoiled, [PlantedDefect(user_id, defect, detail)]


def _duplicate(conversations: list[Json]) -> tuple[list[Json], str]:
    return [*conversations, conversations[0]], "1 conversation twice"


def _empty(conversations: list[Json]) -> tuple[list[Json], str]:
    last = conversations[-1]
    messages = [*last["messages"], {**last["messages"][-2], "content": " "}]
    if "at" in messages[-1]:
        messages[-1]["at"] = messages[-2]["at"]
    return [*conversations[:-1], {**last, "messages": messages}], f"message {len(messages)} of 1 conversation"


def _bad_time(conversations: list[Json]) -> tuple[list[Json], str]:
    last = conversations[-1]
    messages = [{name: value for name, value in one.items() if name != "at"} for one in last["messages"]]
    extra = {**last, "conversation_id": f"{last['user_id']}-c99", "started_at": BAD_TIME, "messages": messages}
    return [*conversations, extra], f"started_at {BAD_TIME} of 1 conversation"


def _unknown_role(conversations: list[Json]) -> tuple[list[Json], str]:
    last = conversations[-1]
    messages = [*last["messages"]]
    messages.insert(1, {**messages[0], "role": _MODERATOR})
    return [*conversations[:-1], {**last, "messages": messages}], f"1 message by a {_MODERATOR}"


def _out_of_order(conversations: list[Json]) -> tuple[list[Json], str]:
    last = conversations[-1]
    messages = [*last["messages"]]
    messages[1], messages[2] = messages[2], messages[1]
    return [*conversations[:-1], {**last, "messages": messages}], "messages 2 and 3 of 1 conversation"


def _naive(conversations: list[Json]) -> tuple[list[Json], str]:
    last = conversations[-1]
    messages = [{**one, "at": without_zone(one["at"])} for one in last["messages"]]
    naive = {**last, "started_at": without_zone(last["started_at"]), "messages": messages}
    return [*conversations[:-1], naive], "1 conversation"


def without_zone(time: str) -> str:
    """An ISO 8601 time in UTC without saying so."""
    return time.removesuffix("+00:00")


_SPOIL = {
    "duplicate_conversation": _duplicate,
    "empty_message": _empty,
    "bad_time": _bad_time,
    "unknown_role": _unknown_role,
    "out_of_order_messages": _out_of_order,
    "naive_time": _naive,
}
