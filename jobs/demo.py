"""`make demo`: synthesise → prepare → train two phases on two ZeRO workers → evaluate → register → predict.

Every stage is the verb a user would run, in a process of its own as a submitted job would be. Options: --effect,
--seed, --num-participants, --minutes and --dir (default runs/demo).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "configs" / "recipes" / "qwen2_audio_demo.yaml"


def verb(*arguments: str) -> dict[str, Any]:
    """Run one verb; its last line of output is the JSON result."""
    print(f"\n$ moodscale {' '.join(arguments)}", flush=True)
    started = time.monotonic()
    command = [sys.executable, "-c", "from moodscale.cli import main; main()", *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"moodscale {arguments[0]} failed with exit code {done.returncode}")
    print(f"  {arguments[0]}: {time.monotonic() - started:.0f} s", flush=True)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="The whole pipeline on synthesised speech, on two CPU cores.")
    parser.add_argument("--effect", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-participants", type=int, default=96)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--dir", type=Path, default=Path("runs/demo"))
    options = parser.parse_args()
    started = time.monotonic()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    tag = f"effect-{options.effect:g}-seed-{options.seed}"
    corpus = options.dir / f"daic_woz-{tag}-{options.num_participants}-{options.minutes:g}"
    verb(
        *("synthesize", "daic_woz", "--out", str(corpus), "--effect", str(options.effect)),
        *("--seed", str(options.seed), "--minutes", str(options.minutes)),
        *("--num-participants", str(options.num_participants)),
    )
    settings = [
        f"name=demo-{tag}",
        f"corpus.path={corpus.absolute()}",
        f"storage_path={options.dir.absolute()}",
        f"seed={options.seed}",
        f"prepare.splits.seed={options.seed}",
    ]
    verb("prepare", str(CONFIG), *settings)
    verb("train", str(CONFIG), *settings)
    evaluation = verb("evaluate", str(CONFIG), *settings)
    registered = verb("register", str(CONFIG), *settings)
    wav = sorted(corpus.glob("*_P/*_AUDIO.wav"))[0]
    uri = f"models:/{registered['name']}@{registered['alias']}"
    prediction = verb("predict", uri, str(wav), "--tracking-uri", registered["tracking_uri"])
    participant = evaluation["participant"]
    low, high = participant["ci"]["auc"]
    print(
        f"\nheld-out participants: {participant['num']} ({participant['num_positive']} depressed)\n"
        f"participant AUC: {participant['auc']:.3f} (95 % CI {low:.3f} to {high:.3f})\n"
        f"collapse guard: {evaluation['guard']['verdict']}\n"
        f"report: {evaluation['report']}\n"
        f"registered: {uri} (version {registered['version']}), tracked in {registered['tracking_uri']}\n"
        f"one recording: P(depressed) {prediction['predictions'][0]['probability']:.3f} for {wav.name}\n"
        f"wall clock: {time.monotonic() - started:.0f} s"
    )
    print(json.dumps({"auc": participant["auc"], "ci": [low, high], "guard": evaluation["guard"]["verdict"]}))


if __name__ == "__main__":
    main()
