"""A person who never filled in a questionnaire, and was labelled by others: their labels go, the models are named."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from moodscale.forget.forget import Forgotten, Places, forget
from moodscale.prepare.manifest import Manifest
from moodscale.train.labels import Labeller, first_step, write_labels
from tiny_transcripts import prepared

PERSON = "conv:u02"


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """An experiment with true labels alone, its round of pseudo-labels, the model of a fold, and the answers."""
    root = tmp_path / "runs"
    manifest = prepared(root / "m" / "manifest", [3, 12, None, None, 7, 9])
    for folder, labels in (("m", False), ("m-round-1", True), ("m/label/round-2/fold-0", True)):
        run = root / folder
        (run / "checkpoints" / "step-00000001").mkdir(parents=True)
        content = {"job": {}, "manifest": manifest.hash, **({"labels": "0" * 32} if labels else {})}
        (run / "train.json").write_text(json.dumps(content))
        if labels:
            rows = [row_of(row) for row in manifest.unlabelled().to_pylist()]
            write_labels(run / "labels.parquet", rows, {"teacher": Labeller("teacher", "t@1")}, manifest)
    (root / "answers" / "ab").mkdir(parents=True)
    for person in (PERSON, "conv:u03"):
        (root / "answers" / "ab" / f"{person[-3:]}.json").write_text(json.dumps({"person": person, "total": 5}))
    return root


def row_of(interview: dict[str, str]) -> dict[str, object]:
    row = {name: interview[name] for name in ("corpus", "interview_id", "person")}
    label = {"instrument": "PHQ-9", "total": 6.0, "items": None, "weight": 1.0, "provenance": "pseudo"}
    return {**row, **label, "chain": [first_step(label, "teacher", 1, 0.5)]}


def forgotten(storage: Path, person: str) -> Forgotten:
    return forget(person, Places(runs=(str(storage),)), really=True)


def test_their_pseudo_labels_and_the_teachers_answers_are_gone_and_others_stay(storage: Path) -> None:
    assert forgotten(storage, PERSON).found
    for table in storage.rglob("labels.parquet"):
        assert pq.read_table(table)["person"].to_pylist() == ["conv:u03"]
    assert [file.stem for file in storage.rglob("answers/ab/*.json")] == ["u03"]
    assert PERSON not in Manifest.open(storage / "m" / "manifest").unlabelled()["person"].to_pylist()


def test_every_model_that_took_their_pseudo_label_is_named_and_the_one_of_true_labels_is_not(storage: Path) -> None:
    models = forgotten(storage, PERSON).models
    runs = {Path(model.name).name: model.split for model in models if model.kind == "run"}
    assert runs == {"m-round-1": "pseudo-labelled", "fold-0": "pseudo-labelled"}


def test_somebody_with_a_true_label_is_in_the_lineage_of_all_of_them(storage: Path) -> None:
    models = forgotten(storage, "conv:u00").models
    assert {Path(model.name).name for model in models if model.kind == "run"} == {"m", "m-round-1", "fold-0"}
