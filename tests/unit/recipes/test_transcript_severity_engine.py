"""The recipe under DeepSpeed: two ranks with unequal numbers of windows train as one plain process does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moodscale.models.lora import trainable
from tiny import run_group
from tiny_transcripts import LR, SAID, SETTINGS, STEPS, recipe_config, rows_of, train_by_engine


def train_plainly(model_type: str) -> tuple[list[float], list[float], dict[str, np.ndarray]]:
    recipe = recipe_config(model_type, **SETTINGS).build()
    model = recipe.build_model(torch.float32).train()
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=LR, weight_decay=0.0)
    rows = rows_of(SAID)
    features = [recipe.loader()(one) for one in rows]
    batch = recipe.collate(rows, features)
    losses = []
    for _ in range(STEPS):
        loss = model(**batch).mean()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    scores = [score.score for score in recipe.predict(model.eval(), recipe.collate_prompts(features))]
    return losses, scores, {name: parameter.detach().numpy() for name, parameter in trainable(model).items()}


@pytest.mark.parametrize("model_type", ["qwen3_5_text", "bert"])
@pytest.mark.parametrize("zero_stage", [2, 3])
def test_two_ranks_train_as_one_process_does(zero_stage: int, model_type: str) -> None:
    first, second = run_group(2, train_by_engine, zero_stage, "fp32", model_type)
    losses, scores, state = train_plainly(model_type)
    summed = [a + b for a, b in zip(first["shares"], second["shares"], strict=True)]
    np.testing.assert_allclose(summed, losses, rtol=1e-4)
    np.testing.assert_allclose(first["scores"] + second["scores"], scores, atol=1e-3)
    assert first["state"].keys() == state.keys()
    assert {"head.output.weight", "head.attention.weight", "head.thresholds.first"} <= first["state"].keys()
    assert all(tensor.shape == state[name].shape for name, tensor in first["state"].items())


@pytest.mark.parametrize("zero_stage", [1, 3])
def test_in_bf16_the_targets_stay_exact_and_the_loss_falls(zero_stage: int) -> None:
    first, second = run_group(2, train_by_engine, zero_stage, "bf16", "qwen3_5_text")
    summed = [a + b for a, b in zip(first["shares"], second["shares"], strict=True)]
    losses, _, _ = train_plainly("qwen3_5_text")
    np.testing.assert_allclose(summed, losses, rtol=0.05)
    assert summed[-1] < summed[0]
