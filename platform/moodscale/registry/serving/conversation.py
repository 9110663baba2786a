"""The registered model of transcripts: messages in, a questionnaire's total with its interval out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from moodscale.evaluate.table import Predictions
from moodscale.prepare.manifest import Manifest
from moodscale.recipes import base
from moodscale.registry.compare import Expected, in_order, spaced, validation_rows
from moodscale.registry.config import RegistryConfig
from moodscale.registry.facts import PackageFacts, TrainedFacts
from moodscale.registry.judgement import Judgement
from moodscale.registry.loaded import LoadedRecipe
from moodscale.registry.messages import HOW_TO_ASK, MESSAGES, read_messages, write_messages
from moodscale.registry.serving.base import Answer, ServedModel, Session, TrainedServing
from moodscale.registry.sessions import sessions_of
from moodscale.registry.severity_point import SeverityPoint, fit_point, severity_band
from moodscale.schema import Instrument, Split


class _TranscriptRecipe(base.Recipe, Protocol):
    """A recipe of transcripts reads rows with ``turns`` that lie in no manifest."""

    def loader(self, manifest: Manifest | None = None, cache: str | None = None) -> base.Loader: ...


class ConversationModel(ServedModel):
    """Severity from what was said, by the interview. Research use; not a medical device.

    A request has rows with ``messages``, see :mod:`moodscale.registry.messages`. One row comes back for each:

    - ``score``: the calibrated total, within the range of ``instrument``; ``raw_score``: the model's own
    - ``low``, ``high``: the prediction interval, from validation; ``severity_band``: of ``score``
    - ``items``: the questionnaire's items, not calibrated; empty where the model does not give them
    - ``instrument``, ``model_version``
    """

    def __init__(self, directory: Path, facts: TrainedFacts, settings: Mapping[str, Any]) -> None:
        self.facts = facts
        self.point = SeverityPoint.from_json(facts.operating_point)
        self.loaded = LoadedRecipe(directory, facts, str(settings["device"]), int(settings["batch_interviews"]))
        self.loader = cast(_TranscriptRecipe, self.loaded.recipe).loader()

    def answer(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Score a request.

        Raises:
            ValueError: naming the row and the field: no messages, a role that nobody has, nothing that is listened to.
        """
        if not isinstance(rows, pd.DataFrame) or MESSAGES not in rows.columns:
            raise ValueError(f"a request has no column {MESSAGES!r}; {HOW_TO_ASK}")
        if not len(rows):
            raise ValueError(f"the request holds nothing to score; {HOW_TO_ASK}")
        features = []
        for number, given in enumerate(rows[MESSAGES]):
            name = f"row {number}"
            own = self.loader(_row("request", name, read_messages(given, name)))
            if not len(own):
                raise ValueError(f"{name}: {MESSAGES} hold no words by those whom the model listens to")
            features.append(own)
        answers = [
            {
                "score": one.score,
                "raw_score": one.raw_score,
                "low": one.low,
                "high": one.high,
                "instrument": one.instrument,
                "severity_band": one.severity_band,
                "items": list(one.items or ()),
                "model_version": self.facts.model_version,
            }
            for one in self._answers(features)
        ]
        return pd.DataFrame(answers, index=rows.index)

    def refusal(self, session: Session) -> str:
        if all(turn["text"] is None for turn in session.turns):
            return "the manifest holds no words of it"
        return "" if len(self._features(session)) else "no words by those whom the model listens to"

    def score(self, sessions: Sequence[Session]) -> list[Answer]:
        return self._answers(self._features(session) for session in sessions)

    def _features(self, session: Session) -> base.Array:
        return self.loader(_row(session.corpus, session.interview_id, session.turns))

    def _answers(self, features: Iterable[base.Array]) -> list[Answer]:
        found = []
        for given in self.loaded.scores(features):
            score = float(self.point.score(np.array([given.score]))[0])
            low, high = self.point.interval(score)
            found.append(
                Answer(
                    raw_score=given.score,
                    score=score,
                    low=low,
                    high=high,
                    instrument=self.point.instrument.value,
                    severity_band=severity_band(score),
                    items=given.items,
                )
            )
        return found


def _row(corpus: str, interview_id: str, turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a recipe of transcripts reads of an interview."""
    spoken = [{"speaker": turn["speaker"], "text": turn["text"] or ""} for turn in turns]
    return {"corpus": corpus, "interview_id": interview_id, "turns": spoken}


class ConversationServing(TrainedServing):
    facts = TrainedFacts
    model_config: ClassVar[Mapping[str, Any]] = {"device": "auto", "batch_interviews": 4}
    unit = "interview"
    target = "total"

    def signature(self) -> ModelSignature:
        outputs = [
            *(ColSpec(DataType.double, name) for name in ("score", "raw_score", "low", "high")),
            *(ColSpec(DataType.string, name) for name in ("instrument", "severity_band")),
            ColSpec(Array(DataType.double), "items"),
            ColSpec(DataType.string, "model_version"),
        ]
        return ModelSignature(inputs=Schema([ColSpec(DataType.string, MESSAGES)]), outputs=Schema(outputs))

    def open(self, directory: Path, facts: PackageFacts, settings: Mapping[str, Any]) -> ConversationModel:
        assert isinstance(facts, TrainedFacts)
        return ConversationModel(directory, facts, settings)

    def operating_point(self, judgement: Judgement, table: Predictions, config: RegistryConfig) -> dict[str, Any]:
        """Fitted on the table's validation rows alone."""
        del judgement
        rows = validation_rows(table, self.unit, self.target)
        named = sorted(rows["instrument"].unique()) if "instrument" in rows.columns else []
        if len(named) != 1 or not named[0]:
            raise ValueError(
                f"{table.source}: validation rows of target total are of {', '.join(named) or 'no instrument'}; an "
                "operating point is of one (column instrument), run `moodscale evaluate` again"
            )
        point = fit_point(
            raw=rows["score"].to_numpy(dtype=np.float64),
            label=rows["label"].to_numpy(dtype=np.float64),
            person=rows["person"].to_numpy(dtype=object),
            instrument=Instrument(named[0]),
            calibration=config.calibration,
            level=config.interval_level,
        )
        return point.to_json()

    def cutting(self, manifest: Manifest) -> dict[str, Any]:
        del manifest
        return {}

    def expected(
        self, recipe: base.Recipe, manifest: Manifest, table: Predictions, point: Mapping[str, Any], num: int
    ) -> Expected:
        chosen = spaced(validation_rows(table, self.unit, self.target), num)
        ids = tuple(str(value) for value in chosen["unit_id"])
        examples = recipe.examples(manifest, Split.VALIDATION, reader="register")
        positions = in_order(ids, {one: index for index, one in enumerate(examples.unit_ids)}, table.source, self.unit)
        raw = chosen["score"].to_numpy(dtype=np.float64)
        fitted = SeverityPoint.from_json(point)
        scores = fitted.score(raw)
        intervals = np.array([fitted.interval(score) for score in scores])
        sessions = sessions_of(manifest, examples.table.take(positions).select(["corpus", "interview_id"]))
        return Expected(
            unit=self.unit,
            unit_ids=ids,
            values={"raw_score": raw, "score": scores, "low": intervals[:, 0], "high": intervals[:, 1]},
            scale=float(fitted.instrument.max_total),
            messages=tuple(write_messages(session.turns) for session in sessions),
        )


SERVING = ConversationServing()
