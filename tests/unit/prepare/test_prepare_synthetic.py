"""The reader against a corpus of real synthesised speech with every known defect planted in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moodscale.config import validate
from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.corpora.synthesize import SynthesizeConfig, synthesize
from moodscale.prepare.audio import read_clip
from moodscale.prepare.build import build_manifest
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from moodscale.schema import Split

pytestmark = pytest.mark.slow


def test_every_planted_defect_is_found_in_its_session_and_no_clip_is_silent(tmp_path: Path) -> None:
    planted = synthesize(
        "daic_woz", SynthesizeConfig(out=tmp_path / "corpus", num_participants=24, minutes=1, defects="all")
    ).planted
    config = validate(PrepareConfig, {"clip_s": 3})
    summary = build_manifest(DaicWozConfig(path=str(tmp_path / "corpus")), config, tmp_path / "m")
    manifest = Manifest.open(tmp_path / "m")
    ledger = {(row["interview_id"], row["defect"]) for row in manifest.ledger().to_pylist()}
    assert len({one.defect for one in planted}) >= 10
    assert {(one.interview_id, one.defect) for one in planted} - ledger == set()
    assert summary.quarantined == ()
    # An offset or a cut that was missed would fill clips with pauses: speech must be there in each of them.
    levels = {
        row["clip_id"]: float(np.sqrt(np.mean(np.square(read_clip(manifest.roots, row)))))
        for split in Split
        for row in manifest.clips(split).to_pylist()
    }
    assert len(levels) == summary.num_clips > 24
    assert min(levels.values()) > 0.1 * float(np.median(list(levels.values())))
