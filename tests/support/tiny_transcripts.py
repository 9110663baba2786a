"""Tiny language models of each kind, and a manifest of hand-made conversations with their words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moodscale.config import validate
from moodscale.corpora.conversations import ConversationsConfig
from moodscale.prepare.build import build_manifest
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from moodscale.recipes.transcript_severity import TranscriptSeverityRecipeConfig
from tiny_chats import chat, label, write_log

SIZES: dict[str, dict[str, Any]] = {
    "qwen3_5_text": {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "intermediate_size": 64,
        "vocab_size": 300,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "initializer_range": 0.15,
    },
    "llama": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 300,
        "initializer_range": 0.15,
    },
    "bert": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "vocab_size": 300,
        "initializer_range": 0.15,
    },
}
KINDS = tuple(SIZES)


def recipe_config(model_type: str = "llama", **changes: Any) -> TranscriptSeverityRecipeConfig:
    """A recipe with random weights, one window of 256 bytes, and no dropout."""
    values = {
        "model": {"source": "random"},
        "backbone": {"model_type": model_type, "sizes": SIZES[model_type]},
        "instrument": "PHQ-9",
        "context": {"budget_tokens": 256},
        "lora": {"r": 4, "dropout": 0.0},
    }
    return validate(TranscriptSeverityRecipeConfig, values | changes)


def row(text: str, total: float | None = 5.0, interview: str = "1", items: Sequence[float | None] | None = None) -> Any:
    """A row of the recipe's examples."""
    return {
        "person": f"test:{interview}",
        "interview_id": interview,
        "corpus": "test",
        "split": "train",
        "gender": "female",
        "instrument": "PHQ-9",
        "total": total,
        "items": None if items is None else list(items),
        "turns": [{"speaker": "participant", "text": text}, {"speaker": "interviewer", "text": "I see."}],
        "num_turns": 2,
        "weight": 1.0,
    }


def prepared(root: Path, totals: Sequence[int | None], transcripts: str = "as_is") -> Manifest:
    """A manifest at ``root`` of one user a total (``None`` filled nothing in), split by a file: two thirds train.

    User i wrote ``told by i`` and was answered ``asked of i``.
    """
    rows, labels = [], []
    splits = ["person,split"]
    for number, total in enumerate(totals):
        name = f"u{number:02d}"
        messages = [
            {"role": "user", "content": f"told by {number}"},
            {"role": "assistant", "content": f"asked of {number}"},
            {"role": "user", "content": "more " * (1 + number)},
        ]
        rows.append(chat(name, f"c{number}", messages=messages))
        splits.append(f"conv:{name},{('train', 'train', 'train', 'train', 'validation', 'test')[number % 6]}")
        if total is not None:
            items = [min(3, max(0, total - 3 * item)) for item in range(9)]
            labels.append(label(name, total=total, items=items))
    corpus = write_log(root.with_name(f"{root.name}-corpus"), rows, labels)
    file = root.with_name(f"{root.name}-splits.csv")
    file.write_text("\n".join(splits) + "\n")
    settings = {"transcripts": transcripts, "splits": {"kind": "file", "path": str(file)}}
    build_manifest(ConversationsConfig(path=str(corpus)), validate(PrepareConfig, settings), root)
    return Manifest.open(root)
