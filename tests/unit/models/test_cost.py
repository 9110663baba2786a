"""The arithmetic is held against PyTorch's own operation counter and against what autograd really keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from counting import count
from moodscale.models.cost import CostModel, Kept, qwen2_audio_cost
from moodscale.models.lora import LoraSettings
from moodscale.models.qwen2_audio_sizes import Qwen2AudioSizes
from moodscale.models.source import ModelSource
from moodscale.recipes.qwen2_audio import TARGETS, Qwen2AudioRecipeConfig
from moodscale.recipes.qwen2_audio.recipe import IGNORED

SMALL = Qwen2AudioSizes(
    audio_layers=3,
    audio_width=64,
    audio_heads=4,
    audio_ffn=256,
    text_layers=2,
    text_width=96,
    text_heads=4,
    text_kv_heads=4,
    text_ffn=256,
    vocab_size=1000,
    num_mel_bins=16,
)


@dataclass(frozen=True)
class Measured:
    forward_flops: int
    backward_flops: int
    kept_bytes: int
    predicted: CostModel


def measure(
    *,
    attention: str = "sdpa",
    checkpointing: bool = False,
    padded: bool = False,
    dropout: float = 0.1,
    sizes: Qwen2AudioSizes = SMALL,
    dtype: torch.dtype = torch.float32,
) -> Measured:
    """One training step of the recipe's model on one 4 s clip, counted."""
    config = Qwen2AudioRecipeConfig(
        model=ModelSource(source="random"),
        sizes=sizes,
        lora=LoraSettings(targets=TARGETS, dropout=dropout),
        clip_s=4.0,
        pad_to_30_s=padded,
        attention=attention,
    )
    recipe = config.build()
    model = recipe.build_model(dtype, checkpointing).to(dtype).train()  # adapters too, as the engine casts them
    noise = np.random.default_rng(0).normal(scale=0.1, size=64_000).astype(np.float32)
    batch = recipe.collate([{"depressed": 0}], [recipe.features()(noise)])

    counted = count(model, batch)
    audio_tokens = int((batch["input_ids"] == model.model.config.audio_token_id).sum())
    predicted = qwen2_audio_cost(
        sizes,
        config.lora.r,
        encoder_frames=3000 if padded else 400,
        audio_tokens=audio_tokens,
        text_tokens=batch["input_ids"].shape[1] - audio_tokens,
        scored_tokens=int((batch["labels"] != IGNORED).sum()),
        lora_dropout=dropout,
        fused_attention=attention != "eager",
    )
    return Measured(counted.forward_flops, counted.backward_flops, counted.kept_bytes, predicted)


@pytest.mark.parametrize("padded", [False, True])
def test_operations_agree_with_pytorchs_counter(padded: bool) -> None:
    # eager: the counter does not see inside the CPU's fused attention.
    measured = measure(attention="eager", padded=padded)
    assert measured.forward_flops == pytest.approx(measured.predicted.forward_flops, rel=0.02)
    assert measured.backward_flops == pytest.approx(measured.predicted.backward_flops, rel=0.02)


def test_checkpointing_adds_the_recomputation_to_the_backward_pass() -> None:
    measured = measure(attention="eager", checkpointing=True)
    expected = measured.predicted.backward_flops + measured.predicted.recompute_flops
    assert measured.backward_flops == pytest.approx(expected, rel=0.02)


def test_grouped_key_value_heads_cost_what_the_counter_says() -> None:
    grouped = SMALL.model_copy(update={"text_kv_heads": 2})
    measured = measure(attention="eager", sizes=grouped)
    assert measured.forward_flops == pytest.approx(measured.predicted.forward_flops, rel=0.02)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_kept_memory_agrees_with_what_autograd_saves(padded: bool, dropout: float) -> None:
    measured = measure(padded=padded, dropout=dropout)
    # A CPU's dropout mask is as wide as the numbers; the head's log-probabilities are counted apart.
    predicted = measured.predicted.activations.num_bytes(4, flag_bytes=4) + 4 * measured.predicted.head_logits
    assert measured.kept_bytes == pytest.approx(predicted, rel=0.05)


def test_kept_memory_in_bf16_holds_the_norms_in_fp32() -> None:
    measured = measure(dtype=torch.bfloat16)
    predicted = measured.predicted.activations.num_bytes(2, flag_bytes=2) + 4 * measured.predicted.head_logits
    assert measured.kept_bytes == pytest.approx(predicted, rel=0.05)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_kept_memory_with_checkpointing_agrees_outside_the_block_at_work(padded: bool, attention: str) -> None:
    measured = measure(padded=padded, attention=attention, checkpointing=True)
    # The block at work exists during the backward pass only, after the hooks of the forward pass have counted.
    idle = measured.predicted.checkpointed.num_bytes(4, 4) - measured.predicted.block.num_bytes(4, 4)
    assert measured.kept_bytes == pytest.approx(idle + 4 * measured.predicted.head_logits, rel=0.05)


def test_eager_attention_keeps_the_matrices() -> None:
    measured = measure(attention="eager", padded=True)
    predicted = measured.predicted.activations.num_bytes(4, 4) + 4 * measured.predicted.head_logits
    assert measured.kept_bytes == pytest.approx(predicted, rel=0.05)
    assert measured.kept_bytes > 1.5 * measure(attention="sdpa", padded=True).kept_bytes


@pytest.mark.parametrize(
    ("encoder_frames", "checkpointing", "tflop"), [(3000, True, 20.6), (3000, False, 13.7), (1000, False, 10.5)]
)
def test_the_published_model_costs_what_was_computed_by_hand(
    encoder_frames: int, checkpointing: bool, tflop: float
) -> None:
    """By hand: twice or three times the forward pass, 250 audio + 70 text tokens, the head on all of them."""
    cost = qwen2_audio_cost(
        Qwen2AudioSizes(),
        8,
        encoder_frames=encoder_frames,
        audio_tokens=250,
        text_tokens=70,
        scored_tokens=320,
    )
    assert cost.train_flops(checkpointing) / 1e12 == pytest.approx(tflop, rel=0.05)


def test_sixteen_bit_halves_the_numbers_but_not_what_stays_in_fp32() -> None:
    kept = Kept(values=100, floats=10, flags=20)
    assert kept.num_bytes(4) == 460
    assert kept.num_bytes(2) == 260
    assert (kept * 2 + kept) == Kept(300, 30, 60)


def test_the_recipe_counts_without_fetching_a_hub_id(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    published = Qwen2AudioRecipeConfig(model=ModelSource(source="Qwen/Qwen2-Audio-7B-Instruct", revision="main"))
    padded = published.model_copy(update={"pad_to_30_s": True})
    trimmed_flops = published.build().cost().train_flops(False)
    assert trimmed_flops / 1e12 == pytest.approx(9.4, rel=0.05)
    assert padded.build().cost().train_flops(False) / trimmed_flops == pytest.approx(1.37, rel=0.03)
