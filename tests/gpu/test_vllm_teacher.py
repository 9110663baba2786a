"""The vLLM teacher on a real GPU: a small random model through Ray's real processor, transcripts to answers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from moodscale.label.ask import label_transcripts
from moodscale.label.teachers.vllm import VllmConfig
from spoken import transcripts
from tiny_chat_model import write_chat_model

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.slow,
]


def config(folder: Path, **more: object) -> VllmConfig:
    return VllmConfig.model_validate(
        {
            "model": str(write_chat_model(folder, hidden=256, heads=4)),
            "dtype": "bfloat16",
            "max_model_len": 8192,
            "max_output_tokens": 1024,
            "engine": {"gpu_memory_utilization": 0.4, "enforce_eager": True},
            **more,
        }
    )


def test_held_to_the_form_even_a_random_model_answers_in_it_or_is_cut_off(tmp_path: Path) -> None:
    asked = transcripts(8)
    found = label_transcripts(config(tmp_path / "model"), asked, tmp_path / "answers")
    assert len(found.answers) + len(found.refused) == 8
    # Its numbers are random, so most break a rule of the questionnaire; the form itself is never broken.
    assert set(found.refused.values()) <= {
        "truncated", "total_does_not_add_up", "total_out_of_range", "confidence_out_of_range", "quotes_malformed",
    }  # fmt: skip
    again = label_transcripts(config(tmp_path / "model"), asked, tmp_path / "answers")
    assert again.summary.num_requests == 0


def test_a_transcript_that_does_not_fit_is_one_row(tmp_path: Path) -> None:
    asked = [*transcripts(2), *transcripts(3, "so much to say " * 20_000)[2:]]
    found = label_transcripts(config(tmp_path / "model", structured="none"), asked, tmp_path / "answers")
    assert found.refused["u002"] == "too_long"
    assert set(found.refused.values()) <= {"too_long", "not_json", "truncated", "empty"}
