"""The recipe held against the model's own processor and against stock transformers with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2AudioForConditionalGeneration

from moodscale.config import ConfigError, validate
from moodscale.models.log_mel import MAX_FRAMES, pad_with_silence
from moodscale.models.lora import trainable
from moodscale.models.qwen2_audio import ClipQwen2Audio
from moodscale.models.qwen2_audio_sizes import num_audio_tokens
from moodscale.recipes.qwen2_audio import TARGETS, Qwen2AudioRecipeConfig
from moodscale.recipes.qwen2_audio.recipe import (
    DEPRESSED,
    IGNORED,
    NOT_DEPRESSED,
    Qwen2AudioClassifier,
    Qwen2AudioRecipe,
)
from moodscale.schema import CorpusError

QUESTION = 'Based on the audio, is the person depressed? Answer with either "Depressed" or "Not Depressed".'
PROMPT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\nAudio 1: <|audio_bos|><|AUDIO|><|audio_eos|>\n" + QUESTION + "<|im_end|>\n"
    "<|im_start|>assistant\n"
)
SIZES = {
    "audio_layers": 1,
    "audio_width": 32,
    "audio_heads": 2,
    "audio_ffn": 64,
    "text_layers": 2,
    "text_width": 32,
    "text_heads": 4,
    "text_kv_heads": 2,
    "text_ffn": 64,
    "vocab_size": 1024,
    "num_mel_bins": 16,
    "init_std": 0.15,
}


def recipe(**changes: Any) -> Qwen2AudioRecipe:
    values = {"model": {"source": "random"}, "sizes": SIZES, "lora": {"targets": TARGETS, "dropout": 0.0}}
    return validate(Qwen2AudioRecipeConfig, values | changes).build()


def waveform(num_samples: int, seed: int = 0, loudness: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng([seed, num_samples])
    return (rng.normal(size=num_samples) * np.linspace(loudness, 0.2 * loudness, num_samples)).astype(np.float32)


def build(made: Qwen2AudioRecipe) -> Qwen2AudioClassifier:
    """The model with an adapter that does something: a fresh one is the identity."""
    model = made.build_model(torch.float32).eval()
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in trainable(model).items():
            if "lora_B" in name:
                parameter.normal_(std=0.01)
    assert isinstance(model, Qwen2AudioClassifier)
    return model


@pytest.fixture(scope="module")
def small() -> Qwen2AudioRecipe:
    return recipe()


@pytest.fixture(scope="module")
def model(small: Qwen2AudioRecipe) -> Qwen2AudioClassifier:
    return build(small)


MIXED = [waveform(32_000, 0), waveform(16_000, 1, 0.01), waveform(31_840, 2), waveform(12_960, 3)]
LABELS = [
    {"depressed": DEPRESSED},
    {"depressed": NOT_DEPRESSED},
    {"depressed": NOT_DEPRESSED},
    {"depressed": DEPRESSED},
]


# --- what an example is ---------------------------------------------------------------------------------------------


def test_the_conversation_is_the_papers_template(small: Qwen2AudioRecipe) -> None:
    system, user, assistant = small.conversation("Depressed")
    assert system == {"role": "system", "content": "You are a helpful assistant."}
    assert [part["type"] for part in user["content"]] == ["audio", "text"]
    assert user["content"][1]["text"] == QUESTION
    assert assistant == {"role": "assistant", "content": "Depressed"}
    rendered = small.processor.apply_chat_template(small.conversation(None), tokenize=False, add_generation_prompt=True)
    assert rendered == PROMPT


@pytest.mark.parametrize("label", [NOT_DEPRESSED, DEPRESSED])
@pytest.mark.parametrize("num_samples", [160_000, 159_840, 160_160, 32_000])
def test_an_examples_token_ids_are_the_processors_own(small: Qwen2AudioRecipe, label: int, num_samples: int) -> None:
    """Golden: the whole conversation and the audio through the model's own processor, nothing of ours between."""
    sound = waveform(num_samples)
    answer = ("Not Depressed", "Depressed")[label]
    text = small.processor.apply_chat_template(small.conversation(answer), tokenize=False)
    assert text == PROMPT + answer + "<|im_end|>\n"
    golden = small.processor(text=text.removesuffix("\n"), audio=[sound], sampling_rate=16_000, return_tensors="pt")
    batch = small.collate([{"depressed": label}], [small.features()(sound)])
    assert torch.equal(batch["input_ids"], golden["input_ids"])
    audio_token = small.processor.tokenizer.convert_tokens_to_ids("<|AUDIO|>")
    assert int((batch["input_ids"] == audio_token).sum()) == num_audio_tokens(num_samples // 160)


@pytest.mark.parametrize(("label", "words"), [(NOT_DEPRESSED, "Not Depressed"), (DEPRESSED, "Depressed")])
def test_labels_are_the_answer_with_its_end_and_nothing_else(small: Qwen2AudioRecipe, label: int, words: str) -> None:
    row = {"depressed": label}
    batch = small.collate([row], [small.features()(waveform(32_000))])
    labels, ids = batch["labels"][0], batch["input_ids"][0]
    scored = labels != IGNORED
    assert torch.equal(labels[scored], ids[scored])
    assert small.processor.tokenizer.decode(labels[scored]) == words + "<|im_end|>"
    first = int(torch.nonzero(scored)[0])
    assert scored[first:].all()
    assert small.processor.tokenizer.decode(ids[:first]).endswith("<|im_start|>assistant\n")
    assert small.num_targets(row) == int(scored.sum())


def test_in_a_batch_of_mixed_lengths_padding_is_never_a_label(small: Qwen2AudioRecipe) -> None:
    batch = small.collate(LABELS, [small.features()(sound) for sound in MIXED])
    tokenizer = small.processor.tokenizer
    assert batch["num_frames"].tolist() == [len(sound) // 160 for sound in MIXED]
    for row, ids, labels, frames in zip(
        LABELS, batch["input_ids"], batch["labels"], batch["num_frames"].tolist(), strict=True
    ):
        alone = small.prompt_ids(frames) + small.answer_ids[row["depressed"]]
        assert ids[: len(alone)].tolist() == alone
        assert (ids[len(alone) :] == tokenizer.pad_token_id).all()
        assert (labels[len(alone) :] == IGNORED).all()
        assert int((labels != IGNORED).sum()) == small.num_targets(row)


# --- log-mel --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_samples", [160_000, 159_840, 160_160, 160_100, 480, 479_840, 480_000])
def test_a_clips_log_mel_is_a_slice_of_the_30_s_padded_ones(small: Qwen2AudioRecipe, num_samples: int) -> None:
    sound = waveform(num_samples)
    padded = small.processor.feature_extractor(
        sound, sampling_rate=16_000, padding="max_length", return_tensors="np"
    ).input_features[0]
    mel = small.features()(sound)
    assert mel.dtype == np.float32
    assert mel.shape == (16, min(num_samples // 160 + 2, MAX_FRAMES))
    np.testing.assert_allclose(mel, padded[:, : mel.shape[1]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("loudness", [0.5, 1e-3, 1e-6, 0.0])
def test_padding_with_silence_is_what_the_extractor_gives_for_zeros(small: Qwen2AudioRecipe, loudness: float) -> None:
    sound = waveform(32_000, loudness=loudness)
    padded = small.processor.feature_extractor(
        sound, sampling_rate=16_000, padding="max_length", return_tensors="np"
    ).input_features[0]
    np.testing.assert_allclose(pad_with_silence(small.features()(sound), MAX_FRAMES), padded, rtol=0, atol=1e-6)


@pytest.mark.parametrize("num_samples", [480_001, 640_000, 479, 0])
def test_a_clip_the_encoder_cannot_take_is_refused_not_cut(small: Qwen2AudioRecipe, num_samples: int) -> None:
    with pytest.raises(CorpusError, match=r"s long, but the encoder takes 0\.03 to 30 s; change prepare\.clip_s"):
        small.features()(np.zeros(num_samples, dtype=np.float32))


def test_a_clip_length_over_30_s_is_refused_in_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"clip_s \(got 40\)"):
        recipe(clip_s=40)


def test_a_vocabulary_too_small_for_the_tokenizer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"recipe\.sizes\.vocab_size=100 is smaller"):
        recipe(sizes=SIZES | {"vocab_size": 100}).build_model(torch.float32)


# --- the loss -------------------------------------------------------------------------------------------------------


def stock_twin(classifier: Qwen2AudioClassifier) -> Qwen2AudioForConditionalGeneration:
    """transformers' own model with the same weights, the adapter folded in."""
    merged: dict[str, torch.Tensor] = {}
    modules = dict(classifier.model.named_modules())
    for name, tensor in classifier.model.state_dict().items():
        if "lora_" in name:
            continue
        if ".base_layer." in name:
            layer = modules[name.split(".base_layer.")[0]]
            delta = layer.get_delta_weight("default") if name.endswith("weight") else 0.0
            merged[name.replace(".base_layer", "")] = tensor + delta
        else:
            merged[name] = tensor
    stock = Qwen2AudioForConditionalGeneration(classifier.model.config).eval()
    stock.load_state_dict(merged)
    return stock


@torch.no_grad()
def naive_log_likelihood(
    made: Qwen2AudioRecipe, stock: Qwen2AudioForConditionalGeneration, sound: np.ndarray, answer: str
) -> tuple[float, int]:
    """log P(answer | prompt) of one clip, padded to 30 s, through stock transformers; and the answer's tokens."""
    text = PROMPT + answer + "<|im_end|>"
    inputs = made.processor(text=text, audio=[sound], sampling_rate=16_000, return_tensors="pt")
    logits = stock(**inputs).logits[0].log_softmax(-1)
    num_tokens = len(made.processor.tokenizer(answer + "<|im_end|>")["input_ids"])
    ids = inputs["input_ids"][0, -num_tokens:]
    return float(logits[-num_tokens - 1 : -1].gather(1, ids[:, None]).sum()), num_tokens


@pytest.fixture(scope="module")
def naive(small: Qwen2AudioRecipe, model: Qwen2AudioClassifier) -> list[dict[int, tuple[float, int]]]:
    """By clip and label: the answer's log-likelihood and token count."""
    stock = stock_twin(model)
    assert not isinstance(stock, ClipQwen2Audio)
    return [
        {
            label: naive_log_likelihood(small, stock, sound, words)
            for label, words in ((NOT_DEPRESSED, "Not Depressed"), (DEPRESSED, "Depressed"))
        }
        for sound in MIXED
    ]


@torch.no_grad()
def test_the_loss_is_the_answers_negative_log_likelihood_under_stock_transformers(
    small: Qwen2AudioRecipe, model: Qwen2AudioClassifier, naive: list[dict[int, tuple[float, int]]]
) -> None:
    batch = small.collate(LABELS, [small.features()(sound) for sound in MIXED])
    expected = torch.tensor([-naive[i][row["depressed"]][0] for i, row in enumerate(LABELS)])
    losses = model(**batch)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_padding_to_30_s_as_published_gives_the_same_losses(
    small: Qwen2AudioRecipe, model: Qwen2AudioClassifier
) -> None:
    padded = recipe(pad_to_30_s=True)
    features = [small.features()(sound) for sound in MIXED]
    trimmed_batch, padded_batch = small.collate(LABELS, features), padded.collate(LABELS, features)
    assert (trimmed_batch["input_features"].shape[-1], padded_batch["input_features"].shape[-1]) == (202, 3000)
    torch.testing.assert_close(model(**trimmed_batch), model(**padded_batch), rtol=1e-5, atol=1e-5)


def test_both_ways_of_padding_give_the_same_gradients(small: Qwen2AudioRecipe) -> None:
    grown = []
    for made in (small, recipe(pad_to_30_s=True)):
        classifier = build(made)
        classifier(**made.collate(LABELS[:2], [small.features()(sound) for sound in MIXED[:2]])).sum().backward()
        grown.append({name: parameter.grad for name, parameter in trainable(classifier).items()})
    for name, gradient in grown[0].items():
        assert gradient is not None
        torch.testing.assert_close(gradient, grown[1][name], rtol=1e-3, atol=1e-4)


def test_every_process_draws_the_same_adapter_and_leaves_the_callers_generator_alone(
    small: Qwen2AudioRecipe,
) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = trainable(small.build_model(torch.float32))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    two = trainable(small.build_model(torch.float32))
    assert all(torch.equal(parameter, two[name]) for name, parameter in one.items())


# --- predictions ----------------------------------------------------------------------------------------------------


def predict(made: Qwen2AudioRecipe, classifier: Qwen2AudioClassifier, sounds: list[np.ndarray]) -> Any:
    return made.predict(classifier, made.collate_prompts([made.features()(sound) for sound in sounds]))


def softmax_of_depressed(negative: float, positive: float) -> float:
    return float(1 / (1 + np.exp(negative - positive)))


def test_the_probability_equals_scoring_both_answers_in_full(
    small: Qwen2AudioRecipe, model: Qwen2AudioClassifier, naive: list[dict[int, tuple[float, int]]], tmp_path: Path
) -> None:
    # An untrained model all but excludes the longer answer. As the positive one its probability is a small number,
    # which keeps its digits where one next to 1 would lose them.
    small.save_assets(tmp_path)
    swapped = recipe(answers=("Depressed", "Not Depressed"))
    swapped.load_assets(tmp_path)
    log_scores = []
    for score, rare, by_label in zip(predict(small, model, MIXED), predict(swapped, model, MIXED), naive, strict=True):
        (negative, num_negative), (positive, num_positive) = by_label[NOT_DEPRESSED], by_label[DEPRESSED]
        assert num_negative != num_positive, "the answers differ in length: that is what the second score is for"
        assert score.score == pytest.approx(softmax_of_depressed(negative, positive), abs=1e-6)
        assert rare.score == pytest.approx(softmax_of_depressed(positive, negative), rel=1e-3)
        normalised = softmax_of_depressed(negative / num_negative, positive / num_positive)
        assert score.score_normalised == pytest.approx(normalised, abs=1e-5)
        log_scores.append(np.log(rare.score))
    assert np.ptp(log_scores) > 0.05, "clips that all score alike would test nothing"


def test_a_clips_score_does_not_depend_on_its_batch(small: Qwen2AudioRecipe, model: Qwen2AudioClassifier) -> None:
    together = predict(small, model, MIXED)
    for sound, score in zip(MIXED, together, strict=True):
        [alone] = predict(small, model, [sound])
        assert score.score == pytest.approx(alone.score, abs=1e-6)
        assert score.answer == alone.answer


@torch.no_grad()
def test_the_greedy_text_is_what_step_by_step_decoding_gives(
    small: Qwen2AudioRecipe, model: Qwen2AudioClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy: list[list[int]] = []
    monkeypatch.setattr(Qwen2AudioRecipe, "_parse", lambda self, ids: greedy.append(ids) or "unparsable")
    predict(small, model, MIXED[:2])
    stock = stock_twin(model)
    for sound, ids in zip(MIXED, greedy, strict=False):
        inputs = small.processor(text=PROMPT, audio=[sound], sampling_rate=16_000, return_tensors="pt")
        for token in ids:
            assert int(stock(**inputs).logits[0, -1].argmax()) == token
            grown = torch.cat([inputs["input_ids"], torch.tensor([[token]])], dim=1)
            inputs = {**inputs, "input_ids": grown, "attention_mask": torch.ones_like(grown)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Depressed<|im_end|>", "depressed"),
        ("Not Depressed<|im_end|>", "not_depressed"),
        ("Depressed", "depressed"),
        (" not depressed.<|im_end|>", "not_depressed"),
        ('"Depressed"<|im_end|>Not Depressed', "depressed"),
        ("Depressed Not Depressed<|im_end|>", "unparsable"),
        ("I cannot tell<|im_end|>", "unparsable"),
        ("NotDepressed<|im_end|>", "unparsable"),
        ("<|im_end|>Depressed", "unparsable"),
        ("", "unparsable"),
    ],
)
def test_a_greedy_answer_is_one_of_two_classes_or_unparsable(small: Qwen2AudioRecipe, text: str, expected: str) -> None:
    assert small._parse(small.processor.tokenizer(text)["input_ids"]) == expected


def test_without_greedy_tokens_no_answer_is_given(model: Qwen2AudioClassifier) -> None:
    [score] = predict(recipe(greedy_tokens=0), model, MIXED[:1])
    assert score.answer is None


@pytest.mark.parametrize("greedy_tokens", [0, 1, 4])
def test_the_number_of_model_calls_does_not_depend_on_the_content(
    model: Qwen2AudioClassifier, greedy_tokens: int
) -> None:
    """Ranks that made different numbers of calls would hang ZeRO-3."""
    made = recipe(greedy_tokens=greedy_tokens)
    calls: list[int] = []
    counted = []
    hook = model.model.model.language_model.register_forward_hook(lambda *_: calls.append(1))
    for sounds in (MIXED[:2], [np.zeros(16_000, np.float32)], [waveform(64_000, 7, 1.0)]):
        calls.clear()
        predict(made, model, sounds)
        counted.append(len(calls))
    hook.remove()
    assert len(set(counted)) == 1
    prompt, negative, positive = 1, 1, 1
    assert counted[0] == prompt + negative + positive + max(0, greedy_tokens - 1)


# --- assets ---------------------------------------------------------------------------------------------------------


def test_saved_assets_replace_the_sources_processor(small: Qwen2AudioRecipe, tmp_path: Path) -> None:
    small.save_assets(tmp_path)
    loaded = recipe()
    loaded.load_assets(tmp_path)
    assert loaded.answer_ids == small.answer_ids
    assert loaded.prompt_ids(200) == small.prompt_ids(200)
    np.testing.assert_array_equal(loaded.features()(MIXED[0]), small.features()(MIXED[0]))
