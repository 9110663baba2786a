"""How a speech classifier's clips become an answer about a recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SpeechPoint:
    """Chosen on validation, by the evaluation.

    Attributes:
        temperature: divides the logit of every clip's score.
        clip_threshold: the answer is "depressed" from here on, where a recording holds one clip.
        threshold: the same for the mean over several clips, which is less spread out.
    """

    temperature: float = 1.0
    clip_threshold: float = 0.5
    threshold: float = 0.5

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SpeechPoint:
        return cls(**{name: float(value) for name, value in values.items()})
