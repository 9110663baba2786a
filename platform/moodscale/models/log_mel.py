"""Waveform → log-mel, as Whisper's and Qwen2-Audio's encoders read it.

Data workers import this and no model: an interpreter that only decodes should start fast and stay small.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from moodscale.schema import CorpusError

SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES = 160
MAX_FRAMES = 3000
"""Log-mel frames of the 30 s that the published encoder always runs on (100 a second)."""
HALO_FRAMES = 2
"""Frames kept behind the longest clip: conv1 reads one frame past the end, and the count must stay even."""
MIN_SAMPLES, MAX_SAMPLES = 3 * HOP_SAMPLES, MAX_FRAMES * HOP_SAMPLES


class ClipLogMel:
    """Waveform ``[num_samples]`` at 16 kHz → log-mel ``[M, F + halo]`` by the model's own feature extractor.

    The extractor normalises by the loudest frame and pads with zeros, so computing only the clip and the halo behind
    it equals slicing the mel of the 30 s padded clip (a test holds this), at a third of the work.
    """

    def __init__(self, extractor: Any) -> None:
        self.extractor = extractor

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Ray maps arrays read-only out of its object store; torch warns in every process that wraps one.
        self.extractor.mel_filters = np.array(self.extractor.mel_filters)

    def __call__(self, waveform: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Transform one clip.

        Raises:
            CorpusError: the clip is longer than the encoder's 30 s, or too short for one audio token.
        """
        if not MIN_SAMPLES <= len(waveform) <= MAX_SAMPLES:
            raise CorpusError(
                f"{len(waveform) / SAMPLE_RATE_HZ:.3f} s long, but the encoder takes {MIN_SAMPLES / SAMPLE_RATE_HZ:g} "
                f"to {MAX_SAMPLES / SAMPLE_RATE_HZ:g} s; change prepare.clip_s and prepare again"
            )
        wanted = min(len(waveform) // HOP_SAMPLES + HALO_FRAMES, MAX_FRAMES)
        # Two hops more than wanted: the transform reflects at the end, and only silence may be reflected.
        computed = min(wanted + 2, MAX_FRAMES)
        mel = self.extractor(
            waveform,
            sampling_rate=SAMPLE_RATE_HZ,
            padding="max_length",
            max_length=computed * HOP_SAMPLES,
            return_tensors="np",
        ).input_features[0]
        return np.ascontiguousarray(mel[:, :wanted], dtype=np.float32)


def pad_with_silence(mel: np.ndarray[Any, Any], num_frames: int) -> np.ndarray[Any, Any]:
    """Lengthen ``[M, F]`` to ``num_frames`` with what the extractor gives for zeros behind this clip: eight decades
    under its loudest bin, not below 1e-10."""
    if mel.shape[1] == num_frames:
        return mel
    silence = max(-1.5, float(mel.max()) - 2.0)
    return np.pad(mel, ((0, 0), (0, num_frames - mel.shape[1])), constant_values=silence)
