"""Recordings that are not what they should be: converted or quarantined with a reason, in bounded memory."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.corpora.reading.wav import probe
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.interview import PreparedInterview, prepare_interview
from moodscale.prepare.scan import estimate_snr_db, scan_audio
from moodscale.schema import AudioFile, CorpusError
from tiny_daic import Session, tone, write_corpus


def prepare_one(root: Path, session: Session) -> PreparedInterview:
    corpus = DaicWozConfig(path=str(write_corpus(root, [session]))).open()
    return prepare_interview(corpus, session.id, PrepareConfig(clip_s=2), {"corpus": root})


def reason(one: PreparedInterview) -> str:
    assert one.row is None
    assert one.clips == ()
    (line,) = one.quarantined
    return line.reason


def wav_bytes(samples: np.ndarray, rate: int = 16_000, subtype: str = "PCM_16", container: str = "WAV") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, subtype=subtype, format=container)
    return buffer.getvalue()


def header(data_bytes: int, riff_bytes: int, channels: int = 1, block: int = 2, rate: int = 16_000) -> bytes:
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, rate * block, block, 16)
    return struct.pack("<4sI4s", b"RIFF", riff_bytes, b"WAVE") + form + struct.pack("<4sI", b"data", data_bytes)


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"),
    [(44_100, 2, "PCM_16"), (8_000, 1, "PCM_16"), (16_000, 1, "PCM_24"), (16_000, 1, "FLOAT"), (48_000, 6, "PCM_32")],
)
def test_another_rate_channel_count_or_width_is_usable(tmp_path: Path, rate: int, channels: int, subtype: str) -> None:
    one = prepare_one(tmp_path, Session("300", rate_hz=rate, channels=channels, subtype=subtype))
    assert one.row is not None
    assert one.row["duration_s"] == 30.0
    assert [clip.num_samples for clip in one.clips] == [2 * rate] * 6
    assert one.row["recordings"][0]["peak"] == pytest.approx(0.4, abs=1e-3)


def test_an_empty_file_is_quarantined(tmp_path: Path) -> None:
    assert "is empty" in reason(prepare_one(tmp_path, Session("300", audio=b"")))


@pytest.mark.parametrize("kept", [20, 44, 1000, 100_000])
def test_a_truncated_file_is_quarantined_and_not_padded(tmp_path: Path, kept: int) -> None:
    found = reason(prepare_one(tmp_path, Session("300", audio=wav_bytes(tone(30))[:kept])))
    assert "truncated" in found or "no samples" in found or "cut off" in found


def test_a_header_alone_is_quarantined(tmp_path: Path) -> None:
    assert "holds no samples" in reason(prepare_one(tmp_path, Session("300", audio=header(0, 36))))


@pytest.mark.parametrize("claimed", [0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF])
def test_a_header_that_claims_four_gigabytes_is_refused_in_bounded_memory(tmp_path: Path, claimed: int) -> None:
    path = tmp_path / "300_AUDIO.wav"
    path.write_bytes(header(claimed, 0xFFFFFFFF) + bytes(4000))
    tracemalloc.start()
    with pytest.raises(CorpusError, match=f"claims {claimed:,} bytes of samples, the file holds 4,000"):
        probe(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_chunk_that_claims_four_gigabytes_before_the_samples_is_refused(tmp_path: Path) -> None:
    data = struct.pack("<4sI4s", b"RIFF", 0xFFFFFFFF, b"WAVE") + struct.pack("<4sI", b"LIST", 0xFFFFFFF0) + bytes(99)
    assert "no samples" in reason(prepare_one(tmp_path, Session("300", audio=data)))


@pytest.mark.parametrize(
    ("channels", "block", "rate", "expected"),
    [
        (1, 7, 16_000, "contradicts itself"),
        (9, 18, 16_000, "9 channels"),
        (65_535, 65_534, 16_000, "contradicts itself"),
        (1, 2, 100, "sample rate 100 Hz"),
        (1, 2, 4_000_000, "sample rate 4000000 Hz"),
    ],
)
def test_a_header_that_no_interview_has_is_refused(
    tmp_path: Path, channels: int, block: int, rate: int, expected: str
) -> None:
    data = header(1800, 1836, channels, block, rate) + bytes(1800)
    assert expected in reason(prepare_one(tmp_path, Session("300", audio=data)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_samples_that_are_not_finite_are_quarantined(tmp_path: Path, bad: float, subtype: str) -> None:
    samples = tone(30)
    samples[400_000] = bad
    found = reason(prepare_one(tmp_path, Session("300", audio=samples, subtype=subtype)))
    assert "not finite after 24.5 s" in found


@pytest.mark.parametrize("data", [b"PK\3\4" + bytes(5000), b"<html>404</html>" * 50, bytes(5000), b"RIFFxxxxAVI " * 90])
def test_something_else_under_a_wavs_name_is_quarantined(tmp_path: Path, data: bytes) -> None:
    found = reason(prepare_one(tmp_path, Session("300", audio=data)))
    assert "300_AUDIO.wav" in found


def test_a_mislabelled_recording_that_can_be_decoded_is_used_and_said(tmp_path: Path) -> None:
    flac = wav_bytes(tone(30), container="FLAC")
    one = prepare_one(tmp_path, Session("300", audio=flac))
    assert one.row is not None
    assert len(one.clips) == 6
    assert [(repair.defect, repair.after) for repair in one.repairs] == [("mislabelled_audio", "decoded as FLAC")]


def test_a_damaged_compressed_recording_is_quarantined(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(480_000) * 0.1
    flac = wav_bytes(noise, container="FLAC")
    found = reason(prepare_one(tmp_path, Session("300", audio=flac[: len(flac) // 2])))
    assert "damaged" in found or "truncated" in found


def test_levels_are_recorded_and_heavy_clipping_is_in_the_ledger(tmp_path: Path) -> None:
    loud = np.clip(tone(30) * 5, -1, 1)
    one = prepare_one(tmp_path, Session("300", audio=loud))
    assert one.row is not None
    assert one.row["recordings"][0]["peak"] == 1.0
    assert one.row["recordings"][0]["clipped_fraction"] == pytest.approx(0.5, abs=0.01)
    assert [repair.defect for repair in one.repairs] == ["clipped_audio"]


def test_digital_silence_is_in_the_ledger(tmp_path: Path) -> None:
    one = prepare_one(tmp_path, Session("300", audio=np.zeros(480_000)))
    assert one.row is not None
    assert [repair.defect for repair in one.repairs] == ["silent_audio"]


def test_a_long_recording_is_scanned_a_piece_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(16_000 * 600, np.int16), 16_000)
    tracemalloc.start()
    scan_audio({"corpus": tmp_path}, AudioFile("corpus", "a.wav", 16_000, 16_000 * 600))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20 < path.stat().st_size / 16


def test_the_signal_to_noise_ratio_is_that_of_turns_over_the_quietest_parts(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(16_000 * 60).astype(np.float32)
    audio = 0.001 * noise
    audio[16_000 * 20 : 16_000 * 40] += 0.1 * noise[: 16_000 * 20]
    soundfile.write(tmp_path / "a.wav", audio, 16_000, subtype="PCM_16")
    power = scan_audio({"corpus": tmp_path}, AudioFile("corpus", "a.wav", 16_000, len(audio))).power
    assert len(power) == 3000
    assert estimate_snr_db(power, [(20, 40)]) == pytest.approx(40, abs=1)
    assert estimate_snr_db(power, []) is None
    assert estimate_snr_db(np.zeros(100, np.float32), [(0, 2)]) is None, "digital silence has no ratio"


def test_the_hash_tells_recordings_of_equal_length_apart(tmp_path: Path) -> None:
    rows = [prepare_one(tmp_path / str(gain), Session("300", audio=tone(30) * gain)).row for gain in (1.0, 0.99, 1.0)]
    hashes = [row["recordings"][0]["audio_hash"] for row in rows if row is not None]
    assert hashes[0] == hashes[2] != hashes[1]


def test_a_prepared_interview_survives_its_way_through_json(tmp_path: Path) -> None:
    one = prepare_one(tmp_path, Session("373", duration_s=450, rate_hz=8000))
    assert one.clips
    assert one.repairs
    assert PreparedInterview.from_json(one.to_json()) == one


def test_a_prepared_interview_holds_no_words(tmp_path: Path) -> None:
    rows = [(0, 1, "Ellie", "canary one"), (1, 20, "Participant", "canary two")]
    one = prepare_one(tmp_path, Session("300", rows=rows))
    assert one.clips
    assert "canary" not in one.to_json() + repr(one)
