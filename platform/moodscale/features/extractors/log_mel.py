"""Log-mel spectra as Whisper's and Qwen2-Audio's encoders read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from moodscale.features.extractors.base import Array, AudioExtractorConfig

HOP_SAMPLES = 160
FFT_SAMPLES = 400
_VERSION = 1
"""Counts up where the arithmetic below changes a value."""


class LogMelConfig(AudioExtractorConfig):
    """100 frames a second."""

    kind: Literal["log_mel"] = "log_mel"
    num_mels: int = Field(default=80, ge=8, le=256, description="80; 128 for Whisper large-v3 and Qwen2-Audio")
    clamp: bool = Field(
        default=True,
        description="raise everything to eight decades under the window's loudest bin, as Whisper does; without it a "
        "frame does not depend on the window around it",
    )

    def identity(self) -> dict[str, Any]:
        return {"kind": "log_mel", "num_mels": self.num_mels, "clamp": self.clamp, "version": _VERSION}

    def load(self, device: str, identity: Mapping[str, Any]) -> LogMel:
        return LogMel(self.num_mels, self.clamp, device)


class LogMel:
    """Waveform → ``[frames, num_mels]``: log10 of the mel power, scaled by ``(x + 4) / 4``."""

    def __init__(self, num_mels: int, clamp: bool, device: str = "cpu") -> None:
        import torch
        from librosa.filters import mel

        self.dim = num_mels
        self.hop_samples = HOP_SAMPLES
        self.clamp = clamp
        self.device = device
        # Whisper's filters: Slaney's scale and norm, up to the Nyquist frequency.
        filters = mel(sr=16_000, n_fft=FFT_SAMPLES, n_mels=num_mels)
        self._filters = torch.from_numpy(filters).to(device)
        self._window = torch.hann_window(FFT_SAMPLES, device=device)

    def extract(self, waveforms: Sequence[Array]) -> list[Array]:
        return [self._one(waveform) for waveform in waveforms]

    def _one(self, waveform: Array) -> Array:
        import torch

        if len(waveform) <= FFT_SAMPLES // 2:  # the transform reflects that much at either end
            return np.zeros((0, self.dim), np.float32)
        samples = torch.from_numpy(waveform).to(self.device)
        spectrum = torch.stft(samples, FFT_SAMPLES, HOP_SAMPLES, window=self._window, return_complex=True)
        power = spectrum[:, : len(waveform) // HOP_SAMPLES].abs() ** 2
        mel = (self._filters @ power).clamp(min=1e-10).log10()
        if self.clamp and mel.numel():
            mel = torch.maximum(mel, mel.max() - 8.0)
        result: Array = ((mel + 4.0) / 4.0).T.cpu().numpy()
        return result
