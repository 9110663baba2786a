"""What an evaluation says of a model, as far as the registry keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from moodscale.registry.speech_point import SpeechPoint

_FIGURES = ("auc", "balanced_accuracy", "accuracy", "f1", "brier", "ece")
_SEVERITY_FIGURES = ("mae", "rmse", "pearson_r", "ccc", "mean_error", "auc_at_10")


class _Evaluated(Protocol):
    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Judgement:
    """Guard verdict, a few figures, and the operating point where the evaluation chooses it.

    Attributes:
        guard_reasons: codes, e.g. ``auc_not_above_chance``; empty for ``pass``.
        model_versions: of the rows that were judged.
        target: ``depressed`` or ``total``.
        point: of target ``depressed``; for ``total`` it is fitted when the model is registered.
        threshold_source: ``validation``, ``config`` or ``default``; empty where there is no threshold.
        figures: by name, e.g. ``test.participant.auc`` or ``test.interview.mae``; those that are defined.
    """

    guard_verdict: str
    guard_reasons: tuple[str, ...]
    model_versions: tuple[str, ...]
    target: str = "depressed"
    point: SpeechPoint | None = None
    threshold_source: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, evaluation: _Evaluated) -> Judgement:
        return cls.from_json(evaluation.to_json())

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Judgement:
        """From ``Evaluation.to_json()`` or ``SeverityEvaluation.to_json()``, which evaluating keeps as a file.

        Raises:
            ValueError: something is missing from it.
        """
        try:
            target = str(values.get("target", "depressed"))
            own = _severity(values) if target == "total" else _classification(values)
            return cls(
                guard_verdict=str(values["guard"]["verdict"]),
                guard_reasons=tuple(str(reason["code"]) for reason in values["guard"]["reasons"]),
                model_versions=tuple(str(version) for version in values["model_versions"]),
                target=target,
                **own,
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


def _classification(values: Mapping[str, Any]) -> dict[str, Any]:
    point = SpeechPoint(
        temperature=float(values["temperature"]),
        clip_threshold=float(values["threshold"]),
        threshold=float(values["participant_threshold"]),
    )
    figures = {
        f"{values['split']}.{level}.{name}": float(values[level][name])
        for level in ("participant", "clip")
        for name in _FIGURES
        if values[level].get(name) is not None
    }
    return {"point": point, "threshold_source": str(values["threshold_source"]), "figures": figures}


def _severity(values: Mapping[str, Any]) -> dict[str, Any]:
    prefix = f"{values['split']}.{values['unit']}"
    return {
        "figures": {f"{prefix}.{name}": float(values[name]) for name in _SEVERITY_FIGURES if values[name] is not None}
    }
