"""The synthesised DAIC-WOZ: layout, independence of the label without effect, directories, planted defects."""

from __future__ import annotations

import csv
import json
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from moodscale.config import ConfigError, validate
from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.corpora.synthesize import SynthesisSummary, SynthesizeConfig, daic_woz, synthesize
from moodscale.corpora.synthesize import session as session_module
from moodscale.corpora.synthesize.defects import DEFECTS, avoided_sessions, needed_sessions, select
from moodscale.schema import Speaker

TRAIN, DEV = "train_split_Depression_AVEC2017.csv", "dev_split_Depression_AVEC2017.csv"
TEST, FULL_TEST = "test_split_Depression_AVEC2017.csv", "full_test_split.csv"


def run(out: Path, **fields: object) -> SynthesisSummary:
    settings = {"num_participants": 4, "minutes": 0.4, "num_workers": 1, **fields}
    return synthesize("daic_woz", validate(SynthesizeConfig, {"out": out, **settings}))


def content(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".synthesis.json"
    }


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def transcript(out: Path, session: int) -> list[list[str]]:
    return [line.split("\t") for line in (out / f"{session}_P/{session}_TRANSCRIPT.csv").read_text().splitlines()]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sound") / "corpus"
    run(out, num_participants=24, minutes=0.4)
    return out


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SynthesisSummary]:
    out = tmp_path_factory.mktemp("spoiled") / "corpus"
    return out, run(out, num_participants=20, minutes=1.2, defects="all")


class TestLayout:
    def test_label_tables_have_the_corpus_own_columns(self, sound: Path) -> None:
        header = (
            "Participant_ID,PHQ8_Binary,PHQ8_Score,Gender,PHQ8_NoInterest,PHQ8_Depressed,PHQ8_Sleep,PHQ8_Tired,"
            "PHQ8_Appetite,PHQ8_Failure,PHQ8_Concentrating,PHQ8_Moving"
        )
        for name in (TRAIN, DEV):
            assert (sound / name).read_text().split("\n")[0] == header
        assert (sound / TEST).read_text().split("\n")[0] == "participant_ID,Gender"
        assert (sound / FULL_TEST).read_text().split("\n")[0] == "Participant_ID,PHQ_Binary,PHQ_Score,Gender"

    def test_label_tables_agree_with_themselves_and_each_other(self, sound: Path) -> None:
        rows = table(sound / TRAIN) + table(sound / DEV)
        for row in rows:
            assert sum(int(row[column]) for column in list(row)[4:]) == int(row["PHQ8_Score"])
            assert int(row["PHQ8_Binary"]) == (int(row["PHQ8_Score"]) >= 10)
        test, full = table(sound / TEST), table(sound / FULL_TEST)
        assert [(row["participant_ID"], row["Gender"]) for row in test] == [
            (row["Participant_ID"], row["Gender"]) for row in full
        ]
        people = [row["Participant_ID"] for row in (*rows, *full)]
        assert sorted(f"{person}_P" for person in people) == sorted(path.name for path in sound.glob("*_P"))

    def test_recordings_are_16_khz_mono_pcm16(self, sound: Path) -> None:
        files = sorted(sound.glob("*_P/*_AUDIO.wav"))
        assert len(files) == 24
        for file in files:
            facts = soundfile.info(file)
            assert (facts.samplerate, facts.channels, facts.subtype, facts.format) == (16_000, 1, "PCM_16", "WAV")
            assert file.name == f"{file.parent.name[:3]}_AUDIO.wav"
            assert 15 < facts.duration < 40

    def test_transcripts_are_tab_separated_with_times_speaker_and_words(self, sound: Path) -> None:
        header, *rows = transcript(sound, 300)
        assert header == ["start_time", "stop_time", "speaker", "value"]
        assert {row[2] for row in rows} == {"Ellie", "Participant"}
        assert all(len(row) == 4 and float(row[0]) < float(row[1]) and row[3] for row in rows)

    def test_the_reader_finds_nothing_to_repair(self, sound: Path) -> None:
        corpus = DaicWozConfig(path=str(sound)).open()
        readings = [corpus.read(interview_id) for interview_id in corpus.interview_ids()]
        assert len(readings) == 24
        assert not [line for reading in readings for line in (*reading.repairs, *reading.quarantined)]
        assert not corpus.absent()
        assert all(reading.interview and reading.interview.label for reading in readings)

    def test_complete_corpus_has_the_real_ids_and_split_sizes(self) -> None:
        selected = select("all")
        ids = daic_woz.choose_ids(189, needed_sessions(selected), avoided_sessions(selected))
        assert ids == [number for number in range(300, 493) if number not in (342, 394, 398, 460)]
        people = [daic_woz.draw_person(0, number, {}) for number in ids]
        splits = daic_woz.split_people(people, 0, in_train={319, 409})
        assert Counter(splits.values()) == {"train": 107, "dev": 35, "test": 47}
        assert splits[319] == splits[409] == "train"

    def test_the_depressed_are_spread_over_the_splits(self) -> None:
        for seed in range(5):
            people = [daic_woz.draw_person(seed, number, {}) for number in range(300, 396)]
            splits = daic_woz.split_people(people, seed, in_train=set())
            shares = {
                split: np.mean([sum(p.answers) >= 10 for p in people if splits[p.interview_id] == split])
                for split in ("train", "dev", "test")
            }
            assert max(shares.values()) - min(shares.values()) < 0.08
            assert sum(split == "test" for split in splits.values()) == 24

    def test_gender_says_nothing_about_the_label(self) -> None:
        people = [daic_woz.draw_person(0, number, {}) for number in range(300, 3300)]
        shares = [
            np.mean([sum(p.answers) >= 10 for p in people if p.gender == gender]) for gender in ("male", "female")
        ]
        assert abs(shares[0] - shares[1]) < 0.05
        assert 0.45 < np.mean([person.gender == "male" for person in people]) < 0.55

    def test_archives_hold_what_the_folders_hold(self, tmp_path: Path) -> None:
        run(tmp_path / "folders", num_participants=2)
        run(tmp_path / "zips", num_participants=2, archives=True)
        assert not list((tmp_path / "zips").glob("*_P"))
        with zipfile.ZipFile(tmp_path / "zips/301_P.zip") as archive:
            assert archive.namelist() == ["301_AUDIO.wav", "301_TRANSCRIPT.csv"]
            for name in archive.namelist():
                assert archive.read(name) == (tmp_path / "folders/301_P" / name).read_bytes()


class TestRandomness:
    def test_bytes_follow_from_the_seed_whatever_the_number_of_workers(self, tmp_path: Path) -> None:
        one, two, other = (
            run(tmp_path / name, num_participants=3, num_workers=workers, seed=seed)
            for name, workers, seed in (("one", 1, 3), ("two", 2, 3), ("other", 1, 4))
        )
        assert content(one.out) == content(two.out)
        assert content(one.out)["300_P/300_AUDIO.wav"] != content(other.out)["300_P/300_AUDIO.wav"]

    @pytest.mark.parametrize("effect", [0.0, 1.0])
    def test_other_labels_change_the_recordings_only_with_an_effect(
        self, effect: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn = daic_woz.draw_person

        def swapped(seed: int, interview_id: int, forced: dict[int, tuple[int, ...]]) -> daic_woz.Person:
            person = drawn(seed, interview_id, forced)
            answers = tuple(3 - answer for answer in person.answers)
            return daic_woz.Person(interview_id, person.gender, answers)

        as_drawn = content(run(tmp_path / "drawn", effect=effect).out)
        monkeypatch.setattr(daic_woz, "draw_person", swapped)
        as_swapped = content(run(tmp_path / "swapped", effect=effect).out)
        sessions = [name for name in as_drawn if "_P/" in name]
        assert len(sessions) == 8
        assert as_drawn[TRAIN] != as_swapped[TRAIN]
        unchanged = [name for name in sessions if as_drawn[name] == as_swapped[name]]
        assert unchanged == (sessions if effect == 0 else [])

    def test_severity_can_be_heard_from_clips_of_ten_seconds(self, tmp_path: Path) -> None:
        summary = run(tmp_path / "corpus", num_participants=60, minutes=0.8, seed=5)
        print(f"{summary.real_time_factor:.0f} times real time in one process")
        corpus = DaicWozConfig(path=str(summary.out)).open()
        features, labels, people = [], [], []
        for number, interview_id in enumerate(corpus.interview_ids()):
            interview = corpus.read(interview_id).interview
            assert interview is not None
            assert interview.label is not None
            samples, _ = soundfile.read(summary.out / f"{interview_id}_P/{interview_id}_AUDIO.wav", dtype="float32")
            said = np.concatenate(
                [samples[round(16_000 * turn.start_s) : round(16_000 * turn.stop_s)]
                 for turn in interview.turns if turn.speaker is Speaker.PARTICIPANT]
            )  # fmt: skip
            for start in range(0, len(said) - 159_999, 160_000):
                features.append(_statistics(said[start : start + 160_000]))
                labels.append(interview.label.depressed)
                people.append(number)
        auc = _participant_auc(np.array(features), np.array(labels), np.array(people))
        print(f"AUC over participants, from level, pauses and spectrum: {auc:.3f}")
        assert auc > 0.85


def _statistics(clip: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    frames = clip.reshape(-1, 400) * np.hanning(400)
    bands = np.abs(np.fft.rfft(frames, axis=1))[:, 1:].reshape(len(frames), 20, 10)
    levels = np.log10(np.mean(np.square(bands), axis=2) + 1e-9)
    loudness = levels.mean(axis=1)
    quiet = np.mean(loudness < np.percentile(loudness, 95) - 1.5)
    return np.concatenate([levels.mean(axis=0), levels.std(axis=0), [quiet]])


def _participant_auc(
    features: npt.NDArray[np.float64], labels: npt.NDArray[np.bool_], people: npt.NDArray[np.int64]
) -> float:
    """Each person's clips averaged first, so that no person is in two folds."""
    persons = np.unique(people)
    means = np.array([features[people == person].mean(axis=0) for person in persons])
    truth = np.array([labels[people == person][0] for person in persons])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=1000, class_weight="balanced"))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = cross_val_predict(model, means, truth, cv=folds, method="decision_function")
    return float(roc_auc_score(truth, scores))


class TestDirectory:
    def test_the_same_again_writes_nothing_and_says_so(self, tmp_path: Path) -> None:
        first = run(tmp_path / "corpus", num_participants=2)
        written = {path: path.stat().st_mtime_ns for path in first.out.rglob("*")}
        again = run(tmp_path / "corpus", num_participants=2, num_workers=2)
        assert again.already_there
        assert not first.already_there
        assert {path: path.stat().st_mtime_ns for path in first.out.rglob("*")} == written
        assert again.to_json() | {"already_there": False} == first.to_json()

    def test_other_settings_are_refused_by_name(self, tmp_path: Path) -> None:
        run(tmp_path / "corpus", num_participants=2)
        with pytest.raises(
            ConfigError, match=r"corpus holds a synthesis with other settings \(seed=0 there, 9 asked for"
        ):
            run(tmp_path / "corpus", num_participants=2, seed=9)

    def test_a_directory_of_something_else_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("mine")
        with pytest.raises(ConfigError, match="not empty"):
            run(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
        with pytest.raises(ConfigError, match="is a file"):
            run(tmp_path / "thesis.txt")

    def test_an_interrupted_run_is_taken_up_and_ends_in_the_same_bytes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = run(tmp_path / "whole")
        write, calls = daic_woz.write_session, []

        def dies_at_the_third(task: daic_woz.SessionTask) -> daic_woz.SessionResult:
            calls.append(task)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return write(task)

        with monkeypatch.context() as patch:
            patch.setattr(daic_woz, "write_session", dies_at_the_third)
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path / "corpus")
        with pytest.raises(ConfigError, match="unfinished synthesis with other settings"):
            run(tmp_path / "corpus", effect=0.5)
        assert not run(tmp_path / "corpus").already_there
        assert content(tmp_path / "corpus") == content(whole.out)

    def test_a_corpus_that_was_changed_since_is_not_called_complete(self, tmp_path: Path) -> None:
        out = run(tmp_path / "corpus", num_participants=2).out
        (out / "301_P/301_AUDIO.wav").unlink()
        with pytest.raises(ConfigError, match=r"301_AUDIO\.wav is missing or changed"):
            run(tmp_path / "corpus", num_participants=2)

    def test_an_unknown_corpus_is_refused_by_name(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no_such_corpus"):
            synthesize("no_such_corpus", SynthesizeConfig(out=tmp_path))


class TestDefects:
    def test_the_readers_ledger_is_exactly_what_was_planted(self, spoiled: tuple[Path, SynthesisSummary]) -> None:
        out, summary = spoiled
        corpus = DaicWozConfig(path=str(out)).open()
        readings = [corpus.read(interview_id) for interview_id in corpus.interview_ids()]
        repairs = [*corpus.absent(), *(repair for reading in readings for repair in reading.repairs)]
        found = {(repair.interview_id, repair.defect) for repair in repairs}
        assert found == {(one.interview_id, one.defect) for one in summary.planted}
        assert not [line for reading in readings for line in reading.quarantined]
        assert {one.defect for one in summary.planted} >= DEFECTS.keys() - {"broken_audio"}

    def test_the_list_of_planted_defects_lies_beside_the_corpus(self, spoiled: tuple[Path, SynthesisSummary]) -> None:
        out, summary = spoiled
        record = json.loads((out / ".synthesis.json").read_text())
        assert record["planted"] == summary.to_json()["planted"]

    @pytest.mark.parametrize(
        ("session", "offset_s"), [(318, 34.319917), (321, 3.8379167), (341, 6.1892), (362, 16.8582)]
    )
    def test_adding_the_offset_puts_the_transcript_on_the_speech(
        self, session: int, offset_s: float, spoiled: tuple[Path, SynthesisSummary]
    ) -> None:
        out, _ = spoiled
        samples, rate = soundfile.read(out / f"{session}_P/{session}_AUDIO.wav")
        loud = np.abs(samples) > 0.01
        rows = [row for row in transcript(out, session)[1:] if row[2] in ("Ellie", "Participant")]
        assert min(float(row[0]) for row in rows) >= 0

        def fits(row: list[str], shift_s: float) -> bool:
            start = round((float(row[0]) + shift_s) * rate)
            return bool(loud[start : start + 800].any() and not loud[start - 1600 : start - 32].any())

        # Some onsets of a soft voice stay under the threshold.
        assert np.mean([fits(row, offset_s) for row in rows]) > 0.85
        assert np.mean([fits(row, 0.0) for row in rows]) < 0.5

    def test_interruptions_lie_where_they_are_known_to_lie_and_nowhere_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        interrupted = run(tmp_path / "interrupted", num_participants=2, minutes=1, defects="interruption").out
        with monkeypatch.context() as patch:
            patch.setattr(session_module, "_interrupt", lambda *_: None)
            undisturbed = run(tmp_path / "undisturbed", num_participants=2, minutes=1, defects="interruption").out
        for session, start_s, stop_s in ((373, 395, 428), (444, 286, 387)):
            name = f"{session}_P/{session}_AUDIO.wav"
            with_it, without = (soundfile.read(out / name, dtype="int16")[0] for out in (interrupted, undisturbed))
            changed_s = np.flatnonzero(with_it != without) / 16_000
            assert start_s <= changed_s.min() < start_s + 1
            assert stop_s - 1 < changed_s.max() < stop_s
            assert len(with_it) / 16_000 > stop_s + 10
            rows = transcript(interrupted, session)[1:]
            assert rows == transcript(undisturbed, session)[1:], "the transcript does not know of it"
            assert any(start_s < float(row[0]) < stop_s for row in rows)

    def test_label_defects_are_in_the_training_table(self, spoiled: tuple[Path, SynthesisSummary]) -> None:
        rows = {int(row["Participant_ID"]): row for row in table(spoiled[0] / TRAIN)}
        assert (rows[409]["PHQ8_Score"], rows[409]["PHQ8_Binary"]) == ("10", "0")
        assert (rows[319]["PHQ8_Score"], rows[319]["PHQ8_Sleep"]) == ("13", "")
        assert sum(int(rows[319][column] or 0) for column in list(rows[319])[4:]) == 11
        assert rows.keys() >= {342, 394, 398, 460}
        assert not any((spoiled[0] / f"{session}_P").exists() for session in (342, 394, 398, 460))

    @pytest.mark.parametrize("session", [451, 458, 480])
    def test_sessions_without_interviewer_rows(self, session: int, spoiled: tuple[Path, SynthesisSummary]) -> None:
        assert {row[2] for row in transcript(spoiled[0], session)[1:]} == {"Participant"}

    def test_487_has_what_487_is_known_for(self, spoiled: tuple[Path, SynthesisSummary]) -> None:
        out, _ = spoiled
        rows = transcript(out, 487)[1:]
        values = [row[3] if len(row) == 4 else "" for row in rows]
        assert {"<sync>", "[syncing]", "xxx", ""} <= set(values)
        assert any(value.endswith(" [sync]") for value in values)
        assert any(" xxx " in value for value in values)
        assert [""] in rows
        assert ["nan"] * 4 in rows
        first_line = next(index for index, row in enumerate(rows) if "Ellie" in row)
        assert sum(row[2] == "Participant" for row in rows[:first_line] if len(row) == 4) >= 3
        assert (out / "487_P/._487_AUDIO.wav").read_bytes()[:4] == bytes.fromhex("00051607")

    def test_broken_recordings_are_refused_or_said_to_be_something_else(self, tmp_path: Path) -> None:
        summary = run(tmp_path / "corpus", num_participants=10, defects="broken_audio", minutes=1)
        kinds = {one.interview_id: one.detail for one in summary.planted}
        corpus = DaicWozConfig(path=str(summary.out)).open()
        unusable = {kinds[id_] for id_ in kinds if corpus.read(id_).quarantined}
        assert unusable == {"truncated", "empty", "not_a_wav", "claims_4_gb"}
        facts = {kind: soundfile.info(summary.out / f"{id_}_P/{id_}_AUDIO.wav")
                 for id_, kind in kinds.items() if kind not in unusable}  # fmt: skip
        assert facts["flac"].format == "FLAC"
        assert (facts["stereo_44100_hz"].samplerate, facts["stereo_44100_hz"].channels) == (44_100, 2)
        assert facts["mono_8000_hz"].samplerate == 8_000
        assert facts["pcm_24"].subtype == "PCM_24"
        spoiled_id = next(id_ for id_, kind in kinds.items() if kind == "nan")
        assert np.isnan(soundfile.read(summary.out / f"{spoiled_id}_P/{spoiled_id}_AUDIO.wav")[0]).any()

    def test_single_defects_can_be_named_and_bring_their_sessions(self, tmp_path: Path) -> None:
        summary = run(tmp_path / "corpus", num_participants=5, minutes=1, defects="blank_item,binary_contradicts_score")
        assert {(one.interview_id, one.defect) for one in summary.planted} == {
            ("319", "blank_item"), ("409", "binary_contradicts_score"),
        }  # fmt: skip
        assert (summary.out / "409_P").is_dir()

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"defects": "mould"}, "mould"),
            ({"defects": "all", "num_participants": 5, "minutes": 2}, "num_participants=5 is too few"),
            ({"defects": "all", "num_participants": 20, "minutes": 0.5}, "minutes=0.5 is too short"),
            ({"defects": "broken_audio", "minutes": 2}, "broken_audio needs 9"),
            ({"effect": 1.5}, "effect"),
        ],
    )
    def test_settings_that_do_not_go_together_are_refused_before_anything_is_written(
        self, fields: dict[str, object], said: str, tmp_path: Path
    ) -> None:
        with pytest.raises(ConfigError, match=said):
            run(tmp_path / "corpus", **fields)
        assert not (tmp_path / "corpus").exists()

    def test_sound_sessions_avoid_numbers_that_readers_repair_by_number(self) -> None:
        avoided = avoided_sessions(select("none"))
        assert avoided >= {318, 321, 341, 362, 373, 444}
        assert not avoided_sessions(select("all")) & {318, 321, 341, 362, 373, 444, 402}
