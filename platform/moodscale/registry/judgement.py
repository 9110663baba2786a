"""What an evaluation says of a model, as far as the registry keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moodscale.evaluate.evaluate import Evaluation
from moodscale.registry.package import OperatingPoint

_FIGURES = ("auc", "balanced_accuracy", "accuracy", "f1", "brier", "ece")


@dataclass(frozen=True)
class Judgement:
    """Operating point, guard verdict and a few figures.

    Attributes:
        threshold_source: ``validation``, ``config`` or ``default``.
        guard_reasons: codes, e.g. ``auc_not_above_chance``; empty for ``pass``.
        figures: by name, e.g. ``test.participant.auc``; those that are defined.
        model_versions: of the rows that were judged.
    """

    point: OperatingPoint
    threshold_source: str
    guard_verdict: str
    guard_reasons: tuple[str, ...]
    model_versions: tuple[str, ...]
    figures: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, evaluation: Evaluation) -> Judgement:
        return cls.from_json(evaluation.to_json())

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Judgement:
        """From ``Evaluation.to_json()``, which the evaluation job keeps as a file.

        Raises:
            ValueError: something is missing from it.
        """
        try:
            split = values["split"]
            figures = {
                f"{split}.{level}.{name}": float(values[level][name])
                for level in ("participant", "clip")
                for name in _FIGURES
                if values[level].get(name) is not None
            }
            return cls(
                point=OperatingPoint(
                    temperature=float(values["temperature"]),
                    clip_threshold=float(values["threshold"]),
                    threshold=float(values["participant_threshold"]),
                ),
                threshold_source=str(values["threshold_source"]),
                guard_verdict=str(values["guard"]["verdict"]),
                guard_reasons=tuple(str(reason["code"]) for reason in values["guard"]["reasons"]),
                model_versions=tuple(str(version) for version in values["model_versions"]),
                figures=figures,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the evaluation lacks {error}; run `moodscale evaluate` again") from None

    def check_is_of(self, model_version: str) -> None:
        """Refuse to register one model with another one's evaluation.

        Raises:
            ValueError: naming both.
        """
        if self.model_versions != (model_version,):
            raise ValueError(
                f"the evaluation is of {', '.join(self.model_versions) or 'no model'}, the best checkpoint is "
                f"{model_version}; run `moodscale evaluate` again"
            )
