"""A table of labels: whoever must not be in it, and whatever was altered, is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from upath import UPath

from moodscale.prepare.manifest import Manifest
from moodscale.schema import CorpusError, Split, person_hash
from moodscale.train.labels import (
    LABELS_SCHEMA,
    QUESTIONNAIRE,
    Labeller,
    first_step,
    next_step,
    open_labels,
    write_labels,
)
from tiny_transcripts import prepared

TEACHER = {"teacher": Labeller("teacher", "lexicon@1")}
Row = dict[str, Any]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Twelve users; 0-3 and 6-9 are trained on, of whom 2, 3, 8 and 9 filled in no questionnaire; 4 and 5 (10 and 11)
    are in validation and test."""
    totals = [3, 12, None, None, 7, 9, 20, 1, None, None, 5, 15]
    return prepared(tmp_path_factory.mktemp("labels") / "manifest", totals)


def rows_of(manifest: Manifest) -> list[Row]:
    """True labels of everybody in training, and a teacher's of everybody without one."""
    rows = []
    for one in manifest.interviews(Split.TRAIN).to_pylist():
        rows.append(row_of(one, float(one["total"]), "questionnaire", QUESTIONNAIRE))
    for one in manifest.unlabelled().to_pylist():
        rows.append(row_of(one, 6.0, "pseudo", "teacher"))
    return rows


def row_of(interview: Row, total: float, provenance: str, labeller: str) -> Row:
    row = {name: interview[name] for name in ("corpus", "interview_id", "person")}
    row |= {"instrument": "PHQ-9", "total": total, "items": None, "weight": 1.0, "provenance": provenance}
    return {**row, "chain": [first_step(row, labeller, 0 if labeller == QUESTIONNAIRE else 1, 0.5)]}


def test_a_table_is_read_as_it_was_written(manifest: Manifest, tmp_path: Path) -> None:
    written = write_labels(tmp_path / "labels.parquet", rows_of(manifest), TEACHER, manifest)
    found = open_labels(tmp_path / "labels.parquet", manifest)
    assert found.hash == written.hash
    assert found.rows.equals(written.rows)
    assert len(found.rows) == 8
    assert found.labellers == TEACHER
    assert set(found.for_training()["weight"].to_pylist()) == {1.0}


def test_equal_labels_hash_equally_whatever_their_order(manifest: Manifest, tmp_path: Path) -> None:
    one = write_labels(tmp_path / "one.parquet", rows_of(manifest), TEACHER, manifest)
    other = write_labels(tmp_path / "other.parquet", reversed(rows_of(manifest)), TEACHER, manifest)
    assert one.hash == other.hash


def altered(path: Path, change: Callable[[list[Row]], object]) -> None:
    """Change rows of a written table behind its back."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(type(table).from_pylist(rows, LABELS_SCHEMA.with_metadata(table.schema.metadata)), path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda rows: rows[2]["chain"][0].update(given=1.0), "step 1 of its provenance was altered"),
        (lambda rows: rows[2]["chain"][0].update(labeller="somebody else"), "step 1 of its provenance was altered"),
        (lambda rows: rows[2].update(total=2.0), "the row was altered"),
        (lambda rows: rows[2].update(weight=3.0), "the row was altered"),
        (lambda rows: rows[2].update(provenance="questionnaire"), "the row was altered"),
    ],
)
def test_a_corrupted_row_is_refused_by_name(
    manifest: Manifest, tmp_path: Path, change: Callable[[list[Row]], object], named: str
) -> None:
    path = tmp_path / "labels.parquet"
    write_labels(path, rows_of(manifest), TEACHER, manifest)
    altered(path, change)
    with pytest.raises(CorpusError, match=rf"interview u02 of conv:u02.*{named}"):
        open_labels(path, manifest)


def test_a_row_that_was_taken_away_is_missed(manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    write_labels(path, rows_of(manifest), TEACHER, manifest)
    altered(path, lambda rows: rows.pop())
    with pytest.raises(CorpusError, match="added or taken away"):
        open_labels(path, manifest)


@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST])
def test_nobody_who_is_held_out_gets_a_label(manifest: Manifest, tmp_path: Path, split: Split) -> None:
    held_out = manifest.interviews(split, reader="test").to_pylist()[0]
    rows = [*rows_of(manifest), row_of(held_out, 6.0, "pseudo", "teacher")]
    with pytest.raises(CorpusError, match=rf"person {held_out['person']} is in the {split} split"):
        write_labels(tmp_path / "labels.parquet", rows, TEACHER, manifest)
    assert not (tmp_path / "labels.parquet").exists()


def changed(rows: list[Row], person: str, **values: Any) -> list[Row]:
    """One person's row made again, as if it had been written so."""
    found = []
    for row in rows:
        if row["person"] == person:
            own = {**row, **values}
            labeller = QUESTIONNAIRE if own["provenance"] == "questionnaire" else "teacher"
            row = {**own, "chain": [first_step(own, labeller, 1, 0.5)]}
        found.append(row)
    return found


@pytest.mark.parametrize(
    ("person", "values", "named"),
    [
        ("conv:u00", {"total": 4.0}, "u00: its true label is not the manifest's"),
        ("conv:u00", {"provenance": "pseudo"}, "u00 has a true label"),
        ("conv:u02", {"provenance": "questionnaire"}, "u02: its true label is not the manifest's"),
        ("conv:u02", {"total": 28.0}, "u02: total is outside PHQ-9's range"),
        ("conv:u02", {"weight": 0.0}, "u02: weight=0 must be above 0"),
        ("conv:u02", {"interview_id": "u77"}, "u77 of conv:u02 is not in the manifest's training people"),
    ],
)
def test_what_no_label_may_be_is_refused(
    manifest: Manifest, tmp_path: Path, person: str, values: dict[str, Any], named: str
) -> None:
    with pytest.raises(CorpusError, match=named):
        write_labels(tmp_path / "labels.parquet", changed(rows_of(manifest), person, **values), TEACHER, manifest)


def test_an_interview_has_one_label(manifest: Manifest, tmp_path: Path) -> None:
    rows = rows_of(manifest)
    with pytest.raises(CorpusError, match=f"{rows[-1]['interview_id']} is there twice"):
        write_labels(tmp_path / "labels.parquet", [*rows, rows[-1]], TEACHER, manifest)


def test_who_learned_from_somebody_does_not_label_them(manifest: Manifest, tmp_path: Path) -> None:
    taught_by_them = {"teacher": Labeller("fold", "m@1", frozenset({person_hash("conv:u02")}))}
    with pytest.raises(CorpusError, match="teacher has learned from person conv:u02"):
        write_labels(tmp_path / "labels.parquet", rows_of(manifest), taught_by_them, manifest)


def test_who_learned_from_the_test_split_labels_nobody(manifest: Manifest, tmp_path: Path) -> None:
    tested = manifest.people(Split.TEST)[0]
    leaking = {"teacher": Labeller("teacher", "m@1", frozenset({person_hash(tested)}))}
    with pytest.raises(CorpusError, match=f"learned from person {tested} of the test split"):
        write_labels(tmp_path / "labels.parquet", rows_of(manifest), leaking, manifest)


def test_a_table_of_another_manifest_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    write_labels(path, rows_of(manifest), TEACHER, manifest)
    other = prepared(tmp_path / "other", [3, 12, None, None, 7, 9])
    with pytest.raises(CorpusError, match="made for the manifest"):
        open_labels(path, other)


def test_something_else_is_no_table_of_labels(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "labels.parquet").write_text("no")
    with pytest.raises(CorpusError, match="no readable table of labels"):
        open_labels(tmp_path / "labels.parquet", manifest)


def test_a_chain_keeps_every_labeller_in_turn(manifest: Manifest, tmp_path: Path) -> None:
    rows = rows_of(manifest)
    last = rows[-1]
    step = next_step(last["chain"], "round 2 fold 0", 2, given=10.0, total=8.0, items=None, confidence=0.9)
    rows[-1] = {**last, "total": 8.0, "chain": [*last["chain"], step]}
    labellers = {**TEACHER, "round 2 fold 0": Labeller("fold", "m@2")}
    found = write_labels(UPath(tmp_path / "labels.parquet"), rows, labellers, manifest)
    chain = next(row for row in found.rows.to_pylist() if row["person"] == last["person"])["chain"]
    assert [(one["round"], one["labeller"], one["given"], one["total"]) for one in chain] == [
        (1, "teacher", 6.0, 6.0),
        (2, "round 2 fold 0", 10.0, 8.0),
    ]
