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
    return cut_clips([Turn(*turn) for turn in turns], audio, PrepareConfig(**settings))


def test_turns_are_put_end_to_end_and_cut_without_overlap() -> None:
    found = cut([(P, 0, 6), (E, 6, 20), (P, 20, 33), (P, 40, 45)])
    assert [window.segments for window in found.windows] == [
        ((0, 600), (2000, 2400)),
        ((2400, 3300), (4000, 4100)),
    ]
    assert [window.num_turns for window in found.windows] == [2, 2]
    assert (found.num_turns, found.speech_samples, found.tail_samples) == (3, 2400, 400)


def test_the_tail_is_dropped_or_kept_at_its_own_length_from_a_minimum() -> None:
    turns = [(P, 0.0, 13.0)]
    assert [w.num_samples for w in cut(turns).windows] == [1000]
    assert [w.num_samples for w in cut(turns, tail="pad").windows] == [1000, 300]
    assert [w.num_samples for w in cut(turns, tail="pad", min_tail_s=3.01).windows] == [1000]
    assert cut(turns, tail="pad").tail_samples == 0


@pytest.mark.parametrize(
    ("speech", "expected"),
    [
        ("participant", [((0, 500), (1500, 2000))]),
        ("interviewer", [((500, 1500),)]),
        ("everything", [((0, 1000),), ((1000, 2000),)]),
    ],
)
def test_whose_speech_is_cut_is_one_setting(speech: str, expected: list[Any]) -> None:
    found = cut([(P, 0, 5), (E, 5, 15), (P, 15, 20)], speech=speech)
    assert [window.segments for window in found.windows] == expected


def test_turns_that_overlap_use_the_shared_part_once() -> None:
    found = cut([(P, 0, 6), (P, 4, 9), (P, 5, 8), (P, 20, 21)])
    assert [window.segments for window in found.windows] == [((0, 900), (2000, 2100))]
    assert found.num_overlapping == 2


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
    segments = [segment for window in found.windows for segment in window.segments]
    assert all(0 <= start < stop <= 290 * rate for start, stop in segments)
    assert all(before[1] <= after[0] for before, after in pairwise(segments))
    used = sum(stop - start for start, stop in segments)
    assert used + found.tail_samples == found.speech_samples
    assert all(window.num_samples == round(clip_s * rate) for window in found.windows[:-1])
    for start, stop in segments:
        assert (round(start / rate * rate), round(stop / rate * rate)) == (start, stop)
