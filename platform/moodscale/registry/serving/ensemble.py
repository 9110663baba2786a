"""The registered ensemble: whatever its members read in, one score with its uncertainty out.

```
model.json            members, their versions and hashes, how they are combined (``operating_point``)
members/0/ …          each member's own package, whole
```
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array
from pydantic import Field

from moodscale.config import Config
from moodscale.registry.ensemble_result import Combined, EnsembleFit
from moodscale.registry.facts import PackageFacts
from moodscale.registry.messages import MESSAGES
from moodscale.registry.package import MODEL_FILE, open_package, sha256
from moodscale.registry.recordings import PATH, RATE, WAVEFORM
from moodscale.registry.serving.base import Answer, ServedModel, Serving, Session, serving_of
from moodscale.registry.severity_point import severity_band

MEMBERS = "members"
"""Folder of the members' packages."""
MEMBER_SCORES = "member_scores"

_INPUTS: Mapping[str, Any] = {
    MESSAGES: DataType.string,
    PATH: DataType.string,
    WAVEFORM: Array(DataType.double),
    RATE: DataType.long,
}

Floats = np.ndarray[Any, np.dtype[np.float64]]


class MemberFacts(Config):
    """A member, as the ensemble's ``model.json`` names it.

    Attributes:
        name: what it was called when the ensemble was built: ``models:/NAME/VERSION`` or ``runs:/EXPERIMENT``.
        folder: of its package, below the ensemble's.
        package_sha256: of its own ``model.json``, which holds the hashes of all its files.
    """

    name: str
    folder: str = Field(pattern=r"^members/[0-9]{1,3}$")
    model_version: str
    recipe: str
    serving: str
    target: str
    manifest_hash: str
    package_sha256: str


class EnsembleFacts(PackageFacts):
    """``model.json`` of an ensemble; ``operating_point`` is :meth:`EnsembleFit.to_json`.

    Attributes:
        precision: the least exact of the members'.
    """

    members: tuple[MemberFacts, ...]
    precision: str


class EnsembleModel(ServedModel):
    """Several models of one interview, answering as one. Research use; not a medical device.

    A request's rows have what every member reads: ``messages``, and ``path`` or ``waveform`` with
    ``sample_rate_hz``. One row comes back for each:

    - ``score``: a total within the range of ``instrument``, or P(depressed) where all members are classifiers
    - ``low``, ``high``: the prediction interval, from validation
    - ``disagreement``: weighted standard deviation of the members' scores on that scale
    - ``member_scores``: each member's own score, as its Prediction table has it
    - ``instrument``, ``severity_band``: of totals, else empty; ``model_version``
    """

    facts: EnsembleFacts

    def __init__(self, directory: Path, facts: EnsembleFacts, settings: Mapping[str, Any]) -> None:
        self.facts = facts
        self.fit = EnsembleFit.from_json(facts.operating_point, f"{facts.model_version}: operating_point")
        if self.fit.members != tuple(member.name for member in facts.members):
            raise ValueError(f"{facts.model_version}: its members are not those it was fitted for; build it again")
        self.members = [_open_member(directory, member, settings) for member in facts.members]
        self.inputs = [tuple(serving_of(member.serving).signature().inputs.input_names()) for member in facts.members]

    def answer(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Answer a request.

        Raises:
            ValueError: no column that a member reads, named; or what a member refuses, by the row.
        """
        if not isinstance(rows, pd.DataFrame):
            raise ValueError(f"a request is not a {type(rows).__name__}; give a DataFrame with {self._columns()}")
        for facts, names in zip(self.facts.members, self.inputs, strict=True):
            if not set(names) & set(rows.columns):
                raise ValueError(
                    f"the request has no column {' or '.join(map(repr, names))}, which member {facts.name} reads; "
                    f"give {self._columns()}"
                )
        scores = [self._asked(number, rows) for number in range(len(self.members))]
        combined = self.fit.apply(np.array(scores, dtype=np.float64))
        return pd.DataFrame([self._row(combined, scores, position) for position in range(len(rows))], index=rows.index)

    def refusal(self, session: Session) -> str:
        for facts, member in zip(self.facts.members, self.members, strict=True):
            why = member.refusal(session)
            if why:
                return f"member {facts.name}: {why}"
        return ""

    def score(self, sessions: Sequence[Session]) -> list[Answer]:
        scores = [[one.raw_score for one in member.score(sessions)] for member in self.members]
        combined = self.fit.apply(np.array(scores, dtype=np.float64).reshape(len(scores), len(sessions)))
        is_total = self.fit.instrument is not None
        return [
            Answer(
                raw_score=float(score),
                score=float(score),
                low=float(low),
                high=float(high),
                probability=None if is_total else float(score),
                instrument=None if self.fit.instrument is None else str(self.fit.instrument),
                severity_band=severity_band(float(score)) if is_total else None,
            )
            for score, low, high in zip(combined.score, combined.low, combined.high, strict=True)
        ]

    def _asked(self, number: int, rows: pd.DataFrame) -> Floats:
        """(N,) one member's own scores, as the Prediction table has them."""
        names = [name for name in self.inputs[number] if name in rows.columns]
        try:
            answers = self.members[number].answer(rows[names])
        except ValueError as error:
            raise ValueError(f"member {self.facts.members[number].name}: {error}") from None
        # Where a kind of model calibrates its score, it says the raw one too.
        raw = "raw_score" if "raw_score" in answers.columns else "score"
        return answers[raw].to_numpy(dtype=np.float64)

    def _row(self, combined: Combined, scores: Sequence[Floats], position: int) -> dict[str, Any]:
        score = float(combined.score[position])
        is_total = self.fit.instrument is not None
        return {
            "score": score,
            "low": float(combined.low[position]),
            "high": float(combined.high[position]),
            "disagreement": float(combined.disagreement[position]),
            MEMBER_SCORES: [float(one[position]) for one in scores],
            "instrument": str(self.fit.instrument) if is_total else "",
            "severity_band": severity_band(score) if is_total else "",
            "model_version": self.facts.model_version,
        }

    def _columns(self) -> str:
        return " and ".join(dict.fromkeys(" or ".join(map(repr, names)) for names in self.inputs))


class EnsembleServing(Serving):
    facts = EnsembleFacts
    model_config: ClassVar[Mapping[str, Any]] = {"device": "auto"}

    def __init__(self, inputs: Collection[str] = tuple(_INPUTS)) -> None:
        """Args: inputs: the columns that some ensemble's members read."""
        self.inputs = inputs

    def signature(self) -> ModelSignature:
        """A recording comes in one of two ways; :meth:`EnsembleModel.answer` checks what must be there."""
        inputs = Schema([ColSpec(kind, name, required=False) for name, kind in _INPUTS.items() if name in self.inputs])
        outputs = [
            *(ColSpec(DataType.double, name) for name in ("score", "low", "high", "disagreement")),
            ColSpec(Array(DataType.double), MEMBER_SCORES),
            *(ColSpec(DataType.string, name) for name in ("instrument", "severity_band", "model_version")),
        ]
        return ModelSignature(inputs=inputs, outputs=Schema(outputs))

    def open(self, directory: Path, facts: PackageFacts, settings: Mapping[str, Any]) -> EnsembleModel:
        assert isinstance(facts, EnsembleFacts)
        return EnsembleModel(directory, facts, settings)


def _open_member(directory: Path, member: MemberFacts, settings: Mapping[str, Any]) -> ServedModel:
    """A member's model, its package checked by itself too.

    Raises:
        ValueError: it is another one than the ensemble was built with, or changed.
    """
    folder = directory / member.folder
    facts = open_package(folder)
    if facts.model_version != member.model_version or sha256(folder / MODEL_FILE) != member.package_sha256:
        raise ValueError(
            f"{folder}: holds {facts.model_version}, and not {member.model_version} as it was when the ensemble was "
            "built; build it again"
        )
    serving = serving_of(facts.serving)
    own = {name: value for name, value in settings.items() if name in serving.model_config}
    return serving.open(folder, facts, {**serving.model_config, **own})


SERVING = EnsembleServing()
