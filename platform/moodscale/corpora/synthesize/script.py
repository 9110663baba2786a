"""An interview as a script: who asks what, and the phrases of each answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from moodscale.corpora.synthesize.phrases import (
    ACKNOWLEDGEMENTS,
    CLOSING,
    FOLLOW_UPS,
    GREETING,
    ITEM_TOPICS,
    NEUTRAL_TOPICS,
    Topic,
)
from moodscale.corpora.synthesize.questionnaire import Answers

_ACKNOWLEDGED = 0.55
_FOLLOWED_UP = 0.35


@dataclass(frozen=True)
class Exchange:
    """What the interviewer says, and the phrases of an answer: as many are spoken as there is time for."""

    interviewer: tuple[str, ...] = field(repr=False)
    participant: tuple[str, ...] = field(repr=False)


def interviewer_lines() -> tuple[str, ...]:
    """Everything the interviewer ever says, once each, in a fixed order."""
    questions = (question for topic in (*ITEM_TOPICS, *NEUTRAL_TOPICS) for question in topic.questions)
    return tuple(dict.fromkeys((GREETING, *questions, *FOLLOW_UPS, *ACKNOWLEDGEMENTS, CLOSING)))


def draw_exchanges(rng: np.random.Generator, answers: Answers) -> Iterator[Exchange]:
    """An interview without end: all topics in a drawn order, then all again in another.

    Which questions are asked follows from ``rng`` alone: as many numbers are drawn for any answers.
    """
    yield Exchange((GREETING,), _draw_phrases(rng, NEUTRAL_TOPICS[0], answers))
    topics = (*ITEM_TOPICS, *NEUTRAL_TOPICS)
    while True:
        for index in rng.permutation(len(topics)):
            topic = topics[index]
            lines = [topic.questions[rng.integers(len(topic.questions))]]
            acknowledgement = ACKNOWLEDGEMENTS[rng.integers(len(ACKNOWLEDGEMENTS))]
            if rng.random() < _ACKNOWLEDGED:
                lines.insert(0, acknowledgement)
            yield Exchange(tuple(lines), _draw_phrases(rng, topic, answers))
            follow_up = FOLLOW_UPS[rng.integers(len(FOLLOW_UPS))]
            if rng.random() < _FOLLOWED_UP:
                yield Exchange((follow_up,), _draw_phrases(rng, topic, answers))


def _draw_phrases(rng: np.random.Generator, topic: Topic, answers: Answers) -> tuple[str, ...]:
    pool = topic.answers[0 if topic.item is None else answers[topic.item]]
    return tuple(pool[index] for index in rng.permutation(len(pool)))
