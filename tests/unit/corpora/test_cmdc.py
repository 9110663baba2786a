from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from moodscale.config import ConfigError, validate
from moodscale.corpora.base import CorpusConfig, Reading
from moodscale.corpora.cmdc import Cmdc, CmdcConfig
from moodscale.schema import CorpusError, Instrument, Interview, Provenance, Split
from tiny_cmdc import ITEMS, QUESTION_ITEMS, Person, openface, write_cmdc

WITH_ITEMS = {"item_columns": ITEMS, "question_items": QUESTION_ITEMS}
TEXT = "Q{question}.txt"
FACE = "{folder}/openface/Q{question}.csv"


def open_corpus(root: Path, *people: Person, **settings: Any) -> Cmdc:
    write_cmdc(root, people)
    return CmdcConfig(path=str(root), **settings).open()


def read(root: Path, person: Person, **settings: Any) -> tuple[Interview, dict[str, tuple[str, str]]]:
    reading = open_corpus(root, person, **settings).read(person.id)
    assert reading.interview is not None, reading.quarantined
    return reading.interview, {repair.defect: (repair.before, repair.after) for repair in reading.repairs}


def only_quarantined(reading: Reading) -> str:
    assert reading.interview is None
    (line,) = reading.quarantined
    return line.reason


def refused(**settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(CmdcConfig, {"path": "somewhere", **settings})
    return str(caught.value)


def test_a_person_has_twelve_recordings_and_one_turn_a_question_over_the_whole_of_it(tmp_path: Path) -> None:
    interview, repairs = read(tmp_path, Person("HC01", total=7, duration_s=1.5))
    assert repairs == {}
    assert (interview.person, interview.gender, interview.corpus) == ("cmdc:HC01", "female", "cmdc")
    assert interview.label is not None
    assert (interview.label.instrument, interview.label.total, interview.label.items) == (Instrument.PHQ9, 7, ())
    assert [audio.path for audio in interview.recordings[:2]] == [
        "CMDC_EULA/part1/HC01/Q1.wav",
        "CMDC_EULA/part1/HC01/Q2.wav",
    ]
    assert [(turn.recording, turn.question) for turn in interview.turns] == [(i, i + 1) for i in range(12)]
    assert {(turn.start_s, turn.stop_s) for turn in interview.turns} == {(0.0, 1.5)}


def test_the_folder_of_parts_itself_can_be_the_path(tmp_path: Path) -> None:
    write_cmdc(tmp_path, [Person("HC02"), Person("HC10", part=2), Person("MDD01", total=20)], eula=False)
    assert CmdcConfig(path=str(tmp_path)).open().interview_ids() == ["HC02", "HC10", "MDD01"]


@pytest.mark.parametrize(
    ("person", "split"),
    [("HC40", "train"), ("HC41", "test"), ("HC52", "test"), ("MDD20", "train"), ("MDD21", "test"), ("MDD26", "test")],
)
def test_the_public_codes_test_people_are_the_official_test_split(tmp_path: Path, person: str, split: str) -> None:
    interview, _ = read(tmp_path, Person(person, total=15 if person.startswith("MDD") else 3))
    assert interview.split is Split(split)


def test_without_official_test_nobody_has_an_official_split(tmp_path: Path) -> None:
    interview, _ = read(tmp_path, Person("HC41"), official_test=False)
    assert interview.split is None


def test_a_reader_of_figures_is_told_that_there_are_no_validation_people(tmp_path: Path) -> None:
    corpus = open_corpus(tmp_path, Person())
    assert any("no validation people" in sentence for sentence in corpus.approximations())
    without = open_corpus(tmp_path, Person(), official_test=False)
    assert not any("validation" in sentence for sentence in without.approximations())


@pytest.mark.parametrize(("person", "total", "contradicts"), [
    ("HC01", 9, False), ("HC01", 10, True), ("MDD01", 10, False), ("MDD01", 9, True),
])  # fmt: skip
def test_the_total_is_the_label_and_a_group_that_contradicts_it_is_noted(
    tmp_path: Path, person: str, total: int, contradicts: bool
) -> None:
    interview, repairs = read(tmp_path, Person(person, total=total))
    assert interview.label is not None
    assert interview.label.depressed is (total >= 10)
    assert ("group_contradicts_total" in repairs) is contradicts


def test_a_blank_item_is_what_the_total_leaves_for_it(tmp_path: Path) -> None:
    person = Person(total=9, items=[1, 1, 1, "", 2, 1, 1, 1, 1])
    interview, repairs = read(tmp_path, person, **WITH_ITEMS)
    assert interview.label is not None
    assert interview.label.items == (1, 1, 1, 0, 2, 1, 1, 1, 1)
    assert interview.label.provenance is Provenance.REPAIRED
    assert repairs == {"blank_item": ("blank", "9 - 9 = 0")}


def test_a_total_outside_the_questionnaire_quarantines_the_person_by_the_name_of_the_field(tmp_path: Path) -> None:
    reason = only_quarantined(open_corpus(tmp_path, Person(total=28)).read("HC01"))
    assert reason == "SubjectInfo.csv: PHQtotal=28 is not a whole number of 0-27; correct the label table"


def test_items_without_a_word_on_their_questions_are_refused_and_the_setting_is_named() -> None:
    message = refused(item_columns=ITEMS)
    assert "question_items is required with item_columns" in message
    assert "4, 6 → item 1" in message


def test_who_wants_items_without_questions_writes_null(tmp_path: Path) -> None:
    interview, _ = read(tmp_path, Person(total=7), item_columns=ITEMS, question_items=None)
    assert interview.label is not None
    assert sum(item or 0 for item in interview.label.items) == 7


@pytest.mark.parametrize(("changes", "part"), [
    ({13: 1}, "there is no question 13"),
    ({1: 10}, "there is no item 10"),
    ({9: 1, 10: 1}, "no question for item(s) 2"),
])  # fmt: skip
def test_a_map_that_cannot_be_right_is_refused(changes: dict[int, int], part: str) -> None:
    assert part in refused(item_columns=ITEMS, question_items={**QUESTION_ITEMS, **changes})


def test_a_config_survives_being_dumped_and_read_again() -> None:
    config = CmdcConfig(path="somewhere", **WITH_ITEMS)
    assert validate(CmdcConfig, config.to_json()) == config
    without = CmdcConfig(path="somewhere", item_columns=ITEMS, question_items=None)
    assert validate(CmdcConfig, without.to_json()) == without


def test_a_missing_question_is_noted_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    interview, repairs = read(tmp_path, Person(audio={3: None, 7: None}))
    assert repairs == {"missing_question": ("question(s) 3, 7", "no file, goes without")}
    assert [turn.question for turn in interview.turns] == [1, 2, 4, 5, 6, 8, 9, 10, 11, 12]
    assert [turn.recording for turn in interview.turns] == list(range(10))


def test_one_broken_recording_is_quarantined_alone(tmp_path: Path) -> None:
    reading = open_corpus(tmp_path, Person(audio={5: b"", 6: b"RIFFnonsense"})).read("HC01")
    assert reading.interview is not None
    assert len(reading.interview.recordings) == 10
    assert [line.where.rsplit("/", 1)[1] for line in reading.quarantined] == ["Q5.wav", "Q6.wav"]


def test_a_person_without_any_recording_is_quarantined(tmp_path: Path) -> None:
    person = Person(audio=dict.fromkeys(range(1, 13)))
    assert "corpus.audio_pattern" in only_quarantined(open_corpus(tmp_path, person).read("HC01"))


def test_another_sample_rate_is_taken_and_noted(tmp_path: Path) -> None:
    interview, repairs = read(tmp_path, Person(rate_hz=44_100))
    assert {audio.sample_rate_hz for audio in interview.recordings} == {44_100}
    assert repairs == {"other_sample_rate": ("12 at 44100 Hz instead of 16000", "kept at their own rate")}
    assert read(tmp_path, Person(rate_hz=44_100), sample_rate_hz=None)[1] == {}


def test_words_go_to_the_turn_of_their_question(tmp_path: Path) -> None:
    person = Person(files={"Q1.txt": "今天\n很好。", "Q12.txt": "\ufeff再见"})
    interview, repairs = read(tmp_path, person, transcript_pattern=TEXT)
    assert [turn.text for turn in interview.turns] == ["今天 很好。", *[""] * 10, "再见"]
    assert repairs["missing_transcript"][0] == "question(s) 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"


def test_a_transcript_in_another_encoding_names_the_setting_and_none_of_its_words(tmp_path: Path) -> None:
    person = Person(files={f"Q{question}.txt": "很好".encode("gb18030") for question in range(1, 13)})
    reading = open_corpus(tmp_path, person, transcript_pattern=TEXT).read("HC01")
    assert reading.interview is not None
    assert {turn.text for turn in reading.interview.turns} == {""}
    assert len(reading.quarantined) == 12
    assert "corpus.transcript_encoding" in reading.quarantined[0].reason
    interview, repairs = read(tmp_path, person, transcript_pattern=TEXT, transcript_encoding="gb18030")
    assert (interview.turns[0].text, repairs) == ("很好", {})


@pytest.mark.parametrize("setting", ["transcript_pattern", "openface_pattern"])
def test_a_pattern_that_finds_nothing_at_all_is_refused_by_its_name(tmp_path: Path, setting: str) -> None:
    with pytest.raises(CorpusError, match=f"corpus.{setting}=nowhere/Q{{question}}.x: finds no file"):
        open_corpus(tmp_path, Person(), **{setting: "nowhere/Q{question}.x"})


@pytest.mark.parametrize("pattern", [
    "../{person}/Q{question}.csv", "/etc/{question}", "{question.__class__}", "{question!r}", "{question:>9999999}",
    "Q{question", "{other}{question}", "Q.csv", "a/{corpus}/Q{question}.csv", "{}{question}", "{0}{question}",
])  # fmt: skip
def test_a_pattern_cannot_leave_the_corpus_or_reach_into_objects(pattern: str) -> None:
    assert "openface_pattern" in refused(openface_pattern=pattern)


def test_visual_files_go_with_their_recordings(tmp_path: Path) -> None:
    person = Person(files={f"openface/Q{question}.csv": openface(1, 1) for question in range(1, 13)}, audio={2: None})
    interview, repairs = read(tmp_path, person, openface_pattern=FACE)
    assert set(repairs) == {"missing_question"}
    assert interview.missing == ()
    by_recording = {feature.recording: feature.path for feature in interview.features}
    assert by_recording[1] == "CMDC_EULA/part1/HC01/openface/Q3.csv"
    assert {(feature.kind, feature.format) for feature in interview.features} == {("openface", "openface.spaced")}


def test_a_person_without_visual_files_is_kept_and_masked(tmp_path: Path) -> None:
    write_cmdc(tmp_path, [Person("HC01", files={"openface/Q1.csv": openface(1)}), Person("HC02")])
    corpus = CmdcConfig(path=str(tmp_path), openface_pattern=FACE).open()
    without = corpus.read("HC02")
    assert without.interview is not None
    assert (without.interview.features, without.interview.missing) == ((), ("openface",))
    assert [repair.defect for repair in without.repairs] == ["missing_visual"]
    partly = corpus.read("HC01")
    assert partly.interview is not None
    assert (len(partly.interview.features), partly.interview.missing) == (1, ())
    assert [repair.defect for repair in partly.repairs] == ["missing_visual"]


def test_a_table_of_faces_a_person_may_lie_in_a_tree_of_its_own(tmp_path: Path) -> None:
    write_cmdc(tmp_path, [Person("HC01")])
    (tmp_path / "visual").mkdir()
    (tmp_path / "visual" / "HC01.csv").write_text(openface(1, 1, 1))
    corpus = CmdcConfig(path=str(tmp_path), openface_pattern="{corpus}/visual/{person}.csv").open()
    reading = corpus.read("HC01")
    assert reading.interview is not None
    assert [feature.path for feature in reading.interview.features] == ["visual/HC01.csv"]
    assert "visual/HC01.csv" in {file.name for file in corpus.inputs()}


def test_frames_without_a_face_or_with_a_value_that_is_no_number_are_counted(tmp_path: Path) -> None:
    files = {
        "openface/Q1.csv": openface(1, 0, 1, 0),
        "openface/Q2.csv": openface(1, value="nan"),
        "openface/Q3.csv": openface(1) + "1, 0\n",
    }
    _, repairs = read(tmp_path, Person(files=files), openface_pattern=FACE)
    assert repairs["failed_frames"] == ("4 of 7 frames without a face", "masked")


@pytest.mark.parametrize("data", [
    b"", b"1, 0, 0.0, 0.98, 1, 0.1, 0.2\n", openface().encode(), b"\0" * 1000, b"success," + b"x" * 300_000,
])  # fmt: skip
def test_a_visual_file_that_is_no_table_of_faces_is_quarantined_and_counts_as_missing(
    tmp_path: Path, data: bytes
) -> None:
    reading = open_corpus(tmp_path, Person(files={"openface/Q1.csv": data}), openface_pattern=FACE).read("HC01")
    assert reading.interview is not None
    assert reading.interview.missing == ("openface",)
    (line,) = reading.quarantined
    assert line.where.endswith("openface/Q1.csv")


def test_who_is_in_the_table_alone_is_absent_and_who_is_not_in_it_has_no_label(tmp_path: Path) -> None:
    write_cmdc(tmp_path, [Person("HC01")], more_rows=["HC09,3,F,30,0,0,0,0,0,0,1,1,1"])
    extra = tmp_path / "CMDC_EULA" / "part1" / "HC02"
    extra.mkdir()
    (extra / "Q1.wav").write_bytes((extra.parent / "HC01" / "Q1.wav").read_bytes())
    corpus = CmdcConfig(path=str(tmp_path)).open()
    assert [(line.interview_id, line.defect) for line in corpus.absent()] == [("HC09", "absent_session")]
    reading = corpus.read("HC02")
    assert reading.interview is not None
    assert reading.interview.label is None
    assert [repair.defect for repair in reading.repairs] == ["no_label", "missing_question"]


def test_rows_that_disagree_and_folders_in_two_parts_quarantine_their_person(tmp_path: Path) -> None:
    write_cmdc(tmp_path, [Person("HC01"), Person("HC02")], more_rows=["HC01,9,F,30,1,1,1,1,1,1,1,1,1"])
    (tmp_path / "CMDC_EULA" / "part2" / "HC02").mkdir(parents=True)
    corpus = CmdcConfig(path=str(tmp_path)).open()
    assert "two rows of ID=HC01 disagree" in only_quarantined(corpus.read("HC01"))
    assert "several folders (CMDC_EULA/part1/HC02, CMDC_EULA/part2/HC02)" in only_quarantined(corpus.read("HC02"))


def test_a_recording_behind_a_link_is_refused(tmp_path: Path) -> None:
    write_cmdc(tmp_path / "corpus", [Person("HC01", audio={1: None})])
    outside = tmp_path / "outside.wav"
    outside.write_bytes((tmp_path / "corpus/CMDC_EULA/part1/HC01/Q2.wav").read_bytes())
    (tmp_path / "corpus/CMDC_EULA/part1/HC01/Q1.wav").symlink_to(outside)
    reading = CmdcConfig(path=str(tmp_path / "corpus")).open().read("HC01")
    (line,) = reading.quarantined
    assert "goes through a link" in line.reason


@pytest.mark.parametrize(("settings", "part"), [
    ({"total_column": "PHQ9"}, "set corpus.total_column"),
    ({"id_column": "person"}, "set corpus.id_column"),
    ({"item_columns": tuple("abcdefghi"), "question_items": None}, "set corpus.item_columns"),
    ({"info_table": "Info.csv"}, "corpus.info_table"),
    ({"info_table": "../other/SubjectInfo.csv"}, "there is no"),
])  # fmt: skip
def test_a_column_or_table_of_another_name_is_asked_for_by_its_setting(
    tmp_path: Path, settings: dict[str, Any], part: str
) -> None:
    with pytest.raises(CorpusError, match=part):
        open_corpus(tmp_path, Person(), **settings)


def test_a_gender_code_without_a_meaning_is_unknown_and_noted(tmp_path: Path) -> None:
    assert read(tmp_path, Person(gender="女"))[0].gender == "female"
    interview, repairs = read(tmp_path, Person(gender="1"))
    assert (interview.gender, list(repairs)) == ("unknown", ["unknown_gender"])
    assert read(tmp_path, Person(gender="1"), gender_codes={"1": "male"})[0].gender == "male"


def test_the_inputs_change_with_every_file_that_is_read(tmp_path: Path) -> None:
    corpus = open_corpus(tmp_path, Person(files={"Q1.txt": "x"}), transcript_pattern=TEXT)
    names = {file.name for file in corpus.inputs()}
    assert {"SubjectInfo.csv", "CMDC_EULA/part1/HC01/Q12.wav", "CMDC_EULA/part1/HC01/Q1.txt"} <= names


def test_the_kind_is_found_by_its_name() -> None:
    from moodscale.config.lookup import find_component

    assert find_component("moodscale.corpora", CorpusConfig, "cmdc") is CmdcConfig


def test_nothing_that_was_said_is_shown(tmp_path: Path) -> None:
    person = Person(files={f"Q{question}.txt": "秘密的话" for question in range(1, 13)})
    corpus = open_corpus(tmp_path, person, transcript_pattern=TEXT)
    assert "秘密" not in repr(corpus.read("HC01"))


def test_a_corpus_on_object_storage_reads_as_on_local_disk(tmp_path: Path, bucket: UPath) -> None:
    files = {"Q1.txt": "今天", "openface/Q1.csv": openface(1, 0)}
    write_cmdc(tmp_path, [Person("HC01", files=files, audio={2: None}), Person("MDD01", total=20, part=2)])
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        (bucket / "cmdc" / file.relative_to(tmp_path).as_posix()).write_bytes(file.read_bytes())
    settings = {"transcript_pattern": TEXT, "openface_pattern": FACE, **WITH_ITEMS}
    here = CmdcConfig(path=str(tmp_path), **settings).open()
    there = CmdcConfig(path=str(bucket / "cmdc"), **settings).open()
    assert there.interview_ids() == here.interview_ids() == ["HC01", "MDD01"]
    assert [there.read(id_) for id_ in there.interview_ids()] == [here.read(id_) for id_ in here.interview_ids()]
    assert [file.name for file in there.inputs()] == [file.name for file in here.inputs()]
