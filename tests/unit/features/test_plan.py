"""Windows cover a recording once; groups follow from the recordings alone."""

from __future__ import annotations

import hashlib
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodscale.config import ConfigError
from moodscale.features.plan import BUCKET_RATIO, Group, Recording, Windowing, bucketed
from moodscale.schema import CorpusError, FeatureFile

WINDOWING = Windowing.of(2.0, 0.4)


def recording(num_samples: int, rate_hz: int = 16_000, name: str = "r") -> Recording:
    digest = hashlib.sha256(f"{name}{num_samples}".encode()).hexdigest()[:32]
    return Recording(digest, "corpus", f"{name}.wav", rate_hz, num_samples)


@settings(max_examples=60, deadline=None)
@given(num_samples=st.integers(1, 400_000), rate_hz=st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000]))
def test_cores_cover_a_recording_once_and_inputs_stay_inside_it(num_samples: int, rate_hz: int) -> None:
    one = recording(num_samples, rate_hz)
    windows = WINDOWING.windows(one)
    assert [window.index for window in windows] == list(range(len(windows)))
    edges = [edge for window in windows for edge in (window.start, window.stop)]
    assert edges == sorted(edges)
    assert all(before.stop == after.start for before, after in pairwise(windows))
    assert sum(window.stop - window.start for window in windows) == one.num_samples_16k
    for window in windows:
        assert 0 <= window.input_start <= window.start < window.stop <= window.input_stop <= one.num_samples_16k
        assert window.input_start % 320 == 0, "a halo of whole hops keeps the frames' grid"


def test_groups_hold_windows_of_about_one_length_and_the_longest_come_first() -> None:
    draw = random.Random(0)
    recordings = [recording(draw.randrange(1_000, 300_000), name=str(index)) for index in range(40)]
    groups = bucketed(recordings, WINDOWING, 4)
    assert max(len(group.windows) for group in groups) == 4
    for group in groups:
        lengths = [window.num_input_samples for window in group.windows]
        assert max(lengths) <= BUCKET_RATIO * min(lengths) + 1
    longest = [max(window.num_input_samples for window in group.windows) for group in groups]
    assert longest[0] == max(longest)
    assert longest[-1] <= BUCKET_RATIO * min(longest) + 1
    every = [name for group in groups for name in group.names]
    assert len(every) == len(set(every)) == sum(len(WINDOWING.windows(one)) for one in recordings)


def test_groups_do_not_depend_on_the_order_in_which_recordings_are_listed() -> None:
    recordings = [recording(10_000 * (index + 1), name=str(index)) for index in range(12)]
    shuffled = random.Random(1).sample(recordings, len(recordings))
    assert bucketed(recordings, WINDOWING, 3) == bucketed(shuffled, WINDOWING, 3)


def test_a_group_survives_its_way_to_a_worker() -> None:
    group = bucketed([recording(90_000)], WINDOWING, 4)[0]
    whole = Group(group.windows, FeatureFile("openface", "csv", "corpus", "a.csv", 1), "12:34", group.names[:1])
    assert Group.from_json(whole.to_json()) == whole
    assert Group.from_json(group.to_json()) == group


@pytest.mark.parametrize("window_s", [2.01, 0.01])
def test_a_window_off_the_grid_is_refused_by_name(window_s: float) -> None:
    with pytest.raises(ConfigError, match=r"features\.window_s=.*multiple of 0\.04 s"):
        Windowing.of(window_s, 0.4)


@pytest.mark.parametrize("digest", ["../../../etc/passwd", "", "A" * 32, "ab/cd" + "0" * 30])
def test_a_hash_that_would_name_another_place_is_refused(digest: str) -> None:
    with pytest.raises(CorpusError, match="audio_hash"):
        Recording(digest, "corpus", "r.wav", 16_000, 10)
