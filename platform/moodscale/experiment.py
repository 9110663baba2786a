"""One run's configuration: every section in one place, and the paths that follow from it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SerializeAsAny, model_validator
from upath import UPath

from moodscale.config import Config, by_kind
from moodscale.corpora.base import CorpusConfig
from moodscale.evaluate.config import EvaluateConfig
from moodscale.features.config import ExtractConfig
from moodscale.label.config import LabelConfig
from moodscale.prepare.config import PrepareConfig
from moodscale.recipes.base import RecipeConfig
from moodscale.registry.config import RegistryConfig
from moodscale.registry.ensemble_config import EnsembleConfig
from moodscale.storage import location
from moodscale.tracking.base import TrackerConfig
from moodscale.train.config import OptimConfig, TrainConfig
from moodscale.train.driver import LABELS, TrainJob


class Experiment(Config):
    """What one YAML file says. Every verb reads the same file and looks at its own sections."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    seed: int = 0
    storage_path: str = "runs"
    """Directory that every node sees, or a URI of object storage; each experiment has a directory of its name in it.
    In object storage, ``tracking`` must name a server or a database of its own."""
    manifest: str | None = None
    """A manifest that several experiments share; by default the experiment has its own."""
    corpus: Annotated[SerializeAsAny[CorpusConfig], by_kind("moodscale.corpora", CorpusConfig)]
    prepare: PrepareConfig = PrepareConfig()
    features: ExtractConfig = ExtractConfig()
    recipe: Annotated[SerializeAsAny[RecipeConfig], by_kind("moodscale.recipes", RecipeConfig)]
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    tracking: Annotated[SerializeAsAny[TrackerConfig], by_kind("moodscale.tracking", TrackerConfig)]
    registry: RegistryConfig = RegistryConfig()
    labels: str | None = None
    """A table of labels that training takes instead of the manifest's own, as rounds of pseudo-labels write them."""
    label: LabelConfig = LabelConfig()
    ensemble: EnsembleConfig | None = None

    @model_validator(mode="after")
    def _places_are_usable(self) -> Experiment:
        # Of the whole model: a field's own error would quote its value, and that may hold what a URI must not.
        for place in (self.storage_path, self.manifest, self.features.store, self.labels, self.label.answers):
            if place is not None:
                location(place)
        return self

    @property
    def run_dir(self) -> UPath:
        return location(self.storage_path) / self.name

    @property
    def manifest_dir(self) -> UPath:
        return location(self.manifest) if self.manifest else self.run_dir / "manifest"

    @property
    def features_dir(self) -> UPath:
        """The store of features: by default one for all experiments of the storage, since its keys are of content."""
        return location(self.features.store) if self.features.store else location(self.storage_path) / "features"

    def _labels(self) -> str | None:
        """The table that is named, or the one that the run has learned from already."""
        if self.labels is not None:
            return str(location(self.labels))
        own = self.run_dir / LABELS
        return str(own) if own.is_file() else None

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
            labels=self._labels(),
        )
