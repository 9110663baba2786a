"""A clip's waveform from the recording it is a window onto."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import soundfile

from moodscale.corpora.reading.members import open_input
from moodscale.corpora.reading.paths import AnyPath, resolve
from moodscale.schema import CorpusError

__all__ = ["SAMPLE_RATE_HZ", "read_clip", "resolve"]

SAMPLE_RATE_HZ = 16_000


def read_clip(roots: Mapping[str, AnyPath], row: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Decode one clip; only its segments are read, from one recording or several.

    Channels are averaged. A recording at another rate is resampled over the whole clip, not segment by segment, so
    that joins inside it stay where they are.

    Args:
        roots: directory of each root's name (``Manifest.roots``).
        row: a row of ``CLIP_SCHEMA``.
    Returns:
        float32 ``[num_samples]`` at 16 kHz, full scale 1; always ``round(duration_s * 16000)`` samples.
    Raises:
        CorpusError: a path is refused, a recording is gone, or it changed since the manifest was made.
    """
    rate = int(row["sample_rate_hz"])
    pieces = []
    for path, segments in groupby(row["segments"], key=lambda segment: segment.get("path") or row["path"]):
        name = PurePosixPath(path).name
        try:
            with open_input(roots, row["root"], path) as stream, soundfile.SoundFile(stream) as file:
                if file.samplerate != rate:
                    raise CorpusError(f"{name}: {file.samplerate} Hz, the manifest says {rate} Hz; prepare it again")
                pieces += [_read_segment(file, segment, name, row["clip_id"]) for segment in segments]
        except (soundfile.SoundFileError, OSError, RuntimeError):
            raise CorpusError(f"{name}: cannot be decoded at the clip {row['clip_id']}; fetch it again") from None
    if not pieces:
        raise CorpusError(f"clip {row['clip_id']}: has no segments; prepare it again")
    waveform = np.concatenate(pieces)
    if rate != SAMPLE_RATE_HZ:
        waveform = _resample(waveform, rate, round(row["duration_s"] * SAMPLE_RATE_HZ))
    return np.ascontiguousarray(waveform, dtype=np.float32)


def _read_segment(
    file: soundfile.SoundFile, segment: Mapping[str, Any], name: str, clip_id: str
) -> np.ndarray[Any, Any]:
    start, stop = round(segment["start_s"] * file.samplerate), round(segment["stop_s"] * file.samplerate)
    if not 0 <= start < stop <= file.frames:
        raise CorpusError(f"{name}: is shorter than the clip {clip_id} needs; prepare it again")
    file.seek(start)
    piece: np.ndarray[Any, Any] = file.read(stop - start, dtype="float32", always_2d=True)
    if len(piece) != stop - start:
        raise CorpusError(f"{name}: ends within the clip {clip_id}; prepare it again")
    return piece[:, 0] if piece.shape[1] == 1 else piece.mean(axis=1)


def _resample(waveform: np.ndarray[Any, Any], rate: int, num_samples: int) -> np.ndarray[Any, Any]:
    import librosa  # takes a second to import, and most corpora are at 16 kHz already

    resampled = librosa.resample(waveform, orig_sr=rate, target_sr=SAMPLE_RATE_HZ, res_type="soxr_hq")
    assert abs(len(resampled) - num_samples) <= 1, "a resampler's length differs by its rounding of one sample only"
    fitted: np.ndarray[Any, Any] = librosa.util.fix_length(resampled, size=num_samples)
    return fitted
