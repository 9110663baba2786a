"""What a kind of registered model is. One file of this folder each, with an instance called ``SERVING``.

The same model answers requests (MLflow's pyfunc, :meth:`ServedModel.answer`) and scores interviews of a manifest
(batch scoring, ensembles: :meth:`ServedModel.score`). Nothing here needs a manifest or a registry: a package stands
by itself.

    facts = open_package(directory)                                  # every file checked against its hash
    model = serving_of(facts.serving).open(directory, facts, {})     # or open_model(directory), which does both
    answers = model.score(sessions)                                  # sessions: registry.sessions.sessions_of
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from moodscale.config import ConfigError
from moodscale.registry import serving as servings
from moodscale.registry.facts import PackageFacts
from moodscale.storage import Place

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

    from moodscale.evaluate.table import Predictions
    from moodscale.prepare.manifest import Manifest
    from moodscale.recipes.base import Recipe
    from moodscale.registry.compare import Expected
    from moodscale.registry.config import RegistryConfig
    from moodscale.registry.judgement import Judgement

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True)
class Session:
    """One interview as a model is given it: what was said and recorded, and no label.

    Attributes:
        turns: rows of ``TURN_SCHEMA``, in order; ``text`` is ``None`` where the manifest keeps no words.
        recordings: rows of ``RECORDING`` (``prepare.tables``).
        roots: folder of each root's name that recordings lie under.
    """

    person: str
    corpus: str
    interview_id: str
    turns: Sequence[Mapping[str, Any]] = field(repr=False)
    recordings: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    roots: Mapping[str, Place] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Answer:
    """What a model says of one interview. What a kind of model does not give is ``None``.

    Attributes:
        raw_score: as in the Prediction table: before calibration; over clips their mean.
        score: after calibration: a total within the instrument's range, or a probability.
        low, high: the prediction interval of ``score``.
        probability, depressed: of models with target ``depressed``.
        instrument, severity_band, items: of models with target ``total``; ``items`` are not calibrated.
    """

    raw_score: float
    score: float
    low: float | None = None
    high: float | None = None
    probability: float | None = None
    depressed: bool | None = None
    instrument: str | None = None
    severity_band: str | None = None
    items: tuple[float, ...] | None = None


class ServedModel(ABC):
    """A package's model in memory."""

    facts: PackageFacts

    @abstractmethod
    def answer(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Answer a request: a row each, with the request's index.

        Raises:
            ValueError: naming the row and the field, never what is in it.
        """

    @abstractmethod
    def refusal(self, session: Session) -> str:
        """Why an interview cannot be scored (no words, no whole clip, …); empty where it can. Reads no recording."""

    @abstractmethod
    def score(self, sessions: Sequence[Session]) -> list[Answer]:
        """Score interviews that are not refused, in their order.

        Raises:
            CorpusError: a recording that cannot be read.
            ValueError: the model gave a score that is no number.
        """


class Serving(ABC):
    """A kind of registered model: what is known of it before one is loaded."""

    facts: ClassVar[type[PackageFacts]]
    """What ``model.json`` is checked against."""
    model_config: ClassVar[Mapping[str, Any]]
    """What ``mlflow.pyfunc.load_model(..., model_config=…)`` may change, with the defaults."""

    @abstractmethod
    def signature(self) -> ModelSignature:
        """Columns of a request and of an answer, for MLflow."""

    @abstractmethod
    def open(self, directory: Path, facts: PackageFacts, settings: Mapping[str, Any]) -> ServedModel:
        """Build the model of a package that was checked already.

        Args:
            settings: some of ``model_config``'s keys.
        Raises:
            ValueError: an adapter that does not fit, or another base model.
            ConfigError: a device that is not there, or a recipe that is refused.
        """


class TrainedServing(Serving):
    """A kind of model that a recipe trains, and how one gets from a checkpoint into the registry."""

    unit: ClassVar[str]
    target: ClassVar[str]
    """The recipes whose models it serves."""

    @abstractmethod
    def operating_point(self, judgement: Judgement, table: Predictions, config: RegistryConfig) -> dict[str, Any]:
        """How raw scores become answers, from the evaluation or from validation rows; what ``model.json`` keeps.

        Raises:
            ValueError: it cannot be told from either.
        """

    @abstractmethod
    def cutting(self, manifest: Manifest) -> dict[str, Any]:
        """Facts of the manifest that a model must know to read recordings as it did in training."""

    @abstractmethod
    def expected(
        self, recipe: Recipe, manifest: Manifest, table: Predictions, point: Mapping[str, Any], num: int
    ) -> Expected:
        """Validation units spaced evenly over the order of their scores, and what the reloaded model must say of them.

        Raises:
            ValueError: the table has no such unit, or one that is not in the manifest.
        """


def serving_of(name: str) -> Serving:
    """The serving that a package names.

    Raises:
        ConfigError: this version has none of that name.
    """
    module_name = f"moodscale.registry.serving.{name}"
    if _NAME.fullmatch(name) and name != "base":
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name != module_name:
                raise
        else:
            found: Serving = module.SERVING
            return found
    raise ConfigError(f"serving={name[:40]!r} is no kind of model that this version serves; use a newer moodscale")


def serving_for(recipe: Recipe) -> tuple[str, TrainedServing]:
    """The kind of model, by name, that serves what a recipe trains.

    Raises:
        ConfigError: this version has none.
    """
    for module in pkgutil.iter_modules(servings.__path__):
        if module.name == "base":
            continue
        serving = serving_of(module.name)
        if isinstance(serving, TrainedServing) and (serving.unit, serving.target) == (recipe.unit, recipe.target):
            return module.name, serving
    raise ConfigError(
        f"models that score {recipe.target!r} of each {recipe.unit} cannot be registered: nothing in "
        "registry/serving/ serves them"
    )


def open_model(directory: Path, settings: Mapping[str, Any] | None = None) -> ServedModel:
    """Check a package in full and build its model.

    Raises:
        ValueError: a file that changed or does not belong, an adapter that does not fit, another base model.
        ConfigError: a package of another format, a device that is not there, or a recipe that is refused.
    """
    from moodscale.registry.package import open_package

    facts = open_package(directory)
    serving = serving_of(facts.serving)
    return serving.open(directory, facts, {**serving.model_config, **(settings or {})})
