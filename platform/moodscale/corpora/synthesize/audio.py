"""Recordings on disk: sound ones, and broken ones of every kind a reader must survive."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr

from moodscale.corpora.synthesize.defects import BrokenAudio
from moodscale.corpora.synthesize.espeak import FloatArray
from moodscale.corpora.synthesize.voices import SAMPLE_RATE_HZ


def write_audio(path: Path, samples: FloatArray, broken: BrokenAudio | None = None) -> None:
    """Write samples [T] as 16 kHz mono PCM16, or broken in the given way."""
    if broken is None:
        soundfile.write(path, (samples * 32767).astype(np.int16), SAMPLE_RATE_HZ, subtype="PCM_16", format="WAV")
    else:
        _BREAK[broken](path, samples)


def _truncated(path: Path, samples: FloatArray) -> None:
    write_audio(path, samples)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 5])


def _empty(path: Path, samples: FloatArray) -> None:
    path.write_bytes(b"")


def _stereo(path: Path, samples: FloatArray) -> None:
    resampled = soxr.resample(samples, SAMPLE_RATE_HZ, 44_100)
    soundfile.write(path, np.stack([resampled, 0.5 * resampled], axis=1), 44_100, subtype="PCM_16", format="WAV")


def _narrow(path: Path, samples: FloatArray) -> None:
    soundfile.write(path, soxr.resample(samples, SAMPLE_RATE_HZ, 8_000), 8_000, subtype="PCM_16", format="WAV")


def _deep(path: Path, samples: FloatArray) -> None:
    soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="PCM_24", format="WAV")


def _nan(path: Path, samples: FloatArray) -> None:
    spoiled = samples.copy()
    spoiled[len(spoiled) // 4 : len(spoiled) // 2] = np.nan
    soundfile.write(path, spoiled, SAMPLE_RATE_HZ, subtype="FLOAT", format="WAV")


def _not_a_wav(path: Path, samples: FloatArray) -> None:
    path.write_bytes(b"%PDF-1.4\n" + bytes(4096))


def _flac(path: Path, samples: FloatArray) -> None:
    soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="PCM_16", format="FLAC")


def _claims_4_gb(path: Path, samples: FloatArray) -> None:
    write_audio(path, samples[:SAMPLE_RATE_HZ])
    data = bytearray(path.read_bytes())
    most = 0xFFFFFFF0
    struct.pack_into("<I", data, 4, most)
    struct.pack_into("<I", data, data.index(b"data") + 4, most - 36)
    path.write_bytes(data)


_BREAK: dict[BrokenAudio, Callable[[Path, FloatArray], None]] = {
    "truncated": _truncated,
    "empty": _empty,
    "stereo_44100_hz": _stereo,
    "mono_8000_hz": _narrow,
    "pcm_24": _deep,
    "nan": _nan,
    "not_a_wav": _not_a_wav,
    "flac": _flac,
    "claims_4_gb": _claims_4_gb,
}
