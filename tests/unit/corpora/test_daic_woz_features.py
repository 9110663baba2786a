from __future__ import annotations

from pathlib import Path

import pytest

from moodscale.config import ConfigError, validate
from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.corpora.reading.features import read_frames
from moodscale.corpora.reading.members import open_input
from tiny_daic import Session, write_corpus

FACE = b"frame, timestamp, confidence, success, x\n1, 0.0, 0.9, 1, 0.5\n"
CLNF = {"features": "clnf_features", "features3D": "clnf_features3d", "AUs": "clnf_aus", "gaze": "clnf_gaze"}


def files(number: str) -> dict[str, bytes]:
    found = {f"{number}_CLNF_{name}.txt": FACE for name in (*CLNF, "pose")}
    found[f"{number}_COVAREP.csv"] = b",".join([b"1"] * 74) + b"\n"
    found[f"{number}_FORMANT.csv"] = b"1,2,3,4,5\n"
    found[f"{number}_CLNF_hog.bin"] = bytes(100)
    return found


@pytest.mark.parametrize("archives", [False, True])
def test_every_kind_is_found_and_can_be_read_where_it_is(tmp_path: Path, archives: bool) -> None:
    root = write_corpus(tmp_path / "corpus", [Session("300", extra_files=files("300"))], archives=archives)
    corpus = DaicWozConfig(path=str(root)).open(tmp_path / "m" / "audio")
    reading = corpus.read("300")
    assert reading.interview is not None
    assert (reading.interview.missing, reading.repairs) == ((), ())
    kinds = [file.kind for file in reading.interview.features]
    assert kinds == ["covarep", "formant", *CLNF.values(), "clnf_pose"]
    for file in reading.interview.features:
        assert file.format == f"daic_woz.{file.kind}"
        with open_input(corpus.roots, file.root, file.path) as stream:
            (block,) = read_frames(stream, file.format)
            assert block.valid.tolist() == [True]


def test_a_corpus_of_recordings_alone_has_no_line_about_features(tmp_path: Path) -> None:
    corpus = DaicWozConfig(path=str(write_corpus(tmp_path, [Session("300"), Session("301")]))).open()
    for one in corpus.interview_ids():
        reading = corpus.read(one)
        assert reading.interview is not None
        assert (reading.interview.features, reading.interview.missing, reading.repairs) == ((), (), ())


def test_a_kind_that_another_session_has_is_missing_with_one_line(tmp_path: Path) -> None:
    few = {name: data for name, data in files("301").items() if "CLNF" in name}
    sessions = [Session("300"), Session("301", extra_files=few), Session("302", extra_files=files("302"))]
    corpus = DaicWozConfig(path=str(write_corpus(tmp_path, sessions))).open()
    lines = {one: [(line.defect, line.before) for line in corpus.read(one).repairs] for one in corpus.interview_ids()}
    assert lines["301"] == [("missing_feature", "no file of covarep, formant")]
    assert lines["302"] == []
    found = corpus.read("300").interview
    assert found is not None
    assert len(found.missing) == 7


def test_features_may_be_chosen_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    root = write_corpus(tmp_path, [Session("300", extra_files=files("300"))])
    reading = DaicWozConfig(path=str(root), features=("covarep",)).open().read("300")
    assert reading.interview is not None
    assert [file.kind for file in reading.interview.features] == ["covarep"]
    none = DaicWozConfig(path=str(root), features=()).open().read("300").interview
    assert none is not None
    assert (none.features, none.missing) == ((), ())
    with pytest.raises(ConfigError, match="'openface' is no kind of features of DAIC-WOZ"):
        validate(DaicWozConfig, {"kind": "daic_woz", "path": "/data", "features": ["openface"]})


def test_a_changed_feature_file_is_a_changed_input(tmp_path: Path) -> None:
    corpus = DaicWozConfig(path=str(write_corpus(tmp_path, [Session("300", extra_files=files("300"))]))).open()
    names = [file.name for file in corpus.inputs()]
    assert "300_P/300_COVAREP.csv" in names
    assert len(names) == len(set(names))
