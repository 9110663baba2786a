"""The audio encoder on 10 s clips at their own length against the published 30 s of padding.

    python tests/benchmarks/bench_encoder.py [--repeats 7] [--quick] [--json]

Forward and backward of encoder and projector with their adapters, as training runs them, in turn on the same clips.
The valid positions' embeddings and the adapters' gradients must be equal. Exits 1 below a ratio of 1.8.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import torch

LIMIT = 1.8
TOLERANCE = 1e-4
"""Relative to the largest value: sums over other lengths round differently in fp32."""


def encode_and_back(model: Any, features: torch.Tensor, num_frames: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Seconds, and the embeddings of the clips' own positions."""
    from moodscale.models.qwen2_audio_sizes import num_audio_tokens

    begun = time.perf_counter()
    model.zero_grad()
    encoded = model.encode(features, num_frames)[:, : num_audio_tokens(int(num_frames[0]))]
    encoded.square().mean().backward()
    return time.perf_counter() - begun, encoded.detach()


def largest_difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def main() -> int:
    parser = common.arguments(__doc__, repeats=7)
    parser.add_argument("--clips", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    from moodscale.models.lora import trainable
    from moodscale.recipes.clips import ClipLoader

    recipes = {padded: common.recipe_config("random", options.quick, padded).build() for padded in (False, True)}
    with tempfile.TemporaryDirectory(prefix="bench-encoder-") as folder:
        corpus = common.write_recordings(Path(folder) / "corpus", options.clips)
        loader = ClipLoader(corpus.roots, recipes[False].features())
        rows = corpus.clips.to_pylist()
        features = [loader(row) for row in rows]
    model = recipes[False].build_model(torch.float32).train().model
    batches = {padded: recipe.collate(rows, features) for padded, recipe in recipes.items()}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    found: dict[bool, torch.Tensor] = {}
    gradients: dict[bool, torch.Tensor] = {}
    repeats = 2 if options.quick else options.repeats
    for turn in range(repeats + 1):
        for padded, batch in batches.items():
            took, found[padded] = encode_and_back(model, batch["input_features"], batch["num_frames"])
            gradients[padded] = torch.cat([p.grad.flatten() for p in trainable(model).values() if p.grad is not None])
            if turn:
                seconds[padded].append(took)
    differences = {
        "embeddings": largest_difference(found[False], found[True]),
        "gradients": largest_difference(gradients[False], gradients[True]),
    }
    frames = {padded: batch["input_features"].shape[-1] for padded, batch in batches.items()}
    ratio = common.at_least("padded over trimmed encoder, seconds", seconds[True], seconds[False], LIMIT)
    facts = {"frames_trimmed": frames[False], "frames_padded": frames[True], "largest_relative_difference": differences}
    return common.report([ratio], facts, options, [common.Equal("encoder", max(differences.values()), TOLERANCE)])


if __name__ == "__main__":
    sys.exit(main())
