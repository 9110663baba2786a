"""What is extracted, how it is cut into windows, and what it may use of the machine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SerializeAsAny, model_validator

from moodscale.config import Config, by_kind
from moodscale.features.extractors.base import ExtractorConfig
from moodscale.features.plan import Windowing
from moodscale.schema import Split


class ExtractConfig(Config):
    """Recordings and feature files → a store of features."""

    extractors: tuple[
        Annotated[SerializeAsAny[ExtractorConfig], by_kind("moodscale.features.extractors", ExtractorConfig)], ...
    ] = Field(default=(), description="what to extract: log_mel, transformers_audio, columns")
    store: str | None = Field(
        default=None, description="folder or URI of the store; 'features' beside the experiments if unset"
    )
    window_s: float = Field(default=30.0, ge=1.0, le=120.0, description="length of a stored window")
    context_s: float = Field(
        default=1.0,
        gt=0,
        le=30.0,
        description="what a model hears beyond a window on either side; its frames are dropped",
    )
    batch_windows: int = Field(
        default=8, ge=1, le=256, description="windows in a unit of work; on a GPU they are one batch"
    )
    num_actors: int | None = Field(default=None, ge=1, description="processes with a model; as many as fit if unset")
    cpus_per_actor: float = Field(default=1.0, gt=0, description="CPUs of one; a model computes on that many threads")
    gpus_per_actor: float = Field(
        default=0.0, ge=0, description="GPUs of one; 0.25 puts four on a GPU, 0 computes on the CPU"
    )
    splits: tuple[Split, ...] = Field(default=tuple(Split), min_length=1, description="splits to extract from")
    verify: bool = Field(default=False, description="read every stored part again and compute damaged ones anew")

    @model_validator(mode="after")
    def _lengths_fit(self) -> ExtractConfig:
        Windowing.of(self.window_s, self.context_s)
        if self.gpus_per_actor > 1 and self.gpus_per_actor != int(self.gpus_per_actor):
            raise ValueError(f"gpus_per_actor={self.gpus_per_actor:g}: above 1 it must be a whole number")
        return self

    @property
    def device(self) -> str:
        return "cuda" if self.gpus_per_actor else "cpu"

    @property
    def num_threads(self) -> int:
        return max(1, int(self.cpus_per_actor))
