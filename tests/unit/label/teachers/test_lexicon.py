"""The hand-written lexicon."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moodscale.corpora.conversations import ConversationsConfig
from moodscale.corpora.synthesize.base import SynthesizeConfig
from moodscale.corpora.synthesize.conversations import ConversationsSynthesizer
from moodscale.label.answer import RefusedAnswer, check_answer
from moodscale.label.ask import injection_shift, label_transcripts
from moodscale.label.lexicon_words import ITEM_CUES
from moodscale.label.teachers.lexicon import LexiconConfig, score
from moodscale.label.transcript import Transcript
from moodscale.schema import Instrument
from spoken import transcript

INTEREST, MOOD, SLEEP, ENERGY, APPETITE, WORTH, FOCUS, MOVING, HARM = range(9)


@pytest.mark.parametrize(
    ("asked", "said", "item", "expected"),
    [
        ("how is your mood?", "I feel depressed nearly every day", MOOD, 3),
        ("how is your mood?", "I was sad on several days", MOOD, 1),
        ("how is your mood?", "I am sad most days", MOOD, 2),
        ("how is your mood?", "I don't feel sad", MOOD, 0),
        ("how is your mood?", "happy, thanks", MOOD, 0),
        ("how is your mood?", "I am not happy", MOOD, 2),
        ("anything else?", "I have insomnia", SLEEP, 2),
        ("how do you sleep?", "no trouble", SLEEP, 0),
        ("how do you sleep?", "sometimes it is difficult", SLEEP, 1),
        ("how is your appetite?", "it is bad", APPETITE, 2),
        ("tell me", "I feel worthless", WORTH, 3),
        ("tell me", "I am exhausted all the time", ENERGY, 3),
        ("tell me", "I can't concentrate", FOCUS, 3),
        ("tell me", "I am restless at times", MOVING, 1),
        ("tell me", "I think about suicide every day", HARM, 3),
        ("tell me", "I never think of suicide", HARM, 0),
        ("你睡得怎么样？", "我每天都失眠", SLEEP, 3),
        ("你睡得怎么样？", "有时候 睡不着", SLEEP, 1),
        ("你的胃口怎么样？", "很好", APPETITE, 0),
        ("说说看", "我经常觉得自己没用", WORTH, 2),
    ],
)
def test_a_cue_its_frequency_and_its_denial_make_a_score(asked: str, said: str, item: int, expected: int) -> None:
    answer = score(transcript("u1", said, asked=asked))
    assert answer.items[item] == expected
    spans = [said[one.start : one.stop] for one in answer.evidence if one.item == item]
    assert spans
    assert all(span.strip() for span in spans)


def test_what_nobody_spoke_of_is_unknown_and_prorated() -> None:
    answer = score(transcript("u1", "I feel hopeless every day. I slept well"))
    assert (answer.items[MOOD], answer.items[SLEEP]) == (3, 0)
    assert answer.items.count(None) == 7
    assert answer.total == pytest.approx(3 * 9 / 2)
    assert check_answer(answer, Instrument.PHQ9) == answer
    assert answer.confidence == pytest.approx(0.6 * 2 / 9)


def test_a_transcript_about_nothing_of_it_has_no_answer() -> None:
    with pytest.raises(RefusedAnswer, match="no_evidence"):
        score(transcript("u1", "the bus was on time", asked="how did you get here?"))


def test_what_the_interviewer_says_is_no_evidence() -> None:
    with pytest.raises(RefusedAnswer, match="no_evidence"):
        score(transcript("u1", "the bus was on time", asked="suicide, insomnia, worthless: what comes to mind?"))


def test_the_phq8_has_no_item_about_self_harm() -> None:
    eight = score(transcript("u1", "I am sad. I think about suicide every day", instrument=Instrument.PHQ8))
    assert len(eight.items) == 8


def test_every_item_has_cues_at_every_level_in_both_languages() -> None:
    assert len(ITEM_CUES) == 9
    for cues in ITEM_CUES:
        assert sorted(cues.by_level) == [0, 1, 2, 3]
        for pattern in cues.by_level.values():
            assert any("\u3400" <= character <= "\u9fff" for character in pattern.pattern)


def test_orders_in_a_transcript_move_nothing(tmp_path: Path) -> None:
    asked = [transcript("u1", "I am sad most days"), transcript("u2", "I sleep well")]
    shift = injection_shift(LexiconConfig(), asked, tmp_path)
    assert (shift["num_compared"], shift["num_changed"], shift["max_absolute_shift"]) == (2, 0, 0.0)


def labelled_and_true(out: Path, effect: float) -> tuple[np.ndarray, np.ndarray]:
    ConversationsSynthesizer(kind="conversations").synthesize(
        SynthesizeConfig(out=out / "corpus", num_participants=120, effect=effect)
    )
    corpus = ConversationsConfig(path=str(out / "corpus")).open()
    truth, asked = {}, []
    for unit in corpus.interview_ids():
        interview = corpus.read(unit).interview
        if interview.label is not None:
            truth[unit] = float(interview.label.total)
            asked.append(Transcript(unit, interview.person, interview.label.instrument, interview.turns))
    found = label_transcripts(LexiconConfig(), asked, out / "answers")
    units = list(found.answers)
    return np.array([found.answers[unit].total for unit in units]), np.array([truth[unit] for unit in units])


@pytest.mark.slow
def test_it_hears_severity_where_there_is_some_and_none_where_there_is_none(tmp_path: Path) -> None:
    heard, true = labelled_and_true(tmp_path / "tied", effect=1.0)
    assert len(heard) > 80
    assert np.corrcoef(heard, true)[0, 1] > 0.7
    heard, true = labelled_and_true(tmp_path / "cut", effect=0.0)
    assert abs(np.corrcoef(heard, true)[0, 1]) < 0.3
