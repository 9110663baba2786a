"""DAIC-WOZ's feature files: COVAREP and FORMANT every 10 ms without a header, CLNF's tables of the face."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moodscale.corpora.synthesize.acoustics import FORMANT_RANGES_HZ, NUM_CEPSTRA, Acoustics, Array, analyse
from moodscale.corpora.synthesize.espeak import FloatArray
from moodscale.corpora.synthesize.faces import AU_INTENSITIES, AU_PRESENCES, Face, draw_face
from moodscale.corpora.synthesize.feature_files import columns_of, write_columns
from moodscale.corpora.synthesize.openface import FULL_FEATURES, full_features
from moodscale.corpora.synthesize.voices import SAMPLE_RATE_HZ

COVAREP_COLUMNS = (
    "F0", "VUV", "NAQ", "QOQ", "H1H2", "PSP", "MDQ", "peakSlope", "Rd", "Rd_conf", "creak",
    *(f"MCEP_{number}" for number in range(25)), *(f"HMPDM_{number}" for number in range(25)),
    *(f"HMPDD_{number}" for number in range(13)),
)  # fmt: skip
"""The 74 columns, which the file itself does not name. ``VUV`` is 0 where there is no voice."""
NUM_FORMANTS = len(FORMANT_RANGES_HZ)
FRAME_COLUMNS = ("frame", "timestamp", "confidence", "success")
AU_COLUMNS = (
    *(f"AU{unit}_r" for unit in
      ("01", "02", "04", "05", "06", "09", "10", "12", "14", "15", "17", "20", "25", "26")),
    *(f"AU{unit}_c" for unit in ("04", "12", "15", "23", "28", "45")),
)  # fmt: skip
POSE_COLUMNS = ("Tx", "Ty", "Tz", "Rx", "Ry", "Rz")
GAZE_COLUMNS = tuple(f"{axis}_{eye}" for eye in ("0", "1", "h0", "h1") for axis in "xyz")
LANDMARK_COLUMNS = tuple(f"{axis}{point}" for axis in "xy" for point in range(68))
LANDMARK_3D_COLUMNS = tuple(f"{axis}{point}" for axis in "XYZ" for point in range(68))

KINDS = ("covarep", "formant", "clnf", "hog")
DEFAULT_KINDS = KINDS[:3]

_HOP_S = 0.01
_HOG_SHAPE = (12, 12, 31)
_QUALITY = {"NAQ": (0.11, 0.03), "QOQ": (0.35, 0.08), "H1H2": (6, 3), "PSP": (0.35, 0.1), "MDQ": (0.12, 0.02),
            "peakSlope": (-0.35, 0.08), "Rd": (1.3, 0.4), "Rd_conf": (0.8, 0.08), "creak": (0.05, 0.03)}  # fmt: skip
"""Mean and spread of the columns about voice quality."""


def write_features(
    folder: Path,
    interview_id: int,
    audio: FloatArray,
    burden: float,
    seeds: tuple[int, ...],
    kinds: tuple[str, ...],
    visual_hz: float,
    video_s: float | None = None,
) -> None:
    """Write a session's feature files beside its recording.

    Args:
        audio: samples [N] at 16 kHz.
        burden: what the face follows.
        seeds: of the session's own streams.
        kinds: of ``KINDS``.
        visual_hz: rows a second of the face's tables; the acoustic ones have no times, so theirs is always 100.
        video_s: where the video ends, if before the recording.
    """
    if "covarep" in kinds or "formant" in kinds:
        acoustics = analyse(audio, _HOP_S)
        if "covarep" in kinds:
            values = _covarep(acoustics, np.random.default_rng([*seeds, 1]))
            write_columns(folder / f"{interview_id}_COVAREP.csv", None, columns_of(values, 5))
        if "formant" in kinds:
            columns = columns_of(acoustics.formants_hz, 2)
            write_columns(folder / f"{interview_id}_FORMANT.csv", None, columns)
    if "clnf" in kinds or "hog" in kinds:
        face = draw_face(np.random.default_rng([*seeds, 0]), len(audio) / SAMPLE_RATE_HZ, visual_hz, burden)
        num_frames = face.num_frames if video_s is None else max(1, int(video_s * visual_hz))
        prefix = f"{interview_id}_CLNF"
        if "clnf" in kinds:
            _write_clnf(folder, prefix, face, num_frames)
        if "hog" in kinds:
            rng = np.random.default_rng([*seeds, 2])
            (folder / f"{prefix}_hog.bin").write_bytes(_hog(rng, num_frames))


def _covarep(acoustics: Acoustics, rng: np.random.Generator) -> Array:
    """[T, 74]; pitch and voicing of the recording, cepstra of its spectrum, voice quality and phase drawn."""
    num_frames = acoustics.num_frames
    quality = {
        name: mean + spread * rng.standard_normal(num_frames) for name, (mean, spread) in _QUALITY.items()
    }  # fmt: skip
    phase = 0.3 * rng.standard_normal((num_frames, 25 + 13))
    columns = [acoustics.pitch_hz, acoustics.voiced, *(quality[name] for name in COVAREP_COLUMNS[2:11])]
    assert acoustics.cepstra.shape[1] == NUM_CEPSTRA == 25
    return np.concatenate([np.stack(columns, axis=1), acoustics.cepstra, phase], axis=1)


def _write_clnf(folder: Path, prefix: str, face: Face, num_frames: int) -> None:
    full = full_features(face)
    place = {name: index for index, name in enumerate(FULL_FEATURES)}
    tables = {
        "AUs": (AU_COLUMNS, np.concatenate([_units(face), _unit_presences(face)], axis=1)),
        "pose": (POSE_COLUMNS, face.pose),
        # "h": the same directions seen from the head, so without its turn; turns are small.
        "gaze": (GAZE_COLUMNS, np.concatenate([face.gaze[:, :6], _from_the_head(face)], axis=1)),
        "features": (LANDMARK_COLUMNS, full[:, [place[f"{name[0]}_{name[1:]}"] for name in LANDMARK_COLUMNS]]),
        "features3D": (
            LANDMARK_3D_COLUMNS,
            full[:, [place[f"{name[0]}_{name[1:]}"] for name in LANDMARK_3D_COLUMNS]],
        ),
    }  # fmt: skip
    about = [
        np.arange(1, num_frames + 1), np.round(face.time_s[:num_frames], 3),
        np.round(face.confidence[:num_frames], 3), face.success[:num_frames].astype(np.int64),
    ]  # fmt: skip
    for name, (columns, values) in tables.items():
        path = folder / f"{prefix}_{name}.txt"
        write_columns(path, (*FRAME_COLUMNS, *columns), [*about, *columns_of(values[:num_frames], 4)], spaced=True)


def _units(face: Face) -> Array:
    wanted = [AU_INTENSITIES.index(name[2:4]) for name in AU_COLUMNS if name.endswith("_r")]
    return face.intensities[:, wanted]


def _unit_presences(face: Face) -> Array:
    wanted = [AU_PRESENCES.index(name[2:4]) for name in AU_COLUMNS if name.endswith("_c")]
    return face.presences[:, wanted]


def _from_the_head(face: Face) -> Array:
    turn = np.stack([face.pose[:, 4], face.pose[:, 3], np.zeros(face.num_frames)], axis=1)
    directions: Array = face.gaze[:, :6] - np.concatenate([turn, turn], axis=1)
    return directions


def _hog(rng: np.random.Generator, num_frames: int) -> bytes:
    """Frames of: columns, rows, channels (int32), 1 where a face was found, then the histogram, all float32."""
    head = np.array(_HOG_SHAPE, dtype="<i4").tobytes() + np.array([1], dtype="<f4").tobytes()
    return b"".join(
        head + (0.2 * rng.random(int(np.prod(_HOG_SHAPE)), dtype=np.float32)).astype("<f4").tobytes()
        for _ in range(num_frames)
    )
