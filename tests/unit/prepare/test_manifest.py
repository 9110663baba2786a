from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from moodscale.config import validate
from moodscale.corpora.base import CorpusConfig
from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.prepare import build
from moodscale.prepare.audio import read_clip
from moodscale.prepare.build import build_manifest, prepare_serially
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.interview import PreparedInterview
from moodscale.prepare.manifest import Manifest
from moodscale.prepare.summary import CLIP_TOLERANCE, render_html, render_terminal, summarise
from moodscale.prepare.tables import SCHEMAS, content_hash
from moodscale.schema import CLIP_SCHEMA, CorpusError
from tiny_daic import TRAIN, Session, people, write_corpus


def settings(**changes: Any) -> PrepareConfig:
    return validate(PrepareConfig, {"clip_s": 2, **changes})


@pytest.fixture
def corpus(tmp_path: Path) -> DaicWozConfig:
    return DaicWozConfig(path=str(write_corpus(tmp_path / "corpus", people(8, duration_s=20.0))))


@pytest.fixture
def manifest(corpus: DaicWozConfig, tmp_path: Path) -> Manifest:
    build_manifest(corpus, settings(), tmp_path / "manifest")
    return Manifest.open(tmp_path / "manifest")


def edit(manifest: Manifest, name: str, column: str, value: Any, row: int = 0) -> None:
    """Change a cell (``segments.path``: of the first in its list), the hash too, as somebody with bad intent would."""
    path = manifest.path / f"{name}.parquet"
    rows = pq.read_table(path).to_pylist()
    *parents, last = column.split(".")
    cell = rows[row]
    for parent in parents:
        cell = cell[parent][0]
    cell[last] = value
    pq.write_table(pa.Table.from_pylist(rows, SCHEMAS[name]), path)
    facts = json.loads((manifest.path / "manifest.json").read_text())
    tables = {name: pq.read_table(manifest.path / f"{name}.parquet") for name in SCHEMAS}
    facts["hash"] = content_hash(tables, facts["settings"])
    (manifest.path / "manifest.json").write_text(json.dumps(facts))


def test_rows_are_windows_that_decode_to_their_clips(manifest: Manifest) -> None:
    clips = manifest.clips("train")
    assert clips.schema.equals(CLIP_SCHEMA)
    rows = clips.to_pylist()
    assert len(rows) == 4 * 4
    assert len({row["clip_id"] for row in rows}) == len(rows)
    for row in rows:
        assert sum(one["stop_s"] - one["start_s"] for one in row["segments"]) == pytest.approx(row["duration_s"])
        assert read_clip(manifest.roots, row).shape == (32_000,)


def test_official_splits_labels_and_lengths_are_in_the_tables(manifest: Manifest) -> None:
    assert manifest.people("validation") == ("daic:504", "daic:505")
    rows = manifest.interviews("validation").to_pylist()
    assert [(row["total"], row["depressed"], row["gender"]) for row in rows] == [(3, 0, "male"), (15, 1, "male")]
    assert [(row["num_participant_turns"], row["speech_s"], row["num_clips"]) for row in rows] == [(2, 8.0, 4)] * 2
    with pytest.raises(CorpusError, match=r"split='dev' is not one of train, validation, test"):
        manifest.clips("dev")


def test_people_are_split_the_same_for_the_interviewer_only_control(corpus: DaicWozConfig, tmp_path: Path) -> None:
    shares = {"splits": {"kind": "stratified", "validation": 0.25, "test": 0.25}}
    found = []
    for speech in ("participant", "interviewer", "everything"):
        out = tmp_path / speech
        build_manifest(corpus, settings(speech=speech, **shares), out)
        found.append(Manifest.open(out))
    assert found[0].facts["people"] == found[1].facts["people"] == found[2].facts["people"]
    starts = [one.clips("train")["segments"][0][0]["start_s"].as_py() for one in found]
    assert starts == [4.75, 0.25, 0.25]


def test_the_same_inputs_give_the_same_hash_anywhere(tmp_path: Path) -> None:
    hashes = []
    for place in ("a", "b/c"):
        root = write_corpus(tmp_path / place / "corpus", people(8, duration_s=20.0))
        config = DaicWozConfig(path=str(root))

        def backwards(
            corpus: CorpusConfig, config: PrepareConfig, ids: Sequence[str], out: Path
        ) -> Iterator[PreparedInterview]:
            return iter(list(prepare_serially(corpus, config, ids, out))[::-1])

        how = backwards if place == "a" else prepare_serially
        hashes.append(build_manifest(config, settings(), tmp_path / place / "manifest", how).hash)
    assert hashes[0] == hashes[1]


def test_another_setting_or_another_sample_gives_another_hash(corpus: DaicWozConfig, tmp_path: Path) -> None:
    first = build_manifest(corpus, settings(), tmp_path / "a").hash
    assert build_manifest(corpus, settings(min_tail_s=0.9), tmp_path / "b").hash != first
    wav = Path(corpus.path) / "500_P" / "500_AUDIO.wav"
    data = bytearray(wav.read_bytes())
    data[-1] ^= 1
    wav.write_bytes(data)
    assert build_manifest(corpus, settings(), tmp_path / "c").hash != first


def never(*_: Any) -> Iterator[PreparedInterview]:
    raise AssertionError("interviews were prepared again")


def test_a_second_run_does_nothing_and_says_so(
    corpus: DaicWozConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = build_manifest(corpus, settings(), tmp_path / "m")
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "m").iterdir()}
    caplog.set_level(logging.INFO)
    second = build_manifest(corpus, settings(num_cpus=1), tmp_path / "m", never)
    assert (first.reused, second.reused, second.hash) == (False, True, first.hash)
    assert second.groups == first.groups
    assert "nothing to do" in caplog.text
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "m").iterdir()} == before


def test_other_settings_in_the_same_folder_are_refused_by_field(corpus: DaicWozConfig, tmp_path: Path) -> None:
    build_manifest(corpus, settings(), tmp_path / "m")
    with pytest.raises(CorpusError, match=r"other settings \(prepare\.clip_s, prepare\.speech\)"):
        build_manifest(corpus, settings(clip_s=3, speech="interviewer"), tmp_path / "m", never)


def test_touched_inputs_are_looked_at_and_changed_ones_refused(corpus: DaicWozConfig, tmp_path: Path) -> None:
    first = build_manifest(corpus, settings(), tmp_path / "m")
    os.utime(Path(corpus.path) / "500_P" / "500_AUDIO.wav", (1, 1))
    touched = build_manifest(corpus, settings(), tmp_path / "m")
    assert (touched.reused, touched.hash) == (True, first.hash)
    assert build_manifest(corpus, settings(), tmp_path / "m", never).reused
    table = Path(corpus.path) / TRAIN
    table.write_text(table.read_text().replace("500,0,3,0,1,1,1", "500,0,2,0,1,1,0"))
    with pytest.raises(CorpusError, match="the corpus changed since"):
        build_manifest(corpus, settings(), tmp_path / "m")
    assert Manifest.open(tmp_path / "m").hash == first.hash


def test_a_folder_with_something_else_is_left_alone(corpus: DaicWozConfig, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "thesis.tex").write_text("x")
    with pytest.raises(CorpusError, match="is no manifest"):
        build_manifest(corpus, settings(), tmp_path / "m", never)
    assert (tmp_path / "m" / "thesis.tex").read_text() == "x"


def test_a_failed_run_leaves_no_manifest_and_the_next_one_works(corpus: DaicWozConfig, tmp_path: Path) -> None:
    def broken(
        corpus: CorpusConfig, config: PrepareConfig, ids: Sequence[str], out: Path
    ) -> Iterator[PreparedInterview]:
        (out / "half").write_text("x")
        yield from prepare_serially(corpus, config, ids[:2], out)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        build_manifest(corpus, settings(), tmp_path / "m", broken)
    assert not (tmp_path / "m").exists()
    (tmp_path / ".m.partial").mkdir()
    (tmp_path / ".m.partial" / "left by a killed run").write_text("x")
    build_manifest(corpus, settings(), tmp_path / "m")
    assert not (tmp_path / "m" / "left by a killed run").exists()
    assert not (tmp_path / ".m.partial").exists()


def test_two_jobs_do_not_write_one_manifest(corpus: DaicWozConfig, tmp_path: Path) -> None:
    def meanwhile(
        corpus: CorpusConfig, config: PrepareConfig, ids: Sequence[str], out: Path
    ) -> Iterator[PreparedInterview]:
        with pytest.raises(CorpusError, match="another job is making this manifest"):
            build_manifest(corpus, config, tmp_path / "m", never)
        return prepare_serially(corpus, config, ids, out)

    assert not build_manifest(corpus, settings(), tmp_path / "m", meanwhile).reused


@pytest.mark.parametrize("kept", [slice(1, None), slice(0, 0)])
def test_a_lost_interview_is_never_passed_over(corpus: DaicWozConfig, tmp_path: Path, kept: slice) -> None:
    def losing(
        corpus: CorpusConfig, config: PrepareConfig, ids: Sequence[str], out: Path
    ) -> Iterator[PreparedInterview]:
        return prepare_serially(corpus, config, ids[kept], out)

    with pytest.raises(RuntimeError, match="were lost"):
        build_manifest(corpus, settings(), tmp_path / "m", losing)


def test_an_interview_that_comes_twice_is_refused(corpus: DaicWozConfig, tmp_path: Path) -> None:
    def doubling(
        corpus: CorpusConfig, config: PrepareConfig, ids: Sequence[str], out: Path
    ) -> Iterator[PreparedInterview]:
        return prepare_serially(corpus, config, [*ids, ids[0]], out)

    with pytest.raises(RuntimeError, match="500 was prepared twice"):
        build_manifest(corpus, settings(), tmp_path / "m", doubling)


def test_too_many_quarantined_fail_the_run_with_reasons_and_fewer_do_not(tmp_path: Path) -> None:
    sessions = people(8, duration_s=20.0)
    sessions[0].audio = b""
    corpus = DaicWozConfig(path=str(write_corpus(tmp_path / "corpus", sessions)))
    with pytest.raises(CorpusError, match=r"(?s)1 of 8 interviews.*max_quarantined_fraction=0\.05.*500: .*is empty"):
        build_manifest(corpus, settings(), tmp_path / "m")
    assert not (tmp_path / "m").exists()
    summary = build_manifest(corpus, settings(max_quarantined_fraction=0.125), tmp_path / "m")
    assert [interview for interview, _ in summary.quarantined] == ["500"]
    manifest = Manifest.open(tmp_path / "m")
    assert "daic:500" not in manifest.people("train")
    assert "500" not in manifest.clips("train")["interview_id"].to_pylist()
    assert manifest.quarantine().to_pylist()[0]["where"] == "session"


def test_recordings_of_archives_lie_in_the_manifest(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "corpus", people(8, duration_s=20.0), archives=True)
    build_manifest(DaicWozConfig(path=str(root)), settings(), tmp_path / "m")
    (tmp_path / "m").rename(tmp_path / "moved")
    manifest = Manifest.open(tmp_path / "moved")
    row = manifest.clips("train").to_pylist()[0]
    assert (row["root"], row["path"]) == ("manifest", "audio/500_AUDIO.wav")
    assert read_clip(manifest.roots, row).shape == (32_000,)


def test_a_corpus_that_moved_is_found_by_its_new_place(
    manifest: Manifest, corpus: DaicWozConfig, tmp_path: Path
) -> None:
    Path(corpus.path).rename(tmp_path / "elsewhere")
    row = manifest.clips("train").to_pylist()[0]
    with pytest.raises(CorpusError, match="is the corpus in place"):
        read_clip(manifest.roots, row)
    moved = Manifest.open(manifest.path, corpus_root=tmp_path / "elsewhere")
    assert read_clip(moved.roots, row).shape == (32_000,)


@pytest.mark.parametrize("path", ["../a.wav", "/etc/passwd", "500_P/../../a.wav", "a\0.wav"])
@pytest.mark.parametrize(
    ("name", "column"), [("clips", "path"), ("clips", "segments.path"), ("interviews", "recordings.path")]
)
def test_a_manifest_with_a_path_out_of_its_root_is_refused(
    manifest: Manifest, name: str, column: str, path: str
) -> None:
    edit(manifest, name, column, path)
    with pytest.raises(CorpusError, match=rf"{name}\.parquet: path=.*refused"):
        Manifest.open(manifest.path)


def test_a_manifest_with_another_root_is_refused(manifest: Manifest) -> None:
    edit(manifest, "clips", "root", "/")
    with pytest.raises(CorpusError, match="root='/'"):
        Manifest.open(manifest.path)


def test_a_table_behind_a_link_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    (manifest.path / "clips.parquet").rename(tmp_path / "clips.parquet")
    (manifest.path / "clips.parquet").symlink_to(tmp_path / "clips.parquet")
    with pytest.raises(CorpusError, match="link"):
        Manifest.open(manifest.path)


def test_an_altered_table_is_noticed(manifest: Manifest) -> None:
    rows = pq.read_table(manifest.path / "interviews.parquet").to_pylist()
    rows[0]["total"] += 1
    pq.write_table(pa.Table.from_pylist(rows, SCHEMAS["interviews"]), manifest.path / "interviews.parquet")
    with pytest.raises(CorpusError, match="it was altered"):
        Manifest.open(manifest.path)


def test_a_table_of_another_schema_or_none_is_named(manifest: Manifest) -> None:
    clips = pq.read_table(manifest.path / "clips.parquet")
    pq.write_table(clips.drop_columns(["gender"]), manifest.path / "clips.parquet")
    with pytest.raises(CorpusError, match=r"\(gender\)"):
        Manifest.open(manifest.path)
    (manifest.path / "clips.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorpusError, match="not readable as Parquet"):
        Manifest.open(manifest.path)
    with pytest.raises(CorpusError, match="no manifest"):
        Manifest.open(manifest.path.parent / "none")


def test_one_person_in_two_splits_is_refused_by_name(manifest: Manifest) -> None:
    manifest.check_people_disjoint()
    edit(manifest, "clips", "split", "test")
    with pytest.raises(CorpusError, match=r"person daic:500 is in test of manifest and in train of manifest"):
        Manifest.open(manifest.path).check_people_disjoint()


def test_one_person_under_two_corpora_is_refused_by_the_shared_key(corpus: DaicWozConfig, tmp_path: Path) -> None:
    build_manifest(corpus, settings(), tmp_path / "daic")
    sessions = people(8, duration_s=20.0)
    sessions[0].split, sessions[6].split = "test", "train"
    other = DaicWozConfig(path=str(write_corpus(tmp_path / "other", sessions)))
    build_manifest(other, settings(), tmp_path / "edaic")
    first, second = Manifest.open(tmp_path / "daic"), Manifest.open(tmp_path / "edaic")
    first.check_people_disjoint()
    second.check_people_disjoint()
    with pytest.raises(CorpusError, match=r"daic:500 is in train of daic and in test of edaic"):
        first.check_people_disjoint(second)


def test_every_read_of_the_test_split_is_logged_and_counted(
    manifest: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    manifest.clips("train")
    manifest.interviews("validation")
    manifest.people("test")
    assert manifest.num_test_reads() == 0
    manifest.clips("test", reader="evaluate")
    Manifest.open(manifest.path).interviews("test")
    assert Manifest.open(manifest.path).num_test_reads() == 2
    lines = [json.loads(line) for line in (manifest.path / "test_reads.jsonl").read_text().splitlines()]
    assert [(line["table"], line["reader"]) for line in lines] == [("clips", "evaluate"), ("interviews", "")]
    assert "test split read: clips" in caplog.text


def test_no_word_of_a_transcript_is_in_a_manifest(tmp_path: Path) -> None:
    rows = [(0.0, 1.0, "Ellie", "canaryword"), (1.0, 9.0, "Participant", "canaryword"), (9.5, 9.9, "canaryword", "xxx")]
    corpus = DaicWozConfig(path=str(write_corpus(tmp_path / "c", people(8, duration_s=20.0, rows=rows))))
    summary = build_manifest(corpus, settings(), tmp_path / "m")
    tables = [pq.read_table(tmp_path / "m" / f"{name}.parquet").to_pylist() for name in SCHEMAS]
    plain = (tmp_path / "m" / "manifest.json").read_text() + (tmp_path / "m" / "summary.html").read_text()
    assert "canaryword" not in repr(tables) + plain + repr(summary)


def test_the_summary_counts_people_clips_and_shares(corpus: DaicWozConfig, tmp_path: Path) -> None:
    summary = build_manifest(corpus, settings(), tmp_path / "m")
    assert (summary.num_people, summary.num_interviews, summary.num_clips) == (8, 8, 32)
    assert summary.hours == pytest.approx(32 * 2 / 3600)
    rows = {(g.split, g.gender): (g.num_people, g.num_depressed_people, g.num_clips) for g in summary.groups}
    assert rows["train", "all"] == (4, 2, 16)
    assert rows["train", "female"] == (2, 1, 8)
    assert rows["test", "all"] == (2, 1, 8)
    assert json.loads(json.dumps(summary.to_json()))["hash"] == summary.hash


def test_the_page_needs_nothing_from_outside_and_says_what_it_is_not(tmp_path: Path) -> None:
    sessions = [*people(8, duration_s=20.0), Session("342", folder=False), Session("409", score=10, binary=0)]
    corpus = DaicWozConfig(path=str(write_corpus(tmp_path / "c", sessions)))
    summary = build_manifest(corpus, settings(), tmp_path / "m")
    page = (tmp_path / "m" / "summary.html").read_text()
    assert not any(mark in page for mark in ("http:", "https:", "//", "src=", "@import", "url(", "<script", "<link"))
    for shown in (summary.hash, "not a medical device", "binary_contradicts_score", "absent_session", "342"):
        assert shown in page
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(render_terminal(summary))
    text = console.export_text()
    for shown in (summary.hash, "binary_contradicts_score", "validation", "written"):
        assert shown in text


def test_a_reason_is_escaped_in_the_page(tmp_path: Path) -> None:
    sessions = people(8, duration_s=20.0)
    corpus = DaicWozConfig(path=str(write_corpus(tmp_path / "c", sessions)))
    build_manifest(corpus, settings(), tmp_path / "m")
    tables = {name: pq.read_table(tmp_path / "m" / f"{name}.parquet") for name in SCHEMAS}
    tables["quarantine"] = pa.Table.from_pylist(
        [{"corpus": "c", "interview_id": "1", "where": "w", "reason": "<script>alert(1)</script>"}],
        SCHEMAS["quarantine"],
    )
    summary = summarise(tables, tmp_path, "h", "c", settings().content(), None)
    assert "<script>" not in render_html(summary, tables)


def test_the_complete_corpus_far_from_the_published_clips_is_a_warning(
    corpus: DaicWozConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert DaicWozConfig(path="x").expected_num_clips(189) == 9_044
    assert DaicWozConfig(path="x").expected_num_clips(188) is None
    monkeypatch.setattr("moodscale.corpora.daic_woz.NUM_SESSIONS", 8)
    as_published = build_manifest(corpus, PrepareConfig(), tmp_path / "a")
    assert any("about 9,044" in warning for warning in as_published.warnings)
    assert not any("9,044" in w for w in build_manifest(corpus, settings(), tmp_path / "b").warnings)
    tables = {name: pq.read_table(tmp_path / "b" / f"{name}.parquet") for name in SCHEMAS}
    near = round(32 / (1 + CLIP_TOLERANCE)) + 1
    assert summarise(tables, tmp_path, "h", "c", settings().content(), near).warnings == ()


def test_a_corpus_without_any_label_is_refused(tmp_path: Path) -> None:
    sessions = [Session(str(300 + i), split="test", duration_s=20.0) for i in range(3)]
    write_corpus(tmp_path / "c", sessions, full_test=False)
    with pytest.raises(CorpusError, match="no interview has a label"):
        build_manifest(DaicWozConfig(path=str(tmp_path / "c")), settings(), tmp_path / "m")


def test_versions_and_settings_are_recorded(manifest: Manifest, corpus: DaicWozConfig) -> None:
    assert manifest.facts["corpus"] == corpus.to_json()
    assert manifest.facts["prepare"] == settings().to_json()
    assert {"moodscale", "python", *build._VERSIONS} == manifest.facts["versions"].keys()
