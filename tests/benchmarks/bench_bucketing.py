"""Batches of about equally long interviews against plain ones: padding, and tokens a second of real training steps.

    python tests/benchmarks/bench_bucketing.py [--repeats 5] [--interviews 256] [--quick] [--json]

Both take the same interviews through ``plan_epoch``, with ``train.sampling.length_buckets`` and without, and run the
recipe's own loader, collation, forward and backward pass on one CPU, an epoch in turn. Weights are not stepped: the
sum of all losses must be equal, since padding changes nothing. Lengths are drawn from a log-normal distribution (a few
people write many times what most do), cut at the context's budget. Tokens are the interviews' own, without padding;
seconds are the process' own on one thread, whatever else the machine does.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

import common
import numpy as np
import torch

SIGMA = 1.0
"""Of the logarithm of the length: the middle half of people write between a half and twice the median."""
SIZES = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 704,
    "vocab_size": 300,
}
TINY = {**SIZES, "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64}
MICRO_BATCH = 4
EFFECTIVE_BATCH = 16
NUM_BUCKETS = 16


@dataclass(frozen=True)
class Epoch:
    """One pass over all interviews."""

    cpu_s: float
    loss: float
    tokens: int
    padded: int

    @property
    def padding(self) -> float:
        return 1 - self.tokens / self.padded

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.cpu_s


def recipe(budget: int, quick: bool) -> Any:
    from moodscale.recipes.transcript_severity import TranscriptSeverityRecipeConfig

    return TranscriptSeverityRecipeConfig.model_validate(
        {
            "model": {"source": "random"},
            "backbone": {"model_type": "llama", "sizes": TINY if quick else SIZES},
            "instrument": "PHQ-9",
            "context": {"budget_tokens": budget},
            "lora": {"r": 8, "dropout": 0.0},
        }
    ).build()


def interviews(num: int, budget: int) -> list[dict[str, Any]]:
    """Rows of turns of some thirty letters each; the median person fills a fifth of the budget."""
    draw = np.random.default_rng(common.SEED)
    rows = []
    for number, letters in enumerate(draw.lognormal(np.log(budget / 5), SIGMA, num)):
        drawn = draw.choice(list("abcdefgh "), max(8, round(letters)))
        turns = [
            {"speaker": "participant", "text": "x" + "".join(part)}
            for part in np.array_split(drawn, -(-len(drawn) // 30))
        ]
        rows.append(
            {"corpus": "bench", "interview_id": str(number), "turns": turns, "total": float(number % 28), "items": None}
        )
    return rows


def epoch(made: Any, model: torch.nn.Module, rows: list[dict[str, Any]], buckets: int | None, number: int) -> Epoch:
    """Train on every interview once, in the order of the plan."""
    from moodscale.train.config import SamplingConfig
    from moodscale.train.sampling import ExampleIndex, num_steps, plan_epoch, rank_slice

    persons = np.array([row["interview_id"] for row in rows])
    # As the recipe has them: characters, not tokens.
    lengths = np.array([sum(len(turn["text"]) for turn in row["turns"]) for row in rows])
    index = ExampleIndex(persons, np.zeros(len(rows), dtype=np.int64), lengths=lengths)
    plan = plan_epoch(index, SamplingConfig(length_buckets=buckets), common.SEED, number, EFFECTIVE_BATCH)
    loader = made.loader()
    loss, tokens, padded = 0.0, 0, 0
    begun = time.process_time()
    for step in range(num_steps(len(plan), EFFECTIVE_BATCH)):
        batch = plan[step * EFFECTIVE_BATCH : (step + 1) * EFFECTIVE_BATCH]
        for positions in rank_slice(len(batch), 0, 1, MICRO_BATCH, EFFECTIVE_BATCH // MICRO_BATCH):
            chosen = [rows[int(batch[position])] for position in positions if position < len(batch)]
            if not chosen:
                continue
            inputs = made.collate(chosen, [loader(row) for row in chosen])
            losses_B = model(**inputs)
            losses_B.sum().backward()
            loss += float(losses_B.detach().double().sum())
            tokens += int(inputs["attention_mask"].sum())
            padded += inputs["attention_mask"].numel()
        model.zero_grad(set_to_none=True)
    return Epoch(time.process_time() - begun, loss, tokens, padded)


def main() -> int:
    parser = common.arguments(__doc__)
    parser.add_argument("--interviews", type=int, default=256)
    parser.add_argument("--budget", type=int, default=1024, help="tokens of the context")
    options = parser.parse_args()
    torch.set_num_threads(1)
    num, budget, repeats = (32, 128, 2) if options.quick else (options.interviews, options.budget, options.repeats)
    made = recipe(budget, options.quick)
    model = made.build_model(torch.float32).train()
    rows = interviews(num, budget)
    epochs: dict[str, list[Epoch]] = {"plain": [], "bucketed": []}
    for number in range(repeats + 1):
        for name, buckets in (("plain", None), ("bucketed", NUM_BUCKETS)):
            done = epoch(made, model, rows, buckets, number)
            if number:
                epochs[name].append(done)
    rates = {name: [one.tokens_per_s for one in done] for name, done in epochs.items()}
    facts = {
        "interviews": num,
        "tokens": epochs["plain"][0].tokens,
        "padding": {name: round(statistics.median(one.padding for one in done), 3) for name, done in epochs.items()},
        "tokens_per_s": {name: round(statistics.median(found)) for name, found in rates.items()},
    }
    ratio = common.at_least("bucketed over plain, tokens/s", rates["bucketed"], rates["plain"], 1.5)
    losses = [one.loss for done in epochs.values() for one in done]
    same = common.Equal("summed loss of an epoch", (max(losses) - min(losses)) / min(losses), 1e-5)
    return common.report([ratio], facts, options, [same])


if __name__ == "__main__":
    sys.exit(main())
