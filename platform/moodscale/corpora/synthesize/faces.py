"""How a face moves: head, gaze and action units of a person whose burden weighs on them.

The heavier the burden the fewer and fainter the smiles (AU12, AU06), the slower and smaller the head's motion, the
lower the gaze, and the more the brow and the corners of the mouth are drawn (AU04, AU15).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

AU_INTENSITIES = ("01", "02", "04", "05", "06", "07", "09", "10", "12", "14", "15", "17", "20", "23", "25", "26", "45")
"""Action units that OpenFace 2 gives an intensity (0 to 5) of."""
AU_PRESENCES = (*AU_INTENSITIES[:-1], "28", "45")
"""Action units that OpenFace 2 gives the presence (0 or 1) of."""

_SMILE_RATE_HZ = 0.12
_SMILE_S = 2.5
_BLINK_SHARE = 0.08
_PERSONAL_AU = 0.35
_PRESENT_FROM = 1.0


@dataclass(frozen=True)
class Face:
    """A face in T frames.

    Attributes:
        time_s: [T].
        confidence: [T] 0 to 1.
        success: [T] 0 or 1.
        pose: [T, 6] position in mm, rotation in radians.
        gaze: [T, 8] direction of both eyes (x, y, z each), then both angles in radians; down is positive.
        intensities: [T, 17] in the order of ``AU_INTENSITIES``.
        presences: [T, 18] in the order of ``AU_PRESENCES``.
    """

    time_s: Array
    confidence: Array
    success: Array
    pose: Array
    gaze: Array
    intensities: Array
    presences: Array

    @property
    def num_frames(self) -> int:
        return len(self.time_s)


def draw_face(rng: np.random.Generator, duration_s: float, rate_hz: float, burden: float) -> Face:
    """A face that moves for this long. As many numbers are drawn whatever the burden. At least one frame."""
    num_frames = max(1, int(duration_s * rate_hz))
    liveliness = 1 - 0.7 * burden
    # Slower means that the head keeps to where it is for longer, and strays less from it.
    motion = _wander(rng, num_frames, 6, rate_hz, settle_s=1.5 + 3.0 * burden)
    home = np.array([0, 0, 600, 0, 0, 0]) + np.array([30, 20, 60, 0.05, 0.05, 0.03]) * rng.standard_normal(6)
    pose = home + liveliness * np.array([18, 10, 15, 0.09, 0.11, 0.05]) * motion
    pose[:, 3] += 0.12 * burden
    angles = np.array([0.0, 0.04 + 0.24 * burden]) + 0.04 * rng.standard_normal(2)
    angles = angles + 0.09 * _wander(rng, num_frames, 2, rate_hz, settle_s=0.8)
    intensities = _intensities(rng, num_frames, rate_hz, burden)
    presences = np.zeros((num_frames, len(AU_PRESENCES)))
    presences[:, [AU_PRESENCES.index(unit) for unit in AU_INTENSITIES]] = intensities >= _PRESENT_FROM
    presences[:, AU_PRESENCES.index("28")] = rng.random(num_frames) < 0.03
    return Face(
        time_s=np.arange(num_frames) / rate_hz,
        confidence=np.clip(0.97 + 0.015 * rng.standard_normal(num_frames), 0, 0.98),
        success=np.ones(num_frames),
        pose=pose,
        gaze=np.concatenate([_directions(angles), angles], axis=1),
        intensities=intensities,
        presences=presences,
    )


def _intensities(rng: np.random.Generator, num_frames: int, rate_hz: float, burden: float) -> Array:
    base = np.abs(_PERSONAL_AU * rng.standard_normal(len(AU_INTENSITIES)))
    values = base + 0.25 * _wander(rng, num_frames, len(AU_INTENSITIES), rate_hz, settle_s=1.0)
    starts = rng.random(num_frames) < (1 - 0.75 * burden) * _SMILE_RATE_HZ / rate_hz
    heights = rng.uniform(1.5, 3.5, num_frames) * (1 - 0.5 * burden)
    smile, level = np.zeros(num_frames), 0.0
    for frame in range(num_frames):
        level = max(level * np.exp(-1 / (rate_hz * _SMILE_S)), heights[frame] if starts[frame] else 0.0)
        smile[frame] = level
    blinks = (rng.random(num_frames) < _BLINK_SHARE) * 2.5
    for unit, added in (("12", smile), ("06", 0.7 * smile), ("45", blinks), ("04", 0.9 * burden), ("15", 0.7 * burden)):
        values[:, AU_INTENSITIES.index(unit)] += added
    return np.clip(values, 0, 5)


def _wander(rng: np.random.Generator, num_frames: int, num_signals: int, rate_hz: float, settle_s: float) -> Array:
    """Signals [T, N] of unit variance that forget where they were within ``settle_s``."""
    keep = float(np.exp(-1 / (rate_hz * settle_s)))
    noise = rng.standard_normal((num_frames, num_signals))
    wandering = np.empty_like(noise)
    wandering[0] = noise[0]
    for frame in range(1, num_frames):
        wandering[frame] = keep * wandering[frame - 1] + np.sqrt(1 - keep**2) * noise[frame]
    return wandering


def _directions(angles: Array) -> Array:
    """Unit vectors [T, 6] of both eyes from angles [T, 2]; the eyes converge a little. -z is towards the camera."""
    eyes = []
    for convergence in (0.03, -0.03):
        direction = np.stack([np.tan(angles[:, 0] + convergence), np.tan(angles[:, 1]), -np.ones(len(angles))], axis=1)
        eyes.append(direction / np.linalg.norm(direction, axis=1, keepdims=True))
    return np.concatenate(eyes, axis=1)
