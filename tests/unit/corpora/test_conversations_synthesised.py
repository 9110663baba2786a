from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from moodscale.corpora.conversations import ConversationsConfig
from moodscale.corpora.synthesize import synthesize
from moodscale.corpora.synthesize.base import SynthesizeConfig

QUARANTINED = {"bad_time", "total_out_of_range"}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_every_planted_defect_is_noted_or_quarantined_and_nothing_else_is(tmp_path: Path, form: str) -> None:
    settings = SynthesizeConfig(
        out=tmp_path / "log",
        num_participants=40,
        num_workers=1,
        format=form,
        defects="all" if form == "jsonl" else ("duplicate_conversation", "empty_message", "bad_time", "naive_time"),
    )
    planted = Counter((one.interview_id, one.defect) for one in synthesize("conversations", settings).planted)
    corpus = ConversationsConfig(path=str(tmp_path / "log")).open()
    readings = [corpus.read(interview_id) for interview_id in corpus.interview_ids()]
    noted = [*corpus.absent(), *(repair for reading in readings for repair in reading.repairs)]
    quarantined = [line.interview_id for reading in readings for line in reading.quarantined]
    to_quarantine = {one for one in planted if one[1] in QUARANTINED}
    assert Counter((one.interview_id, one.defect) for one in noted) == planted - Counter(to_quarantine)
    assert sorted(quarantined) == sorted(interview_id for interview_id, _ in to_quarantine)
    assert len(planted) > 4
