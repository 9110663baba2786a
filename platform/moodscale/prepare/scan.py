"""One pass over a recording in pieces: what a header cannot tell."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from moodscale.schema import AudioFile, CorpusError

CHUNK_FRAMES = 2**16
"""4 s at 16 kHz: small enough to stay in a core's cache, so that the pass costs little over reading the file."""

_INTEGER = {"PCM_U8": "int16", "PCM_S8": "int16", "PCM_16": "int16", "PCM_24": "int32", "PCM_32": "int32"}


@dataclass(frozen=True)
class AudioScan:
    """What the samples are like.

    Attributes:
        peak: largest magnitude, 1 is full scale; a float recording may exceed it.
        clipped_fraction: share of samples at or beyond full scale.
        content_hash: of the decoded samples, so that a manifest notices another recording of equal length.
    """

    peak: float
    clipped_fraction: float
    content_hash: str


def scan_audio(path: Path, audio: AudioFile) -> AudioScan:
    """Decode the whole recording in pieces of ``CHUNK_FRAMES``.

    Raises:
        CorpusError: samples that are not finite, fewer samples than the header promised, or damaged coding.
    """
    num_read = num_clipped = 0
    peak = 0.0
    digest = hashlib.sha256()
    try:
        with soundfile.SoundFile(str(path)) as file:
            dtype = _INTEGER.get(file.subtype, "float32")
            buffer = np.empty((CHUNK_FRAMES, file.channels), dtype)
            while num_read < audio.num_samples:
                chunk = file.read(dtype=dtype, out=buffer)
                if len(chunk) == 0:
                    break
                digest.update(chunk.data)
                chunk_peak, chunk_clipped = _levels(chunk, path.name, num_read / audio.sample_rate_hz)
                peak, num_clipped, num_read = max(peak, chunk_peak), num_clipped + chunk_clipped, num_read + len(chunk)
            num_values = num_read * file.channels
    except (soundfile.SoundFileError, OSError, RuntimeError):
        raise CorpusError(f"{path.name}: damaged at {num_read / audio.sample_rate_hz:.1f} s; fetch it again") from None
    if num_read != audio.num_samples:
        raise CorpusError(
            f"{path.name}: truncated: {num_read:,} samples could be decoded, the header promises {audio.num_samples:,}"
        )
    return AudioScan(peak, num_clipped / num_values, digest.hexdigest()[:32])


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
