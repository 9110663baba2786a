from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from moodscale.config import ConfigError, validate
from moodscale.corpora.base import CorpusConfig, Reading
from moodscale.corpora.daic_woz import DaicWoz, DaicWozConfig
from moodscale.schema import CorpusError, Interview, Provenance, Speaker, Split
from tiny_daic import DEV, TRAIN, Session, people, write_corpus


def open_corpus(root: Path, *sessions: Session, **settings: Any) -> DaicWoz:
    write_corpus(root, sessions)
    return DaicWozConfig(path=str(root), **settings).open()


def read(root: Path, session: Session, **settings: Any) -> tuple[Interview, dict[str, tuple[str, str]]]:
    reading = open_corpus(root, session, **settings).read(session.id)
    assert reading.interview is not None, reading.quarantined
    return reading.interview, {repair.defect: (repair.before, repair.after) for repair in reading.repairs}


def spans(interview: Interview, speaker: Speaker = Speaker.PARTICIPANT) -> list[tuple[float, float]]:
    return [(turn.start_s, turn.stop_s) for turn in interview.turns if turn.speaker is speaker]


def only_quarantined(reading: Reading) -> str:
    assert reading.interview is None
    (line,) = reading.quarantined
    return line.reason


def test_a_plain_session_is_read_without_a_repair(tmp_path: Path) -> None:
    interview, repairs = read(tmp_path, Session("300", score=7, gender=1))
    assert repairs == {}
    assert (interview.person, interview.gender, interview.split) == ("daic:300", "female", Split.TRAIN)
    assert interview.label is not None
    assert interview.label.total == 7
    assert sum(item or 0 for item in interview.label.items) == 7
    assert len(interview.recordings) == 1
    assert (interview.recordings[0].path, interview.recordings[0].sample_rate_hz) == ("300_P/300_AUDIO.wav", 16_000)
    assert spans(interview)[0] == (4.75, 8.75)


@pytest.mark.parametrize(
    ("number", "offset_s"), [("318", 34.319917), ("321", 3.8379167), ("341", 6.1892), ("362", 16.8582)]
)
def test_published_offsets_are_added_to_both_times(tmp_path: Path, number: str, offset_s: float) -> None:
    rows = [(1.0, 2.0, "Ellie", "hi"), (2.5, 4.0, "Participant", "hello")]
    interview, repairs = read(tmp_path, Session(number, rows=rows, duration_s=60))
    assert spans(interview) == [(2.5 + offset_s, 4.0 + offset_s)]
    assert repairs == {"offset": ("+0 s", f"+{offset_s} s")}


@pytest.mark.parametrize(("number", "start_s", "stop_s"), [("373", 395.0, 428.0), ("444", 286.0, 387.0)])
def test_an_interruption_is_cut_and_turns_at_its_edges_are_trimmed(
    tmp_path: Path, number: str, start_s: float, stop_s: float
) -> None:
    rows = [
        (1.0, 2.0, "Ellie", "hi"),
        (start_s - 5, start_s + 5, "Participant", "before"),
        (start_s + 6, start_s + 9, "Participant", "within"),
        (stop_s - 5, stop_s + 5, "Participant", "after"),
    ]
    interview, repairs = read(tmp_path, Session(number, rows=rows, duration_s=450, rate_hz=8000))
    assert spans(interview) == [(start_s - 5, start_s), (stop_s, stop_s + 5)]
    assert repairs["interruption"] == (f"{start_s:g}-{stop_s:g} s", "1 dropped, 2 trimmed")


def test_a_turn_over_a_whole_interruption_becomes_two_and_keeps_its_words_once(tmp_path: Path) -> None:
    rows = [(1.0, 2.0, "Ellie", "hi"), (390.0, 430.0, "Participant", "long story")]
    interview, _ = read(tmp_path, Session("373", rows=rows, duration_s=450, rate_hz=8000))
    assert spans(interview) == [(390.0, 395.0), (428.0, 430.0)]
    assert [turn.text for turn in interview.turns[1:]] == ["long story", ""]


def test_published_defects_are_left_alone_where_the_config_says_so(tmp_path: Path) -> None:
    rows = [(1.0, 2.0, "Ellie", "hi"), (2.5, 4.0, "Participant", "hello")]
    interview, repairs = read(tmp_path, Session("318", rows=rows), published_defects=False)
    assert spans(interview) == [(2.5, 4.0)]
    assert repairs == {}


def test_chatter_before_the_first_line_of_ellie_is_found_by_time_not_by_row(tmp_path: Path) -> None:
    rows = [
        (5.0, 6.0, "Ellie", "hi"),
        (7.0, 9.0, "Participant", "answer"),
        (1.0, 2.0, "Participant", "is it on"),
        (4.0, 5.5, "Participant", "crossing"),
    ]
    interview, repairs = read(tmp_path, Session("300", rows=rows))
    assert spans(interview) == [(5.0, 5.5), (7.0, 9.0)]
    assert repairs["before_interviewer"][1] == "1 dropped, 1 trimmed"
    assert "rows_out_of_order" in repairs


@pytest.mark.parametrize("number", ["451", "458", "480", "300"])
def test_without_rows_of_ellie_nothing_is_dropped_as_chatter(tmp_path: Path, number: str) -> None:
    rows = [(1.0, 2.0, "Participant", "one"), (3.0, 4.0, "Participant", "two")]
    interview, repairs = read(tmp_path, Session(number, rows=rows))
    assert spans(interview) == [(1.0, 2.0), (3.0, 4.0)]
    assert "no_interviewer" in repairs


def test_rows_without_content_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = [
        (0.5, 1.0, "Ellie", ""),
        ("nan", "nan", "nan", "nan"),
        ("", "", "", ""),
        (2.0, 3.0, "Participant", ""),
        (3.0, 4.0, "Participant", "NaN"),
        (4.0, 5.0, "Participant", "xxx"),
        (5.0, 6.0, "Participant", "xxx xxx"),
        (6.0, 7.0, "Participant", "i xxx yes"),
        (7.0, 8.0, "Participant", "<sync>"),
        (8.0, 9.0, "Participant", "[sync]"),
        (9.0, 10.0, "Participant", "[syncing]"),
        (10.0, 11.0, "Participant", "well [sync] no"),
        (12.0, 11.5, "Participant", "backwards"),
        (13.0, 14.0, "Guest", "who"),
    ]
    interview, repairs = read(tmp_path, Session("300", rows=rows))
    assert spans(interview) == [(6.0, 7.0), (10.0, 11.0)]
    assert [turn.text for turn in interview.turns] == ["", "i yes", "well no", "who"]
    assert interview.turns[-1].speaker is Speaker.UNKNOWN
    counted = {defect: before.split()[0] for defect, (before, _) in repairs.items()}
    assert counted == {
        "blank_row": "3",
        "bad_time": "1",
        "unintelligible": "2",
        "unintelligible_words": "1",
        "sync_token": "4",
        "unknown_speaker": "1",
    }


def test_quotes_in_speech_do_not_swallow_rows(tmp_path: Path) -> None:
    rows = [(1, 2, "Ellie", 'he said "hi'), (3, 4, "Participant", '"well'), (5, 6, "Participant", "fine")]
    interview, _ = read(tmp_path, Session("300", rows=rows))
    assert len(interview.turns) == 3


def test_a_turn_past_the_end_of_the_recording_is_clipped_with_a_line_in_the_ledger(tmp_path: Path) -> None:
    rows = [(1, 2, "Ellie", "hi"), (8, 12, "Participant", "long"), (13, 15, "Participant", "gone")]
    interview, repairs = read(tmp_path, Session("300", rows=rows, duration_s=10))
    assert spans(interview) == [(8.0, 10.0)]
    assert repairs["past_end"] == ("turns outside 0-10.000 s", "1 dropped, 1 trimmed")


def test_binary_is_derived_from_the_score(tmp_path: Path) -> None:
    interview, repairs = read(tmp_path, Session("409", score=10, binary=0))
    assert interview.label is not None
    assert interview.label.depressed
    assert interview.label.provenance is Provenance.REPAIRED
    assert repairs["binary_contradicts_score"] == ("0 with score 10", "1")


def test_one_blank_item_is_the_total_less_the_others(tmp_path: Path) -> None:
    items = (2, 2, "", 2, 1, 2, 1, 1)
    interview, repairs = read(tmp_path, Session("319", score=13, items=items))
    assert interview.label is not None
    assert interview.label.items == (2, 2, 2, 2, 1, 2, 1, 1)
    assert repairs["blank_item"] == ("blank", "13 - 11 = 2")


def test_items_that_do_not_add_up_are_named_and_kept(tmp_path: Path) -> None:
    interview, repairs = read(tmp_path, Session("300", score=9, items=(1,) * 8))
    assert interview.label is not None
    assert (interview.label.total, interview.label.items) == (9, (1,) * 8)
    assert repairs["items_do_not_add_up"][0] == "items sum to 8, total 9"


@pytest.mark.parametrize(
    ("session", "field"),
    [
        (Session("300", score=25), "PHQ8_Score=25"),
        (Session("300", score=-1), "PHQ8_Score=-1"),
        (Session("300", score="7.5"), "PHQ8_Score=7.5"),
        (Session("300", score=""), "PHQ8_Score is blank"),
        (Session("300", score=5, items=(4, 1, 0, 0, 0, 0, 0, 0)), "PHQ8_NoInterest=4"),
    ],
)
def test_a_label_outside_its_range_quarantines_the_person_by_field(
    tmp_path: Path, session: Session, field: str
) -> None:
    corpus = open_corpus(tmp_path, session, Session("301"))
    reason = only_quarantined(corpus.read("300"))
    assert field in reason
    assert TRAIN in reason
    assert corpus.read("301").interview is not None


def test_the_test_split_has_totals_from_its_own_table_and_no_items(tmp_path: Path) -> None:
    interview, repairs = read(tmp_path, Session("300", split="test", score=12, gender=1))
    assert interview.label is not None
    assert (interview.label.total, interview.label.items, interview.split) == (12, (), Split.TEST)
    assert interview.gender == "female"
    assert repairs == {}


def test_without_the_table_of_totals_the_test_split_has_no_label(tmp_path: Path) -> None:
    write_corpus(tmp_path, [Session("300"), Session("301", split="test", gender=0)], full_test=False)
    reading = DaicWozConfig(path=str(tmp_path)).open().read("301")
    assert reading.interview is not None
    assert (reading.interview.label, reading.interview.gender) == (None, "male")
    assert [repair.defect for repair in reading.repairs] == ["no_label"]


def test_a_person_without_a_session_is_absent_and_no_error(tmp_path: Path) -> None:
    corpus = open_corpus(tmp_path, Session("341", duration_s=60), Session("342", folder=False))
    assert list(corpus.interview_ids()) == ["341"]
    (line,) = corpus.absent()
    assert (line.interview_id, line.defect, line.where) == ("342", "absent_session", TRAIN)


def test_apple_doubles_are_ignored(tmp_path: Path) -> None:
    extra = {"._487_AUDIO.wav": b"Mac OS X", "._487_TRANSCRIPT.csv": b"\0\5\x16\7"}
    interview, repairs = read(tmp_path, Session("487", extra_files=extra))
    assert spans(interview)
    assert repairs == {"apple_double": ("2 file(s) named ._*", "ignored")}


def test_what_gender_codes_mean_is_a_setting(tmp_path: Path) -> None:
    swapped = {"0": "female", "1": "male"}
    assert read(tmp_path / "a", Session("300", gender=0))[0].gender == "male"
    assert read(tmp_path / "b", Session("300", gender=0), gender_codes=swapped)[0].gender == "female"
    interview, repairs = read(tmp_path / "c", Session("300", gender=7))
    assert interview.gender == "unknown"
    assert "unknown_gender" in repairs


def test_a_person_in_two_official_splits_is_refused_by_name(tmp_path: Path) -> None:
    write_corpus(tmp_path, [Session("300"), Session("301", split="validation")])
    with (tmp_path / DEV).open("a") as file:
        file.write((tmp_path / TRAIN).read_text().splitlines()[1] + "\n")
    with pytest.raises(CorpusError, match=rf"daic:300 is in two splits: {TRAIN} and {DEV}"):
        DaicWozConfig(path=str(tmp_path)).open()


def test_two_rows_that_disagree_quarantine_their_person(tmp_path: Path) -> None:
    corpus = open_corpus(tmp_path, Session("300", score=3), Session("300", score=4))
    assert "two rows of Participant_ID=300 disagree" in only_quarantined(corpus.read("300"))


@pytest.mark.parametrize("name", ["300_TRANSCRIPT.csv", "300_AUDIO.wav"])
def test_a_missing_file_quarantines_its_session_by_name(tmp_path: Path, name: str) -> None:
    corpus = open_corpus(tmp_path, Session("300"), Session("301"))
    (tmp_path / "300_P" / name).unlink()
    assert name in only_quarantined(corpus.read("300"))
    assert corpus.read("301").interview is not None


def test_a_session_behind_a_link_is_refused(tmp_path: Path) -> None:
    corpus = open_corpus(tmp_path / "corpus", Session("300"))
    (tmp_path / "corpus" / "300_P").rename(tmp_path / "elsewhere")
    (tmp_path / "corpus" / "300_P").symlink_to(tmp_path / "elsewhere")
    assert "link" in only_quarantined(corpus.read("300"))


def test_a_folder_that_is_no_corpus_is_named_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"corpus\.path=.*no such folder"):
        DaicWozConfig(path=str(tmp_path / "none")).open()
    with pytest.raises(CorpusError, match="300_P"):
        DaicWozConfig(path=str(tmp_path)).open()
    (tmp_path / "300_P").mkdir()
    with pytest.raises(CorpusError, match="label tables"):
        DaicWozConfig(path=str(tmp_path)).open()


CANARY = "the canary sang at midnight"


@pytest.mark.parametrize(
    "transcript",
    [
        f"start_time\tstop_time\tspeaker\tvalue\n{CANARY}\t{CANARY}\tParticipant\t{CANARY}\n",
        f"{CANARY}\n1\t2\tParticipant\t{CANARY}\n",
        f"start_time\tstop_time\tspeaker\tvalue\n1\t2\tParticipant\t{CANARY}\0\n",
        "start_time\tstop_time\tspeaker\tvalue\n1\t2\tParticipant\t" + CANARY * 9_000 + "\n",
        "",
    ],
)
def test_no_word_reaches_a_message_a_repr_or_a_log(
    tmp_path: Path, transcript: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    corpus = open_corpus(tmp_path, Session("300"))
    (tmp_path / "300_P" / "300_TRANSCRIPT.csv").write_text(transcript)
    reading = corpus.read("300")
    shown = repr(reading) + caplog.text
    assert "300" in shown
    assert "canary" not in shown


def test_a_label_cell_with_words_is_not_quoted(tmp_path: Path) -> None:
    reason = only_quarantined(open_corpus(tmp_path, Session("300", score=CANARY)).read("300"))
    assert "PHQ8_Score=(not a number)" in reason


def test_kind_finds_the_corpus_and_unknown_settings_are_refused() -> None:
    from typing import Annotated

    from pydantic import SerializeAsAny

    from moodscale.config import Config, by_kind

    class Job(Config):
        corpus: Annotated[SerializeAsAny[CorpusConfig], by_kind("moodscale.corpora", CorpusConfig)]

    job = validate(Job, {"corpus": {"kind": "daic_woz", "path": "/data"}})
    assert isinstance(job.corpus, DaicWozConfig)
    assert job.to_json()["corpus"]["gender_codes"] == {"0": "male", "1": "female"}
    with pytest.raises(ConfigError, match="pathh"):
        validate(Job, {"corpus": {"kind": "daic_woz", "pathh": "/data"}})


def test_every_official_split_is_told_from_its_table(tmp_path: Path) -> None:
    corpus = open_corpus(tmp_path, *people(8))
    found = [corpus.read(one).interview for one in corpus.interview_ids()]
    assert [interview.split for interview in found if interview] == [
        *[Split.TRAIN] * 4,
        *[Split.VALIDATION] * 2,
        *[Split.TEST] * 2,
    ]
