from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from moodscale.prepare.audio import read_clip, resolve
from moodscale.schema import CorpusError
from tiny_daic import tone


def clip(path: str, rate: int, *segments: tuple[int, int]) -> dict[str, Any]:
    return {
        "clip_id": "daic_woz:300:0000",
        "root": "corpus",
        "path": path,
        "sample_rate_hz": rate,
        "segments": [{"start_s": start / rate, "stop_s": stop / rate} for start, stop in segments],
        "duration_s": sum(stop - start for start, stop in segments) / rate,
    }


def test_exactly_the_segments_are_read(tmp_path: Path) -> None:
    samples = tone(5)
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    found = read_clip({"corpus": tmp_path}, clip("a.wav", 16_000, (10, 20_000), (30_001, 42_011)))
    expected = np.concatenate([samples[10:20_000, 0], samples[30_001:42_011, 0]])
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "PCM_U8", "FLOAT", "DOUBLE"])
def test_every_encoding_gives_the_same_waveform(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", tone(2), 16_000, subtype=subtype)
    found = read_clip({"corpus": tmp_path}, clip("a.wav", 16_000, (0, 32_000)))
    np.testing.assert_allclose(found, tone(2)[:, 0], atol=1 / 127 if subtype == "PCM_U8" else 1 / 32_000)


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (8_000, 1), (48_000, 1), (11_025, 2), (22_050, 1)])
def test_other_rates_and_channels_become_16_khz_mono_of_the_exact_length(
    tmp_path: Path, rate: int, channels: int
) -> None:
    at = np.arange(4 * rate) / rate
    sine = np.sin(2 * np.pi * 440 * at).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", np.repeat(sine[:, None], channels, axis=1), rate, subtype="FLOAT")
    row = clip("a.wav", rate, (0, 3 * rate + 7))
    found = read_clip({"corpus": tmp_path}, row)
    assert len(found) == round(row["duration_s"] * 16_000)
    expected = np.sin(2 * np.pi * 440 * np.arange(len(found)) / 16_000)
    np.testing.assert_allclose(found[500:-500], expected[500:-500], atol=2e-3)


def test_channels_are_averaged(tmp_path: Path) -> None:
    stereo = np.stack([np.full(16_000, 0.5), np.full(16_000, -0.1)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 16_000, subtype="FLOAT")
    found = read_clip({"corpus": tmp_path}, clip("a.wav", 16_000, (0, 16_000)))
    np.testing.assert_allclose(found, 0.2, rtol=1e-6)


def test_a_recording_that_changed_is_an_error_and_never_padded(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1), 16_000)
    with pytest.raises(CorpusError, match=r"shorter than the clip daic_woz:300:0000 needs"):
        read_clip({"corpus": tmp_path}, clip("a.wav", 16_000, (0, 16_001)))
    with pytest.raises(CorpusError, match="16000 Hz, the manifest says 8000 Hz"):
        read_clip({"corpus": tmp_path}, clip("a.wav", 8_000, (0, 100)))
    (tmp_path / "a.wav").write_bytes(b"no recording")
    with pytest.raises(CorpusError, match="cannot be decoded"):
        read_clip({"corpus": tmp_path}, clip("a.wav", 16_000, (0, 100)))


@pytest.fixture
def never_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the file was opened")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(soundfile, "SoundFile", refuse)


@pytest.mark.usefixtures("never_opened")
@pytest.mark.parametrize(
    "path", ["../secret.wav", "a/../../secret.wav", "/etc/passwd", "a\0.wav", "..\\secret.wav", "C:\\a.wav", "", "."]
)
def test_a_path_that_leaves_its_root_is_refused_unopened(tmp_path: Path, path: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret.wav").touch()
    with pytest.raises(CorpusError, match="refused"):
        read_clip({"corpus": tmp_path / "root"}, clip(path, 16_000, (0, 10)))


@pytest.mark.usefixtures("never_opened")
@pytest.mark.parametrize("path", ["link.wav", "folder/a.wav"])
def test_a_link_anywhere_on_the_way_is_refused_unopened(tmp_path: Path, path: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.wav").touch()
    (tmp_path / "root" / "link.wav").symlink_to(tmp_path / "outside" / "a.wav")
    (tmp_path / "root" / "folder").symlink_to(tmp_path / "outside")
    with pytest.raises(CorpusError, match="link"):
        read_clip({"corpus": tmp_path / "root"}, clip(path, 16_000, (0, 10)))


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.wav").touch()
    (tmp_path / "root").symlink_to(tmp_path / "disk")
    assert resolve({"corpus": tmp_path / "root"}, "corpus", "a.wav") == tmp_path / "root" / "a.wav"


def test_an_unknown_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="root='elsewhere'"):
        resolve({"corpus": tmp_path}, "elsewhere", "a.wav")
