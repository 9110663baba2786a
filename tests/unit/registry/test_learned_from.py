"""Whom a model has learned from, and finding it again when one of them asks to be forgotten."""

from __future__ import annotations

from pathlib import Path

from moodscale.prepare.manifest import Manifest
from moodscale.registry.facts import digests_of
from moodscale.registry.lineage import LineageStore
from moodscale.registry.register import trained_people
from moodscale.registry.versions import Registered
from moodscale.schema import Provenance
from moodscale.train.labels import QUESTIONNAIRE, Labeller, first_step, write_labels
from tiny_registry import Trained


def test_with_a_table_of_labels_they_are_its_people_and_those_its_labellers_had_learned_from(
    severity: Trained, tmp_path: Path
) -> None:
    manifest = Manifest.open(severity.job.manifest)
    own, told = manifest.interviews("train").to_pylist()[:2], manifest.unlabelled().to_pylist()[:1]
    rows = []
    for row in [*own, *told]:
        is_true = row["total"] is not None
        labelled = {**row, "total": float(row["total"] if is_true else 9), "instrument": "PHQ-9", "items": None}
        chain = [first_step(labelled, QUESTIONNAIRE if is_true else "teacher", 0, None if is_true else 0.8)]
        provenance = Provenance.QUESTIONNAIRE if is_true else Provenance.PSEUDO
        rows.append({**labelled, "weight": 1.0, "provenance": str(provenance), "chain": chain})
    elsewhere = digests_of(["other:1", "other:2"])
    labellers = {"teacher": Labeller("teacher", "v1", frozenset(elsewhere))}
    write_labels(tmp_path / "labels.parquet", rows, labellers, manifest)
    job = severity.job.model_copy(update={"labels": str(tmp_path / "labels.parquet")})
    people = [row["person"] for row in rows] + list(manifest.people("validation"))
    assert set(trained_people(job, manifest)) == {*digests_of(people), *elsewhere}
    # Not those of the training split whose labels the job never saw.
    assert len(manifest.people("train")) > 2


def test_without_one_they_are_the_training_and_validation_people(severity: Trained) -> None:
    manifest = Manifest.open(severity.job.manifest)
    everyone = [*manifest.people("train"), *manifest.people("validation")]
    assert trained_people(severity.job, manifest) == digests_of(everyone)


def test_a_severity_models_version_is_found_by_its_manifest(severity: Trained, registered_severity: Registered) -> None:
    store = LineageStore(severity.uri)
    manifest = Manifest.open(severity.job.manifest)
    assert "models:/severe/1" in [version.label for version in store.versions_of([manifest.hash])]
    (version,) = [one for one in store.versions_of([manifest.hash]) if one.label == "models:/severe/1"]
    store.mark_forgotten(version, "f" * 32)
    (marked,) = [one for one in store.versions_of([manifest.hash]) if one.label == "models:/severe/1"]
    assert '"count": 1' in marked.forgotten
