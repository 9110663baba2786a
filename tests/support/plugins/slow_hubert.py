"""The HuBERT of `transformers_audio`, with a pause at every window: time enough to kill it in the middle."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from moodscale.features.extractors.transformers_audio import TransformersAudioConfig


class SlowHubertConfig(TransformersAudioConfig):
    """Same key and same values; only slower."""

    kind: str = "plugins.slow_hubert"
    pause_s: float = 0.1

    def load(self, device: str, identity: Mapping[str, Any]) -> SlowHubert:
        return SlowHubert(super().load(device, identity), self.pause_s)


class SlowHubert:
    def __init__(self, model: Any, pause_s: float) -> None:
        self.model = model
        self.pause_s = pause_s
        self.hop_samples, self.dim = model.hop_samples, model.dim

    def extract(self, waveforms: Sequence[Any]) -> list[Any]:
        time.sleep(self.pause_s * len(waveforms))
        return self.model.extract(waveforms)
