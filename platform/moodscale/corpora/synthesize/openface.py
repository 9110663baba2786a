"""Faces as OpenFace 2 tabulates them: the short table of E-DAIC and the full one of CMDC."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt

from moodscale.corpora.synthesize.faces import AU_INTENSITIES, AU_PRESENCES, Array, Face
from moodscale.corpora.synthesize.feature_files import columns_of, write_columns

_GAZE = ("gaze_0_x", "gaze_0_y", "gaze_0_z", "gaze_1_x", "gaze_1_y", "gaze_1_z", "gaze_angle_x", "gaze_angle_y")
_POSE = ("pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz")
_UNITS = (*(f"AU{unit}_r" for unit in AU_INTENSITIES), *(f"AU{unit}_c" for unit in AU_PRESENCES))
_NUM_LANDMARKS, _NUM_EYE_LANDMARKS, _NUM_SHAPE = 68, 56, 34

POSE_GAZE_AU_COLUMNS = ("frame", "timestamp", "confidence", "success", *_POSE, *_GAZE, *_UNITS)
"""E-DAIC's table: 4 columns about the frame, 49 features."""
FULL_FRAME_COLUMNS = ("frame", "face_id", "timestamp", "confidence", "success")
FULL_FEATURES = (
    *_GAZE,
    *(f"eye_lmk_{axis}_{point}" for axis in "xyXYZ" for point in range(_NUM_EYE_LANDMARKS)),
    *_POSE,
    *(f"{axis}_{point}" for axis in "xyXYZ" for point in range(_NUM_LANDMARKS)),
    "p_scale", "p_rx", "p_ry", "p_rz", "p_tx", "p_ty", *(f"p_{number}" for number in range(_NUM_SHAPE)),
    *_UNITS,
)  # fmt: skip
"""The 709 features of CMDC's tables."""

_DECIMALS = 4
_FOCAL_PX = 500.0
_CENTRE_PX = (320.0, 240.0)
_SHAPE_SEED = 68
"""Of the constant directions in which a face's shape follows its action units."""


def write_pose_gaze_units(path: Path, face: Face) -> None:
    """E-DAIC's ``OpenFace2.1.0_Pose_gaze_AUs.csv``."""
    frame = np.arange(1, face.num_frames + 1)
    about = [frame, np.round(face.time_s, 3), np.round(face.confidence, 2), face.success.astype(np.int64)]
    features = np.concatenate([face.pose, face.gaze, face.intensities, face.presences], axis=1)
    write_columns(path, POSE_GAZE_AU_COLUMNS, [*about, *columns_of(features, _DECIMALS)])


def write_full(path: Path, face: Face) -> None:
    """OpenFace 2's whole output: 714 columns, names and values with a space before them."""
    num_frames = face.num_frames
    about = [
        np.arange(1, num_frames + 1), np.zeros(num_frames, dtype=np.int64), np.round(face.time_s, 3),
        np.round(face.confidence, 2), face.success.astype(np.int64),
    ]  # fmt: skip
    columns = [*about, *columns_of(full_features(face), _DECIMALS)]
    write_columns(path, (*FULL_FRAME_COLUMNS, *FULL_FEATURES), columns, spaced=True)


def full_features(face: Face) -> Array:
    """[T, 709] in the order of ``FULL_FEATURES``; NaN where the face was not found."""
    shape, landmarks, eyes = _shapes()
    amounts = face.intensities / 5
    points = _place(landmarks[None] + np.einsum("tu,upa->tpa", amounts, shape), face.pose)
    eye_points = _place(np.repeat(eyes[None], face.num_frames, axis=0), face.pose)
    scale = _FOCAL_PX / points[:, :, 2].mean(axis=1, keepdims=True)
    position = np.stack([points[:, :, axis].mean(axis=1) for axis in (0, 1)], axis=1) * scale + np.array(_CENTRE_PX)
    coefficients = amounts @ shape.reshape(len(AU_INTENSITIES), -1)[:, :_NUM_SHAPE]
    features = np.concatenate(
        [
            face.gaze, _flatten(eye_points), face.pose, _flatten(points),
            scale, face.pose[:, 3:], position, coefficients, face.intensities, face.presences,
        ],
        axis=1,
    )  # fmt: skip
    features[face.success == 0] = np.nan
    return features


def _place(points: Array, pose: Array) -> Array:
    """Points [T, P, 3] of a face about its own centre → millimetres before the camera. Turns are small: linear."""
    pitch, yaw, roll = (pose[:, index, None] for index in (3, 4, 5))
    x, y, z = (points[:, :, axis] for axis in range(3))
    turned = np.stack([x + yaw * z - roll * y, y - pitch * z + roll * x, z - yaw * x + pitch * y], axis=2)
    placed: Array = turned + pose[:, None, :3]
    return placed


def _flatten(points: Array) -> Array:
    """[T, P, 3] → pixel x, pixel y, X, Y, Z, all points of one before the next: [T, 5 P]."""
    depth = points[:, :, 2]
    pixels = [_FOCAL_PX * points[:, :, axis] / depth + _CENTRE_PX[axis] for axis in (0, 1)]
    return np.concatenate([*pixels, points[:, :, 0], points[:, :, 1], depth], axis=1)


@functools.cache
def _shapes() -> tuple[Array, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How action units move landmarks [17, 68, 3], the landmarks [68, 3] and those of the eyes [56, 3], in mm."""
    rng = np.random.default_rng(_SHAPE_SEED)
    around = np.linspace(0, 2 * np.pi, _NUM_LANDMARKS, endpoint=False)
    reach = np.where(np.arange(_NUM_LANDMARKS) % 2, 1.0, 0.55)
    landmarks = np.stack([65 * reach * np.cos(around), 85 * reach * np.sin(around), 25 * (1 - reach)], axis=1)
    turn = np.linspace(0, 2 * np.pi, _NUM_EYE_LANDMARKS // 2, endpoint=False)
    eyes = np.concatenate(
        [np.stack([side + 12 * np.cos(turn), -30 + 6 * np.sin(turn), 0 * turn + 20], axis=1) for side in (-32, 32)]
    )
    return 3 * rng.standard_normal((len(AU_INTENSITIES), _NUM_LANDMARKS, 3)), landmarks, eyes
