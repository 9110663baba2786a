"""The registered speech classifier: wav path or waveform in, probability out; an interview's clips likewise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from moodscale.evaluate.table import Predictions
from moodscale.evaluate.units import apply_temperature
from moodscale.prepare.audio import read_clip
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from moodscale.recipes import base
from moodscale.registry.compare import Expected, in_order, spaced, validation_rows
from moodscale.registry.config import RegistryConfig
from moodscale.registry.facts import PackageFacts, TrainedFacts
from moodscale.registry.judgement import Judgement
from moodscale.registry.loaded import LoadedRecipe
from moodscale.registry.recordings import HOW_TO_ASK, PATH, RATE, WAVEFORM, read_request
from moodscale.registry.serving.base import Answer, ServedModel, Session, TrainedServing
from moodscale.registry.sessions import cut_session
from moodscale.registry.speech_point import SpeechPoint
from moodscale.schema import Split

Floats = np.ndarray[Any, Any]


class _Features(Protocol):
    def __call__(self, waveform: Floats) -> Floats: ...


class _SpeechRecipe(base.Recipe, Protocol):
    """A recipe of clips also says what it reads of a waveform that lies in no manifest."""

    def features(self) -> _Features: ...


class SpeechModel(ServedModel):
    """Depression from speech, by the recording. Research use; not a medical device.

    A request has rows with ``path``, or with ``waveform`` (float, full scale 1, one channel) and ``sample_rate_hz``. A
    recording longer than a clip is cut into clips without overlap, a shorter rest is left out; the model was trained
    on the participant's speech alone. One row comes back for each:

    - ``probability``: P(depressed), calibrated, the mean over the clips
    - ``depressed``: whether it reaches the threshold chosen on validation (one for single clips, one for means)
    - ``score``: the same mean before calibration, as in the Prediction table
    - ``num_clips``, ``model_version``
    """

    def __init__(self, directory: Path, facts: TrainedFacts, settings: Mapping[str, Any]) -> None:
        self.facts = facts
        self.loaded = LoadedRecipe(directory, facts, str(settings["device"]), int(settings["batch_clips"]))
        self.point = SpeechPoint.from_json(facts.operating_point)
        assert facts.clip_s is not None, "a speech model is packed with the length of its clips"
        self.clip_s = facts.clip_s
        self.cutting = PrepareConfig.model_validate({"speech": facts.speech, "clip_s": facts.clip_s})
        self.features = cast(_SpeechRecipe, self.loaded.recipe).features()

    def answer(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Score a request.

        Raises:
            ValueError: naming the row or file: too short, not a recording, samples that are not numbers.
        """
        if not isinstance(rows, pd.DataFrame):
            raise ValueError(f"a request is not a {type(rows).__name__}; {HOW_TO_ASK}")
        recordings = read_request(rows, self.clip_s)
        scores = self._scores(clip for one in recordings for clip in one.clips())
        answers = []
        for one in recordings:
            given = self._answer(scores, one.num_clips)
            answers.append(
                {
                    "probability": given.probability,
                    "depressed": given.depressed,
                    "score": given.raw_score,
                    "num_clips": one.num_clips,
                    "model_version": self.facts.model_version,
                }
            )
        return pd.DataFrame(answers, index=rows.index)

    def refusal(self, session: Session) -> str:
        if not session.recordings:
            return "no recording"
        return "" if cut_session(session, self.cutting) else f"less speech than one clip of {self.clip_s:g} s"

    def score(self, sessions: Sequence[Session]) -> list[Answer]:
        clips = [(session, cut_session(session, self.cutting)) for session in sessions]
        waveforms = chain.from_iterable((read_clip(one.roots, clip) for clip in cut) for one, cut in clips)
        scores = self._scores(waveforms)
        return [self._answer(scores, len(cut)) for _, cut in clips]

    def _scores(self, waveforms: Iterable[Floats]) -> Iterator[float]:
        return (one.score for one in self.loaded.scores(self.features(waveform) for waveform in waveforms))

    def _answer(self, scores: Iterator[float], num_clips: int) -> Answer:
        raw = np.array(list(islice(scores, num_clips)), dtype=np.float64)
        probability = float(apply_temperature(raw, self.point.temperature).mean())
        threshold = self.point.clip_threshold if num_clips == 1 else self.point.threshold
        return Answer(
            raw_score=float(raw.mean()),
            score=probability,
            probability=probability,
            depressed=probability >= threshold,
        )


class SpeechServing(TrainedServing):
    facts = TrainedFacts
    model_config: ClassVar[Mapping[str, Any]] = {"device": "auto", "batch_clips": 8}
    unit = "clip"
    target = "depressed"

    def signature(self) -> ModelSignature:
        """A request has one of the two kinds of input; MLflow can say of each column only that it may be left out, so
        :func:`moodscale.registry.recordings.read_request` checks the rest."""
        inputs = Schema(
            [
                ColSpec(DataType.string, PATH, required=False),
                ColSpec(Array(DataType.double), WAVEFORM, required=False),
                ColSpec(DataType.long, RATE, required=False),
            ]
        )
        outputs = Schema(
            [
                ColSpec(DataType.double, "probability"),
                ColSpec(DataType.boolean, "depressed"),
                ColSpec(DataType.double, "score"),
                ColSpec(DataType.long, "num_clips"),
                ColSpec(DataType.string, "model_version"),
            ]
        )
        return ModelSignature(inputs=inputs, outputs=outputs)

    def open(self, directory: Path, facts: PackageFacts, settings: Mapping[str, Any]) -> SpeechModel:
        assert isinstance(facts, TrainedFacts)
        return SpeechModel(directory, facts, settings)

    def operating_point(self, judgement: Judgement, table: Predictions, config: RegistryConfig) -> dict[str, Any]:
        """The evaluation's: thresholds and temperature are its choice."""
        del table, config
        if judgement.point is None:
            raise ValueError("the evaluation has no threshold, it is of another kind of model; evaluate again")
        return judgement.point.to_json()

    def cutting(self, manifest: Manifest) -> dict[str, Any]:
        settings = manifest.facts["settings"]["prepare"]
        return {"speech": str(settings["speech"]), "clip_s": float(settings["clip_s"])}

    def expected(
        self, recipe: base.Recipe, manifest: Manifest, table: Predictions, point: Mapping[str, Any], num: int
    ) -> Expected:
        del recipe
        rows = validation_rows(table, self.unit, self.target)
        if "duration_s" not in rows.columns:
            raise ValueError(f"{table.source}: has no column duration_s; make it with `moodscale evaluate`")
        # A clip that is kept shorter (prepare.tail: pad) is no whole clip, and the packed model refuses those.
        clip_s = self.cutting(manifest)["clip_s"]
        whole = rows[np.isclose(rows["duration_s"].to_numpy(dtype=float), clip_s, atol=1e-3)]
        if whole.empty:
            raise ValueError(
                f"{table.source}: no validation clip of {clip_s:g} s to compare with; prepare and score again"
            )
        chosen = spaced(whole, num)
        ids = tuple(str(value) for value in chosen["unit_id"])
        clips = {row["clip_id"]: row for row in manifest.clips(Split.VALIDATION, reader="register").to_pylist()}
        scores = chosen["score"].to_numpy(dtype=np.float64)
        return Expected(
            unit=self.unit,
            unit_ids=ids,
            values={
                "score": scores,
                "probability": apply_temperature(scores, SpeechPoint.from_json(point).temperature),
                "num_clips": np.ones(len(ids)),
            },
            waveforms=tuple(read_clip(manifest.roots, row) for row in in_order(ids, clips, table.source, self.unit)),
        )


SERVING = SpeechServing()
