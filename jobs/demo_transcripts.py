"""`make demo-transcripts`: conversations → model of true labels → teacher → rounds → ensemble → registry → score.

Every stage is the verb a user would run, in a process of its own as a submitted job would be. Options: --effect,
--seed, --num-users and --dir (default runs/demo-transcripts).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from demo import verb

CONFIG = Path(__file__).resolve().parent / "configs" / "recipes" / "transcript_severity_demo.yaml"
UNLABELLED_SHARE = 2 / 3
NUM_NEW_USERS = 24


def main() -> None:
    parser = argparse.ArgumentParser(description="Severity from conversations, the whole way, on two CPU cores.")
    parser.add_argument("--effect", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-users", type=int, default=300)
    parser.add_argument("--dir", type=Path, default=Path("runs/demo-transcripts"))
    options = parser.parse_args()
    started = time.monotonic()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    tag = f"effect-{options.effect:g}-seed-{options.seed}"
    name, storage = f"demo-{tag}", options.dir.absolute()
    corpus = synthesized(storage / f"conversations-{tag}-{options.num_users}", options.num_users, options)
    settings = [f"corpus.path={corpus}", f"storage_path={storage}", f"seed={options.seed}"]
    settings += [f"prepare.splits.seed={options.seed}"]
    verb("prepare", str(CONFIG), f"name={name}", *settings)
    verb("train", str(CONFIG), f"name={name}", *settings)
    verb("evaluate", str(CONFIG), f"name={name}", *settings)
    rounds = verb("label", str(CONFIG), f"name={name}", *settings)
    last = f"{name}-round-{len(rounds['rounds']) - 1}"
    manifest = f"manifest={storage / name / 'manifest'}"
    verb("evaluate", str(CONFIG), f"name={last}", manifest, *settings)
    members = f"ensemble={{members: [runs:/{name}, runs:/{last}], name: transcript_severity_ensemble}}"
    ensemble = verb("ensemble", str(CONFIG), f"name={name}", members, *settings)
    new = new_interviews(storage, tag, options)
    uri = f"models:/{ensemble['name']}@{ensemble['alias']}"
    scores = verb(
        *("score", uri, "--manifest", str(new), "--out", str(storage / f"scores-{tag}")),
        *("--tracking-uri", ensemble["tracking_uri"]),
    )
    say(rounds, ensemble, scores, uri, time.monotonic() - started)


def synthesized(
    out: Path, num_users: int, options: argparse.Namespace, unlabelled_share: float = UNLABELLED_SHARE
) -> Path:
    """A log of conversations of users who do not exist."""
    verb(
        *("synthesize", "conversations", "--out", str(out), "--num-participants", str(num_users)),
        *("--effect", str(options.effect), "--seed", str(options.seed)),
        *("--unlabelled-share", f"{unlabelled_share:.4f}"),
    )
    return out


def new_interviews(storage: Path, tag: str, options: argparse.Namespace) -> Path:
    """Users whom no model has seen, and who filled in nothing."""
    fresh = argparse.Namespace(**{**vars(options), "seed": options.seed + 1000})
    corpus = synthesized(storage / f"new-{tag}", NUM_NEW_USERS, fresh, unlabelled_share=1.0)
    settings = [f"name=new-{tag}", f"storage_path={storage}", f"corpus.path={corpus}", "corpus.labels=null"]
    # Their ids are as those of the demo's own users: another prefix keeps the two apart.
    verb("prepare", str(CONFIG), *settings, "corpus.person_prefix=new", "prepare.splits={kind: none}")
    return storage / f"new-{tag}" / "manifest"


def say(rounds: dict[str, Any], ensemble: dict[str, Any], scores: dict[str, Any], uri: str, took_s: float) -> None:
    ci, mean = ensemble["ci"], ensemble["baselines"][0]
    lines = [
        f"round {one['round']} ({one['labeller']}): {one['num_true']} true and {one['num_pseudo']} pseudo-labels, "
        f"validation MAE {one['validation']['mae']:.2f}"
        for one in rounds["rounds"]
    ]
    lines += [
        f"held-out interviews: {ensemble['num']} of {ensemble['num_persons']} people",
        f"ensemble: MAE {ensemble['mae']:.2f} {interval(ci['mae'])}, Pearson r {number(ensemble['pearson_r'])} "
        f"{interval(ci['pearson_r'])}",
        f"training mean: MAE {mean['figures']['mae']:.2f} {interval(mean['figures']['ci']['mae'])}",
        f"collapse guard: {ensemble['guard']['verdict']}",
    ]
    for one in ensemble["comparisons"]:
        difference = one["differences"]["mae"]
        lines.append(
            f"MAE of {one['first']} minus {one['second']}: {difference['difference']:.2f} {interval(difference['ci'])}"
        )
    lines += [
        f"report: {ensemble['report']}",
        f"registered: {uri} (version {ensemble['version']}), tracked in {ensemble['tracking_uri']}",
        f"scored: {scores['num_scored']} new interviews, in {scores['out']}",
        f"wall clock: {took_s:.0f} s",
    ]
    print("\n" + "\n".join(lines))
    figures = {"mae": ensemble["mae"], "mae_ci": ci["mae"], "mean_mae_ci": mean["figures"]["ci"]["mae"]}
    figures |= {"pearson_r": ensemble["pearson_r"], "pearson_r_ci": ci["pearson_r"]}
    print(json.dumps({**figures, "guard": ensemble["guard"]["verdict"], "wall_s": round(took_s)}))


def number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def interval(ends: list[float] | None) -> str:
    return "" if ends is None else f"(95 % CI {ends[0]:.2f} to {ends[1]:.2f})"


if __name__ == "__main__":
    main()
