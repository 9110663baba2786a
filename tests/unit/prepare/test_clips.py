from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodscale.config import ConfigError, validate
from moodscale.prepare.clips import Cutting, cut_clips
from moodscale.prepare.config import PrepareConfig
from moodscale.schema import AudioFile, Speaker, Turn

P, E = Speaker.PARTICIPANT, Speaker.INTERVIEWER


def cut(turns: list[tuple[Speaker, float, float]], rate: int = 100, length_s: float = 1000, **settings: Any) -> Cutting:
    audio = AudioFile("corpus", "a.wav", rate, round(length_s * rate))
    return cut_clips([Turn(*turn) for turn in turns], {0: audio}, PrepareConfig(**settings))


def test_turns_are_put_end_to_end_and_cut_without_overlap() -> None:
    found = cut([(P, 0, 6), (E, 6, 20), (P, 20, 33), (P, 40, 45)])
    assert [window.segments for window in found.windows] == [
        ((0, 0, 600), (0, 2000, 2400)),
        ((0, 2400, 3300), (0, 4000, 4100)),
    ]
    assert [window.num_turns for window in found.windows] == [2, 2]
    assert (found.num_turns, found.speech_s, found.tail_s) == (3, 24, 4)


def test_the_tail_is_dropped_or_kept_at_its_own_length_from_a_minimum() -> None:
    turns = [(P, 0.0, 13.0)]
    assert [w.num_samples for w in cut(turns).windows] == [1000]
    assert [w.num_samples for w in cut(turns, tail="pad").windows] == [1000, 300]
    assert [w.num_samples for w in cut(turns, tail="pad", min_tail_s=3.01).windows] == [1000]
    assert cut(turns, tail="pad").tail_s == 0


@pytest.mark.parametrize(
    ("speech", "expected"),
    [
        ("participant", [((0, 0, 500), (0, 1500, 2000))]),
        ("interviewer", [((0, 500, 1500),)]),
        ("everything", [((0, 0, 1000),), ((0, 1000, 2000),)]),
    ],
)
def test_whose_speech_is_cut_is_one_setting(speech: str, expected: list[Any]) -> None:
    found = cut([(P, 0, 5), (E, 5, 15), (P, 15, 20)], speech=speech)
    assert [window.segments for window in found.windows] == expected


def test_turns_that_overlap_use_the_shared_part_once() -> None:
    found = cut([(P, 0, 6), (P, 4, 9), (P, 5, 8), (P, 20, 21)])
    assert [window.segments for window in found.windows] == [((0, 0, 900), (0, 2000, 2100))]
    assert found.num_overlapping == 2


def test_a_clip_goes_on_in_the_next_recording_but_not_in_one_of_another_rate() -> None:
    recordings = {
        index: AudioFile("corpus", f"{index}.wav", rate, 7 * rate) for index, rate in ((0, 100), (1, 100), (2, 200))
    }
    turns = [Turn(P, 0, 7, recording=index) for index in (0, 1, 2, 5)]
    found = cut_clips(turns, recordings, PrepareConfig(tail="pad"))
    assert [window.segments for window in found.windows] == [
        ((0, 0, 700), (1, 0, 300)),
        ((1, 300, 700),),
        ((2, 0, 1400),),
    ]
    assert (found.num_turns, found.speech_s, found.tail_s) == (3, 21, 0), "a recording that is not given is passed over"
    assert cut_clips(turns, recordings, PrepareConfig()).tail_s == 11


def test_a_minimum_tail_above_the_clip_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="min_tail_s=11"):
        validate(PrepareConfig, {"min_tail_s": 11})


def test_settings_that_only_say_how_are_not_part_of_the_content() -> None:
    assert PrepareConfig(num_cpus=2, max_quarantined_fraction=0.5).content() == PrepareConfig().content()
    assert PrepareConfig(speech="interviewer").content() != PrepareConfig().content()


times = st.floats(0, 300, allow_nan=False)


@settings(deadline=None)
@given(
    turns=st.lists(st.tuples(st.sampled_from([P, E]), times, times), max_size=40),
    rate=st.sampled_from([8000, 11_025, 16_000, 22_050, 44_100, 48_000]),
    clip_s=st.sampled_from([0.5, 3.3, 10.0]),
)
def test_every_sample_is_used_once_and_survives_the_way_through_seconds(
    turns: list[tuple[Speaker, float, float]], rate: int, clip_s: float
) -> None:
    ordered = [(who, min(a, b), max(a, b)) for who, a, b in turns]
    found = cut(ordered, rate, length_s=290, clip_s=clip_s, tail="pad", min_tail_s=0.5)
    segments = [segment[1:] for window in found.windows for segment in window.segments]
    assert all(0 <= start < stop <= 290 * rate for start, stop in segments)
    assert all(before[1] <= after[0] for before, after in pairwise(segments))
    used = sum(stop - start for start, stop in segments)
    assert used + round(found.tail_s * rate) == round(found.speech_s * rate)
    assert all(window.num_samples == round(clip_s * rate) for window in found.windows[:-1])
    for start, stop in segments:
        assert (round(start / rate * rate), round(stop / rate * rate)) == (start, stop)
