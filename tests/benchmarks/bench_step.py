"""A steady step of our loop against a bare torch loop on the same model, with either stream.

    python tests/benchmarks/bench_step.py [--repeats 5] [--quick] [--json]

Ours is the loop that a Ray Train worker runs: DeepSpeed engine (ZeRO-2, fp32), features decoded and transformed while
it trains, a journal, checkpoints at the ends of epochs. The bare loop has every batch ready in memory, so whatever the
platform adds shows. Processor time beside it tells overhead from what other jobs on the machine take; LocalStream's
threads count in it, RayStream's tasks are other processes. One thread each for training. Losses must be equal. Exits 1
where the ratio is above 1.05.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import common
import runners

LIMIT = 1.05


def main() -> int:
    parser = common.arguments(__doc__)
    parser.add_argument("--steps", type=int, default=3, help="steps a turn (an epoch of ours)")
    parser.add_argument("--micro-batch", type=int, default=2)
    options = parser.parse_args()
    repeats, steps = (2, 3) if options.quick else (options.repeats, options.steps)
    with tempfile.TemporaryDirectory(prefix="bench-step-") as folder:
        scratch = Path(folder)
        corpus = common.write_recordings(
            scratch / "corpus", steps * common.EFFECTIVE_BATCH, clip_s=2.0 if options.quick else 10.0
        )
        checkpoint = common.write_checkpoint(scratch / "checkpoint", options.quick)

        def training(stream: str) -> runners.Training:
            return runners.Training(checkpoint, corpus, scratch, options.quick, stream, options.micro_batch)

        records = common.race(
            {
                "bare": (runners.bare_loop, training("local")),
                "local": (runners.our_loop, training("local")),
                "ray": (runners.our_loop, training("ray")),
            },
            steps,
            repeats,
        )
    bare = records["bare"]
    ratios = []
    for name, shown in (("local", "LocalStream"), ("ray", "RayStream")):
        ours = records[name]
        ratios.append(common.at_most(f"steady step over bare loop, {shown}", ours.steady_s, bare.steady_s, LIMIT))
        ratios.append(common.at_most(f"the same in processor time, {shown}", ours.steady_cpu_s, bare.steady_cpu_s))
        ratios.append(common.at_most(f"epoch of {steps} steps over bare, {shown}", ours.turn_s, bare.turn_s))
    facts = {"bare_step_s": round(statistics.median(bare.steady_s), 3), **common.loss_facts(bare)}
    return common.report(ratios, facts, options, [common.equal_losses(records)])


if __name__ == "__main__":
    sys.exit(main())
