"""Manifests of a few hand-made sessions, each person with a recording of their own, prepared in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moodscale.config import validate
from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.prepare.build import build_manifest
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from tiny_daic import Session, tone, write_corpus

DURATION_S = 20.0


def own_voice(number: int, duration_s: float = DURATION_S) -> Any:
    """A tone that is equal sample by sample to that of the same number only."""
    return tone(duration_s) * (1 - 0.005 * number)


def sessions(num: int, **changes: Any) -> list[Session]:
    """Over the official splits, half of them train, both classes and genders in each."""
    splits = ("train", "train", "train", "train", "validation", "validation", "test", "test")
    return [
        Session(
            str(500 + i), splits[i % 8], score=15 if i % 2 else 3, gender=(i // 2) % 2, duration_s=DURATION_S,
            audio=own_voice(i), **changes,
        )
        for i in range(num)
    ]  # fmt: skip


def prepared(root: Path, people: Sequence[Session], **settings: Any) -> Manifest:
    """The manifest at ``root``, of a corpus beside it."""
    write_corpus(root.with_name(f"{root.name}-corpus"), people)
    corpus = DaicWozConfig(path=str(root.with_name(f"{root.name}-corpus")))
    build_manifest(corpus, validate(PrepareConfig, {"clip_s": 2, "max_quarantined_fraction": 0.9, **settings}), root)
    return Manifest.open(root)
