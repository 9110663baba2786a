"""Rounds in this process, with a trainer that learns nothing: who labels whom, what is kept, when it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from moodscale.config import ConfigError, validate
from moodscale.label import rounds
from moodscale.label.config import LabelConfig
from moodscale.label.rounds import Labelling, LabelSummary
from moodscale.label.rounds import label as label_in_rounds
from moodscale.prepare.manifest import Manifest
from moodscale.recipes.base import Score
from moodscale.schema import Split, person_hash
from moodscale.tracking.base import RunSpec
from moodscale.tracking.jsonl import JsonlConfig
from moodscale.train.config import OptimConfig, TrainConfig
from moodscale.train.driver import TrainJob, TrainSummary
from moodscale.train.labels import TrainingLabels, open_labels
from tiny_transcripts import prepared, recipe_config

TOTALS = [3, 12, None, None, 7, 9, 20, 1, None, None, 5, 15, None, 8, 4, None, 11, 2]


class FakeCheckpoint:
    def __init__(self, path: Path, metrics: dict[str, float]) -> None:
        self.path, self.metrics = path, metrics


class FakeStore:
    def __init__(self, metrics: dict[str, float]) -> None:
        self._checkpoint = FakeCheckpoint(Path("step-1"), metrics)

    def best(self) -> FakeCheckpoint:
        return self._checkpoint


class Fakes:
    """Trains by writing down what it was asked for; a model says ``said`` points of everybody."""

    def __init__(self, mae: dict[str, float], said: float = 10.0) -> None:
        self.mae, self.said = mae, said
        self.trained: list[TrainJob] = []
        self.labelled: dict[str, tuple[str, ...]] = {}

    def train(self, job: TrainJob, tracker: Any, spec: RunSpec) -> TrainSummary:
        self.trained.append(job)
        tracker.start_or_resume(spec)
        mae = self.mae.get(job.name, 4.0)
        return TrainSummary("run", 1, 0, "step-1", {"mae": mae, "rmse": mae, "pearson_r": 0.5}, False)

    def score(self, job: TrainJob, examples: Any, manifest: Manifest) -> list[Score]:
        self.labelled[job.name] = examples.persons
        return [Score(self.said)] * len(examples)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return prepared(tmp_path_factory.mktemp("rounds") / "manifest", TOTALS)


@pytest.fixture(autouse=True)
def _no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "best_checkpoint", lambda job: FakeCheckpoint(Path("step-1"), {}))
    monkeypatch.setattr(rounds, "model_version", lambda name, path: f"{name}@step-1")
    monkeypatch.setattr(TrainJob, "is_finished", lambda self: True)
    monkeypatch.setattr(TrainJob, "store", lambda self: FakeStore({"mae": 4.0, "rmse": 5.0, "pearson_r": 0.4}))


def run(
    manifest: Manifest, storage: Path, fakes: Fakes, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> LabelSummary:
    monkeypatch.setattr(rounds, "train", fakes.train)
    monkeypatch.setattr(rounds, "score_examples", fakes.score)
    job = TrainJob(
        name="m",
        seed=0,
        run_dir=str(storage / "m"),
        manifest=str(manifest.path),
        recipe=recipe_config(),
        optim=OptimConfig(),
        train=TrainConfig(use_gpu=False),
    )

    def spec_of(name: str, directory: UPath, tags: dict[str, str]) -> RunSpec:
        return RunSpec(run_key=name, name=name, tags=tags)

    config = validate(
        LabelConfig, {"teacher": {"kind": "recorded", "path": str(storage / "answers.jsonl")}, **settings}
    )
    work = Labelling(job, config, str(storage / "answers"), lambda: JsonlConfig().open(str(storage)), spec_of)
    return label_in_rounds(work)


@pytest.fixture
def storage(tmp_path: Path, manifest: Manifest) -> Path:
    """A recorded teacher who gives everybody 6 points, and one of them nothing."""
    units = [f"conversations:{row['interview_id']}" for row in manifest.unlabelled().to_pylist()]
    units += [f"conversations:{row['interview_id']}" for row in manifest.interviews(Split.VALIDATION).to_pylist()]
    lines = [
        {"unit_id": unit, "items": [1, 1, 1, 1, 1, 1, 0, 0, 0], "total": 6, "confidence": 0.8} for unit in units[1:]
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def labels_of(manifest: Manifest, path: Path) -> TrainingLabels:
    return open_labels(path / "labels.parquet", manifest)


def test_the_teacher_labels_whom_nobody_asked_and_true_labels_stay(
    manifest: Manifest, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = Fakes({})
    summary = run(manifest, storage, fakes, monkeypatch, rounds=1, num_orders=0)
    assert [job.name for job in fakes.trained] == ["m-round-1"]
    found = labels_of(manifest, storage / "m" / "label" / "round-1").rows.to_pylist()
    truth = {row["person"]: row["total"] for row in manifest.interviews(Split.TRAIN).to_pylist()}
    assert {row["person"]: row["total"] for row in found if row["provenance"] == "questionnaire"} == truth
    pseudo = [row for row in found if row["provenance"] == "pseudo"]
    assert {(row["total"], row["weight"]) for row in pseudo} == {(6.0, 0.5 * 0.8)}
    first, second = summary.rounds
    assert (first["num_true"], first["num_pseudo"]) == (len(truth), 0)
    assert (second["num_pseudo"], second["num_left_out"]) == (len(pseudo), 1)
    assert second["agreement"]["num"] == len(manifest.people(Split.VALIDATION))


def test_later_rounds_label_everybody_by_a_model_that_has_not_seen_them(
    manifest: Manifest, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = Fakes({"m-round-1": 3.0, "m-round-2": 2.5})
    summary = run(manifest, storage, fakes, monkeypatch, rounds=2, folds=2, blend=0.5, num_orders=0)
    names = ["m-round-1", "m-round-2-fold-0", "m-round-2-fold-1", "m-round-2"]
    assert [job.name for job in fakes.trained] == names
    found = labels_of(manifest, storage / "m" / "label" / "round-2")
    pseudo = [row for row in found.rows.to_pylist() if row["provenance"] == "pseudo"]
    assert {row["total"] for row in pseudo} == {8.0}
    assert {len(row["chain"]) for row in pseudo} == {2}
    assert sorted(person for people in fakes.labelled.values() for person in people) == sorted(
        row["person"] for row in pseudo
    )
    for fold in (0, 1):
        learned_from = labels_of(manifest, storage / "m" / "label" / "round-2" / f"fold-{fold}").people
        labelled = set(fakes.labelled[f"m-round-2-fold-{fold}"])
        assert labelled
        assert not labelled & learned_from
        own = found.labellers[f"round 2 fold {fold}"]
        assert own.learned_from == {person_hash(person) for person in learned_from}
    assert summary.best_round == 2
    assert summary.best_run == "m-round-2"
    assert summary.rounds[2]["label_shift"] == {
        "mean": 2.0,
        "mean_abs": 2.0,
        "max_abs": 2.0,
        "num_changed": len(pseudo),
    }


def test_rounds_end_where_validation_does_not_get_better(
    manifest: Manifest, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = Fakes({"m-round-1": 3.0, "m-round-2": 3.5})
    summary = run(manifest, storage, fakes, monkeypatch, rounds=5, folds=2, num_orders=0)
    assert [entry["improved"] for entry in summary.rounds] == [None, True, False]
    assert summary.best_run == "m-round-1"
    assert "round 2 did not better validation mae" in summary.stopped


def test_no_round_is_best_where_pseudo_labels_harm(
    manifest: Manifest, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = run(manifest, storage, Fakes({"m-round-1": 4.5}), monkeypatch, rounds=1, num_orders=0)
    assert (summary.best_round, summary.best_run) == (0, "m")


def test_every_run_is_a_child_of_the_one_that_tells_the_rounds(
    manifest: Manifest, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs: list[RunSpec] = []
    fakes = Fakes({})

    def watching(job: TrainJob, tracker: Any, spec: RunSpec) -> TrainSummary:
        specs.append(spec)
        return Fakes.train(fakes, job, tracker, spec)

    fakes.train = watching  # type: ignore[method-assign]
    summary = run(manifest, storage, fakes, monkeypatch, rounds=2, folds=2, patience=2, num_orders=0)
    assert {spec.tags["mlflow.parentRunId"] for spec in specs} == {summary.run_id}
    assert [(spec.tags["moodscale.round"], spec.tags.get("moodscale.fold")) for spec in specs] == [
        ("1", None), ("2", "0"), ("2", "1"), ("2", None),
    ]  # fmt: skip


def test_killed_between_rounds_it_comes_to_the_same_end_and_finished_it_changes_nothing(
    manifest: Manifest, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        pass

    fakes = Fakes({"m-round-1": 3.0, "m-round-2": 2.0})

    def die(job: TrainJob, tracker: Any, spec: RunSpec) -> TrainSummary:
        if job.name == "m-round-2-fold-1":
            raise KilledError
        return Fakes.train(fakes, job, tracker, spec)

    mortal = Fakes(fakes.mae)
    mortal.train = die  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        run(manifest, storage, mortal, monkeypatch, rounds=2, folds=2, num_orders=0)
    kept = labels_of(manifest, storage / "m" / "label" / "round-1").hash
    summary = run(manifest, storage, fakes, monkeypatch, rounds=2, folds=2, num_orders=0)
    assert labels_of(manifest, storage / "m" / "label" / "round-1").hash == kept
    assert summary.best_run == "m-round-2"
    trained = len(fakes.trained)
    again = run(manifest, storage, fakes, monkeypatch, rounds=2, folds=2, num_orders=0)
    assert again.already_finished
    assert len(fakes.trained) == trained
    assert {**again.to_json(), "already_finished": False} == json.loads(json.dumps(summary.to_json()))


def test_other_settings_in_the_same_folder_are_refused_by_name(
    manifest: Manifest, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(manifest, storage, Fakes({}), monkeypatch, rounds=1, num_orders=0)
    with pytest.raises(ConfigError, match=r"label\.weight differ"):
        run(manifest, storage, Fakes({}), monkeypatch, rounds=1, num_orders=0, weight=0.9)


def test_a_corrupted_provenance_row_stops_a_resubmitted_job(
    manifest: Manifest, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    run(manifest, storage, Fakes({}), monkeypatch, rounds=1, num_orders=0)
    (storage / "m" / "label" / "rounds.json").unlink()
    path = storage / "m" / "label" / "round-1" / "labels.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    victim = next(row for row in rows if row["provenance"] == "pseudo")
    victim["chain"][0]["confidence"] = 1.0
    pq.write_table(type(table).from_pylist(rows, table.schema), path)
    with pytest.raises(ValueError, match=rf"interview {victim['interview_id']} of .* provenance was altered"):
        run(manifest, storage, Fakes({}), monkeypatch, rounds=1, num_orders=0)


def test_without_a_label_from_the_teacher_there_is_none(
    manifest: Manifest, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (storage / "answers.jsonl").write_text("")
    with pytest.raises(ConfigError):
        run(manifest, storage, Fakes({}), monkeypatch, rounds=1, num_orders=0)
    assert not (storage / "m" / "label" / "round-1").exists()


def test_with_nobody_to_label_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everybody = prepared(tmp_path / "manifest", [3, 12, 4, 5, 7, 9])
    with pytest.raises(ConfigError, match="nobody to label"):
        run(everybody, tmp_path, Fakes({}), monkeypatch, rounds=1)
