"""The recipe `transcript_severity`, with a pause at every interview: time enough to kill it in the middle."""

from __future__ import annotations

import time
from typing import Any

from torch import nn

from moodscale.recipes.base import Batch, Score
from moodscale.recipes.transcript_severity import TranscriptSeverityRecipeConfig
from moodscale.recipes.transcript_severity.recipe import TranscriptSeverityRecipe


class SlowTranscriptsConfig(TranscriptSeverityRecipeConfig):
    """Same weights and same scores; only slower."""

    kind: Any = "plugins.slow_transcripts"
    pause_s: float = 0.2

    def build(self) -> SlowTranscripts:
        return SlowTranscripts(self)


class SlowTranscripts(TranscriptSeverityRecipe):
    config: SlowTranscriptsConfig

    def predict(self, model: nn.Module, batch: Batch) -> list[Score]:
        time.sleep(self.config.pause_s * len(batch["num_windows"]))
        return super().predict(model, batch)
