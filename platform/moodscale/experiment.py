"""One run's configuration: every section in one place, and the paths that follow from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SerializeAsAny

from moodscale.config import Config, by_kind
from moodscale.corpora.base import CorpusConfig
from moodscale.evaluate.config import EvaluateConfig
from moodscale.prepare.config import PrepareConfig
from moodscale.recipes.base import RecipeConfig
from moodscale.registry.config import RegistryConfig
from moodscale.tracking.base import TrackerConfig
from moodscale.train.config import OptimConfig, TrainConfig
from moodscale.train.driver import TrainJob


class Experiment(Config):
    """What one YAML file says. Every verb reads the same file and looks at its own sections."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    seed: int = 0
    storage_path: str = "runs"
    """Directory that every node sees; each experiment has a directory of its name in it."""
    manifest: str | None = None
    """A manifest that several experiments share; by default the experiment has its own."""
    corpus: Annotated[SerializeAsAny[CorpusConfig], by_kind("moodscale.corpora", CorpusConfig)]
    prepare: PrepareConfig = PrepareConfig()
    recipe: Annotated[SerializeAsAny[RecipeConfig], by_kind("moodscale.recipes", RecipeConfig)]
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    tracking: Annotated[SerializeAsAny[TrackerConfig], by_kind("moodscale.tracking", TrackerConfig)]
    registry: RegistryConfig = RegistryConfig()

    @property
    def run_dir(self) -> Path:
        return Path(self.storage_path).expanduser().absolute() / self.name

    @property
    def manifest_dir(self) -> Path:
        return Path(self.manifest).expanduser().absolute() if self.manifest else self.run_dir / "manifest"

    def train_job(self) -> TrainJob:
        """The part that goes to the workers."""
        return TrainJob(
            name=self.name,
            seed=self.seed,
            run_dir=str(self.run_dir),
            manifest=str(self.manifest_dir),
            recipe=self.recipe,
            optim=self.optim,
            train=self.train,
        )
