"""People of DAIC-WOZ and E-DAIC: an id below 493 is the same person in both, here as in the real corpora."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from moodscale.corpora.synthesize.questionnaire import Answers, draw_answers, is_depressed
from moodscale.corpora.synthesize.severity import Disposition, draw_disposition

_DISPOSITION_STREAM, _ANSWER_STREAM, _GENDER_STREAM = 10, 11, 12


@dataclass(frozen=True)
class Person:
    """Somebody who does not exist, with the questionnaire they filled in."""

    interview_id: int
    gender: str
    answers: Answers = field(repr=False)


def draw_person(seed: int, interview_id: int, forced: dict[int, Answers]) -> Person:
    """Gender and answers, each from a stream of the person's own: independent of each other and of the others."""
    gender_rng = np.random.default_rng([seed, interview_id, _GENDER_STREAM])
    answers_rng = np.random.default_rng([seed, interview_id, _ANSWER_STREAM])
    drawn = tuple(int(answer) for answer in draw_answers(answers_rng, 1)[0])
    return Person(interview_id, "female" if gender_rng.random() < 0.5 else "male", forced.get(interview_id, drawn))


def draw_person_disposition(seed: int, person: Person, effect: float) -> Disposition:
    """What of the person's state reaches their speech, from a stream of the person's own."""
    rng = np.random.default_rng([seed, person.interview_id, _DISPOSITION_STREAM])
    return draw_disposition(rng, person.answers, effect)


def take_stratified(people: Sequence[Person], num_wanted: int) -> list[Person]:
    """The first ``num_wanted`` of a shuffled list, the depressed in the share they have in it."""
    groups = [[person for person in people if is_depressed(person.answers) is kind] for kind in (True, False)]
    num_depressed = min(round(num_wanted * len(groups[0]) / max(len(people), 1)), len(groups[0]))
    return groups[0][:num_depressed] + groups[1][: num_wanted - num_depressed]
