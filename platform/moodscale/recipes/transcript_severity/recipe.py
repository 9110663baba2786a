"""The recipe's examples, model, loss and predictions. Shape suffixes as in :mod:`moodscale.models.severity_head`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel

from moodscale.config import ConfigError
from moodscale.models.cost import CostModel
from moodscale.models.lora import LoraSettings, attach
from moodscale.models.severity_head import Answers, SeverityHead, severity_loss
from moodscale.models.text_backbone import (
    backbone_config,
    hidden_states,
    load_backbone,
    load_meta,
    load_tokenizer,
    pad_id,
    special_ids,
)
from moodscale.models.transcripts import TranscriptTokens, lay_out
from moodscale.prepare.manifest import Manifest
from moodscale.recipes.base import Array, Batch, Examples, Row, Score
from moodscale.recipes.transcript_severity import TranscriptSeverityRecipeConfig
from moodscale.recipes.transcript_severity.examples import interview_examples, unit_id
from moodscale.schema import Split

CHARACTERS_PER_TOKEN = 5
"""Of English, generously: only the order of lengths counts."""


class TranscriptRegressor(nn.Module):
    """The adapted model as an engine wants it: tensors in, one loss an example out."""

    def __init__(self, backbone: nn.Module, head: SeverityHead, config: TranscriptSeverityRecipeConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.model_type = config.backbone.model_type
        self.loss = config.loss
        self.huber_delta = config.huber_delta

    def answers(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, num_windows: torch.Tensor) -> Answers:
        hidden_WTD = hidden_states(self.backbone, self.model_type, input_ids, attention_mask)
        return cast(Answers, self.head(hidden_WTD, attention_mask, num_windows))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        num_windows: torch.Tensor,
        targets_total: torch.Tensor,
        targets_items: torch.Tensor,
        targets_item_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Each example's loss, ``[B]``, fp32."""
        answers = self.answers(input_ids, attention_mask, num_windows)
        targets = (targets_total.float(), targets_items.float(), targets_item_mask.float())
        return severity_loss(answers, *targets, self.loss, self.huber_delta)


class TranscriptSeverityRecipe:
    """Implements :class:`moodscale.recipes.base.Recipe`."""

    unit = "interview"
    target = "total"
    best_by = "mae"

    def __init__(self, config: TranscriptSeverityRecipeConfig) -> None:
        self.config = config

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.config.model)

    @property
    def specials(self) -> tuple[list[int], list[int]]:
        """Token ids before and after each window's speech."""
        return special_ids(self.tokenizer)

    def examples(
        self, manifest: Manifest, split: Split | str | None, reader: str = "", labels: pa.Table | None = None
    ) -> Examples:
        """An interview an example, by severity bands; see :func:`interview_examples`."""
        return interview_examples(
            manifest,
            split,
            reader,
            labels,
            instrument=self.config.instrument,
            speech=self.config.speech,
            max_characters=self.config.context.max_tokens * CHARACTERS_PER_TOKEN,
        )

    def loader(self, manifest: Manifest | None = None, cache: str | None = None) -> TranscriptTokens:
        """Row → token ids. Nothing is cached: tokens are words, and making them again is cheap."""
        before, after = self.specials
        loader = TranscriptTokens(self.tokenizer, self.config.speech, self.config.context, len(before) + len(after))
        if loader.budget < 1:
            raise ConfigError(f"recipe.context: windows of {self.config.context.per_window} tokens hold no speech")
        return loader

    def num_targets(self, row: Row) -> int:
        return 1

    def collate(self, rows: Sequence[Row], features: Sequence[Array]) -> Batch:
        num_items = self.config.instrument.num_items
        items = np.zeros((len(rows), num_items), dtype=np.float32)
        known = np.zeros_like(items)
        for index, row in enumerate(rows):
            for number, answer in enumerate(row["items"] or ()):
                if answer is not None:
                    items[index, number], known[index, number] = answer, 1.0
        return {
            **self.collate_prompts(features),
            "targets_total": torch.tensor([row["total"] for row in rows], dtype=torch.float32),
            "targets_items": torch.from_numpy(items),
            "targets_item_mask": torch.from_numpy(known),
        }

    def collate_prompts(self, features: Sequence[Array]) -> Batch:
        windows = lay_out(features, self.config.context.per_window, self.specials, pad_id(self.tokenizer))
        return {
            "input_ids": torch.from_numpy(windows.input_ids),
            "attention_mask": torch.from_numpy(windows.mask),
            "num_windows": torch.from_numpy(windows.num_windows),
        }

    def build_model(self, dtype: torch.dtype, gradient_checkpointing: bool = False) -> nn.Module:
        config = self.config
        backbone = load_backbone(config.model, config.backbone, dtype, config.attention, config.num_layers)
        self._check_sizes(backbone.config)
        with torch.random.fork_rng(devices=[]):
            # Every rank must draw the same adapter: DeepSpeed broadcasts it, a plain process has nobody to ask.
            torch.manual_seed(config.model.init_seed + 1)
            adapted = cast(PreTrainedModel, attach(backbone, self.lora(backbone.config.num_hidden_layers)))
        if gradient_checkpointing:
            adapted.gradient_checkpointing_enable({"use_reentrant": False})
            # It makes the embeddings' output require a gradient, which only the reentrant kind needs: every layer below
            # the adapted ones would be back-propagated for nothing.
            adapted.disable_input_require_grads()
        return TranscriptRegressor(adapted, self._head(backbone.config.hidden_size), config)

    def build_meta(self) -> nn.Module:
        config = self.config
        backbone = load_meta(config.model, config.backbone, config.num_layers)
        adapted = attach(backbone, self.lora(backbone.config.num_hidden_layers))
        with torch.device("meta"):
            return TranscriptRegressor(adapted, self._head(backbone.config.hidden_size), config)

    def lora(self, num_layers: int) -> LoraSettings:
        """The adapters' settings, their targets narrowed to the layers that are adapted."""
        last = self.config.adapt_last_layers
        if last is None:
            return self.config.lora
        if last > num_layers:
            raise ConfigError(f"recipe.adapt_last_layers={last}: only {num_layers} layers are used")
        numbers = "|".join(map(str, range(num_layers - last, num_layers)))
        targets = tuple(target.replace(r"\d+", f"(?:{numbers})") for target in self.config.lora.targets)
        return self.config.lora.model_copy(update={"targets": targets})

    def _head(self, width: int) -> SeverityHead:
        config = self.config
        return SeverityHead(
            width,
            config.instrument.num_items,
            config.target,
            ordinal=config.loss == "ordinal",
            pools_windows=config.context.has_windows,
            init_seed=config.model.init_seed + 2,
            initial_total=config.initial_total,
        )

    def _check_sizes(self, found: Any) -> None:
        config = self.config
        if len(self.tokenizer) > found.vocab_size:
            raise ConfigError(
                f"the tokenizer has {len(self.tokenizer)} tokens, the backbone {found.vocab_size}; raise "
                "recipe.backbone.sizes.vocab_size"
            )
        if config.context.per_window > found.max_position_embeddings:
            raise ConfigError(
                f"recipe.context: windows of {config.context.per_window} tokens, but the backbone has "
                f"{found.max_position_embeddings} positions; set window_tokens and max_windows"
            )

    @torch.inference_mode()
    def predict(self, model: nn.Module, batch: Batch) -> list[Score]:
        """Totals in points, and items where they are predicted: one call of the model."""
        inputs = (batch[name] for name in ("input_ids", "attention_mask", "num_windows"))
        answers = cast(TranscriptRegressor, model).answers(*inputs)
        totals = answers.total_B.tolist()
        if answers.items_BI is None:
            return [Score(total) for total in totals]
        return [
            Score(total, items=tuple(items)) for total, items in zip(totals, answers.items_BI.tolist(), strict=True)
        ]

    def predictions(self, row: Row, score: Score) -> list[dict[str, Any]]:
        """The total's row, and one an item (target ``item_1`` …) that is both predicted and known."""
        shared = {
            "person": row["person"],
            "unit": self.unit,
            "unit_id": unit_id(row["corpus"], row["interview_id"]),
            "corpus": row["corpus"],
            "gender": row["gender"],
            "num_turns": row["num_turns"],
            "instrument": row["instrument"],
        }
        rows = [{**shared, "target": self.target, "label": float(row["total"]), "score": score.score}]
        for number, (known, predicted) in enumerate(zip(row["items"] or (), score.items or (), strict=False), start=1):
            if known is not None:
                rows.append({**shared, "target": f"item_{number}", "label": float(known), "score": predicted})
        return rows

    def selection(self, table: pa.Table) -> dict[str, float]:
        """MAE, RMSE, Pearson's r and the loss of the totals."""
        from moodscale.evaluate.severity.selection import severity_selection_metrics

        return severity_selection_metrics(table)

    def cost(self) -> CostModel:
        """Of one interview that fills its context; nothing is fetched."""
        from moodscale.models.text_cost import text_cost

        config = self.config
        found = backbone_config(config.model, config.backbone, config.num_layers)
        return text_cost(
            found,
            self.lora(found.num_hidden_layers),
            window_tokens=config.context.per_window,
            num_windows=config.context.max_windows or 1,
            fused_attention=config.attention != "eager",
        )

    def base_reference(self) -> dict[str, Any]:
        config = self.config
        return {**config.model.to_json(), "backbone": config.backbone.to_json(), "num_layers": config.num_layers}

    def save_assets(self, directory: Path) -> None:
        self.tokenizer.save_pretrained(str(directory))

    def load_assets(self, directory: Path) -> None:
        # Over the cached property: an instance that has its tokenizer never asks the source for one.
        self.__dict__["tokenizer"] = AutoTokenizer.from_pretrained(str(directory))
