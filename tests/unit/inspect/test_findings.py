from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from moodscale.config import validate
from moodscale.corpora.combined import CombinedConfig
from moodscale.inspect.findings import Finding, Level
from moodscale.inspect.report import DataReport, inspect
from moodscale.prepare.build import build_manifest
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from tiny_cmdc import Person, openface, write_cmdc
from tiny_daic import Session, tone, write_corpus
from tiny_manifests import own_voice, prepared, sessions


def titled(report: DataReport, title: str) -> Finding:
    (found,) = [one for one in report.findings if one.title.startswith(title)]
    return found


def titles(report: DataReport) -> list[str]:
    return [one.title for one in report.findings]


def look(root: Path, people: Sequence[Session], **how: int) -> DataReport:
    return inspect([prepared(root / "m", people)], **how)


def test_a_sound_corpus_has_nothing_wrong_but_what_its_size_makes_doubtful(tmp_path: Path) -> None:
    report = look(tmp_path, sessions(48), min_cell=1)
    assert report.num_by_level["wrong"] == 0
    assert titles(report)[:2] == ["Few of a class in validation", "Few of a class in test"]
    assert {one.level for one in report.findings[2:]} <= {Level.KNOWN, Level.DOUBTFUL}
    assert titled(report, "Nobody to train on").text.startswith("totals of 5–9, 10–14, 20–27 (PHQ-8)")


def test_worst_comes_first_and_larger_shares_before_smaller(tmp_path: Path) -> None:
    people = sessions(16)
    people[0].audio = np.zeros((320_000, 1), np.float32)
    people[1].score = 99
    report = look(tmp_path, people)
    order = list(Level)
    keys = [(order.index(one.level), -one.weight) for one in report.findings]
    assert keys == sorted(keys)
    assert len({one.level for one in report.findings}) > 1


def test_one_class_and_an_empty_split_are_wrong_without_saying_which_class(tmp_path: Path) -> None:
    people = [one for one in sessions(16) if one.split != "validation"]
    for one in people:
        if one.split == "test":
            one.score = 3
    report = look(tmp_path, people)
    assert (titled(report, "One class only in test").level, titled(report, "One class only in test").number) == (
        Level.WRONG, "4 people",
    )  # fmt: skip
    assert titled(report, "Empty validation split").level is Level.DOUBTFUL
    assert "depressed" not in titled(report, "One class only in test").text


def test_small_classes_are_counted_no_finer_than_may_be_shown(tmp_path: Path) -> None:
    assert titled(look(tmp_path / "a", sessions(8)), "Few of a class in test").number == "fewer than 5"
    assert titled(look(tmp_path / "b", sessions(8), min_cell=1), "Few of a class in test").number == "1"


def test_recordings_that_are_silent_clipped_noisy_or_short_are_named(tmp_path: Path) -> None:
    people = sessions(16)
    people[0].audio = np.zeros((320_000, 1), np.float32)
    people[1].audio = np.sign(tone(20.0)) * 1.0
    people[3].audio = 0.1 * np.random.default_rng(0).normal(size=(320_000, 1)).astype(np.float32)
    people[2].audio, people[2].duration_s = own_voice(2, 4.0), 4.0
    people[2].rows = [(0.1, 0.2, "Participant", "yes")]
    report = look(tmp_path, people)
    assert titled(report, "Silent recordings").interviews == ("500",)
    assert titled(report, "Clipped recordings").interviews == ("501",)
    assert titled(report, "Clipped recordings").number == "1 of 16"
    assert titled(report, "Very short interviews").interviews == ("502",)
    assert titled(report, "Little speech").interviews == ("502",)
    assert titled(report, "No clip").interviews == ("502",)
    assert titled(report, "Noisy recordings").interviews == ("503",)


def test_times_that_fill_more_than_the_recording_are_doubted(tmp_path: Path) -> None:
    people = sessions(8)
    people[3].rows = [(0.0, 0.1, "Ellie", "so"), *((0.2, 19.9, "Participant", "well") for _ in range(2))]
    assert titled(look(tmp_path, people), "Nothing but speech").interviews == ("503",)


def test_what_was_left_out_or_contradicts_itself_is_counted(tmp_path: Path) -> None:
    people = sessions(16)
    people[1].score = 99
    people[2].items = [3] * 8
    people[3].binary = 0
    report = look(tmp_path, people)
    assert (titled(report, "Interviews left out").number, titled(report, "Interviews left out").interviews) == (
        "1 of 16", ("501",),
    )  # fmt: skip
    assert titled(report, "Items do not add up").interviews == ("502",)
    assert titled(report, "Class contradicted total").level is Level.KNOWN


def test_reads_of_the_test_split_are_told_as_they_were_before(tmp_path: Path) -> None:
    manifest = prepared(tmp_path / "m", sessions(8))
    assert "Test split read before" not in titles(inspect([manifest]))
    assert titled(inspect([manifest]), "Test split read before").number == "once"
    manifest.clips("test")
    assert titled(inspect([manifest]), "Test split read before").number == "3 times"


def test_classes_that_follow_the_voice_are_doubted(tmp_path: Path) -> None:
    people = sessions(48)
    for one in people:
        one.score = 15 if one.gender else 3
        if int(one.id) % 8 == 0:
            one.score = 18 - int(one.score)
    found = titled(look(tmp_path, people), "Depressed share differs: female and male")
    assert "telling the voices apart" in found.text


@pytest.fixture(scope="module")
def two_corpora(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("two")
    write_corpus(root / "daic", sessions(16))
    visual = {f"openface/Q{question}.csv": openface(1) for question in range(1, 13)}
    people = [Person(f"HC{i:02d}", total=15, files={} if i == 1 else visual) for i in range(1, 13)]
    write_cmdc(root / "cmdc", people)
    cmdc = {"kind": "cmdc", "path": str(root / "cmdc"), "openface_pattern": "openface/Q{question}.csv"}
    config = validate(
        CombinedConfig, {"kind": "combined", "corpora": [{"kind": "daic_woz", "path": str(root / "daic")}, cmdc]}
    )
    splits = {"kind": "stratified", "validation": 0.25, "test": 0.25}
    build_manifest(config, validate(PrepareConfig, {"clip_s": 2, "splits": splits}), root / "m")
    return Manifest.open(root / "m")


def test_corpora_whose_classes_tell_them_apart_are_doubted(two_corpora: Manifest) -> None:
    report = inspect([two_corpora])
    found = titled(report, "Depressed share differs: daic_woz and cmdc")
    assert found.number == "50% and 100%"
    assert "telling the corpora apart" in found.text


def test_missing_features_and_approximations_are_told_by_corpus(two_corpora: Manifest) -> None:
    report = inspect([two_corpora])
    assert titled(report, "No openface").interviews == ("cmdc:HC01",)
    assert titled(report, "No openface").number == "1 of 12"
    counts = {(one.kind, one.corpus): (one.num_have, one.num_missing) for one in report.modalities}
    assert counts["openface", "cmdc"] == (11, 1)
    assert counts["openface", "daic_woz"] == (0, 0)
    assert counts["recording", "daic_woz"] == (16, 0)
    assert report.approximations == two_corpora.approximations()
    assert titled(report, "Approximate").number == f"{len(report.approximations)} things"


def test_answers_recorded_one_by_one_are_no_oddity(two_corpora: Manifest) -> None:
    assert "Nothing but speech" not in titles(inspect([two_corpora]))
