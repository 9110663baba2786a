from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moodscale.config import ConfigError, validate
from moodscale.corpora.base import MANIFEST_ROOT
from moodscale.corpora.combined import Combined, CombinedConfig
from moodscale.corpora.reading.members import open_input
from moodscale.corpora.reading.paths import resolve
from moodscale.schema import CorpusError
from tiny_cmdc import Person, openface, write_cmdc
from tiny_daic import Session, write_corpus
from tiny_edaic import Session as EdaicSession
from tiny_edaic import write_corpus as write_edaic


def write_both(root: Path, archives: bool = False) -> None:
    write_corpus(
        root / "daic", [Session("300", duration_s=10.0), Session("301", score=15, gender=1)], archives=archives
    )
    files = {f"openface/Q{question}.csv": openface(1) for question in range(1, 13)}
    write_cmdc(root / "cmdc", [Person("HC01", files=files)], more_rows=["HC09,3,F,30,0,0,0,0,0,0,1,1,1"])


def settings(root: Path) -> dict[str, Any]:
    return {
        "kind": "combined",
        "corpora": [
            {"kind": "daic_woz", "path": str(root / "daic")},
            {"kind": "cmdc", "path": str(root / "cmdc"), "openface_pattern": "openface/Q{question}.csv"},
        ],
    }


def open_both(root: Path, unpack_to: Any = None, **changes: Any) -> Combined:
    return validate(CombinedConfig, {**settings(root), **changes}).open(unpack_to)


def test_interviews_roots_and_lines_say_which_corpus_they_are_of(tmp_path: Path) -> None:
    write_both(tmp_path)
    corpus = open_both(tmp_path)
    assert corpus.interview_ids() == ["cmdc:HC01", "daic_woz:300", "daic_woz:301"]
    assert {name: path.name for name, path in corpus.roots.items()} == {
        "corpus.daic_woz": "daic",
        "corpus.cmdc": "cmdc",
    }
    assert [(line.corpus, line.interview_id, line.defect) for line in corpus.absent()] == [
        ("cmdc", "cmdc:HC09", "absent_session")
    ]
    for interview_id in corpus.interview_ids():
        interview = corpus.read(interview_id).interview
        assert interview is not None
        assert interview.interview_id == interview_id
        assert interview.corpus == interview_id.split(":")[0]
        for file in (*interview.recordings, *interview.features):
            assert resolve(corpus.roots, file.root, file.path).is_file()
    assert {file.name.split("/")[0] for file in corpus.inputs()} == {"cmdc", "daic_woz"}


def test_the_person_is_who_they_are_in_their_own_corpus(tmp_path: Path) -> None:
    write_both(tmp_path)
    interview = open_both(tmp_path).read("daic_woz:300").interview
    assert interview is not None
    assert interview.person == "daic:300"


def test_what_is_repaired_in_a_session_keeps_its_corpus_name(tmp_path: Path) -> None:
    write_both(tmp_path)
    (tmp_path / "cmdc/CMDC_EULA/part1/HC01/Q3.wav").unlink()
    (tmp_path / "daic/300_P/300_AUDIO.wav").write_bytes(b"")
    corpus = open_both(tmp_path)
    repair = corpus.read("cmdc:HC01").repairs[0]
    assert (repair.corpus, repair.interview_id, repair.defect) == ("cmdc", "cmdc:HC01", "missing_question")
    reading = corpus.read("daic_woz:300")
    assert reading.interview is None
    (line,) = reading.quarantined
    assert (line.corpus, line.interview_id) == ("daic_woz", "daic_woz:300")


def test_recordings_that_are_unpacked_lie_in_a_folder_of_their_corpus_and_are_found_from_the_manifest(
    tmp_path: Path,
) -> None:
    write_both(tmp_path, archives=True)
    manifest = tmp_path / "manifest"
    corpus = open_both(tmp_path, manifest / "audio")
    interview = corpus.read("daic_woz:300").interview
    assert interview is not None
    (audio,) = interview.recordings
    assert (audio.root, audio.path) == (MANIFEST_ROOT, "audio/daic_woz/300_AUDIO.wav")
    assert resolve({MANIFEST_ROOT: manifest}, audio.root, audio.path).is_file()


def test_the_order_of_the_corpora_and_where_they_lie_do_not_count_as_content(tmp_path: Path) -> None:
    write_both(tmp_path)
    config = validate(CombinedConfig, settings(tmp_path))
    turned = {**settings(Path("elsewhere")), "corpora": settings(Path("elsewhere"))["corpora"][::-1]}
    assert validate(CombinedConfig, turned).content() == config.content()
    assert str(tmp_path) not in str(config.content())


def test_a_config_keeps_each_parts_settings_when_it_is_dumped_and_read_again(tmp_path: Path) -> None:
    config = validate(CombinedConfig, settings(tmp_path))
    again = validate(CombinedConfig, config.to_json())
    assert again == config
    assert again.corpora[1].to_json()["openface_pattern"] == "openface/Q{question}.csv"


def test_absolute_reaches_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = validate(CombinedConfig, settings(Path())).absolute()
    assert [part.to_json()["path"] for part in config.corpora] == [str(tmp_path / "daic"), str(tmp_path / "cmdc")]


@pytest.mark.parametrize(("corpora", "part"), [
    ([{"kind": "cmdc", "path": "a"}, {"kind": "cmdc", "path": "b"}], "cmdc is in it 2 times"),
    ([{"kind": "cmdc", "path": "a"}], "at least 2"),
    ([{"kind": "nowhere", "path": "a"}, {"kind": "cmdc", "path": "b"}], "nowhere"),
    ([{"kind": "cmdc"}, {"kind": "daic_woz", "path": "b"}], "path"),
    ([{"path": "a"}, {"kind": "daic_woz", "path": "b"}], "no 'kind'"),
])  # fmt: skip
def test_corpora_that_cannot_be_combined_are_refused(corpora: list[dict[str, str]], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        validate(CombinedConfig, {"corpora": corpora})


def test_combined_corpora_are_not_combined_again(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="list their corpora"):
        validate(CombinedConfig, {"corpora": [settings(tmp_path), {"kind": "cmdc", "path": "a"}]})


def test_an_interview_of_no_corpus_is_refused(tmp_path: Path) -> None:
    write_both(tmp_path)
    with pytest.raises(CorpusError, match="'edaic:300' is of none of the corpora cmdc, daic_woz"):
        open_both(tmp_path).read("edaic:300")


def test_a_reader_of_figures_is_told_what_mixing_means_and_what_each_part_says(tmp_path: Path) -> None:
    write_both(tmp_path)
    said = open_both(tmp_path).approximations()
    assert any("totals of PHQ-8" in sentence and "never mixed" in sentence for sentence in said)
    assert any("no validation people" in sentence and sentence.startswith("CMDC") for sentence in said)
    assert not any("300-492" in sentence for sentence in said)


@pytest.mark.parametrize("archive", ["", "tar.gz"])
def test_one_person_in_two_corpora_has_one_key_and_two_interviews_whose_recordings_open(
    tmp_path: Path, archive: str
) -> None:
    write_corpus(tmp_path / "daic", [Session("300"), Session("301", score=15)])
    write_edaic(tmp_path / "edaic", [EdaicSession("300"), EdaicSession("600", score=15)], archive=archive)
    parts = [{"kind": kind, "path": str(tmp_path / kind.removesuffix("_woz"))} for kind in ("daic_woz", "edaic")]
    manifest = tmp_path / "manifest"
    manifest.mkdir()
    corpus = validate(CombinedConfig, {"corpora": parts}).open(manifest / "audio")
    found = [corpus.read(interview_id).interview for interview_id in corpus.interview_ids()]
    assert [(one.interview_id, one.person) for one in found if one] == [
        ("daic_woz:300", "daic:300"),
        ("daic_woz:301", "daic:301"),
        ("edaic:300", "daic:300"),
        ("edaic:600", "daic:600"),
    ]
    for one in found:
        assert one is not None
        (audio,) = one.recordings
        with open_input({**corpus.roots, MANIFEST_ROOT: manifest}, audio.root, audio.path) as stream:
            assert stream.read(4) == b"RIFF"
    assert any("300-492" in sentence for sentence in corpus.approximations())
