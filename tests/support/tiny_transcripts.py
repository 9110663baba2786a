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


SAID = (("a " * 90, 20), ("b", 3), ("c" * 50, 9), ("d", 1))
"""Four people, of whom the first two fill more windows than the others: texts and totals."""
SETTINGS: dict[str, Any] = {"loss": "ordinal", "target": "items", "context": {"window_tokens": 40, "max_windows": 6}}
LR, STEPS = 5e-3, 3


def rows_of(said: Sequence[tuple[str, int]]) -> list[Any]:
    return [row(text, total, str(number)) for number, (text, total) in enumerate(said)]


def train_by_engine(rank: int, zero_stage: int, precision: str, model_type: str) -> dict[str, Any]:
    """Each of two ranks trains on its half of the rows; the losses of all, and what is predicted in the end."""
    import torch

    from moodscale.train.config import OptimConfig, TrainConfig
    from moodscale.train.engine import DTYPES, Engine

    train = TrainConfig.model_validate(
        {
            "use_gpu": False,
            "num_workers": 2,
            "effective_batch": 4,
            "micro_batch": 2,
            "engine": {"zero_stage": zero_stage, "precision": precision},
        }
    )
    recipe = recipe_config(model_type, **SETTINGS).build()
    engine = Engine(recipe.build_model(DTYPES[precision]), train, OptimConfig(lr=LR, max_grad_norm=1e6))
    loader = recipe.loader()
    own = rows_of(SAID)[rank * 2 : rank * 2 + 2]
    batch = recipe.collate(own, [loader(one) for one in own])
    shares = []
    for _ in range(STEPS):
        shares.append(float(engine.accumulate(batch, torch.ones(2), 4)))
        engine.step(LR, discard=False)
    with engine.predicting() as model:
        prompts = recipe.collate_prompts([loader(one) for one in own])
        scores = [score.score for score in recipe.predict(model, engine.to_device(prompts))]
    state = {name: tensor.float().numpy() for name, tensor in engine.adapter_state().items()}
    return {"shares": shares, "scores": scores, "state": state}
