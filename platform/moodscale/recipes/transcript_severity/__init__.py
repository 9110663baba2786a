"""Severity from transcripts: a language model with LoRA reads what was said, a regression head answers in points.

These are its settings, which every verb reads; ``build`` makes the recipe, and imports torch and transformers for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from moodscale.models.context import ContextSettings, Speech
from moodscale.models.lora import LoraSettings
from moodscale.models.source import ModelSource
from moodscale.models.text_backbone_sizes import TARGETS, TextBackboneSizes
from moodscale.recipes.base import RecipeConfig
from moodscale.schema import Instrument

if TYPE_CHECKING:
    from moodscale.recipes.transcript_severity.recipe import TranscriptSeverityRecipe


class TranscriptSeverityRecipeConfig(RecipeConfig):
    """Settings of the recipe."""

    best_by: ClassVar[str] = "mae"
    kind: Literal["transcript_severity"] = "transcript_severity"
    model: ModelSource
    backbone: TextBackboneSizes
    num_layers: int | None = Field(None, ge=1)
    """Use the first layers of the backbone alone: cheaper, for machines without a GPU."""
    lora: LoraSettings
    """``targets`` may be left out: every linear of the backbone's layers then."""
    adapt_last_layers: int | None = Field(None, ge=1)
    """Adapt only so many of the layers that are used, the last ones: nothing below them is back-propagated."""
    instrument: Instrument
    """Whose points are predicted. PHQ-8 and PHQ-9 are never mixed: a manifest with the other one is refused."""
    speech: Speech = "participant"
    """Whose turns are read. ``interviewer`` is the control that must not do well; with ``everything`` each turn says
    whose it is."""
    context: ContextSettings = ContextSettings(budget_tokens=4096)
    target: Literal["total", "items"] = "total"
    """``items`` predicts every item, and their sum as the total."""
    loss: Literal["mse", "huber", "ordinal"] = "mse"
    huber_delta: float = Field(3.0, gt=0)
    """Points beyond which an error counts linearly."""
    initial_total: float | None = Field(None, gt=0)
    """What an untrained head answers, in points; default the middle of the range."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"

    @model_validator(mode="before")
    @classmethod
    def _default_targets(cls, values: Any) -> Any:
        """Before validation, so that the record of a run names the modules that were adapted."""
        if not isinstance(values, dict):
            return values
        lora, backbone = values.get("lora", {}), values.get("backbone")
        kind = backbone.get("model_type") if isinstance(backbone, dict) else getattr(backbone, "model_type", None)
        if isinstance(lora, dict) and "targets" not in lora and kind in TARGETS:
            return {**values, "lora": {**lora, "targets": TARGETS[kind]}}
        return values

    @model_validator(mode="after")
    def _fits_the_instrument(self) -> TranscriptSeverityRecipeConfig:
        most = self.instrument.max_total
        if self.initial_total is not None and self.initial_total >= most:
            raise ValueError(f"initial_total={self.initial_total} is not below {self.instrument}'s maximum {most}")
        return self

    def build(self) -> TranscriptSeverityRecipe:
        from moodscale.recipes.transcript_severity.recipe import TranscriptSeverityRecipe

        return TranscriptSeverityRecipe(self)
