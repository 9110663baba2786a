"""Users of an assistant who do not exist: when they fill in questionnaires, when they chat, and what they write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from moodscale.corpora.synthesize.phrases import Topic
from moodscale.corpora.synthesize.phrases_chat import GOODBYES, GREETINGS, HELLOS, PHQ9_TOPICS, REPLIES, SMALL_TALK
from moodscale.corpora.synthesize.questionnaire import Answers, draw_answers
from moodscale.corpora.synthesize.severity import draw_disposition

NUM_ITEMS = 9
LOOK_BACK_DAYS = 14
"""The PHQ's own: conversations are written well within it, or well outside."""

_ANSWERS, _UNLABELLED, _CALENDAR, _DISPOSITION, _WORDS, _EARLIER = range(50, 56)
_EPOCH = datetime(2025, 1, 20, tzinfo=UTC)
_STARTS_OVER_DAYS = 150
_TWO_QUESTIONNAIRES_SHARE = 0.35
_SAME_ANSWER_SHARE = 0.4
"""Share of the items whose answer is the same at the second questionnaire."""
_EARLIER_SHARE = 0.4
"""Share of users who also wrote long before their first questionnaire."""
_NUM_CONVERSATIONS = (3, 5)
_DAYS, _EARLIER_DAYS = (1, 12), (18, 30)
"""On which days before a questionnaire people write, within its look-back and outside."""
_WITHOUT_TIMES_SHARE = 0.2


@dataclass(frozen=True)
class Questionnaire:
    """A PHQ-9 that somebody filled in."""

    administered_at: datetime
    answers: Answers = field(repr=False)


@dataclass(frozen=True)
class Message:
    role: str
    content: str = field(repr=False)
    at: datetime | None


@dataclass(frozen=True)
class Conversation:
    """``in_window`` says whether it was within the look-back of a questionnaire, filled in or not."""

    conversation_id: str
    started_at: datetime
    messages: tuple[Message, ...] = field(repr=False)
    in_window: bool


@dataclass(frozen=True)
class Demands:
    """What a defect needs its user to be like.

    Attributes:
        labelled: ``None`` leaves it to chance.
        earlier: whether the user also wrote outside the look-back window.
        one_questionnaire: no second one.
        times: every message says when it was written.
    """

    labelled: bool | None = None
    earlier: bool | None = None
    one_questionnaire: bool = False
    times: bool = False


@dataclass(frozen=True)
class _Period:
    """Conversations that have one state in common: the one that the words follow."""

    started_at: tuple[datetime, ...]
    felt: Answers = field(repr=False)
    in_window: bool


@dataclass(frozen=True)
class User:
    """A user: their questionnaires, empty where they filled in none, and conversations in order of time."""

    user_id: str
    questionnaires: tuple[Questionnaire, ...]
    conversations: tuple[Conversation, ...]


def draw_user(seed: int, number: int, effect: float, unlabelled_share: float, demands: Demands) -> User:
    """A user by number. Everything is drawn alike for those who fill in no questionnaire."""

    def rng(stream: int, part: int = 0) -> np.random.Generator:
        return np.random.default_rng([seed, number, stream, part])

    user_id = f"u{number:05d}"
    calendar = rng(_CALENDAR)
    first_at = _EPOCH + timedelta(days=int(calendar.integers(_STARTS_OVER_DAYS)), hours=int(calendar.integers(9, 20)))
    has_second = bool(calendar.random() < _TWO_QUESTIONNAIRES_SHARE) and not demands.one_questionnaire
    second_at = first_at + timedelta(days=int(calendar.integers(30, 46)))
    has_earlier = bool(calendar.random() < _EARLIER_SHARE) if demands.earlier is None else demands.earlier
    first, second = draw_both_answers(seed, number)
    filled_in = [Questionnaire(first_at, first), Questionnaire(second_at, second)][: 1 + has_second]
    periods: list[_Period] = []
    if has_earlier:
        # How they felt then has nothing to do with the questionnaire: whoever takes it in gains nothing.
        earlier = rng(_EARLIER)
        before = tuple(int(answer) for answer in draw_answers(earlier, 1, NUM_ITEMS)[0])
        periods.append(_draw_period(first_at, before, _EARLIER_DAYS, 2, earlier, in_window=False))
    for part, questionnaire in enumerate(filled_in):
        felt = draw_disposition(rng(_DISPOSITION, part), questionnaire.answers, effect).answers
        days = rng(_CALENDAR, 1 + part)
        num_conversations = int(days.integers(_NUM_CONVERSATIONS[0], _NUM_CONVERSATIONS[1] + 1))
        periods.append(_draw_period(questionnaire.administered_at, felt, _DAYS, num_conversations, days))
    is_labelled = bool(rng(_UNLABELLED).random() >= unlabelled_share) if demands.labelled is None else demands.labelled
    written = (
        conversation
        for part, period in enumerate(periods)
        for conversation in _write(period, rng(_WORDS, part), demands.times)
    )
    conversations = tuple(
        replace(conversation, conversation_id=f"{user_id}-c{number:02d}")
        for number, conversation in enumerate(written, start=1)
    )
    return User(user_id, tuple(filled_in) if is_labelled else (), conversations)


def draw_both_answers(seed: int, number: int) -> tuple[Answers, Answers]:
    """A user's answers to a first questionnaire, and to one a month later that is partly the same."""
    rng = np.random.default_rng([seed, number, _ANSWERS, 0])
    drawn = draw_answers(rng, 2, NUM_ITEMS)
    same = rng.random(NUM_ITEMS) < _SAME_ANSWER_SHARE
    later = np.where(same, drawn[0], drawn[1])
    return tuple(int(answer) for answer in drawn[0]), tuple(int(answer) for answer in later)


def _draw_period(
    until: datetime,
    felt: Answers,
    days: tuple[int, int],
    num_conversations: int,
    rng: np.random.Generator,
    in_window: bool = True,
) -> _Period:
    """Conversations on as many different days before a questionnaire.

    The hours of both make up to 0.6 of a day more or less than so many days.
    """
    chosen = sorted(rng.choice(np.arange(days[0], days[1] + 1), size=num_conversations, replace=False), reverse=True)
    started_at = []
    for days_before in chosen:
        midnight = (until - timedelta(days=int(days_before))).replace(hour=0)
        started_at.append(
            midnight + timedelta(minutes=int(rng.integers(7 * 60, 23 * 60)), seconds=int(rng.integers(60)))
        )
    return _Period(tuple(started_at), felt, in_window)


def _write(period: _Period, rng: np.random.Generator, times: bool) -> Iterator[Conversation]:
    """The conversations of a period: every topic comes up once, in one of them."""
    topics = (*PHQ9_TOPICS, *SMALL_TALK)
    dealt = np.array_split(rng.permutation(len(topics)), len(period.started_at))
    for started_at, places in zip(period.started_at, dealt, strict=True):
        with_times = bool(rng.random() >= _WITHOUT_TIMES_SHARE) or times
        messages = tuple(_chat([topics[place] for place in places], period.felt, started_at, rng, with_times))
        yield Conversation("", started_at, messages, period.in_window)


def _chat(
    topics: Sequence[Topic], felt: Answers, started_at: datetime, rng: np.random.Generator, with_times: bool
) -> Iterator[Message]:
    """Question and answer by turns. As many numbers are drawn whatever the user feels."""
    now = started_at

    def said(role: str, content: str) -> Message:
        nonlocal now
        message = Message(role, content, now if with_times else None)
        now += timedelta(seconds=int(rng.integers(8, 90)))
        return message

    def one_of(lines: Sequence[str]) -> str:
        return lines[int(rng.integers(len(lines)))]

    yield said("user", one_of(HELLOS))
    opening = one_of(GREETINGS)
    for topic in topics:
        yield said("assistant", f"{opening}. {one_of(topic.questions)}?")
        pool = topic.answers[0 if topic.item is None else felt[topic.item]]
        num_phrases = int(rng.integers(1, 4))
        yield said("user", ". ".join(pool[place] for place in rng.permutation(len(pool))[:num_phrases]))
        opening = one_of(REPLIES)
    yield said("assistant", f"{opening}. {one_of(GOODBYES)}")
