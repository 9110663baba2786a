"""Qwen2-Audio's processor: the published one, or one of the same classes made here for random weights."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoProcessor, Qwen2AudioProcessor, Qwen2Tokenizer, WhisperFeatureExtractor

from moodscale.models.source import ModelSource

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_bos|>", "<|audio_eos|>", "<|AUDIO|>")


def load_processor(source: ModelSource, num_mel_bins: int, corpus: list[str]) -> Any:
    """The processor that belongs to ``source``.

    Args:
        num_mel_bins: for random weights, the feature extractor's.
        corpus: for random weights, the texts whose words the tokenizer holds (prompt and answers).
    """
    if not source.is_random:
        return AutoProcessor.from_pretrained(source.location, revision=source.revision)
    tokenizer = _byte_level_tokenizer(corpus)
    extractor = WhisperFeatureExtractor(feature_size=num_mel_bins, sampling_rate=16_000, chunk_length=30)
    return Qwen2AudioProcessor(feature_extractor=extractor, tokenizer=tokenizer)


def special_token_ids(processor: Any) -> dict[str, int]:
    """The ids a model's configuration must agree with."""
    return {"audio_token_index": int(processor.tokenizer.convert_tokens_to_ids(processor.audio_token))}


def _byte_level_tokenizer(corpus: list[str]) -> Qwen2Tokenizer:
    """Qwen2's own tokenizer class over bytes, each word of ``corpus`` one token.

    The merges are spelled out rather than learned: every rank builds the tokenizer for itself, and all must agree.
    """
    vocabulary = {letter: index for index, letter in enumerate(sorted(ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    splitter = Qwen2Tokenizer(vocab=dict(vocabulary), merges=[]).backend_tokenizer.pre_tokenizer
    for text in corpus:
        for word, _ in splitter.pre_tokenize_str(text):
            for end in range(2, len(word) + 1):
                if word[:end] not in vocabulary:
                    vocabulary[word[:end]] = len(vocabulary)
                    merges.append((word[: end - 1], word[end - 1]))
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=merges)
    tokenizer.add_special_tokens(
        {
            "additional_special_tokens": [AddedToken(token, special=True, normalized=False) for token in _SPECIAL],
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
        }
    )
    return tokenizer
