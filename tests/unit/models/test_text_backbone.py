"""Tokenizers' special tokens and padding, as windows need them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from moodscale.models.text_backbone import byte_tokenizer, pad_id, special_ids


@pytest.mark.parametrize("text", ["plain words", "我睡不着", "naïve — 😀\n", ""])
def test_every_text_survives_bytes(text: str) -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids) == text


def test_a_start_token_is_found_before_the_text() -> None:
    assert special_ids(byte_tokenizer()) == ([1], [])


@pytest.mark.parametrize(("before", "after"), [([], []), ([101], [102]), ([7, 8], []), ([], [9])])
def test_special_tokens_are_what_stands_around_the_text(before: list[int], after: list[int]) -> None:
    def tokenizer(text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [*before, 50, *after] if add_special_tokens else [50]}

    assert special_ids(tokenizer) == (before, after)


@pytest.mark.parametrize(("pad", "end", "expected"), [(3, 4, 3), (None, 4, 4), (0, 4, 0), (None, None, 0)])
def test_a_tokenizer_without_padding_pads_with_its_end_of_text(pad: Any, end: Any, expected: int) -> None:
    assert pad_id(SimpleNamespace(pad_token_id=pad, eos_token_id=end)) == expected
