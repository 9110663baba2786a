"""How severity is heard: from questionnaire answers to what a person says and how.

Everything passes through ``Disposition``, which is drawn from the speech stream of random numbers and, only as far as
``effect`` says, from the label. With an effect of 0 no answer of the label is read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from moodscale.corpora.synthesize.questionnaire import Answers, draw_answers, total
from moodscale.schema import DEPRESSED_FROM

_STEEPNESS = 1.6
"""PHQ points over which speech goes from clearly unaffected to clearly affected: smooth, steepest at the cut-off."""
_PERSONAL_SD = 0.05


@dataclass(frozen=True)
class Disposition:
    """What of a person's state reaches their speech.

    Attributes:
        answers: the questionnaire their words follow.
        burden: 0 to 1, what their delivery follows.
    """

    answers: Answers
    burden: float


@dataclass(frozen=True)
class Delivery:
    """How a person speaks, relative to how they spoke unburdened.

    Attributes:
        rate: factor on words per minute.
        pitch_range: factor on the voice's range.
        pitch_shift: in espeak's 0-100 units.
        level_db: loudness.
        pause_s: median pause between two phrases.
        hesitation_s: median pause within a phrase.
        hesitation_share: share of the places within a phrase where one pauses.
        filler_share: share of phrases that begin with a filler word.
    """

    rate: float
    pitch_range: float
    pitch_shift: float
    level_db: float
    pause_s: float
    hesitation_s: float
    hesitation_share: float
    filler_share: float


def burden_of(score: float) -> float:
    """Total score to 0-1, logistic around the cut-off (half a point below it, between 'no' and 'yes')."""
    return 1 / (1 + math.exp(-(score - (DEPRESSED_FROM - 0.5)) / _STEEPNESS))


def draw_disposition(rng: np.random.Generator, label: Answers, effect: float) -> Disposition:
    """Mix the label with an independent person's answers.

    Args:
        label: the person's own answers, to a questionnaire of 8 or 9 items.
        effect: 1 takes everything from the label, 0 nothing; between, each item's words follow the label with this
            probability and the delivery is the weighted mean of both burdens.
    """
    stranger = tuple(int(answer) for answer in draw_answers(rng, 1, len(label))[0])
    follows_label = rng.random(len(stranger)) < effect
    personal = _PERSONAL_SD * rng.standard_normal()
    if effect == 0:
        answers, burden = stranger, burden_of(total(stranger))
    else:
        answers = tuple(
            own if follows else other for own, other, follows in zip(label, stranger, follows_label, strict=True)
        )
        burden = effect * burden_of(total(label)) + (1 - effect) * burden_of(total(stranger))
    return Disposition(answers, min(max(burden + personal, 0.0), 1.0))


def delivery_of(burden: float) -> Delivery:
    """The heavier the burden the slower, flatter, softer and more halting."""
    return Delivery(
        rate=1 - 0.28 * burden,
        pitch_range=1 - 0.78 * burden,
        pitch_shift=-4 * burden,
        level_db=-9 * burden,
        pause_s=0.32 + 0.75 * burden,
        hesitation_s=0.18 + 0.5 * burden,
        hesitation_share=0.2 + 0.55 * burden,
        filler_share=0.1 + 0.25 * burden,
    )
