"""Speech synthesis below the corpus layout: the engine, voices, questionnaires, severity, sessions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from moodscale.config import ConfigError
from moodscale.corpora.synthesize.espeak import Engine
from moodscale.corpora.synthesize.phrases import ITEM_TOPICS
from moodscale.corpora.synthesize.questionnaire import draw_answers
from moodscale.corpora.synthesize.session import ELLIE, PARTICIPANT, Session, SessionPlan, render_session
from moodscale.corpora.synthesize.severity import Disposition, burden_of, delivery_of, draw_disposition
from moodscale.corpora.synthesize.voices import _ACCENTS, _VARIANTS, SAMPLE_RATE_HZ, Talker, Voice, draw_voice

WELL, ILL = (0,) * 8, (3,) * 8
TEXT = "i walked from the station to the house by the river"


def plan(answers: tuple[int, ...], burden: float, interview_id: int = 300, gender: str = "female") -> SessionPlan:
    return SessionPlan(interview_id, 0, gender, Disposition(answers, burden), duration_s=60)


def participant_frames(session: Session) -> npt.NDArray[np.float64]:
    """Level of every 10 ms of participant rows, in dB."""
    pieces = [
        session.audio[round(row.start_s * SAMPLE_RATE_HZ) : round(row.stop_s * SAMPLE_RATE_HZ)]
        for row in session.rows
        if row.speaker == PARTICIPANT
    ]
    speech = np.concatenate(pieces)
    frames = speech[: len(speech) // 160 * 160].reshape(-1, 160).astype(np.float64)
    return 10 * np.log10(np.mean(np.square(frames), axis=1) + 1e-12)


class TestEngine:
    def test_what_was_said_before_does_not_change_what_is_said(self) -> None:
        def say(*history: str) -> npt.NDArray[np.float32]:
            with Engine() as engine:
                for text in history:
                    engine.set_voice("en-us+m3")
                    engine.speak(text, 190, 40, 70)
                engine.set_voice("en-us+f2")
                return engine.speak(TEXT, 160, 50, 50)

        alone = say()
        with Engine() as other:  # another engine at work in the same process must not matter either
            other.set_voice("en-us+croak")
            other.speak("something else altogether", 150, 50, 50)
            assert np.array_equal(alone, say())
        assert not np.array_equal(alone, say("a sentence before")), "one engine does remember: hence one a session"

    def test_an_unknown_voice_is_refused_by_name(self) -> None:
        with Engine() as engine, pytest.raises(ConfigError, match="nobody"):
            engine.set_voice("en-us-nobody")

    def test_slower_speech_lasts_longer_and_has_no_silent_ends(self) -> None:
        with Engine() as engine:
            engine.set_voice("en-us+m1")
            fast, slow = engine.speak(TEXT, 200, 50, 50), engine.speak(TEXT, 120, 50, 50)
        assert len(slow) > 1.3 * len(fast)
        for samples in (fast, slow):
            assert abs(samples[0]) > 0.005 * np.abs(samples).max()
            assert abs(samples[-1]) > 0.005 * np.abs(samples).max()

    def test_closing_twice_is_fine(self) -> None:
        engine = Engine()
        engine.close()
        engine.close()


class TestVoices:
    def test_every_voice_of_the_catalogue_is_there_and_speaks_at_one_level(self) -> None:
        levels = []
        with Engine() as engine:
            for accent in sorted(set(_ACCENTS)):
                for variant in (*_VARIANTS["female"], *_VARIANTS["male"]):
                    engine.set_voice(f"{accent}+{variant}")
            for variant in (*_VARIANTS["female"], *_VARIANTS["male"]):
                samples = Talker(engine, Voice(f"en-us+{variant}", 1.0, 168, 50, 60, 0.0)).say(TEXT)
                levels.append(20 * np.log10(np.sqrt(np.mean(np.square(samples)))))
        assert np.ptp(levels) < 6, "variants as they come differ by 20 dB, which would drown what severity does"

    def test_people_sound_different_and_a_person_always_the_same(self) -> None:
        voices = [draw_voice(np.random.default_rng([0, number]), "female") for number in range(50)]
        assert len({(voice.name, voice.throat, voice.pitch) for voice in voices}) == 50
        assert len({voice.name for voice in voices}) > 25
        assert draw_voice(np.random.default_rng([0, 7]), "female") == voices[7]

    def test_women_speak_higher_than_men(self) -> None:
        def pitch_hz(gender: str, number: int) -> float:
            with Engine() as engine:
                samples = Talker(engine, draw_voice(np.random.default_rng([1, number]), gender)).say(
                    "ah oh no more now"
                )
            spectrum = np.fft.rfft(samples, 1 << 17)
            autocorrelation = np.fft.irfft(np.abs(spectrum) ** 2)
            shortest, longest = SAMPLE_RATE_HZ // 350, SAMPLE_RATE_HZ // 70
            return SAMPLE_RATE_HZ / (shortest + int(np.argmax(autocorrelation[shortest:longest])))

        women, men = ([pitch_hz(gender, number) for number in range(8)] for gender in ("female", "male"))
        assert np.median(women) > 1.4 * np.median(men)


class TestQuestionnaires:
    def test_prevalence_and_spread_are_those_of_the_corpus(self) -> None:
        totals = draw_answers(np.random.default_rng(0), 5000).sum(axis=1)
        assert 0.24 < np.mean(totals >= 10) < 0.36
        assert 5 < np.mean(totals) < 8.5
        assert totals.min() == 0
        assert totals.max() > 20

    def test_items_hang_together_without_being_one(self) -> None:
        correlations = np.corrcoef(draw_answers(np.random.default_rng(0), 5000).T)[np.triu_indices(8, 1)]
        assert correlations.min() > 0.25
        assert correlations.max() < 0.8


class TestDisposition:
    def test_without_effect_the_label_does_not_reach_the_speech(self) -> None:
        well, ill = (draw_disposition(np.random.default_rng(5), label, 0.0) for label in (WELL, ILL))
        assert well == ill

    def test_full_effect_takes_everything_from_the_label(self) -> None:
        well, ill = (draw_disposition(np.random.default_rng(5), label, 1.0) for label in (WELL, ILL))
        assert well.answers == WELL
        assert ill.answers == ILL
        assert well.burden < 0.3 < 0.7 < ill.burden

    def test_without_effect_people_differ_as_much_as_with_it(self) -> None:
        labels = [tuple(map(int, row)) for row in draw_answers(np.random.default_rng(0), 1500)]
        spreads = [
            np.std([draw_disposition(np.random.default_rng(number), label, effect).burden
                    for number, label in enumerate(labels)])
            for effect in (0.0, 1.0)
        ]  # fmt: skip
        assert spreads[0] == pytest.approx(spreads[1], rel=0.1)

    def test_burden_grows_smoothly_and_is_steepest_at_the_cut_off(self) -> None:
        steps = np.diff([burden_of(score) for score in range(25)])
        assert (steps > 0).all()
        assert np.argmax(steps) == 9
        assert steps.max() < 0.2

    def test_burden_slows_flattens_softens_and_halts(self) -> None:
        light, heavy = delivery_of(0.0), delivery_of(1.0)
        assert heavy.rate < light.rate
        assert heavy.pitch_range < light.pitch_range
        assert heavy.level_db < light.level_db
        assert heavy.pause_s > light.pause_s
        assert heavy.hesitation_s > light.hesitation_s
        assert heavy.hesitation_share > light.hesitation_share


class TestSession:
    def test_a_plan_gives_the_same_session_whatever_was_made_before(self) -> None:
        first = render_session(plan(WELL, 0.2))
        render_session(plan(ILL, 0.9, interview_id=301, gender="male"))
        again = render_session(plan(WELL, 0.2))
        assert np.array_equal(first.audio, again.audio)
        assert first.rows == again.rows

    def test_speakers_alternate_about_half_and_half_and_rows_lie_on_speech(self) -> None:
        session = render_session(plan(WELL, 0.1))
        assert session.duration_s == pytest.approx(60, abs=15)
        assert 0.4 < session.participant_s / session.duration_s < 0.7
        assert {row.speaker for row in session.rows} == {ELLIE, PARTICIPANT}
        for earlier, later in zip(session.rows, session.rows[1:], strict=False):
            assert earlier.start_s < earlier.stop_s < later.start_s
        loud = np.abs(session.audio) > 0.01
        for row in session.rows:
            start, stop = (round(seconds * SAMPLE_RATE_HZ) for seconds in (row.start_s, row.stop_s))
            assert loud[start : start + 800].any(), "speech begins with the row"
            assert loud[stop - 4000 : stop].any(), "and fades out at its end"
            assert not loud[start - 1600 : start - 16].any(), "the row before ended in silence"

    def test_severity_is_heard_in_level_and_in_pauses_within_answers(self) -> None:
        for number in range(4):
            gender = "male" if number % 2 else "female"
            light, heavy = (
                participant_frames(render_session(plan(WELL, burden, 300 + number, gender))) for burden in (0.0, 1.0)
            )
            assert np.percentile(heavy, 90) < np.percentile(light, 90) - 6
            assert np.mean(heavy < -50) > np.mean(light < -50) + 0.05

    def test_neither_turns_nor_length_give_severity_away(self) -> None:
        numbers = range(300, 308)
        light, heavy = ([render_session(plan(WELL, burden, number)) for number in numbers] for burden in (0.0, 1.0))
        for measure in (lambda s: len(s.rows), lambda s: s.participant_s, lambda s: s.duration_s):
            ratio = np.mean([measure(one) for one in heavy]) / np.mean([measure(one) for one in light])
            assert 0.85 < ratio < 1.15

    def test_items_shape_the_words_and_nothing_the_interviewer_says(self) -> None:
        well, ill = (render_session(replace(plan(answers, 0.5), duration_s=150)) for answers in (WELL, ILL))
        asked = [[row.value for row in session.rows if row.speaker == ELLIE][:-1] for session in (well, ill)]
        num_common = min(map(len, asked))
        assert asked[0][:num_common] == asked[1][:num_common]
        said = [" ".join(row.value for row in session.rows if row.speaker == PARTICIPANT) for session in (well, ill)]
        for text, level in zip(said, (0, 3), strict=True):
            for other in {0, 1, 2, 3} - {level}:
                for topic in ITEM_TOPICS:
                    assert not any(phrase.replace(",", "") in text for phrase in topic.answers[other])
            assert any(phrase.replace(",", "") in text for topic in ITEM_TOPICS for phrase in topic.answers[level])

    def test_room_and_gain_do_not_follow_severity(self) -> None:
        light, heavy = (render_session(plan(WELL, burden)) for burden in (0.0, 1.0))
        assert np.array_equal(light.audio[:16_000], heavy.audio[:16_000]), "the room before the first word"
        first = light.rows[0]
        stop = round(first.stop_s * SAMPLE_RATE_HZ)
        assert np.array_equal(light.audio[:stop], heavy.audio[:stop]), "and the interviewer's first line in it"

    def test_words_stay_out_of_representations(self) -> None:
        session = render_session(plan(WELL, 0.1))
        words = {row.value for row in session.rows if row.speaker == PARTICIPANT} | set(ITEM_TOPICS[0].answers[3])
        shown = repr(session) + repr(session.rows) + repr(ITEM_TOPICS) + repr(plan(ILL, 0.3))
        assert not any(text in shown for text in words)
        assert "3, 3, 3" not in repr(plan(ILL, 0.3))
