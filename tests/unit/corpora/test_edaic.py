from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from upath import UPath

from moodscale.config import ConfigError, validate
from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.corpora.edaic import Edaic, EdaicConfig
from moodscale.corpora.reading.features import read_frames
from moodscale.corpora.reading.members import open_input
from moodscale.schema import CorpusError, Interview, Provenance, Speaker, Split
from tiny_daic import Session as DaicSession
from tiny_daic import write_corpus as write_daic
from tiny_edaic import LABELS, LABLES, ROWS, Session, pack, write_corpus

OPENFACE = "OpenFace2.1.0_Pose_gaze_AUs.csv"
FACE = b"frame,timestamp,confidence,success,gaze_0_x\n1,0.0,0.9,1,0.5\n"
EGEMAPS = b"name;frameTime;Loudness\n'unknown';0.0;1.5\n"
FEATURES = {OPENFACE: FACE, "OpenSMILE2.3.0_egemaps.csv": EGEMAPS}


def read(root: Path, session: Session, *others: Session, **layout: Any) -> tuple[Interview, dict[str, tuple[str, str]]]:
    reading = EdaicConfig(path=str(write_corpus(root, [session, *others], **layout))).open().read(session.id)
    assert reading.interview is not None, reading.quarantined
    return reading.interview, {repair.defect: (repair.before, repair.after) for repair in reading.repairs}


def reason(corpus: Edaic, interview_id: str) -> str:
    reading = corpus.read(interview_id)
    assert reading.interview is None
    (line,) = reading.quarantined
    return line.reason


def spans(interview: Interview) -> list[tuple[float, float]]:
    return [(turn.start_s, turn.stop_s) for turn in interview.turns]


@pytest.mark.parametrize(("tables", "data"), [("labels", "data"), ("", "data"), ("labels", ""), ("", "")])
def test_a_plain_session_is_read_without_a_repair_wherever_tables_and_sessions_lie(
    tmp_path: Path, tables: str, data: str
) -> None:
    interview, repairs = read(tmp_path, Session("600", score=7, gender="female"), tables=tables, data=data)
    assert repairs == {}
    assert (interview.person, interview.gender, interview.split) == ("daic:600", "female", Split.TRAIN)
    assert interview.label is not None
    assert (interview.label.total, sum(item or 0 for item in interview.label.items)) == (7, 7)
    assert spans(interview) == [(1.0, 3.0), (4.0, 6.5)]
    assert {turn.speaker for turn in interview.turns} == {Speaker.PARTICIPANT}
    assert interview.recordings[0].path == f"{data}/600_P/600_AUDIO.wav".lstrip("/")


@pytest.mark.parametrize("suffix", ["tar.gz", "tgz", "tar"])
@pytest.mark.parametrize("flat", [False, True])
def test_an_archive_reads_as_its_folder_does_and_nothing_is_unpacked(tmp_path: Path, suffix: str, flat: bool) -> None:
    session = Session("600", features=FEATURES)
    of_folder, _ = read(tmp_path / "folder", session)
    root = write_corpus(tmp_path / "tar", [session])
    pack(root / "data" / "600_P", suffix, flat)
    corpus = EdaicConfig(path=str(root)).open()
    reading = corpus.read("600")
    assert reading.interview is not None, reading.quarantined
    assert reading.interview.turns == of_folder.turns
    inside = "" if flat else "600_P/"
    assert reading.interview.recordings[0].path == f"data/600_P.{suffix}!{inside}600_AUDIO.wav"
    assert [repair.defect for repair in reading.repairs] == (["flat_tar"] if flat else [])
    assert [file.kind for file in reading.interview.features] == [file.kind for file in of_folder.features]
    for file in reading.interview.features:
        with open_input(corpus.roots, file.root, file.path) as stream:
            assert [block.valid.tolist() for block in read_frames(stream, file.format)] == [[True]]
    assert [path.name for path in (root / "data").iterdir()] == [f"600_P.{suffix}"]


def test_a_person_of_both_corpora_has_one_key(tmp_path: Path) -> None:
    write_daic(tmp_path / "daic", [DaicSession("321", duration_s=60)])
    daic = DaicWozConfig(path=str(tmp_path / "daic")).open().read("321").interview
    edaic, repairs = read(tmp_path / "edaic", Session("321"))
    assert daic is not None
    assert daic.person == edaic.person == "daic:321"
    # DAIC-WOZ's offset belongs to its own transcript.
    assert (spans(edaic), repairs) == ([(1.0, 3.0), (4.0, 6.5)], {})


def test_every_official_split_is_told_from_its_table(tmp_path: Path) -> None:
    sessions = [Session("300"), Session("301", split="validation"), Session("600", split="test", score=12)]
    corpus = EdaicConfig(path=str(write_corpus(tmp_path, sessions))).open()
    interviews = [corpus.read(one).interview for one in corpus.interview_ids()]
    assert [one.split for one in interviews if one] == [Split.TRAIN, Split.VALIDATION, Split.TEST]
    assert all(one is not None and one.label is not None and len(one.label.items) == 8 for one in interviews)


def test_without_the_table_of_everybody_the_test_split_has_totals_only_and_it_is_said(tmp_path: Path) -> None:
    sessions = [Session("300"), Session("600", split="test")]
    corpus = EdaicConfig(path=str(write_corpus(tmp_path, sessions, items=[LABELS]))).open()
    items = [len(one.label.items) for id_ in ("300", "600") if (one := corpus.read(id_).interview) and one.label]
    assert items == [8, 0]
    (line,) = corpus.absent()
    assert (line.defect, line.where) == ("absent_item_table", LABLES)
    assert LABELS in line.after
    assert LABELS in corpus.approximations()[-1]


def test_which_item_table_was_used_is_said(tmp_path: Path) -> None:
    corpus = EdaicConfig(path=str(write_corpus(tmp_path, [Session("300")]))).open()
    assert LABLES in corpus.approximations()[-1]
    assert corpus.absent() == []


def test_where_item_tables_disagree_it_is_noted_and_everybodys_is_taken(tmp_path: Path) -> None:
    session = Session("300", score=4, lables=(1, 1, 1, 1, 0, 0, 0, 0), labels=(1, 1, 2, 1, 0, 0, 0, 0))
    interview, repairs = read(tmp_path, session)
    assert interview.label is not None
    assert interview.label.items == (1, 1, 1, 1, 0, 0, 0, 0)
    assert repairs == {"item_tables_disagree": ("PHQ_8Sleep 2", "PHQ8_3_Sleep 1")}


def test_totals_that_differ_between_tables_are_noted_and_the_splits_is_taken(tmp_path: Path) -> None:
    interview, repairs = read(tmp_path, Session("300", score=4, severity=6))
    assert interview.label is not None
    assert interview.label.total == 4
    assert repairs == {"totals_disagree": ("6", "PHQ_Score 4")}


def test_spaces_around_a_gender_are_taken_off_with_a_line(tmp_path: Path) -> None:
    interview, repairs = read(tmp_path, Session("300", gender=" female  "))
    assert interview.gender == "female"
    assert list(repairs) == ["stray_spaces"]


def test_an_unknown_gender_is_no_error(tmp_path: Path) -> None:
    interview, repairs = read(tmp_path, Session("300", gender="other"))
    assert interview.gender == "unknown"
    assert list(repairs) == ["unknown_gender"]


def test_binary_is_derived_from_the_score_and_sums_are_checked(tmp_path: Path) -> None:
    interview, repairs = read(tmp_path, Session("300", score=10, binary=0, lables=(1,) * 8))
    assert interview.label is not None
    assert (interview.label.depressed, interview.label.provenance) == (True, Provenance.REPAIRED)
    assert repairs["binary_contradicts_score"] == ("0 with score 10", "1")
    assert repairs["items_do_not_add_up"][0] == "items sum to 8, total 10"


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        (Session("300", lables=(7, *[0] * 7)), f"{LABLES}: PHQ8_1_NoInterest=7"),
        (Session("300", score=25), "train_split.csv: PHQ_Score=25"),
        (Session("300", score="canary"), "train_split.csv: PHQ_Score=(not a number)"),
    ],
)
def test_a_label_out_of_range_quarantines_the_person_by_table_and_field(
    tmp_path: Path, session: Session, expected: str
) -> None:
    corpus = EdaicConfig(path=str(write_corpus(tmp_path, [session, Session("301")]))).open()
    assert reason(corpus, "300").startswith(expected)
    assert corpus.read("301").interview is not None


def test_backward_times_are_sorted_and_overlaps_clipped_with_one_line(tmp_path: Path) -> None:
    rows = [(4.0, 6.0, "b", 0.9), (1.0, 2.0, "a", 0.9), (5.5, 8.0, "c", 0.9), (6.0, 7.0, "within", 0.9)]
    interview, repairs = read(tmp_path, Session("300", rows=rows))
    assert spans(interview) == [(1.0, 2.0), (4.0, 5.5), (5.5, 8.0)]
    assert [turn.text for turn in interview.turns] == ["a", "b", "c within"]
    before = "1 row(s) start before the one before them, 2 end after the next begins"
    assert repairs == {"backward_times": (before, "sorted by start, overlaps clipped")}


def test_rows_without_time_or_words_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = [*ROWS, ("", "", "", ""), (7, 8, "", 0.5), ("nan", 9, "x", 0.5), (9, 8, "y", 0.5)]
    interview, repairs = read(tmp_path, Session("300", rows=rows))
    assert spans(interview) == [(1.0, 3.0), (4.0, 6.5)]
    assert {defect: before.split()[0] for defect, (before, _) in repairs.items()} == {"blank_row": "2", "bad_time": "1"}


def test_a_row_past_the_recording_is_clipped(tmp_path: Path) -> None:
    interview, repairs = read(tmp_path, Session("300", rows=[(8.0, 12.0, "x", 0.9)]))
    assert spans(interview) == [(8.0, 10.0)]
    assert repairs == {"time_past_end": ("turns outside 0-10.000 s", "0 dropped, 1 trimmed")}


def test_rows_below_the_wanted_confidence_are_dropped(tmp_path: Path) -> None:
    root = write_corpus(tmp_path, [Session("300", rows=[*ROWS, (7, 8, "no number", "")])])
    reading = EdaicConfig(path=str(root), min_confidence=0.85).open().read("300")
    assert reading.interview is not None
    assert spans(reading.interview) == [(1.0, 3.0), (7.0, 8.0)]
    assert [repair.defect for repair in reading.repairs] == ["low_confidence"]


def test_commas_within_quotes_belong_to_the_words(tmp_path: Path) -> None:
    interview, _ = read(tmp_path, Session("300", rows=[(1, 2, '"well, yes"', 0.9)]))
    assert interview.turns[0].text == "well, yes"


@pytest.mark.parametrize("archive", ["", "tar.gz"])
def test_a_kind_that_others_have_is_missing_with_a_line(tmp_path: Path, archive: str) -> None:
    egemaps = {name: FEATURES[name] for name in FEATURES if name != OPENFACE}
    sessions = [Session("300", features=FEATURES), Session("301", features=egemaps)]
    corpus = EdaicConfig(path=str(write_corpus(tmp_path, sessions, archive=archive))).open()
    whole, part = corpus.read("300"), corpus.read("301")
    assert whole.interview is not None
    assert part.interview is not None
    assert [(file.kind, file.format) for file in whole.interview.features] == [
        ("openface", "edaic.openface"),
        ("egemaps", "edaic.egemaps"),
    ]
    assert (whole.interview.missing, whole.repairs) == ((), ())
    assert part.interview.missing == ("openface",)
    assert [(repair.defect, repair.before) for repair in part.repairs] == [("missing_feature", "no file of openface")]


def test_kinds_that_the_settings_name_are_expected_and_others_passed_over(tmp_path: Path) -> None:
    root = write_corpus(tmp_path, [Session("300", features=FEATURES)])
    reading = EdaicConfig(path=str(root), features=("openface", "resnet")).open().read("300")
    assert reading.interview is not None
    assert [file.kind for file in reading.interview.features] == ["openface"]
    assert reading.interview.missing == ("resnet",)
    with pytest.raises(ConfigError, match=r"'hog' is no kind of features of E-DAIC; known are openface"):
        validate(EdaicConfig, {"kind": "edaic", "path": "/data", "features": ["hog"]})


def test_a_person_without_a_session_is_absent_and_apple_doubles_are_ignored(tmp_path: Path) -> None:
    session = Session("300", extra_files={"._300_Transcript.csv": b"\0", "._300_AUDIO.wav": b"\0"})
    root = write_corpus(tmp_path, [session, Session("342", folder=False)], archive="tar.gz")
    (root / "labels" / "._train_split.csv").write_bytes(b"\0\5\x16\7")
    corpus = EdaicConfig(path=str(root)).open()
    assert [(line.interview_id, line.defect) for line in corpus.absent()] == [("342", "absent_session")]
    assert [(repair.defect, repair.before) for repair in corpus.read("300").repairs] == [
        ("apple_double", "2 file(s) named ._*")
    ]


def test_a_transcript_that_daic_woz_overwrote_is_told_from_its_own(tmp_path: Path) -> None:
    corpus = EdaicConfig(path=str(write_corpus(tmp_path, [Session("300"), Session("301")]))).open()
    own, others = (tmp_path / "data" / f"{one}_P" / f"{one}_Transcript.csv" for one in ("300", "301"))
    own.rename(own.with_name("300_TRANSCRIPT.csv"))
    others.write_text("start_time\tstop_time\tspeaker\tvalue\n1\t2\tParticipant\tcanary\n")
    found = corpus.read("300").interview
    assert found is not None
    assert spans(found) == [(1.0, 3.0), (4.0, 6.5)]
    assert "DAIC-WOZ" in reason(corpus, "301")
    assert "canary" not in reason(corpus, "301")


@pytest.mark.parametrize("name", ["300_Transcript.csv", "300_AUDIO.wav"])
@pytest.mark.parametrize("archive", ["", "tar.gz"])
def test_a_missing_file_quarantines_its_session_by_name(tmp_path: Path, name: str, archive: str) -> None:
    root = write_corpus(tmp_path, [Session("300"), Session("301")])
    (root / "data" / "300_P" / name).unlink()
    if archive:
        pack(root / "data" / "300_P", archive)
    corpus = EdaicConfig(path=str(root)).open()
    assert name in reason(corpus, "300")
    assert corpus.read("301").interview is not None


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_archive_quarantines_its_session_by_name(tmp_path: Path, damage: str) -> None:
    root = write_corpus(tmp_path, [Session("300"), Session("301")], archive="tar.gz")
    path = root / "data" / "300_P.tar.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes({"cut": path.read_bytes()[:-100], "flip": bytes(data), "empty": b""}[damage])
    corpus = EdaicConfig(path=str(root)).open()
    assert reason(corpus, "300").startswith("300_P.tar.gz: ")
    assert corpus.read("301").interview is not None


def test_two_people_in_one_split_and_one_person_in_two_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"daic:300 is in two splits: train_split\.csv and test_split\.csv"):
        EdaicConfig(path=str(write_corpus(tmp_path, [Session("300"), Session("300", split="test")]))).open()


def test_a_folder_that_is_no_corpus_is_named_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"corpus\.path=.*no such folder"):
        EdaicConfig(path=str(tmp_path / "none")).open()
    with pytest.raises(CorpusError, match=r"300_P\.tar\.gz"):
        EdaicConfig(path=str(tmp_path)).open()
    (tmp_path / "300_P").mkdir()
    with pytest.raises(CorpusError, match="label tables"):
        EdaicConfig(path=str(tmp_path)).open()


def test_what_is_approximate_is_said_with_counts(tmp_path: Path) -> None:
    corpus = EdaicConfig(path=str(write_corpus(tmp_path, [Session("300"), Session("301"), Session("600")]))).open()
    said = " ".join(corpus.approximations())
    for words in ("names no speaker", "2 here", "1 here", "all automatic"):
        assert words in said


@pytest.mark.parametrize("archive", ["", "tar.gz"])
def test_object_storage_reads_as_local_disk_does(tmp_path: Path, archive: str) -> None:
    sessions = [Session("300", features=FEATURES), Session("600", split="test")]
    local = write_corpus(tmp_path, sessions, archive=archive)
    bucket = UPath(f"memory://{uuid4().hex}")
    for file in (path for path in local.rglob("*") if path.is_file()):
        target = bucket.joinpath(*file.relative_to(local).parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    here, there = EdaicConfig(path=str(local)).open(), EdaicConfig(path=str(bucket)).open()
    assert list(there.interview_ids()) == ["300", "600"]
    assert [there.read(one) for one in there.interview_ids()] == [here.read(one) for one in here.interview_ids()]
    assert [file.name for file in there.inputs()] == [file.name for file in here.inputs()]


@pytest.mark.parametrize(
    "text", ["Start_Time,End_Time,Text\ncanary,canary,canary\n", "canary\n1,2,canary\n", "\0canary"]
)
def test_no_word_reaches_a_message_a_repr_or_a_log(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    corpus = EdaicConfig(path=str(write_corpus(tmp_path, [Session("300")]))).open()
    (tmp_path / "data" / "300_P" / "300_Transcript.csv").write_text(text)
    shown = repr(corpus.read("300")) + caplog.text
    assert "300" in shown
    assert "canary" not in shown
