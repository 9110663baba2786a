"""What the synthesiser plants, the reader notes: all of it, and nothing else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from moodscale.corpora.base import Reading
from moodscale.corpora.edaic import EdaicConfig
from moodscale.corpora.reading.features import check_features, read_frames
from moodscale.corpora.reading.members import open_input
from moodscale.corpora.synthesize.base import SynthesizeConfig
from moodscale.corpora.synthesize.edaic import EdaicSynthesizer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("archives", "kinds", "num_kinds"), [(False, (), 3), (True, ("all",), 10)], ids=["folders", "archives"]
)
def test_every_planted_defect_is_noted_once_and_nothing_else(
    tmp_path: Path, archives: bool, kinds: tuple[str, ...], num_kinds: int
) -> None:
    config = SynthesizeConfig(
        out=tmp_path / "edaic", num_participants=12, minutes=1.0, defects="all", archives=archives,
        feature_kinds=kinds, num_workers=2,
    )  # fmt: skip
    planted = Counter((one.interview_id, one.defect) for one in EdaicSynthesizer().synthesize(config).planted)
    corpus = EdaicConfig(path=str(tmp_path / "edaic")).open()
    readings: list[Reading] = [corpus.read(one) for one in corpus.interview_ids()]
    lines = [*corpus.absent(), *(repair for reading in readings for repair in reading.repairs)]
    noted = Counter((line.interview_id, line.defect) for line in lines)
    quarantined = Counter((line.interview_id, "label_out_of_range") for one in readings for line in one.quarantined)
    assert noted + quarantined == planted
    interview = readings[-1].interview
    assert interview is not None
    assert len(interview.features) == num_kinds
    for file in interview.features:
        with open_input(corpus.roots, file.root, file.path) as stream:
            num_columns = check_features(stream, file.format).num_columns
            blocks = list(read_frames(stream, file.format, duration_s=interview.recordings[0].duration_s))
        assert {block.values.shape[1] for block in blocks} == {num_columns}
        assert max(block.times_s.max() for block in blocks) <= interview.recordings[0].duration_s
        assert any(block.valid.any() for block in blocks)
