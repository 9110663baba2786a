"""The corpus `daic_woz`, with a pause before every session: time enough to kill whoever reads it in the middle."""

from __future__ import annotations

import time
from typing import Any

from upath import UPath

from moodscale.corpora.base import Reading
from moodscale.corpora.daic_woz import DaicWoz, DaicWozConfig


class SlowDaicWozConfig(DaicWozConfig):
    """Same content and same hash; only slower."""

    kind: str = "plugins.slow_daic_woz"
    pause_s: float = 0.0

    def open(self, unpack_to: UPath | None = None) -> SlowDaicWoz:
        return SlowDaicWoz(self, unpack_to)

    def content(self) -> dict[str, Any]:
        kept = {key: value for key, value in super().content().items() if key != "pause_s"}
        return {**kept, "kind": "daic_woz"}


class SlowDaicWoz(DaicWoz):
    config: SlowDaicWozConfig

    def read(self, interview_id: str) -> Reading:
        time.sleep(self.config.pause_s)
        return super().read(interview_id)
