"""The tokenizer made for random weights: the published classes, the same ids in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from moodscale.models.processor import load_processor, special_token_ids
from moodscale.models.source import ModelSource

CORPUS = ["You are a helpful assistant.", "Is the person depressed?", "Not Depressed", " Depressed"]
RANDOM = ModelSource(source="random")


@pytest.fixture(scope="module")
def processor() -> object:
    return load_processor(RANDOM, 16, CORPUS)


def test_each_word_of_the_corpus_is_one_token(processor: object) -> None:
    tokenizer = processor.tokenizer  # type: ignore[attr-defined]
    for text, words in (("Not Depressed", 2), ("You are a helpful assistant.", 6), ("Is the person depressed?", 5)):
        assert len(tokenizer(text)["input_ids"]) == words


@pytest.mark.parametrize("text", ["unheard words", "über 日本語 🎧", "a\n\tb  c", "Not Depressed."])
def test_any_text_survives_the_tokenizer(processor: object, text: str) -> None:
    tokenizer = processor.tokenizer  # type: ignore[attr-defined]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_special_tokens_are_single_and_the_end_of_turn_is_not_the_padding(processor: object) -> None:
    tokenizer = processor.tokenizer  # type: ignore[attr-defined]
    marks = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_bos|>", "<|audio_eos|>", "<|AUDIO|>")
    ids = [tokenizer(mark)["input_ids"] for mark in marks]
    assert all(len(one) == 1 for one in ids)
    assert len({one[0] for one in ids}) == len(marks)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert special_token_ids(processor) == {"audio_token_index": ids[-1][0]}


def test_the_feature_extractor_has_the_asked_mel_bins_and_30_s(processor: object) -> None:
    extractor = processor.feature_extractor  # type: ignore[attr-defined]
    assert (extractor.feature_size, extractor.sampling_rate, extractor.nb_max_frames) == (16, 16_000, 3000)


@pytest.mark.slow
def test_another_process_makes_the_same_tokenizer(processor: object) -> None:
    """Ranks build it for themselves; a vocabulary that followed hash order would differ between them."""
    script = (
        "import json, sys\n"
        "from moodscale.models.processor import load_processor\n"
        "from moodscale.models.source import ModelSource\n"
        "p = load_processor(ModelSource(source='random'), 16, json.loads(sys.argv[1]))\n"
        "print(json.dumps(p.tokenizer.get_vocab(), sort_keys=True))\n"
    )
    command = [sys.executable, "-c", script, json.dumps(CORPUS)]
    here = json.dumps(processor.tokenizer.get_vocab(), sort_keys=True)  # type: ignore[attr-defined]
    shown = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, timeout=120, env={**os.environ, "PYTHONHASHSEED": "1"}
    ).stdout
    assert shown.splitlines()[-1] == here
