from __future__ import annotations

from pathlib import Path

from moodscale.config import validate
from moodscale.corpora.edaic import EdaicConfig
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.interview import prepare_interview
from tiny_edaic import Session, write_corpus

EGEMAPS = b"name;frameTime;loudness;pitch\n" + b"".join(b"'a';%.2f;0.5;0.1\n" % (0.01 * i) for i in range(50))


def test_a_feature_file_that_is_something_else_is_quarantined_and_the_interview_lacks_it(tmp_path: Path) -> None:
    sessions = [
        Session("300", features={"OpenSMILE2.3.0_egemaps.csv": EGEMAPS}),
        Session("301", features={"OpenSMILE2.3.0_egemaps.csv": b"<html>404 canary</html>\n" * 9}),
    ]
    corpus = EdaicConfig(path=str(write_corpus(tmp_path, sessions))).open()
    config = validate(PrepareConfig, {"clip_s": 2})
    sound, broken = (prepare_interview(corpus, one, config, corpus.roots) for one in ("300", "301"))
    assert sound.row is not None
    assert broken.row is not None, "its speech is sound"
    assert [feature["kind"] for feature in sound.row["features"]] == ["egemaps"]
    assert (sound.row["missing"], sound.quarantined) == ([], ())
    assert (broken.row["features"], broken.row["missing"]) == ([], ["egemaps"])
    (line,) = broken.quarantined
    assert (line.interview_id, line.where) == ("301", "egemaps")
    assert "301_OpenSMILE2.3.0_egemaps.csv" in line.reason
    assert "canary" not in line.reason
