from __future__ import annotations

from pathlib import Path

from moodscale.corpora.cmdc import CmdcConfig
from moodscale.corpora.synthesize import synthesize
from moodscale.corpora.synthesize.base import SynthesizeConfig
from moodscale.corpora.synthesize.cmdc import ITEM_COLUMNS, OPENFACE_PATTERN, TRANSCRIPT_PATTERN
from moodscale.corpora.synthesize.phrases_zh import QUESTION_ITEMS


def test_every_planted_defect_is_noted_or_quarantined_and_nothing_else_is(tmp_path: Path) -> None:
    settings = SynthesizeConfig(out=tmp_path / "cmdc", num_participants=12, minutes=0.5, num_workers=1, defects="all")
    summary = synthesize("cmdc", settings)
    corpus = CmdcConfig(
        path=str(tmp_path / "cmdc"),
        item_columns=ITEM_COLUMNS,
        question_items={question: item - min(QUESTION_ITEMS.values()) + 1 for question, item in QUESTION_ITEMS.items()},
        transcript_pattern=TRANSCRIPT_PATTERN,
        openface_pattern=OPENFACE_PATTERN,
    ).open()
    readings = [corpus.read(interview_id) for interview_id in corpus.interview_ids()]
    noted = [*corpus.absent(), *(repair for reading in readings for repair in reading.repairs)]
    planted = [(one.interview_id, one.defect) for one in summary.planted]
    out_of_range = [one for one in planted if one[1] == "total_out_of_range"]
    assert len(planted) >= 11
    assert sorted((one.interview_id, one.defect) for one in noted) == sorted(set(planted) - set(out_of_range))
    quarantined = [line for reading in readings for line in reading.quarantined]
    assert [line.interview_id for line in quarantined] == [interview_id for interview_id, _ in out_of_range]
    assert all("PHQtotal=28" in line.reason for line in quarantined)
