"""What the report shows beside the evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ReportContext:
    """Run facts for the report.

    Attributes:
        title: the headline, e.g. the run's name.
        recipe: the recipe's kind; chooses the paper's table that is set beside ours.
        facts: name → value, or name → mapping for a group (manifest, git state, versions, configuration). Shown as
            they are: counts, hashes and settings, never words.
        approximations: what of the data is not what the figures' names say, a sentence each, e.g. that interviewers'
            speech could not be told from participants'.
        history: ``(step, name, value)`` of training, e.g. ``(20, "validation/auc", 0.71)``. Names that differ only
            before the last ``/`` share a chart.
    """

    title: str = "Evaluation"
    recipe: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    approximations: Sequence[str] = ()
    history: Sequence[tuple[int, str, float]] = ()
