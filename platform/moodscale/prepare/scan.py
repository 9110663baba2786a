"""One pass over a recording in pieces: what a header cannot tell."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import soundfile
from upath import UPath

from moodscale.corpora.reading.members import open_input
from moodscale.schema import AudioFile, CorpusError

CHUNK_FRAMES = 2**16
"""4 s at 16 kHz: small enough to stay in a core's cache, so that the pass costs little over reading the file."""
LEVEL_S = 0.02
"""Length of the frames whose level is measured."""

_QUIETEST = 2.0**-30
"""Power of a 16-bit recording's last bit: below it there is nothing to compare with."""
_INTEGER = {"PCM_U8": "int16", "PCM_S8": "int16", "PCM_16": "int16", "PCM_24": "int32", "PCM_32": "int32"}


@dataclass(frozen=True)
class AudioScan:
    """What the samples are like.

    Attributes:
        peak: largest magnitude, 1 is full scale; a float recording may exceed it.
        clipped_fraction: share of samples at or beyond full scale.
        content_hash: of the decoded samples, so that a manifest notices another recording of equal length.
        power: mean square of each frame of ``LEVEL_S``, 1 is full scale; float32 ``[num_frames]``.
    """

    peak: float
    clipped_fraction: float
    content_hash: str
    power: np.ndarray[Any, np.dtype[np.float32]] = field(repr=False)


def scan_audio(roots: Mapping[str, UPath], audio: AudioFile) -> AudioScan:
    """Decode the whole recording in pieces of about ``CHUNK_FRAMES``.

    Raises:
        CorpusError: samples that are not finite, fewer samples than the header promised, or damaged coding.
    """
    name = PurePosixPath(audio.path).name
    num_read = num_clipped = 0
    peak = 0.0
    digest = hashlib.sha256()
    power = []
    try:
        with open_input(roots, audio.root, audio.path) as source, soundfile.SoundFile(source) as file:
            dtype = _INTEGER.get(file.subtype, "float32")
            frame = max(round(LEVEL_S * file.samplerate), 1)
            # Whole frames a piece, so that none lies across two.
            buffer = np.empty((max(CHUNK_FRAMES // frame, 1) * frame, file.channels), dtype)
            while num_read < audio.num_samples:
                chunk = file.read(dtype=dtype, out=buffer)
                if len(chunk) == 0:
                    break
                digest.update(chunk.data)
                chunk_peak, chunk_clipped = _levels(chunk, name, num_read / audio.sample_rate_hz)
                power.append(_power(chunk, frame))
                peak, num_clipped, num_read = max(peak, chunk_peak), num_clipped + chunk_clipped, num_read + len(chunk)
            num_values = num_read * file.channels
    except (soundfile.SoundFileError, OSError, RuntimeError):
        raise CorpusError(f"{name}: damaged at {num_read / audio.sample_rate_hz:.1f} s; fetch it again") from None
    if num_read != audio.num_samples:
        raise CorpusError(
            f"{name}: truncated: {num_read:,} samples could be decoded, the header promises {audio.num_samples:,}"
        )
    return AudioScan(peak, num_clipped / num_values, digest.hexdigest()[:32], np.concatenate(power))


def estimate_snr_db(
    power: np.ndarray[Any, np.dtype[np.float32]], speech: Sequence[tuple[float, float]]
) -> float | None:
    """Level of speech over the quietest tenth of the recording, in dB: an estimate that needs no reference.

    Args:
        power: of :class:`AudioScan`.
        speech: spans in seconds in which somebody speaks.
    Returns:
        To a tenth, so that the rounding of one processor or another does not show; ``None`` where there is no speech,
        or nothing but digital silence.
    """
    spoken = np.zeros(len(power), bool)
    for start_s, stop_s in speech:
        spoken[max(int(start_s / LEVEL_S), 0) : max(int(stop_s / LEVEL_S), 0)] = True
    if not spoken.any():
        return None
    noise = max(float(np.quantile(power, 0.1)), _QUIETEST)
    level = float(power[spoken].mean(dtype=np.float64))
    return round(10 * math.log10(level / noise), 1) if level > noise else None


def _power(chunk: np.ndarray[Any, Any], frame: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    full_scale = 1.0 if chunk.dtype.kind == "f" else float(np.iinfo(chunk.dtype).max) + 1
    num_frames = len(chunk) // frame
    first = chunk[: num_frames * frame, 0].astype(np.float32).reshape(num_frames, frame)
    squared: np.ndarray[Any, np.dtype[np.float32]] = np.einsum("ij,ij->i", first, first)
    return squared / np.float32(frame * full_scale**2)


def _levels(chunk: np.ndarray[Any, Any], name: str, at_s: float) -> tuple[float, int]:
    """Peak in units of full scale, and how many samples reach it. Counting is skipped while nothing does."""
    low, high = chunk.min(), chunk.max()
    if chunk.dtype.kind == "f":
        # min and max carry a NaN through, so one look at them stands for a look at every sample
        if not (np.isfinite(low) and np.isfinite(high)):
            raise CorpusError(f"{name}: samples that are not finite after {at_s:.1f} s; export it again")
        peak = float(max(-low, high))
        return peak, int(np.count_nonzero(np.abs(chunk) >= 1.0)) if peak >= 1.0 else 0
    limits = np.iinfo(chunk.dtype)
    peak = max(-int(low), int(high)) / (limits.max + 1)
    if int(high) == limits.max or int(low) == limits.min:
        return peak, int(np.count_nonzero((chunk == limits.max) | (chunk == limits.min)))
    return peak, 0
