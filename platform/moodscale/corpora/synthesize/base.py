"""What every corpus synthesiser takes and gives."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from moodscale.config import Component, Config


class SynthesizeConfig(Config):
    """What to synthesise.

    Attributes:
        out: directory to write; must be new, empty, or hold the same synthesis.
        num_participants: people, one session each.
        minutes: length of a session, about half of it the participant's speech.
        effect: how strongly severity shapes speech and words; 0 cuts every tie between label and recording.
        seed: everything drawn follows from it, whatever the number of workers.
        defects: ``none``, ``all`` (every known defect of the real corpus), or names.
        archives: write each session as a zip instead of a folder.
        num_workers: processes; 0 is one a core.
    """

    out: Path
    num_participants: int = Field(default=96, ge=1, le=20_000)
    minutes: float = Field(default=3.0, gt=0, le=120)
    effect: float = Field(default=1.0, ge=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    defects: Literal["none", "all"] | tuple[str, ...] = "none"
    archives: bool = False
    num_workers: int = Field(default=0, ge=0)

    @field_validator("defects", mode="before")
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        """``a,b`` is how a command line gives names."""
        if isinstance(value, str) and value not in ("none", "all"):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    def content(self) -> dict[str, Any]:
        """The fields that the written bytes depend on."""
        return {name: value for name, value in self.to_json().items() if name not in ("out", "num_workers")}


@dataclasses.dataclass(frozen=True)
class PlantedDefect:
    """One defect that was put into the corpus. ``detail`` holds numbers, times and names, never words."""

    interview_id: str
    defect: str
    detail: str


@dataclasses.dataclass(frozen=True)
class SynthesisSummary:
    """What a synthesis wrote.

    Attributes:
        num_depressed: people with a total of at least 10.
        split_sizes: people by official split.
        participant_s: the participants' share of ``audio_s``, by the transcript.
        elapsed_s: wall-clock time of the run that wrote it.
        already_there: the same synthesis was there before, nothing was written.
    """

    out: Path
    num_participants: int
    num_depressed: int
    split_sizes: dict[str, int]
    audio_s: float
    participant_s: float
    elapsed_s: float
    planted: tuple[PlantedDefect, ...]
    already_there: bool = False

    @property
    def real_time_factor(self) -> float:
        """Seconds of audio written a second."""
        return self.audio_s / max(self.elapsed_s, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return {
            **dataclasses.asdict(self),
            "out": str(self.out),
            "planted": [dataclasses.asdict(one) for one in self.planted],
            "real_time_factor": round(self.real_time_factor, 1),
        }


class CorpusSynthesizer(Component):
    """Writes one corpus' layout. A synthesiser for another corpus is another file of this package."""

    @abstractmethod
    def synthesize(self, config: SynthesizeConfig) -> SynthesisSummary:
        """Write the corpus to ``config.out``.

        Raises:
            ConfigError: settings that do not go together, or a directory that holds something else.
        """
