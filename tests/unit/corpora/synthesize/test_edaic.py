"""The synthesised E-DAIC: layout to the column, the people it shares with DAIC-WOZ, planted defects."""

from __future__ import annotations

import csv
import hashlib
import itertools
import tarfile
from pathlib import Path

import pytest
import scipy.io
import soundfile

from moodscale.config import ConfigError, validate
from moodscale.corpora.synthesize import SynthesisSummary, SynthesizeConfig, daic_woz, edaic, synthesize
from moodscale.corpora.synthesize.edaic_defects import DEFECTS
from moodscale.corpora.synthesize.people import Person

SPLIT_HEADER = "Participant_ID,Gender,PHQ_Binary,PHQ_Score,PCL-C (PTSD),PTSD Severity"
WIDTHS = {
    "OpenFace2.1.0_Pose_gaze_AUs.csv": (",", 53),
    "OpenSMILE2.3.0_egemaps.csv": (";", 2 + 23),
    "OpenSMILE2.3.0_mfcc.csv": (";", 2 + 39),
    "BoAW_openSMILE_2.3.0_eGeMAPS.csv": (",", 2 + 100),
    "BoAW_openSMILE_2.3.0_MFCC.csv": (",", 2 + 100),
    "BoVW_openFace_2.1.0_Pose_Gaze_AUs.csv": (",", 2 + 100),
    "densenet201.csv": (",", 2 + 1920),
    "vgg16.csv": (",", 2 + 4096),
}


def run(out: Path, corpus: str = "edaic", **fields: object) -> SynthesisSummary:
    settings = {"num_participants": 2, "minutes": 0.3, "num_workers": 1, **fields}
    return synthesize(corpus, validate(SynthesizeConfig, {"out": out, **settings}))


def content(out: Path) -> dict[str, str]:
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".synthesis.json"
    }


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people with every kind of feature."""
    out = tmp_path_factory.mktemp("complete") / "corpus"
    run(out, num_participants=3, minutes=0.5, feature_kinds="all")
    return out


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SynthesisSummary]:
    out = tmp_path_factory.mktemp("spoiled") / "corpus"
    return out, run(out, num_participants=9, minutes=1.0, defects="all", archives=True, feature_kinds="openface")


class TestLayout:
    def test_every_file_has_the_name_of_the_real_corpus(self, complete: Path) -> None:
        features = sorted([*WIDTHS, "CNN_ResNet.mat", "CNN_VGG.mat"])
        sessions = ("300", "301", "600")
        assert list(content(complete)) == sorted(
            [
                *(f"data/{one}_P/{one}_{name}" for one in sessions for name in ("AUDIO.wav", "Transcript.csv")),
                *(f"data/{one}_P/features/{one}_{name}" for one in sessions for name in features),
                *(f"labels/{name}_split.csv" for name in ("train", "dev", "test")),
                "labels/Detailed_PHQ8_Labels.csv", "labels/detailed_lables.csv",
            ]
        )  # fmt: skip

    @pytest.mark.parametrize("name", WIDTHS)
    def test_feature_tables_have_the_delimiter_and_the_columns(self, name: str, complete: Path) -> None:
        delimiter, width = WIDTHS[name]
        with (complete / f"data/300_P/features/300_{name}").open(newline="") as file:
            rows = list(csv.reader(file, delimiter=delimiter))
        assert {len(row) for row in rows} == {width}
        assert len(rows) > 5
        for row in rows if name.startswith("Bo") else rows[1:]:
            assert all(float(cell) == float(cell) for cell in row[1:])

    def test_headers_are_those_of_the_extractors(self, complete: Path) -> None:
        def header(name: str) -> str:
            return (complete / f"data/300_P/features/300_{name}").read_text().split("\n")[0]

        assert header("OpenFace2.1.0_Pose_gaze_AUs.csv").startswith("frame,timestamp,confidence,success,pose_Tx,")
        assert header("OpenFace2.1.0_Pose_gaze_AUs.csv").endswith(",AU25_c,AU26_c,AU28_c,AU45_c")
        assert header("OpenSMILE2.3.0_egemaps.csv").startswith("name;frameTime;Loudness_sma3;")
        assert header("OpenSMILE2.3.0_mfcc.csv").startswith("name;frameTime;")
        assert header("BoAW_openSMILE_2.3.0_MFCC.csv").startswith("'300',0"), "bags of words have no header"

    def test_deep_features_are_matrices_under_the_key_feature(self, complete: Path) -> None:
        for name, width in (("ResNet", 2048), ("VGG", 4096)):
            matrix = scipy.io.loadmat(complete / f"data/300_P/features/300_CNN_{name}.mat")["feature"]
            assert matrix.shape[1] == width
            assert matrix.shape[0] > 10
            assert matrix.std() > 0

    def test_label_tables_have_the_columns_and_agree(self, complete: Path) -> None:
        labels = complete / "labels"
        for name in ("train", "dev", "test"):
            assert (labels / f"{name}_split.csv").read_text().split("\n")[0] == SPLIT_HEADER
        rows = [row for name in ("train", "dev", "test") for row in table(labels / f"{name}_split.csv")]
        lables = {row["Participant"]: row for row in table(labels / "detailed_lables.csv")}
        detailed = {row["Participant_ID"]: row for row in table(labels / "Detailed_PHQ8_Labels.csv")}
        assert {row["Participant_ID"] for row in rows} == lables.keys()
        assert {one for one, row in lables.items() if row["split"] != "test"} == detailed.keys()
        for row in rows:
            items = [int(value) for name, value in lables[row["Participant_ID"]].items() if name.startswith("PHQ8_")]
            assert len(items) == 8
            assert sum(items) == int(row["PHQ_Score"])
            assert int(row["PHQ_Binary"]) == (sum(items) >= 10)
        for one, row in detailed.items():
            items = [int(value) for name, value in list(row.items())[1:9]]
            assert items == [int(value) for name, value in lables[one].items() if name.startswith("PHQ8_")]
            assert sum(items) == int(row["PHQ_8Total"])

    def test_transcripts_name_no_speaker_and_hold_some_lines_of_the_interviewer(self, tmp_path: Path) -> None:
        out = run(tmp_path / "edaic", minutes=3.0, num_participants=3, features=False).out
        run(tmp_path / "daic", "daic_woz", minutes=3.0, num_participants=2)
        num_leaked = num_said = 0
        for session in (300, 301):
            rows = table(out / f"data/{session}_P/{session}_Transcript.csv")
            assert list(rows[0]) == ["Start_Time", "End_Time", "Text", "Confidence"]
            lines = (tmp_path / f"daic/{session}_P/{session}_TRANSCRIPT.csv").read_text().split("\n")[1:-1]
            speakers = {line.split("\t")[0]: line.split("\t")[2] for line in lines}
            who = [speakers[row["Start_Time"]] for row in rows]
            num_leaked, num_said = num_leaked + who.count("Ellie"), num_said + who.count("Participant")
            assert who.count("Participant") == list(speakers.values()).count("Participant")
        assert 0 < num_leaked < 0.4 * num_said

    def test_archives_hold_what_the_folders_hold(self, tmp_path: Path) -> None:
        folders, archives = run(tmp_path / "folders"), run(tmp_path / "archives", archives=True)
        assert sorted(path.name for path in (archives.out / "data").iterdir()) == ["300_P.tar.gz", "600_P.tar.gz"]
        with tarfile.open(archives.out / "data/300_P.tar.gz") as archive:
            names = archive.getnames()
            assert names == sorted(
                path.relative_to(folders.out / "data").as_posix()
                for path in (folders.out / "data/300_P").rglob("*") if path.is_file()
            )  # fmt: skip
            for name in names:
                member = archive.extractfile(name)
                assert member is not None
                assert member.read() == (folders.out / "data" / name).read_bytes()

    def test_the_whole_corpus_has_the_real_split_sizes_and_an_automatic_test_split(self) -> None:
        people = [daic_woz.draw_person(0, interview_id, {}) for interview_id in edaic.choose_ids(275)]
        splits = edaic.split_people(people, 0)
        sizes = {name: list(splits.values()).count(name) for name in ("train", "dev", "test")}
        assert sizes == {"train": 163, "dev": 56, "test": 56}
        ranges = {name: {one >= 600 for one in splits if splits[one] == name} for name in sizes}
        assert ranges == {"train": {True, False}, "dev": {True, False}, "test": {True}}
        assert all(300 <= one <= 492 or 600 <= one <= 718 for one in splits)


class TestPeople:
    def test_an_id_is_the_same_person_with_the_same_voice_in_both_corpora(self, tmp_path: Path) -> None:
        ours, theirs = run(tmp_path / "edaic", seed=3).out, run(tmp_path / "daic", "daic_woz", seed=3).out
        mine = next(row for name in ("train", "dev", "test") for row in table(ours / f"labels/{name}_split.csv")
                    if row["Participant_ID"] == "300")  # fmt: skip
        other = next(row for path in theirs.glob("*_AVEC2017.csv") for row in table(path)
                     if row.get("Participant_ID") == "300")  # fmt: skip
        assert (mine["PHQ_Score"], {"male": "0", "female": "1"}[mine["Gender"]]) == (
            other["PHQ8_Score"], other["Gender"],
        )  # fmt: skip
        audio = (ours / "data/300_P/300_AUDIO.wav").read_bytes()
        assert audio == (theirs / "300_P/300_AUDIO.wav").read_bytes()

    def test_people_whose_answers_daic_woz_prescribes_for_a_defect_are_nobody_here(self) -> None:
        assert not {319, 409, 342, 394, 398, 460} & set(edaic.choose_ids(275))


class TestRandomness:
    def test_bytes_follow_from_the_seed_whatever_the_number_of_workers(self, tmp_path: Path) -> None:
        one, two = (run(tmp_path / str(workers), num_workers=workers, archives=True, minutes=0.2) for workers in (1, 2))
        assert content(one.out) == content(two.out)

    def test_the_kinds_of_features_written_do_not_change_each_other(self, complete: Path, tmp_path: Path) -> None:
        few = run(tmp_path / "few", num_participants=3, minutes=0.5, feature_kinds="resnet").out
        name = "data/301_P/features/301_CNN_ResNet.mat"
        assert content(few)[name] == content(complete)[name]

    @pytest.mark.parametrize("effect", [0.0, 1.0])
    def test_other_labels_change_sessions_only_with_an_effect(
        self, effect: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn = edaic.draw_person

        def swapped(seed: int, interview_id: int, forced: dict[int, tuple[int, ...]]) -> Person:
            person = drawn(seed, interview_id, forced)
            return Person(interview_id, person.gender, tuple(3 - answer for answer in person.answers))

        as_drawn = content(run(tmp_path / "drawn", effect=effect, feature_kinds="openface,egemaps,resnet").out)
        monkeypatch.setattr(edaic, "draw_person", swapped)
        as_swapped = content(run(tmp_path / "swapped", effect=effect, feature_kinds="openface,egemaps,resnet").out)
        sessions = [name for name in as_drawn if name.startswith("data/")]
        assert len(sessions) == 2 * 5
        assert as_drawn["labels/detailed_lables.csv"] != as_swapped["labels/detailed_lables.csv"]
        unchanged = [name for name in sessions if as_drawn[name] == as_swapped[name]]
        assert unchanged == (sessions if effect == 0 else [])


class TestDefects:
    def test_every_defect_is_planted_and_listed(self, spoiled: tuple[Path, SynthesisSummary]) -> None:
        _, summary = spoiled
        assert {one.defect for one in summary.planted} == DEFECTS.keys() - {"broken_audio"}
        assert len({(one.interview_id, one.defect) for one in summary.planted}) == len(summary.planted)

    def test_the_list_holds_no_words(self, spoiled: tuple[Path, SynthesisSummary]) -> None:
        out, summary = spoiled
        said = set()
        for path in (out / "data").glob("*.tar.gz"):
            with tarfile.open(path) as archive:
                member = archive.extractfile(
                    next(m for m in archive if m.name.endswith(f"{path.name[:3]}_Transcript.csv"))
                )
                assert member is not None
                text = member.read().decode()
            said |= {row["Text"] for row in csv.DictReader(text.splitlines()) if row["Text"]}
        assert len(said) > 30
        assert not [line for line in said if line in str(summary.to_json())]

    def test_defects_are_where_the_list_says(self, spoiled: tuple[Path, SynthesisSummary]) -> None:
        out, summary = spoiled
        who = {one.defect: one.interview_id for one in summary.planted}
        rows = {row["Participant_ID"]: row for row in table(out / "labels/train_split.csv")}
        lables = {row["Participant"]: row for row in table(out / "labels/detailed_lables.csv")}
        detailed = {row["Participant_ID"]: row for row in table(out / "labels/Detailed_PHQ8_Labels.csv")}

        def items(row: dict[str, str], prefix: str) -> list[int]:
            return [int(value) for name, value in row.items() if name.startswith(prefix) and "Total" not in name]

        assert 7 in items(lables[who["label_out_of_range"]], "PHQ8_")
        person = who["item_tables_disagree"]
        assert items(lables[person], "PHQ8_") != items(detailed[person], "PHQ_8")
        person = who["items_do_not_add_up"]
        assert items(lables[person], "PHQ8_") == items(detailed[person], "PHQ_8")
        assert sum(items(lables[person], "PHQ8_")) != int(rows[person]["PHQ_Score"])
        row = rows[who["binary_contradicts_score"]]
        assert int(row["PHQ_Binary"]) != (int(row["PHQ_Score"]) >= 10)
        assert rows[who["stray_spaces"]]["Gender"] not in ("male", "female")
        assert rows.keys() >= {"342", "398"}
        assert not (out / "data/342_P.tar.gz").exists()
        with tarfile.open(out / f"data/{who['flat_tar']}_P.tar.gz") as archive:
            assert f"{who['flat_tar']}_AUDIO.wav" in archive.getnames()
        with tarfile.open(out / f"data/{who['missing_feature']}_P.tar.gz") as archive:
            assert not [name for name in archive.getnames() if "OpenFace" in name]
        with tarfile.open(out / f"data/{who['apple_double']}_P.tar.gz") as archive:
            assert f"{who['apple_double']}_P/._{who['apple_double']}_AUDIO.wav" in archive.getnames()

    def test_times_go_backwards_overlap_and_pass_the_end(self, tmp_path: Path) -> None:
        summary = run(tmp_path / "c", num_participants=9, minutes=1.0, defects="backward_times,time_past_end",
                      features=False)  # fmt: skip
        who = {one.defect: one.interview_id for one in summary.planted}

        def times(session: str) -> list[tuple[float, float]]:
            rows = table(summary.out / f"data/{session}_P/{session}_Transcript.csv")
            return [(float(row["Start_Time"]), float(row["End_Time"])) for row in rows]

        backward = times(who["backward_times"])
        assert backward[1][0] < backward[0][0]
        assert backward[3][0] < backward[2][1] < backward[3][1]
        session = who["time_past_end"]
        duration_s = soundfile.info(summary.out / f"data/{session}_P/{session}_AUDIO.wav").duration
        assert times(session)[-1][1] == pytest.approx(duration_s + 3.2, abs=0.01)
        sessions = {path.name.removesuffix("_P") for path in (summary.out / "data").iterdir()}
        sound = times(min(sessions - {one.interview_id for one in summary.planted}))
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(sound))

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"defects": "mould"}, "mould"),
            ({"defects": "flat_tar", "minutes": 1}, "flat_tar: not possible with archives off"),
            ({"defects": "missing_feature", "features": False, "minutes": 1}, "missing_feature: not possible"),
            ({"defects": "all", "minutes": 0.5, "num_participants": 24}, "minutes=0.5 is too short"),
            ({"defects": "all", "minutes": 1, "num_participants": 4}, "take at least 9 participants"),
            ({"feature_kinds": "smell"}, "smell"),
            ({"feature_kinds": "openface", "features": False}, "features off"),
            ({"format": "parquet"}, "format=parquet means nothing to edaic"),
        ],
    )
    def test_settings_that_do_not_go_together_are_refused_before_anything_is_written(
        self, fields: dict[str, object], said: str, tmp_path: Path
    ) -> None:
        with pytest.raises(ConfigError, match=said):
            run(tmp_path / "corpus", **fields)
        assert not (tmp_path / "corpus").exists()
