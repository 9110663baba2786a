"""The arithmetic of transcripts, held against PyTorch's own operation counter and what autograd really keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from counting import count
from moodscale.config import validate
from moodscale.models.cost import CostModel
from moodscale.recipes.transcript_severity import TranscriptSeverityRecipeConfig

LLAMA = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 160,
    "vocab_size": 300,
}
BERT = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 160,
    "vocab_size": 300,
}
QWEN = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "intermediate_size": 160,
    "vocab_size": 300,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
}
ATTENDING = {**QWEN, "layer_types": ["full_attention"] * 4}


@dataclass(frozen=True)
class Measured:
    forward_flops: int
    backward_flops: int
    kept_bytes: int
    predicted: CostModel


def measure(
    model_type: str,
    sizes: dict[str, Any],
    *,
    attention: str = "sdpa",
    checkpointing: bool = False,
    dropout: float = 0.1,
    tokens: int = 192,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> Measured:
    """One training step of the recipe's model on one full window, counted."""
    recipe = validate(
        TranscriptSeverityRecipeConfig,
        {
            "model": {"source": "random"},
            "backbone": {"model_type": model_type, "sizes": sizes},
            "instrument": "PHQ-8",
            "context": {"budget_tokens": tokens},
            "lora": {"r": 8, "dropout": dropout},
            "attention": attention,
            **changes,
        },
    ).build()
    model = recipe.build_model(dtype, checkpointing).to(dtype).train()  # adapters too, as the engine casts them
    batch = recipe.collate([{"total": 4.0, "items": None}], [np.arange(tokens - 1, dtype=np.int32) % 250 + 2])
    assert batch["input_ids"].shape == (1, tokens)
    if model_type == "bert":  # a mask that hides nothing is not passed on
        batch["attention_mask"][0, -1] = 0

    counted = count(model, batch)
    return Measured(counted.forward_flops, counted.backward_flops, counted.kept_bytes, recipe.cost())


KINDS = [("llama", LLAMA), ("bert", BERT), ("qwen3_5_text", ATTENDING)]


@pytest.mark.parametrize(("model_type", "sizes"), [*KINDS, ("qwen3_5_text", QWEN)])
def test_operations_agree_with_pytorchs_counter(model_type: str, sizes: dict[str, Any]) -> None:
    # eager: the counter does not see inside the CPU's fused attention.
    measured = measure(model_type, sizes, attention="eager")
    assert measured.forward_flops == pytest.approx(measured.predicted.forward_flops, rel=0.02)
    assert measured.backward_flops == pytest.approx(measured.predicted.backward_flops, rel=0.02)


@pytest.mark.parametrize(("model_type", "sizes"), KINDS)
def test_checkpointing_adds_the_recomputation_to_the_backward_pass(model_type: str, sizes: dict[str, Any]) -> None:
    measured = measure(model_type, sizes, attention="eager", checkpointing=True)
    expected = measured.predicted.backward_flops + measured.predicted.recompute_flops
    assert measured.backward_flops == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("model_type", "sizes"), KINDS)
def test_layers_below_the_adapted_ones_are_not_back_propagated(
    model_type: str, sizes: dict[str, Any], checkpointing: bool
) -> None:
    measured = measure(model_type, sizes, attention="eager", checkpointing=checkpointing, adapt_last_layers=1)
    expected = measured.predicted.backward_flops + (measured.predicted.recompute_flops if checkpointing else 0)
    assert measured.backward_flops == pytest.approx(expected, rel=0.03)
    assert measured.backward_flops < measured.forward_flops


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(("model_type", "sizes"), KINDS[:2])
def test_kept_memory_agrees_with_what_autograd_saves(model_type: str, sizes: dict[str, Any], dropout: float) -> None:
    measured = measure(model_type, sizes, dropout=dropout)
    predicted = measured.predicted.activations.num_bytes(4, flag_bytes=4)
    assert measured.kept_bytes == pytest.approx(predicted, rel=0.05)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(("model_type", "sizes"), KINDS)
def test_kept_memory_in_bf16_holds_the_norms_in_fp32(model_type: str, sizes: dict[str, Any], dropout: float) -> None:
    # In fp32 the norm of Qwen3.5's queries keeps the gate too: its input is a view of both, and no copy is made.
    measured = measure(model_type, sizes, dropout=dropout, dtype=torch.bfloat16)
    predicted = measured.predicted.activations.num_bytes(2, flag_bytes=2)
    assert measured.kept_bytes == pytest.approx(predicted, rel=0.05)


@pytest.mark.parametrize(("model_type", "sizes"), KINDS)
def test_kept_memory_with_checkpointing_agrees_outside_the_block_at_work(
    model_type: str, sizes: dict[str, Any]
) -> None:
    measured = measure(model_type, sizes, checkpointing=True)
    idle = measured.predicted.checkpointed.num_bytes(4, 4) - measured.predicted.block.num_bytes(4, 4)
    assert measured.kept_bytes == pytest.approx(idle, rel=0.05)


def test_several_windows_cost_as_much_as_so_many_interviews_of_one() -> None:
    one = measure("bert", BERT, tokens=64).predicted
    three = validate(
        TranscriptSeverityRecipeConfig,
        {
            "model": {"source": "random"},
            "backbone": {"model_type": "bert", "sizes": BERT},
            "instrument": "PHQ-8",
            "context": {"window_tokens": 64, "max_windows": 3},
            "lora": {"r": 8},
        },
    )
    assert three.build().cost().train_flops(False) == pytest.approx(3 * one.train_flops(False))


def test_nothing_is_kept_of_layers_below_the_adapted_ones() -> None:
    all_layers, last = measure("llama", LLAMA), measure("llama", LLAMA, adapt_last_layers=1)
    assert last.kept_bytes == pytest.approx(last.predicted.activations.num_bytes(4, 4), rel=0.06)
    assert last.kept_bytes < 0.4 * all_layers.kept_bytes
