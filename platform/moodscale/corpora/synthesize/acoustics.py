"""What can be measured of a recording, frame by frame: the source of every acoustic feature file.

Real measures of the synthesised sound where they are simple (level, voicing, pitch, cepstra, spectral shape), so that
a feature file says what its recording says. They stand in for COVAREP's and openSMILE's, and are not equal to them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moodscale.corpora.synthesize.espeak import FloatArray
from moodscale.corpora.synthesize.voices import SAMPLE_RATE_HZ

Array = npt.NDArray[np.float64]

NUM_BANDS = 26
NUM_CEPSTRA = 25
FORMANT_RANGES_HZ = ((200, 1000), (900, 2500), (2000, 3400), (3000, 4600), (4200, 5800))
"""Where each formant is looked for: the centre of the power within."""

_FRAME = 640
_FFT = 1024
_CHUNK_FRAMES = 2048
"""Frames analysed at once: a session of an hour must not be held as spectra."""
_PITCH_HZ = (60, 400)
_VOICED_CORRELATION = 0.5
_SILENCE_DB = -50.0


@dataclass(frozen=True)
class Acoustics:
    """Measures of T frames, one every ``hop_s``.

    Attributes:
        level_db: [T] of full scale.
        voiced: [T] 0 or 1.
        pitch_hz: [T] 0 where unvoiced.
        periodicity: [T] height of the autocorrelation's peak, 0 to 1.
        bands: [T, 26] natural logarithm of the power in mel bands.
        cepstra: [T, 25].
        formants_hz: [T, 5].
        bandwidths_hz: [T, 5].
    """

    hop_s: float
    level_db: Array
    voiced: Array
    pitch_hz: Array
    periodicity: Array
    bands: Array
    cepstra: Array
    formants_hz: Array
    bandwidths_hz: Array

    @property
    def num_frames(self) -> int:
        return len(self.level_db)


def analyse(audio: FloatArray, hop_s: float) -> Acoustics:
    """Measure samples [N] at 16 kHz. At least one frame, however short the recording."""
    # Rounded first: 0.29 / 0.01 is a little less than 29.
    num_frames = max(1, int(round(len(audio) / SAMPLE_RATE_HZ / hop_s, 6)))
    padded = np.concatenate([audio, np.zeros(_FRAME, dtype=np.float32)])
    starts = np.minimum(np.rint(np.arange(num_frames) * hop_s * SAMPLE_RATE_HZ).astype(np.int64), len(padded) - _FRAME)
    chunks = [
        _analyse_chunk(padded, starts[first : first + _CHUNK_FRAMES])
        for first in range(0, num_frames, _CHUNK_FRAMES)
    ]  # fmt: skip
    return Acoustics(hop_s, *(np.concatenate(parts) for parts in zip(*chunks, strict=True)))


def _analyse_chunk(audio: FloatArray, starts: npt.NDArray[np.int64]) -> tuple[Array, ...]:
    frames = audio[starts[:, None] + np.arange(_FRAME)].astype(np.float64)
    level_db = 10 * np.log10(np.mean(np.square(frames), axis=1) + 1e-10)
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(_FRAME), _FFT, axis=1))) + 1e-10
    # Padded to more than twice the longest lag, so that the ends do not wrap into it.
    correlation = np.fft.irfft(power, axis=1)
    shortest, longest = (SAMPLE_RATE_HZ // rate for rate in reversed(_PITCH_HZ))
    lags = correlation[:, shortest : longest + 1]
    best = lags.argmax(axis=1)
    periodicity = np.clip(lags[np.arange(len(lags)), best] / correlation[:, 0], 0, 0.999)
    voiced = ((periodicity > _VOICED_CORRELATION) & (level_db > _SILENCE_DB)).astype(np.float64)
    pitch_hz = voiced * SAMPLE_RATE_HZ / (best + shortest)
    bands = np.log(power @ _mel_filters() + 1e-8)
    formants, widths = zip(*(_centre(power, low, high) for low, high in FORMANT_RANGES_HZ), strict=True)
    return (
        level_db, voiced, pitch_hz, periodicity, bands, bands @ _cosines(),
        np.stack(formants, axis=1), np.stack(widths, axis=1),
    )  # fmt: skip


def _centre(power: Array, low_hz: float, high_hz: float) -> tuple[Array, Array]:
    """Mean and standard deviation of frequency, weighted by power, within a range."""
    frequencies = np.arange(power.shape[1]) * SAMPLE_RATE_HZ / _FFT
    within = (frequencies >= low_hz) & (frequencies < high_hz)
    weights = power[:, within] / power[:, within].sum(axis=1, keepdims=True)
    mean = weights @ frequencies[within]
    return mean, np.sqrt(np.maximum(weights @ np.square(frequencies[within]) - np.square(mean), 0))


@functools.cache
def _mel_filters() -> Array:
    """Triangles [513, 26], evenly spaced in mel from 50 Hz to 7.6 kHz."""
    edges_mel = np.linspace(1127 * np.log(1 + 50 / 700), 1127 * np.log(1 + 7600 / 700), NUM_BANDS + 2)
    edges = 700 * (np.exp(edges_mel / 1127) - 1)
    frequencies = np.arange(_FFT // 2 + 1)[:, None] * SAMPLE_RATE_HZ / _FFT
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    filters: Array = np.maximum(0, np.minimum(rising, falling))
    return filters


@functools.cache
def _cosines() -> Array:
    """The discrete cosine transform [26, 25]."""
    angle = np.pi / NUM_BANDS * (np.arange(NUM_BANDS)[:, None] + 0.5) * np.arange(NUM_CEPSTRA)
    cosines: Array = np.sqrt(2 / NUM_BANDS) * np.cos(angle)
    return cosines
