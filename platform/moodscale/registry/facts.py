"""What ``model.json`` of a package says. A kind of model with more to say has a subclass, named by its serving."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import SerializeAsAny

from moodscale.config import Config, by_kind
from moodscale.recipes.base import RecipeConfig
from moodscale.schema import person_hash

FORMAT = 2
"""2: says how the model is served, who its labels are of, and holds any kind of operating point."""


class PackageFacts(Config):
    """What every package says.

    Attributes:
        serving: the module of ``registry/serving/`` that loads it and answers with it.
        target: what its scores are: ``depressed`` (a probability) or ``total`` (a questionnaire's points).
        operating_point: how a raw score becomes an answer; the serving's own.
        trained_people: :func:`digests_of` everyone whose label the model, its checkpoint or its operating point was
            made with, sorted.
        files: SHA-256 of every other file of the package.
    """

    format: int
    serving: str
    target: str
    model_version: str
    manifest_hash: str
    operating_point: dict[str, Any]
    guard_verdict: str
    trained_people: tuple[str, ...]
    moodscale_version: str
    code_hash: str
    packages: dict[str, str]
    intended_use: str
    files: dict[str, str]


class TrainedFacts(PackageFacts):
    """A recipe's model: base weights by name and fingerprint, and the adapter that was trained.

    Attributes:
        base_fingerprint: of the base's values, see :func:`moodscale.registry.package.base_fingerprint`.
        speech, clip_s: whose turns clips are made of and how long one is, as ``prepare`` has it; ``None`` for a
            model of transcripts.
    """

    recipe: Annotated[SerializeAsAny[RecipeConfig], by_kind("moodscale.recipes", RecipeConfig)]
    base: dict[str, Any]
    base_fingerprint: str
    precision: str
    adapter_sha256: str
    speech: str | None = None
    clip_s: float | None = None


def digests_of(people: Iterable[str]) -> tuple[str, ...]:
    """The first 16 digits of each person key's SHA-256, sorted, each once.

    It tells whether a model has seen somebody whose key one knows. It is no pseudonym: keys of public corpora are few
    enough to be tried.
    """
    return tuple(sorted({person_hash(person) for person in people}))
