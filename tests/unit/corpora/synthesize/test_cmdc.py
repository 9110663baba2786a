"""The synthesised CMDC: layout to the column, answers that follow their item, planted defects."""

from __future__ import annotations

import csv
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moodscale.config import ConfigError, validate
from moodscale.corpora.synthesize import SynthesisSummary, SynthesizeConfig, cmdc, cmdc_session, synthesize
from moodscale.corpora.synthesize.cmdc_defects import DEFECTS, EXTRA
from moodscale.corpora.synthesize.phrases_zh import ITEM_ANSWERS, QUESTION_ITEMS
from moodscale.corpora.synthesize.severity import Disposition

ABOUT_THE_FRAME = ["frame", " face_id", " timestamp", " confidence", " success"]


def run(out: Path, **fields: object) -> SynthesisSummary:
    settings = {"num_participants": 2, "minutes": 0.3, "num_workers": 1, **fields}
    return synthesize("cmdc", validate(SynthesizeConfig, {"out": out, **settings}))


def content(out: Path) -> dict[str, str]:
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".synthesis.json"
    }


def subjects(out: Path) -> dict[str, dict[str, str]]:
    with (out / "SubjectInfo.csv").open(newline="") as file:
        return {row["ID"]: row for row in csv.DictReader(file)}


def frames(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def task(answers: tuple[int, ...], burden: float, tmp_path: Path) -> cmdc_session.PersonTask:
    return cmdc_session.PersonTask(
        "HC01", 1, 0, "female", Disposition(answers, burden), 3.0, tmp_path, 0.0, frozenset(), None
    )


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("sound") / "corpus", num_participants=3).out


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SynthesisSummary]:
    out = tmp_path_factory.mktemp("spoiled") / "corpus"
    return out, run(out, num_participants=9, defects="all")


class TestLayout:
    def test_every_file_has_its_place(self, sound: Path) -> None:
        questions = range(1, 13)
        assert list(content(sound)) == sorted(
            [
                "SubjectInfo.csv",
                *(f"CMDC_EULA/part1/{one}/Q{q}.{kind}" for one in ("HC01", "HC02", "MDD01") for q in questions
                  for kind in ("wav", "txt")),
                *(f"CMDC_EULA/part1/{one}/openface/Q{q}.csv" for one in ("HC01", "HC02", "MDD01") for q in questions),
            ]
        )  # fmt: skip

    def test_openface_tables_have_709_features_behind_leading_spaces(self, sound: Path) -> None:
        header, *rows = frames(sound / "CMDC_EULA/part1/HC01/openface/Q3.csv")
        assert header[:5] == ABOUT_THE_FRAME
        assert len(header) == 714
        assert all(name.startswith(" ") for name in header[1:])
        assert len({name.strip() for name in header}) == 714
        assert {len(row) for row in rows} == {714}
        assert np.isfinite(np.array(rows, dtype=float)).all()

    def test_the_subject_table_has_totals_that_are_the_items_sum(self, sound: Path) -> None:
        rows = subjects(sound)
        assert list(rows["HC01"]) == ["ID", "PHQtotal", "gender", "age", *(f"PHQ{number}" for number in range(1, 10))]
        for row in rows.values():
            assert sum(int(row[f"PHQ{number}"]) for number in range(1, 10)) == int(row["PHQtotal"])

    def test_recordings_are_16_khz_mono_and_about_as_long_as_asked_for(self, sound: Path) -> None:
        durations = []
        for path in sound.rglob("*.wav"):
            facts = soundfile.info(path)
            assert (facts.samplerate, facts.channels, facts.subtype) == (16_000, 1, "PCM_16")
            durations.append(facts.duration)
        assert 1.5 < np.mean(durations) < 4.5, "18 s in 12 answers"

    def test_transcripts_are_chinese_without_spaces(self, sound: Path) -> None:
        for path in sound.rglob("*.txt"):
            assert re.fullmatch(r"[\u4e00-\u9fff，]+。\n", path.read_text(encoding="utf-8"))

    def test_78_people_are_those_of_the_real_corpus(self) -> None:
        ids = [f"{group}{place:02d}" for group, place in cmdc.choose_ids(78)]
        assert ids == [*(f"HC{n:02d}" for n in range(1, 53)), *(f"MDD{n:02d}" for n in range(1, 27))]


class TestAnswers:
    def test_every_item_has_a_question_and_every_question_an_item(self) -> None:
        assert list(QUESTION_ITEMS) == list(range(1, 13))
        assert set(QUESTION_ITEMS.values()) == set(range(9))
        assert {question: QUESTION_ITEMS[question] for question in (4, 6, 8, 9, 10)} == {4: 0, 6: 0, 8: 8, 9: 1, 10: 1}

    def test_the_phrases_of_every_level_are_its_own(self) -> None:
        for levels in ITEM_ANSWERS:
            assert len(levels) == 4
            phrases = [phrase for level in levels for phrase in level]
            assert len(set(phrases)) == len(phrases) == 16

    def test_an_answer_follows_the_item_of_its_question_alone(self, tmp_path: Path) -> None:
        well, worse = (0,) * 9, (0,) * 8 + (3,)
        texts = [
            {answer.question: answer.text for answer in cmdc_session.speak_answers(task(answers, 0.3, tmp_path))}
            for answers in (well, worse)
        ]
        changed = {question for question in texts[0] if texts[0][question] != texts[1][question]}
        assert changed == {8}

    def test_a_group_is_who_was_recruited_and_fits_the_total_unless_it_is_to_contradict(self) -> None:
        for place in range(1, 20):
            for group, contradicts, is_depressed in (
                ("HC", False, False), ("MDD", False, True), ("HC", True, True), ("MDD", True, False),
            ):  # fmt: skip
                answers = cmdc.draw_subject(0, group, place, contradicts).answers  # type: ignore[arg-type]
                assert (sum(answers) >= 10) is is_depressed
                assert len(answers) == 9


class TestRandomness:
    def test_bytes_follow_from_the_seed_whatever_the_number_of_workers(self, tmp_path: Path) -> None:
        one, two = (run(tmp_path / str(workers), num_workers=workers) for workers in (1, 2))
        assert content(one.out) == content(two.out)

    @pytest.mark.parametrize("effect", [0.0, 1.0])
    def test_other_labels_change_recordings_words_and_faces_only_with_an_effect(
        self, effect: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn = cmdc.draw_subject

        def swapped(seed: int, group: str, place: int, contradicts: bool) -> cmdc.Subject:
            subject = drawn(seed, group, place, contradicts)  # type: ignore[arg-type]
            answers = tuple(3 - answer for answer in subject.answers)
            return cmdc.Subject(subject.group, place, subject.gender, subject.age, answers)

        as_drawn = content(run(tmp_path / "drawn", effect=effect).out)
        monkeypatch.setattr(cmdc, "draw_subject", swapped)
        as_swapped = content(run(tmp_path / "swapped", effect=effect).out)
        recorded = [name for name in as_drawn if name.startswith("CMDC_EULA")]
        assert len(recorded) == 2 * 36
        assert as_drawn["SubjectInfo.csv"] != as_swapped["SubjectInfo.csv"]
        unchanged = [name for name in recorded if as_drawn[name] == as_swapped[name]]
        assert unchanged == (recorded if effect == 0 else [])


class TestDefects:
    def test_every_defect_is_planted_and_listed(self, spoiled: tuple[Path, SynthesisSummary]) -> None:
        _, summary = spoiled
        assert {one.defect for one in summary.planted} == DEFECTS.keys() - EXTRA
        groups = {one.interview_id[:2] for one in summary.planted if one.defect == "group_contradicts_total"}
        assert groups == {"HC", "MD"}

    def test_defects_are_where_the_list_says(self, spoiled: tuple[Path, SynthesisSummary]) -> None:
        out, summary = spoiled
        who = {one.defect: one.interview_id for one in reversed(summary.planted)}
        rows = subjects(out)

        def folder(defect: str) -> Path:
            return out / "CMDC_EULA/part1" / who[defect]

        items = {one: [row[f"PHQ{number}"] for number in range(1, 10)] for one, row in rows.items()}
        assert who["group_contradicts_total"] == "HC01"
        assert int(rows["HC01"]["PHQtotal"]) >= 10
        assert int(rows["MDD01"]["PHQtotal"]) < 10
        assert items[who["blank_item"]].count("") == 1
        assert sum(map(int, items[who["items_do_not_add_up"]])) != int(rows[who["items_do_not_add_up"]]["PHQtotal"])
        assert rows[who["total_out_of_range"]]["PHQtotal"] == "28"
        assert who["absent_session"] in rows
        assert not folder("absent_session").exists()
        assert not (folder("missing_visual") / "openface").exists()
        assert not (folder("missing_question") / "Q7.wav").exists()
        assert (folder("apple_double") / "._Q1.wav").exists()
        assert (out / "._SubjectInfo.csv").exists()
        failed = [row for row in frames(folder("failed_frames") / "openface/Q5.csv")[1:] if row[4].strip() == "0"]
        assert failed
        assert all(set(map(str.strip, row[5:])) == {"nan"} for row in failed)

    def test_the_list_holds_no_words(self, spoiled: tuple[Path, SynthesisSummary]) -> None:
        assert not re.search(r"[\u4e00-\u9fff]", str(spoiled[1].to_json()))

    def test_a_person_at_another_rate_can_be_asked_for(self, tmp_path: Path) -> None:
        summary = run(tmp_path / "corpus", num_participants=9, defects="other_sample_rate", minutes=0.2)
        facts = soundfile.info(summary.out / "CMDC_EULA/part1/HC06/Q1.wav")
        assert (facts.samplerate, facts.channels) == (44_100, 2)
        assert not summary.planted, "readers take it as it is"

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"defects": "mould"}, "mould"),
            ({"defects": "all", "num_participants": 6}, "take at least 9"),
            ({"defects": "missing_visual", "features": False}, "missing_visual: not possible with features off"),
            ({"defects": "broken_audio", "num_participants": 6}, "broken_audio needs 9"),
            ({"archives": True}, "archives=True means nothing to cmdc"),
        ],
    )
    def test_settings_that_do_not_go_together_are_refused_before_anything_is_written(
        self, fields: dict[str, object], said: str, tmp_path: Path
    ) -> None:
        with pytest.raises(ConfigError, match=said):
            run(tmp_path / "corpus", **fields)
        assert not (tmp_path / "corpus").exists()
