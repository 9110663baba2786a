"""Where a base model comes from: a local directory, a hub id with its revision, or random weights of given sizes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from moodscale.config import Config

RANDOM = "random"
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_PATH = re.compile(r"[A-Za-z0-9._~/ +@=-]+")


class ModelSource(Config):
    """A base model. Code that comes with weights is never run, so there is no ``trust_remote_code``."""

    source: str = Field(description="'random', a local directory, or a hub id such as Qwen/Qwen2-Audio-7B-Instruct")
    revision: str | None = Field(None, description="branch, tag or commit; required for a hub id")
    init_seed: int = Field(0, description="seed of the weights where source is 'random'")

    @model_validator(mode="before")
    @classmethod
    def _no_remote_code(cls, values: Any) -> Any:
        if isinstance(values, dict) and "trust_remote_code" in values:
            raise ValueError("trust_remote_code is refused: only model classes of the installed transformers are run")
        return values

    @model_validator(mode="after")
    def _source_is_safe(self) -> ModelSource:
        if self.is_random or self.is_local:
            if not _PATH.fullmatch(self.source):
                raise ValueError(f"source={self.source!r} holds characters that do not belong in a path")
        elif not _HUB_ID.fullmatch(self.source):
            raise ValueError(f"source={self.source!r} is neither 'random', a directory, nor a hub id like owner/name")
        elif self.revision is None:
            raise ValueError(f"source={self.source!r} is a hub id: name its revision, so that the run can be repeated")
        return self

    @property
    def is_random(self) -> bool:
        return self.source == RANDOM

    @property
    def is_local(self) -> bool:
        return self.source.startswith(("/", "./", "../", "~")) or Path(self.source).is_dir()

    @property
    def location(self) -> str:
        """What ``from_pretrained`` is given."""
        return str(Path(self.source).expanduser()) if self.is_local else self.source
