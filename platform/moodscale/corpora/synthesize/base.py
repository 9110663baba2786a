"""What every corpus synthesiser takes and gives."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from moodscale.config import Component, Config

_SINCE_LATER = frozenset({"features", "feature_kinds", "visual_hz", "acoustic_hz", "format", "unlabelled_share"})
"""Fields that earlier records of a synthesis do not have: left at their defaults, they changed none of its bytes."""


class SynthesizeConfig(Config):
    """What to synthesise.

    Attributes:
        out: directory to write; must be new, empty, or hold the same synthesis.
        num_participants: people, one session each.
        minutes: length of a session, about half of it the participant's speech.
        effect: how strongly severity shapes speech and words; 0 cuts every tie between label and recording.
        seed: everything drawn follows from it, whatever the number of workers.
        defects: ``none``, ``all`` (every known defect of the real corpus), or names.
        archives: write each session as the archive its corpus has (zip, tar.gz) instead of a folder.
        features: whether to write feature files; ``None`` is the corpus' own habit (E-DAIC and CMDC do, DAIC-WOZ does
            not).
        feature_kinds: which feature files; empty is the corpus' own choice, ``all`` is all it has.
        visual_hz: rows a second of face features; real ones have 30.
        acoustic_hz: rows a second of openSMILE's features; real ones have 100.
        format: the file that conversations are written in.
        unlabelled_share: share of the users of conversations who filled in no questionnaire.
        num_workers: processes; 0 is one a core.
    """

    out: Path
    num_participants: int = Field(default=96, ge=1, le=20_000)
    minutes: float = Field(default=3.0, gt=0, le=120)
    effect: float = Field(default=1.0, ge=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    defects: Literal["none", "all"] | tuple[str, ...] = "none"
    archives: bool = False
    features: bool | None = None
    feature_kinds: tuple[str, ...] = ()
    visual_hz: float = Field(default=2.0, gt=0, le=120)
    acoustic_hz: float = Field(default=10.0, gt=0, le=100)
    format: Literal["jsonl", "parquet"] = "jsonl"
    unlabelled_share: float = Field(default=0.2, ge=0, le=1)
    num_workers: int = Field(default=0, ge=0)

    @field_validator("defects", "feature_kinds", mode="before")
    @classmethod
    def _split_names(cls, value: Any, info: ValidationInfo) -> Any:
        """``a,b`` is how a command line gives names."""
        if isinstance(value, str) and not (info.field_name == "defects" and value in ("none", "all")):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    def content(self) -> dict[str, Any]:
        """The fields that the written bytes depend on, those of ``_SINCE_LATER`` only where they are set."""
        default = SynthesizeConfig(out=self.out).to_json()
        return {
            name: value
            for name, value in self.to_json().items()
            if name not in ("out", "num_workers") and not (name in _SINCE_LATER and value == default[name])
        }


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
