from __future__ import annotations

from pathlib import Path

import pytest

from moodscale.inspect.gather import gather
from moodscale.inspect.plans import SamplingPlan, sampling_plans
from tiny_manifests import DURATION_S, own_voice, prepared, sessions


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SamplingPlan]:
    """Twelve people for training; one of them, depressed, speaks four times as long."""
    people = sessions(24)
    people[1].duration_s, people[1].audio = 4 * DURATION_S, own_voice(1, 4 * DURATION_S)
    manifest = prepared(tmp_path_factory.mktemp("plans") / "m", people)
    found = sampling_plans(gather([manifest], test_labels=False), max_clips=2, min_cell=5)
    assert manifest.num_test_reads() == 0
    return {one.name: one for one in found}


def test_natural_sampling_shows_the_shares_of_the_clips(plans: dict[str, SamplingPlan]) -> None:
    natural = plans["natural"]
    talkative = natural.num_clips - 11 * 4
    assert talkative > 12
    assert natural.num_different == natural.num_clips
    assert natural.largest_share == pytest.approx(talkative / natural.num_clips)
    assert natural.depressed_share == pytest.approx((talkative + 5 * 4) / natural.num_clips)


def test_balancing_evens_out_classes_or_people(plans: dict[str, SamplingPlan]) -> None:
    assert plans["class-balanced"].depressed_share == pytest.approx(0.5, abs=0.01)
    assert plans["speaker-balanced"].largest_share == pytest.approx(1 / 12, abs=0.01)
    assert plans["class- and speaker-balanced"].depressed_share == pytest.approx(0.5, abs=0.05)
    assert plans["speaker-balanced"].num_clips == plans["natural"].num_clips


def test_a_cap_limits_what_one_person_is_shown_with(plans: dict[str, SamplingPlan]) -> None:
    capped = plans["at most 2 a person"]
    assert (capped.num_people, capped.num_clips, capped.setting) == (12, 24, "max_clips_per_speaker: 2")
    assert capped.largest_share == pytest.approx(1 / 12)


def test_the_class_share_of_few_people_is_not_shown(tmp_path: Path) -> None:
    data = gather([prepared(tmp_path / "m", sessions(8))])
    assert {one.depressed_share for one in sampling_plans(data, 2, 5)} == {None}
    assert None not in {one.depressed_share for one in sampling_plans(data, 2, 1)}
