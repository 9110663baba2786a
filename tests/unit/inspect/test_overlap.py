from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moodscale.config import ConfigError
from moodscale.inspect.overlap import find_overlap
from moodscale.inspect.report import check_different
from tiny_manifests import own_voice, prepared, sessions


def test_people_in_one_split_everywhere_are_disjoint(tmp_path: Path) -> None:
    first = prepared(tmp_path / "a", sessions(8))
    second = prepared(tmp_path / "b", sessions(8), clip_s=3)
    overlap = find_overlap([first, second])
    assert overlap.disjoint
    assert overlap.num_people == {"a": 8, "b": 8}
    assert [(one.first, one.second, one.num_people) for one in overlap.manifests] == [("a", "b", 8)]
    assert first.num_test_reads() == second.num_test_reads() == 0


def test_a_person_in_two_splits_of_two_manifests_is_named_with_both_places(tmp_path: Path) -> None:
    people = sessions(8)
    first = prepared(tmp_path / "a", people)
    people[0].split, people[6].split = "test", "train"
    overlap = find_overlap([first, prepared(tmp_path / "b", people)])
    assert not overlap.disjoint
    assert [(one.person, one.places) for one in overlap.people] == [
        ("daic:500", (("a", "train"), ("b", "test"))),
        ("daic:506", (("a", "test"), ("b", "train"))),
    ]


@pytest.mark.parametrize(("copied_to", "across"), [(6, True), (1, False)])
def test_one_recording_of_two_people_is_found_and_said_where(tmp_path: Path, copied_to: int, across: bool) -> None:
    people = sessions(8)
    people[copied_to].audio = own_voice(0)
    overlap = find_overlap([prepared(tmp_path / "a", people)])
    assert not overlap.disjoint
    (same,) = overlap.recordings
    assert {person for _, person, *_ in same.places} == {"daic:500", f"daic:{500 + copied_to}"}
    assert {interview for _, _, interview, _ in same.places} == {"daic_woz:500", f"daic_woz:{500 + copied_to}"}
    assert same.across_splits is across


def test_silence_of_two_people_is_not_the_same_recording(tmp_path: Path) -> None:
    people = sessions(8)
    for one in people[:2]:
        one.audio = np.zeros((320_000, 1), np.float32)
    assert find_overlap([prepared(tmp_path / "a", people)]).recordings == ()


def test_a_manifest_named_twice_is_refused(tmp_path: Path) -> None:
    manifest = prepared(tmp_path / "a", sessions(8))
    with pytest.raises(ConfigError, match="a is named twice"):
        check_different([manifest, manifest])
