"""The readers against corpora of synthesised speech and words with every known defect planted in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moodscale.config import validate
from moodscale.config.lookup import find_component
from moodscale.corpora.base import CorpusConfig
from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.corpora.synthesize import SynthesizeConfig, synthesize
from moodscale.corpora.synthesize.cmdc import GENDER_CODES, ITEM_COLUMNS, OPENFACE_PATTERN, TRANSCRIPT_PATTERN
from moodscale.corpora.synthesize.phrases_zh import QUESTION_ITEMS
from moodscale.prepare.audio import read_clip
from moodscale.prepare.build import build_manifest
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from moodscale.schema import Split

pytestmark = pytest.mark.slow

CMDC = {
    "item_columns": ITEM_COLUMNS,
    "question_items": {question: item + 1 for question, item in QUESTION_ITEMS.items()},
    "transcript_pattern": TRANSCRIPT_PATTERN,
    "openface_pattern": OPENFACE_PATTERN,
    "gender_codes": {code: gender for gender, code in GENDER_CODES.items()},
}
CORPORA: dict[str, tuple[dict[str, Any], dict[str, Any], set[str]]] = {
    "daic_woz": ({"num_participants": 24, "minutes": 1}, {}, set()),
    "daic_woz-archives-features": (
        {"num_participants": 24, "minutes": 1, "archives": True, "features": True},
        {},
        set(),
    ),
    "edaic": ({"num_participants": 12, "minutes": 1}, {}, {"label_out_of_range"}),
    "edaic-archives": ({"num_participants": 12, "minutes": 1, "archives": True}, {}, {"label_out_of_range"}),
    "cmdc": ({"num_participants": 12, "minutes": 0.5}, CMDC, {"total_out_of_range"}),
    "conversations": ({"num_participants": 40}, {}, {"total_out_of_range", "bad_time", "invalid_line"}),
}
"""What is synthesised, how it is read, and which defects end in the quarantine."""


@pytest.fixture(params=CORPORA)
def case(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_planted_defect_is_in_the_ledger_or_the_quarantine_and_nothing_else_is(case: str, tmp_path: Path) -> None:
    settings, reading, quarantined = CORPORA[case]
    kind = case.split("-")[0]
    planted = synthesize(kind, SynthesizeConfig(out=tmp_path / "corpus", defects="all", **settings)).planted
    config = find_component("moodscale.corpora", CorpusConfig, kind)  # type: ignore[type-abstract]
    corpus = validate(config, {"kind": kind, "path": str(tmp_path / "corpus"), **reading})
    how = {"clip_s": 2, "splits": {"kind": "stratified", "validation": 0.2, "test": 0.2}}
    build_manifest(corpus, validate(PrepareConfig, {**how, "max_quarantined_fraction": 0.2}), tmp_path / "m")
    manifest = Manifest.open(tmp_path / "m")
    ledger = [(row["interview_id"], row["defect"]) for row in manifest.ledger().to_pylist()]
    expected = {(one.interview_id, one.defect) for one in planted}
    left_out = {pair for pair in expected if pair[1] in quarantined} - set(ledger)
    assert len({one.defect for one in planted}) >= 9
    assert sorted(set(ledger)) == sorted(expected - left_out)
    assert {row["interview_id"] for row in manifest.quarantine().to_pylist()} == {one for one, _ in left_out}
    assert {defect for _, defect in left_out} == quarantined - {defect for _, defect in ledger}


def test_no_clip_is_silent(tmp_path: Path) -> None:
    """An offset or a cut that was missed would fill clips with pauses: speech must be there in each of them."""
    synthesize("daic_woz", SynthesizeConfig(out=tmp_path / "corpus", num_participants=24, minutes=1, defects="all"))
    config = validate(PrepareConfig, {"clip_s": 3})
    summary = build_manifest(DaicWozConfig(path=str(tmp_path / "corpus")), config, tmp_path / "m")
    assert summary.quarantined == ()
    manifest = Manifest.open(tmp_path / "m")
    levels = {
        row["clip_id"]: float(np.sqrt(np.mean(np.square(read_clip(manifest.roots, row)))))
        for split in Split
        for row in manifest.clips(split).to_pylist()
    }
    assert len(levels) == summary.num_clips > 24
    assert min(levels.values()) > 0.1 * float(np.median(list(levels.values())))
