"""A window's samples: decoded alone, with no more of the recording than it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from upath import UPath

from moodscale.features.plan import GRID_SAMPLES, SAMPLE_RATE_HZ, Window
from moodscale.prepare.audio import read_clip

_RESAMPLING_MARGIN = 4 * GRID_SAMPLES
"""A resampler rings at the ends of what it is given: they are cut off again."""


def decode_window(roots: Mapping[str, UPath], window: Window) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What the model hears of a window: float32 ``[num_input_samples]`` at 16 kHz, full scale 1.

    Raises:
        CorpusError: the recording is gone, or it is not the one that the manifest was made from.
    """
    recording = window.recording
    margin = 0 if recording.sample_rate_hz == SAMPLE_RATE_HZ else _RESAMPLING_MARGIN
    start = max(window.input_start - margin, 0)
    stop = min(window.input_stop + margin, recording.num_samples_16k)
    row = {
        "clip_id": f"window {window.index}",
        "root": recording.root,
        "path": recording.path,
        "sample_rate_hz": recording.sample_rate_hz,
        "segments": [{"start_s": start / SAMPLE_RATE_HZ, "stop_s": stop / SAMPLE_RATE_HZ, "path": None}],
        "duration_s": (stop - start) / SAMPLE_RATE_HZ,
    }
    waveform = read_clip(roots, row)
    return np.ascontiguousarray(waveform[window.input_start - start : window.input_stop - start])
