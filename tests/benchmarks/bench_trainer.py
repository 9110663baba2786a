"""A steady training step of ours against a plain Hugging Face Trainer script with the paper's settings.

    python tests/benchmarks/bench_trainer.py [--repeats 5] [--quick] [--json]

Both train the same small checkpoint (random weights on disk) on the same clips in the same order, eight a step, fp32,
AdamW, dropout 0. The script: stock classes, 30 s of padding, gradient checkpointing, batch 1 × accumulation 8. Ours:
the loop under DeepSpeed with Ray Data, the encoder on the clip's length, no checkpointing. Losses must be equal at
every step; for that the script is given the loss that the paper's setting means, the mean over the step's scored
tokens (Trainer's own, with this model, weighs each micro-batch by one and each token by its answer's length).
Exits 1 below 2.5 times the script's clips a second.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import common
import runners

LIMIT = 2.5


def main() -> int:
    parser = common.arguments(__doc__)
    parser.add_argument("--steps", type=int, default=3, help="steps a turn (an epoch of ours)")
    parser.add_argument("--micro-batch", type=int, default=2, help="of ours")
    parser.add_argument("--stream", choices=("ray", "local"), default="ray")
    options = parser.parse_args()
    repeats, steps = (2, 2) if options.quick else (options.repeats, options.steps)
    with tempfile.TemporaryDirectory(prefix="bench-trainer-") as folder:
        scratch = Path(folder)
        corpus = common.write_recordings(
            scratch / "corpus", steps * common.EFFECTIVE_BATCH, clip_s=2.0 if options.quick else 10.0
        )
        checkpoint = common.write_checkpoint(scratch / "checkpoint", options.quick)
        training = runners.Training(checkpoint, corpus, scratch, options.quick, options.stream, options.micro_batch)
        records = common.race(
            {"trainer": (runners.trainer_script, training), "ours": (runners.our_loop, training)}, steps, repeats
        )
    trainer, ours = records["trainer"], records["ours"]
    ratio = common.at_least("steady clips/s of ours over Trainer's", trainer.steady_s, ours.steady_s, LIMIT)
    cpu = common.at_most("the same in processor time", trainer.steady_cpu_s, ours.steady_cpu_s)
    rate = {name: common.EFFECTIVE_BATCH / statistics.median(record.steady_s) for name, record in records.items()}
    facts = {"clips_per_s": {name: round(value, 2) for name, value in rate.items()}, **common.loss_facts(ours)}
    return common.report([ratio, cpu], facts, options, [common.equal_losses(records)])


if __name__ == "__main__":
    sys.exit(main())
