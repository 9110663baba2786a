"""Feature files beside DAIC-WOZ's recordings, what a face does under a burden, what is measured of a recording."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from moodscale.config import ConfigError, validate
from moodscale.corpora.synthesize import SynthesisSummary, SynthesizeConfig, synthesize
from moodscale.corpora.synthesize.acoustics import analyse
from moodscale.corpora.synthesize.daic_woz_features import COVAREP_COLUMNS
from moodscale.corpora.synthesize.faces import AU_INTENSITIES, Face, draw_face

CLNF_WIDTHS = {"AUs": 4 + 20, "pose": 4 + 6, "gaze": 4 + 12, "features": 4 + 136, "features3D": 4 + 204}


def run(out: Path, **fields: object) -> SynthesisSummary:
    settings = {"num_participants": 1, "minutes": 0.3, "num_workers": 1, **fields}
    return synthesize("daic_woz", validate(SynthesizeConfig, {"out": out, **settings}))


def content(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.rglob("*_*") if path.is_file()}


@pytest.fixture(scope="module")
def featured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SynthesisSummary]:
    out = tmp_path_factory.mktemp("featured") / "corpus"
    return out, run(out, features=True)


class TestDaicWozFiles:
    def test_covarep_and_formant_have_no_header_and_a_row_every_10_ms(
        self, featured: tuple[Path, SynthesisSummary]
    ) -> None:
        out, summary = featured
        covarep = np.loadtxt(out / "300_P/300_COVAREP.csv", delimiter=",")
        formant = np.loadtxt(out / "300_P/300_FORMANT.csv", delimiter=",")
        assert covarep.shape == (int(100 * summary.audio_s), 74)
        assert formant.shape == (len(covarep), 5)
        assert (np.diff(formant.mean(axis=0)) > 0).all()

    def test_voiced_frames_are_where_people_speak_and_have_a_pitch(
        self, featured: tuple[Path, SynthesisSummary]
    ) -> None:
        out, _ = featured
        covarep = np.loadtxt(out / "300_P/300_COVAREP.csv", delimiter=",")
        pitch_hz, voiced = (covarep[:, COVAREP_COLUMNS.index(name)] for name in ("F0", "VUV"))
        assert set(voiced) == {0, 1}
        assert ((pitch_hz > 0) == (voiced == 1)).all()
        lines = (out / "300_P/300_TRANSCRIPT.csv").read_text().split("\n")[1:-1]
        spoken = np.zeros(len(covarep), dtype=bool)
        for line in lines:
            start_s, stop_s = (float(cell) for cell in line.split("\t")[:2])
            spoken[int(100 * start_s) : int(100 * stop_s)] = True
        assert voiced[spoken].mean() > 0.3
        assert voiced[:100].max() == 0, "nobody speaks in the first second"

    @pytest.mark.parametrize("name", CLNF_WIDTHS)
    def test_clnf_tables_have_named_columns_with_a_space_before(
        self, name: str, featured: tuple[Path, SynthesisSummary]
    ) -> None:
        header, *rows = (featured[0] / f"300_P/300_CLNF_{name}.txt").read_text().splitlines()
        assert header.startswith("frame, timestamp, confidence, success, ")
        assert len(header.split(", ")) == CLNF_WIDTHS[name]
        assert np.isfinite(np.array([row.split(", ") for row in rows], dtype=float)).all()
        assert len(rows) == int(2 * featured[1].audio_s)

    def test_without_features_nothing_else_differs(
        self, featured: tuple[Path, SynthesisSummary], tmp_path: Path
    ) -> None:
        with_features, without = content(featured[0]), content(run(tmp_path / "plain").out)
        assert without.items() < with_features.items()
        assert set(with_features.keys() - without) == {
            "300_COVAREP.csv", "300_FORMANT.csv", *(f"300_CLNF_{name}.txt" for name in CLNF_WIDTHS),
        }  # fmt: skip

    def test_hog_is_written_where_all_is_asked_for(self, tmp_path: Path) -> None:
        out = run(tmp_path / "corpus", feature_kinds="hog", visual_hz=1).out
        data = (out / "300_P/300_CLNF_hog.bin").read_bytes()
        frame_bytes = 16 + 4 * 12 * 12 * 31
        assert len(data) % frame_bytes == 0
        assert np.frombuffer(data[:12], dtype="<i4").tolist() == [12, 12, 31]

    def test_the_video_of_402_ends_early_and_is_listed(self, tmp_path: Path) -> None:
        summary = run(tmp_path / "corpus", num_participants=20, minutes=1.2, defects="all", feature_kinds="clnf")
        assert [one.interview_id for one in summary.planted if one.defect == "video_ends_early"] == ["402"]

        def last_s(session: int) -> float:
            rows = (summary.out / f"{session}_P/{session}_CLNF_pose.txt").read_text().splitlines()
            return float(rows[-1].split(", ")[1])

        assert last_s(402) < 0.65 * 72
        assert last_s(409) > 0.9 * 72

    def test_an_unknown_kind_is_refused_by_name(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"smell: no such features; known are all, covarep"):
            run(tmp_path / "corpus", feature_kinds="smell")


class TestRecords:
    def test_a_corpus_written_before_there_were_features_is_still_recognised(self, tmp_path: Path) -> None:
        run(tmp_path / "corpus")
        record = (tmp_path / "corpus/.synthesis.json").read_text()
        assert not [name for name in ("features", "visual_hz", "format", "unlabelled_share") if f'"{name}"' in record]
        assert run(tmp_path / "corpus").already_there
        with pytest.raises(ConfigError, match="features=None there, True asked for"):
            run(tmp_path / "corpus", features=True)


class TestFaces:
    @pytest.fixture(scope="class")
    def faces(self) -> tuple[list[Face], list[Face]]:
        """The same eight people, well and burdened."""
        well, burdened = (
            [draw_face(np.random.default_rng(seed), 120, 5, burden) for seed in range(8)] for burden in (0.0, 1.0)
        )
        return well, burdened

    def test_a_burden_makes_smiles_rarer_and_fainter(self, faces: tuple[list[Face], list[Face]]) -> None:
        smile = AU_INTENSITIES.index("12")
        for well, burdened in zip(*faces, strict=True):
            assert burdened.intensities[:, smile].mean() < 0.8 * well.intensities[:, smile].mean()

    def test_a_burden_slows_the_head(self, faces: tuple[list[Face], list[Face]]) -> None:
        def speed(face: Face) -> float:
            return float(np.abs(np.diff(face.pose[:, 3:], axis=0)).mean())

        for well, burdened in zip(*faces, strict=True):
            assert speed(burdened) < 0.5 * speed(well)

    def test_a_burden_lowers_the_gaze(self, faces: tuple[list[Face], list[Face]]) -> None:
        for well, burdened in zip(*faces, strict=True):
            assert burdened.gaze[:, 7].mean() > well.gaze[:, 7].mean() + 0.15
        directions = np.linalg.norm(faces[0][0].gaze[:, :3], axis=1)
        assert np.allclose(directions, 1)

    def test_half_a_burden_lies_between(self) -> None:
        lowered = [draw_face(np.random.default_rng(0), 120, 5, burden).gaze[:, 7].mean() for burden in (0.0, 0.5, 1.0)]
        assert lowered == sorted(lowered)
        assert lowered[1] - lowered[0] == pytest.approx(lowered[2] - lowered[1], rel=0.1)


class TestAcoustics:
    def test_pitch_and_level_of_a_tone_are_found(self) -> None:
        seconds = np.arange(16_000) / 16_000
        tone = (0.1 * sum(np.sin(2 * np.pi * 150 * k * seconds) / k for k in range(1, 8))).astype(np.float32)
        found = analyse(np.concatenate([tone, np.zeros(16_000, dtype=np.float32)]), 0.01)
        assert found.num_frames == 200
        assert found.pitch_hz[:90] == pytest.approx(np.full(90, 150), rel=0.03)
        assert found.voiced[110:].max() == 0
        assert found.level_db[10] - found.level_db[150] > 40

    def test_a_recording_longer_than_a_chunk_is_measured_as_in_one_piece(self) -> None:
        noise = (0.1 * np.random.default_rng(0).standard_normal(16_000 * 30)).astype(np.float32)
        whole = analyse(noise, 0.01)
        assert whole.num_frames == 3000
        later = analyse(noise[16_000 * 20 :], 0.01)
        assert np.allclose(whole.cepstra[2000:2900], later.cepstra[:900])

    def test_a_recording_shorter_than_a_frame_has_one(self) -> None:
        assert analyse(np.zeros(10, dtype=np.float32), 0.01).cepstra.shape == (1, 25)
