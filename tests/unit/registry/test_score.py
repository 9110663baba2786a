"""Scoring a manifest: every interview once, resumable, never changed when finished, and no words anywhere."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from moodscale.config import ConfigError
from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.prepare.audio import read_clip
from moodscale.prepare.build import build_manifest
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from moodscale.registry.package import MODEL_FILE
from moodscale.registry.score import ScoreSummary, predict_units, score
from moodscale.registry.score_parts import SCORE_SCHEMA, Part, claim
from moodscale.registry.score_worker import Line, Work, Worker, fetch_package
from moodscale.registry.sessions import cut_session, sessions_of
from moodscale.registry.versions import Registered
from moodscale.schema import CorpusError
from moodscale.storage import location, read_table
from tiny_daic import people, write_corpus
from tiny_experiment import contents
from tiny_registry import CLIP_S, Trained, stored_model
from tiny_severity import CANARY, NUM_LABELLED, NUM_UNLABELLED, chat_manifest

NUM_INTERVIEWS = NUM_LABELLED + NUM_UNLABELLED

Run = Callable[[Work, Sequence[Part]], Iterator[Line]]


def here(work: Work, parts: Sequence[Part]) -> Iterator[Line]:
    """In this process, without Ray."""
    worker = Worker(work)
    return (worker.run(part) for part in parts)


def dying_after(num: int) -> Run:
    def run(work: Work, parts: Sequence[Part]) -> Iterator[Line]:
        yield from here(work, parts[:num])
        raise KeyboardInterrupt

    return run


def never(work: Work, parts: Sequence[Part]) -> Iterator[Line]:
    raise AssertionError("nothing should be scored")


@pytest.fixture
def package(severity: Trained, registered_severity: Registered) -> str:
    return str(stored_model(severity.uri, "severe") / "artifacts" / "package")


@pytest.fixture
def scored(severity: Trained, package: str, tmp_path: Path) -> Callable[..., ScoreSummary]:
    """Scores the chats into ``tmp_path / "out"`` unless told otherwise."""

    def run(out: Any = tmp_path / "out", **options: Any) -> ScoreSummary:
        given = {"run": here, "batch": 8, "manifest_dir": severity.job.manifest, "model": package, **options}
        return score(tracking_uri=severity.uri, out=out, **given)

    return run


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((out / "parts").iterdir()) for row in pq.read_table(path).to_pylist()]


def test_every_interview_has_a_row_whether_or_not_anybody_knows_its_label(
    scored: Callable[..., ScoreSummary], severity_model: Any, severity: Trained, tmp_path: Path
) -> None:
    summary = scored()
    assert (summary.num_interviews, summary.num_scored, summary.not_scored) == (NUM_INTERVIEWS, NUM_INTERVIEWS, {})
    assert (summary.num_parts, summary.num_computed, summary.already_finished) == (6, 6, False)
    rows = rows_of(tmp_path / "out")
    ids = [row["interview_id"] for row in rows]
    assert ids == sorted(ids)
    assert len(set(ids)) == NUM_INTERVIEWS
    manifest = Manifest.open(severity.job.manifest)
    sessions = list(sessions_of(manifest, manifest.without_labels("interviews")))
    expected = {one.interview_id: a for one, a in zip(sessions, _served(severity_model).score(sessions), strict=True)}
    for row in rows:
        answer = expected[row["interview_id"]]
        assert row["score"] == pytest.approx(answer.score, abs=1e-4)
        assert (row["low"], row["high"]) == pytest.approx((answer.low, answer.high), abs=1e-4)
        assert (row["instrument"], row["probability"], row["not_scored"]) == ("PHQ-9", None, None)
        assert len(row["items"]) == 9
        assert row["model_version"] == severity.model_version
    assert len({row["score"] for row in rows}) > 10


def _served(model: Any) -> Any:
    return model.unwrap_python_model().served


def test_the_summary_is_written_last_and_names_model_manifest_and_parts_by_hash(
    scored: Callable[..., ScoreSummary], severity: Trained, package: str, tmp_path: Path
) -> None:
    scored()
    out = tmp_path / "out"
    said = json.loads((out / "score.json").read_text())
    assert said["model_version"] == severity.model_version
    assert said["manifest_hash"] == Manifest.open(severity.job.manifest).hash
    assert said["package_sha256"] == hashlib.sha256((Path(package) / MODEL_FILE).read_bytes()).hexdigest()
    assert said["parts"] == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((out / "parts").iterdir())
    }
    assert pq.read_table(out / "parts").num_rows == NUM_INTERVIEWS, "the folder of parts is a dataset"


def test_a_finished_folder_is_said_to_be_finished_and_nothing_changes(
    scored: Callable[..., ScoreSummary], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = scored()
    before = contents(tmp_path / "out")
    with caplog.at_level(logging.INFO):
        again = scored(run=never)
    assert again == dataclasses.replace(first, num_computed=0, already_finished=True)
    assert contents(tmp_path / "out") == before
    assert "already; nothing changed" in caplog.text


def test_an_interrupted_run_keeps_its_parts_and_is_completed(
    scored: Callable[..., ScoreSummary], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        scored(run=dying_after(2))
    kept = contents(tmp_path / "out")
    assert len(list((tmp_path / "out" / "parts").iterdir())) == 2
    assert not (tmp_path / "out" / "score.json").exists()
    done = scored(batch=3)
    assert (done.num_parts, done.num_computed) == (6, 4), "the folder keeps the batch that it began with"
    assert kept.items() <= contents(tmp_path / "out").items()
    scored(tmp_path / "whole")
    for one, other in zip(rows_of(tmp_path / "out"), rows_of(tmp_path / "whole"), strict=True):
        assert {**one, "scored_at": ""} == {**other, "scored_at": ""}


@pytest.mark.parametrize("damage", ["truncated", "altered", "of other interviews", "not parquet"])
def test_a_damaged_part_is_scored_again_and_no_other(
    scored: Callable[..., ScoreSummary], tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    scored()
    parts = sorted((tmp_path / "out" / "parts").iterdir())
    before = contents(tmp_path / "out")
    if damage == "truncated":
        parts[1].write_bytes(parts[1].read_bytes()[:-200])
    elif damage == "altered":
        table = pq.read_table(parts[1])
        other = pa.array([0.5] * len(table), pa.float64())
        pq.write_table(table.set_column(3, table.schema.field("score"), other), parts[1])
    elif damage == "of other interviews":
        shutil.copyfile(parts[2], parts[1])
    else:
        parts[1].write_bytes(b"words")
    with caplog.at_level(logging.WARNING):
        assert scored().num_computed == 1
    assert "part-00001.parquet is damaged" in caplog.text
    after = contents(tmp_path / "out")
    changed = {name for name in before if after[name] != before[name]}
    assert changed - {str(tmp_path / "out" / "score.json")} == {str(parts[1])}, "its hash changes with the time in it"
    assert scored(run=never).already_finished


def test_another_model_manifest_or_selection_in_the_same_folder_is_refused(
    scored: Callable[..., ScoreSummary], severity: Trained, package: str, tmp_path: Path
) -> None:
    scored()
    before = contents(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"holds other scores \(selection='all' there, 'test' now"):
        scored(split="test", run=never)
    other = chat_manifest(tmp_path / "other", severity.storage / "corpus", splits={"kind": "stratified", "seed": 3})
    with pytest.raises(ConfigError, match="manifest_hash="):
        scored(manifest_dir=other.path, run=never)
    shutil.copytree(package, tmp_path / "package")
    facts = json.loads((tmp_path / "package" / MODEL_FILE).read_text())
    facts["operating_point"]["half_width"] = 1.0
    (tmp_path / "package" / MODEL_FILE).write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match="package_sha256="):
        scored(model=str(tmp_path / "package"), run=never)
    assert contents(tmp_path / "out") == before


def test_a_folder_with_something_else_in_it_is_refused(scored: Callable[..., ScoreSummary], tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds 'chapter\.txt' and no plan\.json; give --out a folder of its own"):
        scored(tmp_path / "thesis", run=never)


def test_a_selection_is_scored_alone_and_no_test_label_is_read(
    scored: Callable[..., ScoreSummary], severity: Trained, tmp_path: Path
) -> None:
    manifest = Manifest.open(severity.job.manifest)
    before = manifest.num_test_reads()
    assert scored(tmp_path / "a", split="unlabelled").num_interviews == NUM_UNLABELLED
    assert {row["person"] for row in rows_of(tmp_path / "a")} == {f"conv:u{NUM_LABELLED + i:03d}" for i in range(3)}
    scored(tmp_path / "b", split="test")
    assert {row["person"] for row in rows_of(tmp_path / "b")} == set(manifest.people("test"))
    assert manifest.num_test_reads() == before
    with pytest.raises(ConfigError, match="split='dev' is not one of all, train, validation, test, unlabelled"):
        scored(tmp_path / "c", split="dev")


def test_no_word_is_in_scores_or_logs_and_no_person_in_logs(
    scored: Callable[..., ScoreSummary], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        scored()
    assert not any(CANARY.encode() in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert CANARY not in caplog.text
    assert "conv:u0" not in caplog.text


def test_interviews_without_words_have_a_row_that_says_so(
    scored: Callable[..., ScoreSummary], severity: Trained, tmp_path: Path
) -> None:
    wordless = chat_manifest(tmp_path / "wordless", severity.storage / "corpus", transcripts="none")
    summary = scored(manifest_dir=wordless.path)
    assert summary.not_scored == {"the manifest holds no words of it": NUM_INTERVIEWS}
    assert {row["score"] for row in rows_of(tmp_path / "out")} == {None}
    assert scored(manifest_dir=wordless.path, run=never).already_finished


def test_a_registered_version_is_fetched_checked_and_named_by_its_number(
    scored: Callable[..., ScoreSummary], tmp_path: Path
) -> None:
    assert scored(model="models:/severe@candidate").model == "models:/severe/1"
    assert scored(model="severe/1", run=never).already_finished
    with pytest.raises(ConfigError, match="is not in the registry"):
        scored(tmp_path / "other", model="models:/severe/9", run=never)
    with pytest.raises(ConfigError, match="no registry named"):
        fetch_package("models:/severe/1")


def test_a_tampered_package_scores_nothing(scored: Callable[..., ScoreSummary], package: str, tmp_path: Path) -> None:
    shutil.copytree(package, tmp_path / "package")
    tokenizer = tmp_path / "package" / "assets" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    with pytest.raises(ValueError, match="hash mismatch"):
        scored(model=str(tmp_path / "package"), run=never)
    assert not (tmp_path / "out").exists()


def test_a_worker_that_finds_another_package_or_manifest_than_the_driver_refuses(
    scored: Callable[..., ScoreSummary],
) -> None:
    def elsewhere(**changes: Any) -> Run:
        return lambda work, parts: here(dataclasses.replace(work, **changes), parts)

    with pytest.raises(ConfigError, match="another package than the driver"):
        scored(run=elsewhere(package_sha256="0" * 64))
    with pytest.raises(ConfigError, match="the manifest changed while it was scored"):
        scored(run=elsewhere(manifest_hash="0" * 32))


def test_two_plans_of_a_folder_are_told_apart_by_every_field(
    tmp_path: Path, scored: Callable[..., ScoreSummary]
) -> None:
    scored()
    from moodscale.registry.score_parts import Plan

    values = {k: v for k, v in json.loads((tmp_path / "out" / "plan.json").read_text()).items() if k != "format"}
    place = location(tmp_path / "out")
    assert claim(place, Plan(**values)) == Plan(**values)
    for name in ("model_version", "package_sha256", "manifest_hash", "selection", "num_interviews"):
        with pytest.raises(ConfigError, match=name):
            claim(place, Plan(**{**values, name: 7 if name == "num_interviews" else "other"}))


def test_scores_in_object_storage_are_resumed_too(scored: Callable[..., ScoreSummary], bucket: UPath) -> None:
    out = bucket / "scores"
    with pytest.raises(KeyboardInterrupt):
        scored(str(out), run=dying_after(4))
    done = scored(str(out))
    assert (done.num_parts, done.num_computed, done.out) == (6, 2, str(out))
    tables = [read_table(out / "parts" / f"part-{number:05d}.parquet") for number in range(6)]
    assert sum(map(len, tables)) == NUM_INTERVIEWS
    assert tables[0].schema.equals(SCORE_SCHEMA)
    assert scored(str(out), run=never).already_finished


def test_predictions_of_units_are_those_that_were_evaluated(
    package: str, severity: Trained, registered_severity: Registered
) -> None:
    manifest = Manifest.open(severity.job.manifest)
    rows = predict_units(package, manifest, manifest.interviews("validation"))
    table = pq.read_table(severity.predictions).to_pylist()
    expected = {r["unit_id"]: r for r in table if r["split"] == "validation" and r["target"] == "total"}
    assert {row["unit_id"] for row in rows} == expected.keys()
    for row in rows:
        known = expected[row["unit_id"]]
        assert row["score"] == pytest.approx(known["score"], abs=1e-4)
        assert {name: row[name] for name in ("person", "label", "split", "target", "unit", "instrument", "corpus")} == {
            name: known[name] for name in ("person", "label", "split", "target", "unit", "instrument", "corpus")
        }
    with pytest.raises(ValueError, match="3 of 3 interviews have no label"):
        predict_units(package, manifest, manifest.unlabelled())


# Speech


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Eight people, two of them without a label and one who says too little."""
    root = tmp_path_factory.mktemp("voices")
    sessions = [
        dataclasses.replace(one, audio=(np.random.default_rng(index).normal(size=16_000 * 12) * 0.1).astype(np.float32))
        for index, one in enumerate(people(8, duration_s=12.0))
    ]
    short = dataclasses.replace(sessions[0], rows=[(0.5, 1.5, "Participant", "hm")])
    write_corpus(root / "corpus", [short, *sessions[1:]], full_test=False)
    build_manifest(DaicWozConfig(path=str(root / "corpus")), PrepareConfig(clip_s=CLIP_S), root / "manifest")
    return Manifest.open(root / "manifest")


def test_a_speech_model_cuts_clips_of_people_without_a_label(
    trained: Trained, registered: Registered, model: Any, voices: Manifest, tmp_path: Path
) -> None:
    summary = score("models:/tiny/1", trained.uri, voices.path, tmp_path / "out", batch=3, run=here)
    assert (summary.num_scored, summary.not_scored) == (7, {"less speech than one clip of 2 s": 1})
    rows = {row["interview_id"]: row for row in rows_of(tmp_path / "out")}
    sessions = {one.interview_id: one for one in sessions_of(voices, voices.without_labels("interviews"))}
    assert len([row for row in voices.without_labels("interviews").to_pylist() if row["split"] is None]) == 2
    served = model.unwrap_python_model().served
    for interview_id, row in rows.items():
        clips = cut_session(sessions[interview_id], served.cutting)
        if not clips:
            assert row["not_scored"]
            continue
        waveforms = [read_clip(voices.roots, clip) for clip in clips]
        import pandas as pd

        asked = pd.DataFrame({"waveform": waveforms, "sample_rate_hz": 16_000})
        answers = model.predict(asked)
        assert row["probability"] == pytest.approx(answers["probability"].mean(), abs=1e-5)
        assert row["score"] == row["probability"]
        assert row["raw_score"] == pytest.approx(answers["score"].mean(), abs=1e-5)
        assert row["depressed"] in (True, False)
        assert (row["low"], row["instrument"], row["items"]) == (None, None, None)


def test_clips_cut_for_scoring_are_the_manifests_own(trained: Trained, model: Any) -> None:
    manifest = Manifest.open(trained.job.manifest)
    served = model.unwrap_python_model().served
    for split in ("train", "validation"):
        cut = [
            clip
            for session in sessions_of(manifest, manifest.interviews(split))
            for clip in cut_session(session, served.cutting)
        ]
        own = {row["clip_id"]: row for row in manifest.clips(split).to_pylist()}
        assert {clip["clip_id"] for clip in cut} == own.keys()
        for clip in cut:
            np.testing.assert_array_equal(
                read_clip(manifest.roots, clip), read_clip(manifest.roots, own[clip["clip_id"]])
            )


def test_a_recording_that_is_gone_costs_its_part_and_the_next_run_begins_there(
    trained: Trained, registered: Registered, voices: Manifest, tmp_path: Path
) -> None:
    (wav,) = (voices.path.parent / "corpus").rglob("503_AUDIO.wav")
    kept = wav.read_bytes()
    wav.unlink()
    try:
        with pytest.raises(CorpusError, match=r"1 of 4 parts could not be read; the other 3 are stored"):
            score("models:/tiny/1", trained.uri, voices.path, tmp_path / "out", batch=2, run=here)
        assert not (tmp_path / "out" / "score.json").exists()
    finally:
        wav.write_bytes(kept)
    done = score("models:/tiny/1", trained.uri, voices.path, tmp_path / "out", batch=2, run=here)
    assert (done.num_computed, done.num_scored) == (1, 7)
