"""The registered model: wav path or waveform in, probability out.

Loaded by MLflow from the code that was registered with it, in a process that need not have moodscale installed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from moodscale.config import ConfigError
from moodscale.evaluate.units import apply_temperature
from moodscale.models.lora import ADAPTER_FILE, apply_adapter, load_adapter
from moodscale.registry.package import ASSETS, base_fingerprint, open_package
from moodscale.registry.recordings import HOW_TO_ASK, PATH, RATE, WAVEFORM, Recording, read_request

# MLflow prints the refused input itself where a request does not fit the signature. Ours are people's voices.
os.environ.setdefault("MLFLOW_DISABLE_SCHEMA_DETAILS", "true")

logger = logging.getLogger(__name__)

PACKAGE = "package"
"""Name of the packed directory among the MLflow model's artifacts."""
MODEL_CONFIG: dict[str, Any] = {"device": "auto", "batch_clips": 8}
"""What ``load_model(..., model_config=…)`` may change: ``device`` (auto, cpu, cuda, cuda:1) and clips a batch."""

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def signature() -> ModelSignature:
    """The columns of a request and of an answer.

    A request has one of the two kinds of input; MLflow can say of each column only that it may be left out, so
    :func:`moodscale.registry.recordings.read_request` checks the rest.
    """
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


class SpeechClassifier(PythonModel):  # type: ignore[misc]
    """Depression from speech, by the recording. Research use; not a medical device.

    ``predict`` takes rows with ``path``, or with ``waveform`` (float, full scale 1, one channel) and
    ``sample_rate_hz``, as a DataFrame, a list of dictionaries or one dictionary. A recording longer than a clip is
    cut into clips without overlap, a shorter rest is left out; the model was trained on the participant's speech
    alone. One row comes back for each:

    - ``probability``: P(depressed), calibrated, the mean over the clips
    - ``depressed``: whether it reaches the threshold chosen on validation (one for single clips, one for means)
    - ``score``: the same mean before calibration, as in the Prediction table
    - ``num_clips``, ``model_version``
    """

    def load_context(self, context: Any) -> None:
        """Check the package in full, then build the model.

        Raises:
            ValueError: a file that changed or does not belong, an adapter that does not fit, another base model.
            ConfigError: a device that is not there, or a recipe that is refused.
        """
        directory = Path(context.artifacts[PACKAGE])
        settings = {**MODEL_CONFIG, **(context.model_config or {})}
        self.facts = open_package(directory)
        self.device = _device(str(settings["device"]))
        self.batch_clips = max(1, int(settings["batch_clips"]))
        self.dtype = _DTYPES[self.facts.precision]
        self.recipe = self.facts.recipe.build()
        self.recipe.load_assets(directory / ASSETS)
        self.features = self.recipe.features()
        model = self.recipe.build_model(self.dtype)
        if base_fingerprint(model) != self.facts.base_fingerprint:
            raise ValueError(
                f"the base model's weights are not those that {self.facts.model_version} was trained on "
                f"(source {self.facts.base.get('source')!r}, revision {self.facts.base.get('revision')!r}); "
                "put the original ones there"
            )
        apply_adapter(model, load_adapter(directory / ADAPTER_FILE))
        self.model = model.to(self.device).eval()
        logger.info("loaded %s on %s", self.facts.model_version, self.device)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Score a request.

        Raises:
            ValueError: naming the row or file: too short, not a recording, samples that are not numbers.
        """
        del context, params
        if not isinstance(model_input, pd.DataFrame):
            raise ValueError(f"a request is not a {type(model_input).__name__}; {HOW_TO_ASK}")
        recordings = read_request(model_input, self.facts.clip_s)
        scores = iter(self._score(recordings))
        rows = [self._answer(np.array(list(islice(scores, one.num_clips)), dtype=np.float64)) for one in recordings]
        return pd.DataFrame(rows, index=model_input.index)

    def _score(self, recordings: Sequence[Recording]) -> Iterator[float]:
        """One raw score a clip, in order; no more than a batch of waveforms is held at once."""
        features = (self.features(clip) for one in recordings for clip in one.clips())
        while batch := list(islice(features, self.batch_clips)):
            tensors = {
                name: tensor.to(self.device, self.dtype if tensor.is_floating_point() else tensor.dtype)
                for name, tensor in self.recipe.collate_prompts(batch).items()
            }
            for result in self.recipe.predict(self.model, tensors):
                if not np.isfinite(result.score):
                    raise ValueError(f"{self.facts.model_version} gave a score that is not a number")
                yield result.score

    def _answer(self, scores: np.ndarray[Any, Any]) -> dict[str, Any]:
        point = self.facts.point
        probability = float(apply_temperature(scores, point.temperature).mean())
        threshold = point.clip_threshold if len(scores) == 1 else point.threshold
        return {
            "probability": probability,
            "depressed": probability >= threshold,
            "score": float(scores.mean()),
            "num_clips": len(scores),
            "model_version": self.facts.model_version,
        }


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device={name!r} is no device; write auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={name!r}, but there is no CUDA device here; write auto or cpu")
    return device
