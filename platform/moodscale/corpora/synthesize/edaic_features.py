"""E-DAIC's ``features/`` folder: the file names, delimiters and columns of the real one, at a lower rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from moodscale.corpora.synthesize.acoustics import Acoustics, Array, analyse
from moodscale.corpora.synthesize.espeak import FloatArray
from moodscale.corpora.synthesize.faces import Face, draw_face
from moodscale.corpora.synthesize.feature_files import Columns, columns_of, write_columns, write_matrix
from moodscale.corpora.synthesize.openface import write_pose_gaze_units
from moodscale.corpora.synthesize.voices import SAMPLE_RATE_HZ

EGEMAPS_COLUMNS = (
    "Loudness_sma3", "alphaRatio_sma3", "hammarbergIndex_sma3", "slope0-500_sma3", "slope500-1500_sma3",
    "spectralFlux_sma3", "mfcc1_sma3", "mfcc2_sma3", "mfcc3_sma3", "mfcc4_sma3", "F0semitoneFrom27.5Hz_sma3nz",
    "jitterLocal_sma3nz", "shimmerLocaldB_sma3nz", "HNRdBACF_sma3nz", "logRelF0-H1-H2_sma3nz",
    "logRelF0-H1-A3_sma3nz", "F1frequency_sma3nz", "F1bandwidth_sma3nz", "F1amplitudeLogRelF0_sma3nz",
    "F2frequency_sma3nz", "F2amplitudeLogRelF0_sma3nz", "F3frequency_sma3nz", "F3amplitudeLogRelF0_sma3nz",
)  # fmt: skip
"""eGeMAPS' 23 low-level descriptors in openSMILE 2.3."""
MFCC_COLUMNS = tuple(
    f"pcm_fftMag_mfcc{order}[{number}]" for order in ("", "_de", "_de_de") for number in range(13)
)  # fmt: skip
NUM_WORDS = 100
"""Entries of a bag-of-words codebook."""
RESNET_WIDTH, VGG_WIDTH, DENSENET_WIDTH = 2048, 4096, 1920

DEFAULT_KINDS = ("openface", "egemaps", "resnet")

_DEEP_HZ = 1.0
_BAG_S, _BAG_HOP_S = 4.0, 1.0
_UNVOICED = ("F0semitoneFrom27.5Hz_sma3nz", "jitterLocal_sma3nz", "shimmerLocaldB_sma3nz", "HNRdBACF_sma3nz",
             "logRelF0-H1-H2_sma3nz", "logRelF0-H1-A3_sma3nz")  # fmt: skip
_BASE_RNG_SEED = 2019


@dataclass(frozen=True)
class Material:
    """What the files of one session are made of."""

    interview_id: int
    face: Face
    acoustics: Acoustics
    rng: np.random.Generator


def write_features(
    folder: Path,
    interview_id: int,
    audio: FloatArray,
    burden: float,
    seeds: tuple[int, ...],
    kinds: tuple[str, ...],
    rates_hz: tuple[float, float],
) -> None:
    """Write a session's feature files.

    Args:
        audio: samples [N] at 16 kHz.
        burden: what the face follows.
        seeds: of the session's own streams: whichever kinds are written, each has the same bytes.
        kinds: names of ``FILES``.
        rates_hz: of the face's and of openSMILE's tables.
    """
    visual_hz, acoustic_hz = rates_hz
    face = draw_face(np.random.default_rng([*seeds, 0]), len(audio) / SAMPLE_RATE_HZ, visual_hz, burden)
    acoustics = analyse(audio, 1 / acoustic_hz)
    folder.mkdir(exist_ok=True)
    for number, (kind, (name, write)) in enumerate(FILES.items(), start=1):
        if kind in kinds:
            rng = np.random.default_rng([*seeds, number])
            write(folder / f"{interview_id}_{name}", Material(interview_id, face, acoustics, rng))


def _openface(path: Path, material: Material) -> None:
    write_pose_gaze_units(path, material.face)


def _egemaps(path: Path, material: Material) -> None:
    _write_opensmile(path, material, EGEMAPS_COLUMNS, egemaps(material.acoustics))


def _mfcc(path: Path, material: Material) -> None:
    _write_opensmile(path, material, MFCC_COLUMNS, mfcc(material.acoustics))


def _boaw_egemaps(path: Path, material: Material) -> None:
    _write_bag(path, material, egemaps(material.acoustics), material.acoustics.hop_s)


def _boaw_mfcc(path: Path, material: Material) -> None:
    _write_bag(path, material, mfcc(material.acoustics), material.acoustics.hop_s)


def _bovw(path: Path, material: Material) -> None:
    face = material.face
    hop_s = float(face.time_s[1]) if face.num_frames > 1 else _BAG_HOP_S
    _write_bag(path, material, _face_signals(face), hop_s)


def _resnet(path: Path, material: Material) -> None:
    write_matrix(path, "feature", _embed(_each_second(_face_signals(material.face), material), RESNET_WIDTH, material))


def _vgg(path: Path, material: Material) -> None:
    write_matrix(path, "feature", _embed(_each_second(_face_signals(material.face), material), VGG_WIDTH, material))


def _densenet201(path: Path, material: Material) -> None:
    _write_spectrogram_network(path, material, DENSENET_WIDTH)


def _vgg16(path: Path, material: Material) -> None:
    _write_spectrogram_network(path, material, VGG_WIDTH)


FILES: dict[str, tuple[str, Callable[[Path, Material], None]]] = {
    "openface": ("OpenFace2.1.0_Pose_gaze_AUs.csv", _openface),
    "egemaps": ("OpenSMILE2.3.0_egemaps.csv", _egemaps),
    "mfcc": ("OpenSMILE2.3.0_mfcc.csv", _mfcc),
    "boaw_egemaps": ("BoAW_openSMILE_2.3.0_eGeMAPS.csv", _boaw_egemaps),
    "boaw_mfcc": ("BoAW_openSMILE_2.3.0_MFCC.csv", _boaw_mfcc),
    "bovw": ("BoVW_openFace_2.1.0_Pose_Gaze_AUs.csv", _bovw),
    "resnet": ("CNN_ResNet.mat", _resnet),
    "vgg": ("CNN_VGG.mat", _vgg),
    "densenet201": ("densenet201.csv", _densenet201),
    "vgg16": ("vgg16.csv", _vgg16),
}
"""Kind → what follows ``{id}_`` in its file's name, and how it is written. New ones go to the end: the place is the
stream of random numbers."""


def egemaps(acoustics: Acoustics) -> Array:
    """[T, 23]; descriptors of the voice are 0 where there is none, as openSMILE has them."""
    bands, level = acoustics.bands, acoustics.level_db
    half = bands.shape[1] // 2
    flux = np.abs(np.diff(bands, axis=0, prepend=bands[:1])).mean(axis=1)
    pitch = np.maximum(acoustics.pitch_hz, 27.5)
    jitter = np.abs(np.diff(pitch, prepend=pitch[:1])) / pitch
    shimmer = np.abs(np.diff(level, prepend=level[:1]))
    # The heights of harmonics and formants over the first one: differences of the bands that they lie in.
    relative = [10 / np.log(10) * (bands[:, band] - bands[:, 1]) for band in (3, 12, 5, 12, 16)]
    columns = {
        "Loudness_sma3": np.exp(level / 40),
        "alphaRatio_sma3": (bands[:, half:].mean(axis=1) - bands[:, :half].mean(axis=1)) * 10 / np.log(10),
        "hammarbergIndex_sma3": (bands[:, :half].max(axis=1) - bands[:, half:].max(axis=1)) * 10 / np.log(10),
        "slope0-500_sma3": (bands[:, 5] - bands[:, 0]) / 500,
        "slope500-1500_sma3": (bands[:, 12] - bands[:, 5]) / 1000,
        "spectralFlux_sma3": flux,
        **{f"mfcc{number}_sma3": acoustics.cepstra[:, number] for number in range(1, 5)},
        "F0semitoneFrom27.5Hz_sma3nz": 12 * np.log2(pitch / 27.5),
        "jitterLocal_sma3nz": np.minimum(jitter, 1),
        "shimmerLocaldB_sma3nz": shimmer,
        "HNRdBACF_sma3nz": 10 * np.log10((acoustics.periodicity + 1e-4) / (1 - acoustics.periodicity + 1e-4)),
        "logRelF0-H1-H2_sma3nz": -relative[0],
        "logRelF0-H1-A3_sma3nz": -relative[1],
        "F1frequency_sma3nz": acoustics.formants_hz[:, 0],
        "F1bandwidth_sma3nz": acoustics.bandwidths_hz[:, 0],
        "F1amplitudeLogRelF0_sma3nz": relative[2],
        "F2frequency_sma3nz": acoustics.formants_hz[:, 1],
        "F2amplitudeLogRelF0_sma3nz": relative[3],
        "F3frequency_sma3nz": acoustics.formants_hz[:, 2],
        "F3amplitudeLogRelF0_sma3nz": relative[4],
    }
    for name in _UNVOICED:
        columns[name] = columns[name] * acoustics.voiced
    return np.stack([columns[name] for name in EGEMAPS_COLUMNS], axis=1)


def mfcc(acoustics: Acoustics) -> Array:
    """[T, 39]: 13 cepstra, how they change, and how that changes."""
    cepstra = acoustics.cepstra[:, :13]
    first = np.diff(cepstra, axis=0, prepend=cepstra[:1])
    return np.concatenate([cepstra, first, np.diff(first, axis=0, prepend=first[:1])], axis=1)


def _write_opensmile(path: Path, material: Material, names: tuple[str, ...], values: Array) -> None:
    time_s = np.round(np.arange(len(values)) * material.acoustics.hop_s, 3)
    columns: Columns = [["'unknown'"] * len(values), time_s, *columns_of(values, 5)]
    write_columns(path, ("name", "frameTime", *names), columns, delimiter=";")


def _write_bag(path: Path, material: Material, values: Array, hop_s: float) -> None:
    """Counts of the nearest words within 4 s, every second: no header, the session's name and the time first."""
    codebook = np.random.default_rng([_BASE_RNG_SEED, values.shape[1]]).standard_normal((NUM_WORDS, values.shape[1]))
    standard = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-9)
    words = (np.square(codebook).sum(axis=1) - 2 * standard @ codebook.T).argmin(axis=1)
    duration_s = len(values) * hop_s
    times_s = np.arange(0, max(duration_s - _BAG_S, 0) + 1e-9, _BAG_HOP_S)
    counts = np.zeros((len(times_s), NUM_WORDS))
    for row, start_s in enumerate(times_s):
        within = words[int(start_s / hop_s) : max(int((start_s + _BAG_S) / hop_s), int(start_s / hop_s) + 1)]
        counts[row] = np.bincount(within, minlength=NUM_WORDS)
    names = [f"'{material.interview_id}'"] * len(times_s)
    write_columns(path, None, [names, times_s, *columns_of(np.log10(1 + counts), 5)])


def _write_spectrogram_network(path: Path, material: Material, width: int) -> None:
    acoustics = material.acoustics
    rows = _each_second(acoustics.bands, material)
    features = _embed((rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-9), width, material)
    names = [f"{material.interview_id}_AUDIO.wav"] * len(features)
    header = ("name", "timeStamp", *(f"neuron_{number}" for number in range(width)))
    time_s = np.arange(len(features)) / _DEEP_HZ
    write_columns(path, header, [names, time_s, *columns_of(features.astype(np.float64), 4)])


def _face_signals(face: Face) -> Array:
    """[T, 25]: pose and gaze in units of about one, intensities, presences left out (they follow)."""
    pose = (face.pose - np.array([0, 0, 600, 0, 0, 0])) / np.array([30, 30, 60, 0.1, 0.1, 0.1])
    return np.concatenate([pose, 5 * face.gaze[:, 6:], face.intensities], axis=1)


def _each_second(values: Array, material: Material) -> Array:
    """Rows of [T, N], one a second of the session: the nearest before it."""
    seconds = max(1, int(material.acoustics.num_frames * material.acoustics.hop_s * _DEEP_HZ))
    rows = np.minimum(np.arange(seconds) * len(values) // seconds, len(values) - 1)
    return values[rows]


def _embed(values: Array, width: int, material: Material) -> npt.NDArray[np.float32]:
    """[T, N] → [T, width] as the last layer of a network: fixed directions, noise, nothing negative."""
    fixed = np.random.default_rng([_BASE_RNG_SEED, values.shape[1], width])
    directions = fixed.standard_normal((values.shape[1], width)) / np.sqrt(values.shape[1])
    noise = 0.3 * material.rng.standard_normal((len(values), width))
    embedded: npt.NDArray[np.float32] = np.maximum(values @ directions + noise, 0).astype(np.float32)
    return embedded
