"""A lexicon of symptom phrases: no model, no server, every score with the passages that it comes from.

It is what runs where nothing else is set up, and the weakest teacher here: it reads word for word and was written by
hand. Take it for trying out, and for a baseline that a real teacher has to beat. With the totals of 421 synthesised
questionnaires (``moodscale synthesize conversations --num-participants 400``) it correlates at .93, at .62 with
``--effect 0.5`` and at .04 with ``--effect 0``; people who do not exist speak far more plainly than others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from moodscale.label.answer import Answer, Evidence, Refusal, RefusedAnswer
from moodscale.label.lexicon_words import DENIED, FREQUENCY, ITEM_CUES, UNWELL, WELL
from moodscale.label.teachers.base import Reply, TeacherConfig
from moodscale.label.transcript import Transcript
from moodscale.schema import Speaker

VERSION = "1"
"""In every answer's key: change it with any word of the lexicon, and with the scoring."""

_CLAUSE = re.compile(r"(?:[^.;!?,。；！？，\n]|\.(?=\d))+")
_UNSAID_LEVEL = 2
_MAX_CONFIDENCE = 0.6
"""Where every item was spoken of. It is no probability of anything."""


class LexiconConfig(TeacherConfig):
    """The hand-written lexicon of English and Chinese phrases."""

    kind: Literal["lexicon"] = "lexicon"
    min_items: int = Field(default=1, ge=1, le=9, description="no answer where fewer items are spoken of than that")

    def open(self) -> LexiconTeacher:
        return LexiconTeacher(self)


@dataclass(frozen=True)
class _Found:
    """A passage that speaks of an item."""

    evidence: Evidence
    level: int


class LexiconTeacher:
    """Scores by cue, frequency and denial, clause by clause."""

    def __init__(self, config: LexiconConfig) -> None:
        self._config = config

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"kind": self._config.kind, "version": VERSION, "min_items": self._config.min_items}

    def ask_all(self, transcripts: Sequence[Transcript]) -> Iterator[tuple[int, Reply | RefusedAnswer]]:
        for at, transcript in enumerate(transcripts):
            try:
                yield at, Reply(score(transcript, self._config.min_items))
            except RefusedAnswer as refused:
                yield at, refused


def score(transcript: Transcript, min_items: int = 1) -> Answer:
    """Score one transcript.

    An item's score is the rounded mean level of the clauses that speak of it. The total of items that nobody spoke of
    is prorated, as is usual for a questionnaire with gaps.

    Raises:
        RefusedAnswer: too few items are spoken of.
    """
    num_items = transcript.instrument.num_items
    found: list[list[_Found]] = [[] for _ in range(num_items)]
    asked: int | None = None
    for at, turn in enumerate(transcript.turns):
        if turn.speaker == Speaker.INTERVIEWER:
            asked = _asked_about(turn.text, num_items)
            continue
        for one in _read(turn.text, at, asked, num_items):
            found[one.evidence.item].append(one)
    items = tuple(_rounded([one.level for one in of_item]) if of_item else None for of_item in found)
    known = [item for item in items if item is not None]
    if len(known) < min_items:
        raise RefusedAnswer(Refusal.NO_EVIDENCE)
    total = sum(known) * num_items / len(known)
    evidence = tuple(one.evidence for of_item in found for one in of_item)
    return Answer(items, total, _MAX_CONFIDENCE * len(known) / num_items, evidence)


def _rounded(levels: Sequence[int]) -> int:
    return int(sum(levels) / len(levels) + 0.5)


def _asked_about(question: str, num_items: int) -> int | None:
    """The item that a question is about: the one that it speaks of last."""
    last: tuple[int, int] | None = None
    for item, cues in enumerate(ITEM_CUES[:num_items]):
        for match in cues.topic.finditer(question):
            last = max(last or (-1, item), (match.start(), item))
    return None if last is None else last[1]


def _read(text: str, turn: int, asked: int | None, num_items: int) -> Iterator[_Found]:
    """What a turn says, clause by clause; frequency counts for its clause."""
    for clause in _CLAUSE.finditer(text):
        words, begin = clause.group(), clause.start()
        spoken = list(_cues_in(words, num_items))
        # An answer is about what was asked, whatever else its words could be about.
        to_the_point = [one for one in spoken if one[0] == asked]
        for item, level, start, stop in to_the_point or spoken:
            evidence = Evidence(item, turn, begin + start, begin + stop)
            yield _Found(evidence, _level(words, level, start))
        if not spoken and asked is not None:
            general = _general_level(words)
            if general is not None:
                level, start, stop = general
                yield _Found(Evidence(asked, turn, begin + start, begin + stop), level)


def _cues_in(words: str, num_items: int) -> Iterator[tuple[int, int, int, int]]:
    """Item, own level, start and stop of the longest cue of each item."""
    for item, cues in enumerate(ITEM_CUES[:num_items]):
        matches = [(level, match) for level, pattern in cues.by_level.items() for match in pattern.finditer(words)]
        if matches:
            level, match = max(matches, key=lambda one: (one[1].end() - one[1].start(), one[0]))
            yield item, level, match.start(), match.end()


def _frequency(words: str) -> int | None:
    """How often, in the questionnaire's levels. The mildest word counts: "not every day" is not every day."""
    return next((level for level in (1, 2, 3) if FREQUENCY[level].search(words)), None)


def _level(words: str, own: int, start: int) -> int:
    denied = DENIED.search(words[:start]) is not None
    often = _frequency(words)
    if own == 0:
        if denied:
            return often or _UNSAID_LEVEL
        return 1 if often == 1 else 0
    if denied:
        return 0
    return own if often is None else often


def _general_level(words: str) -> tuple[int, int, int] | None:
    """Level and span of an answer that has no cue of its own: how often, well or unwell."""
    often = _frequency(words)
    unwell, well = UNWELL.search(words), WELL.search(words)
    shown: re.Match[str] | None
    if often == 1:
        shown, level = FREQUENCY[1].search(words), 1
    elif unwell is not None:
        shown, level = unwell, 0 if _is_denied(words, unwell) else often or _UNSAID_LEVEL
    elif well is not None:
        shown, level = well, _UNSAID_LEVEL if _is_denied(words, well) else 0
    elif DENIED.match(words.strip()) is not None:
        shown, level = DENIED.search(words), 0
    elif often == 2:
        shown, level = FREQUENCY[2].search(words), 2
    else:
        return None
    assert shown is not None
    return level, shown.start(), shown.end()


def _is_denied(words: str, match: re.Match[str]) -> bool:
    return DENIED.search(words[: match.start()]) is not None
