"""Building an ensemble: whose scores are combined, who may be a member, what is read and what is kept."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from upath import UPath

from moodscale.config import ConfigError, validate
from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.evaluate.table import read_predictions
from moodscale.prepare.build import build_manifest
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from moodscale.registry import ensemble_members
from moodscale.registry.config import RegistryConfig
from moodscale.registry.ensemble_build import build_ensemble
from moodscale.registry.ensemble_config import EnsembleConfig
from moodscale.registry.ensemble_members import check_not_learned_from, open_members
from moodscale.registry.facts import digests_of
from moodscale.registry.judgement import Judgement
from moodscale.registry.register import register
from moodscale.schema import PREDICTION_SCHEMA, CorpusError, Split
from moodscale.storage import location
from moodscale.tracking.base import RunSpec
from moodscale.train.labels import QUESTIONNAIRE, Labeller, TrainingLabels, first_step, write_labels
from tiny_ensemble import CANARY, NUM, Runs, add_run, change_table, in_this_process, make_runs
from tiny_severity import severity_recipe


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Made once; tests add ensembles and registered models under names of their own and change nothing else."""
    return make_runs(tmp_path_factory.mktemp("ensemble"))


def table_of(path: Any) -> pd.DataFrame:
    return read_predictions(Path(path)).frame.set_index("unit_id")


def test_the_table_has_every_held_out_interview_with_the_mean_of_its_members(runs: Runs) -> None:
    add_run(
        runs.storage, "again", severity_recipe(instrument="PHQ-8"), {"target": "total", "unit": "interview"}, step=9
    )
    built = runs.build("words_twice", ("runs:/words", "runs:/more_words"))
    assert pq.read_schema(built.predictions).equals(PREDICTION_SCHEMA)
    table = table_of(built.predictions)
    assert table["split"].value_counts().to_dict() == {"validation": NUM["validation"], "test": NUM["test"]}
    assert set(table["unit"]) == {"interview"}
    assert set(table["target"]) == {"total"}
    assert set(table["instrument"]) == {"PHQ-8"}
    assert set(table["model_version"]) == {built.model_version}
    members = [table_of(runs.storage / name / "predictions.parquet") for name in ("words", "more_words")]
    means = sum(one[one["target"] == "total"]["score"] for one in members) / 2
    assert table["score"].to_numpy() == pytest.approx(means.reindex(table.index).to_numpy())


def test_clips_are_averaged_over_an_interview_before_they_are_linked(runs: Runs) -> None:
    built = runs.build("linked")
    clips = table_of(runs.storage / "clips" / "predictions.parquet")
    means = clips.groupby(clips.index.str.rpartition(":").get_level_values(0))["score"].mean()
    answers = pq.read_table(built.directory / "answers.parquet").to_pandas().set_index("unit_id")
    assert answers["runs:/clips"].to_numpy() == pytest.approx(means.reindex(answers.index).to_numpy())
    scores = answers[["runs:/clips", "runs:/words"]].to_numpy().T
    assert table_of(built.predictions)["score"].reindex(answers.index).to_numpy() == pytest.approx(
        built.fit.apply(scores).score
    )
    assert ((answers["low"] <= answers["score"]) & (answers["score"] <= answers["high"])).all()


def test_classifiers_alone_make_a_classifier(runs: Runs) -> None:
    job = add_run_like(runs, "clips_too", step=8)
    built = runs.build("classifiers", ("runs:/clips", f"runs:/{job}"))
    table = table_of(built.predictions)
    assert set(table["target"]) == {"depressed"}
    assert set(table["label"]) == {0.0, 1.0}
    assert table["score"].between(0, 1).all()
    assert built.fit.weights == (0.5, 0.5)


def add_run_like(runs: Runs, name: str, step: int) -> str:
    """Another run of clips, unless a test has made it already."""
    if not (runs.storage / name).exists():
        recipe = ensemble_members._job_of(location(runs.storage / "clips"), Manifest.open(runs.manifest))[0].recipe
        points = {"temperature": 1.0, "threshold": 0.5, "participant_threshold": 0.5}
        add_run(runs.storage, name, recipe, points, step=step)
    return name


def test_building_again_reads_no_test_label_and_changes_nothing(runs: Runs) -> None:
    manifest = Manifest.open(runs.manifest)
    before = manifest.num_test_reads()
    built = runs.build("again_and_again", weights="validation")
    assert (built.already_built, manifest.num_test_reads()) == (False, before + 1)
    files = {path: path.read_bytes() for path in Path(built.directory).rglob("*") if path.is_file()}
    again = runs.build("again_and_again", weights="validation")
    assert (again.already_built, again.model_version, again.fit) == (True, built.model_version, built.fit)
    assert manifest.num_test_reads() == before + 1
    assert {path: path.read_bytes() for path in Path(built.directory).rglob("*") if path.is_file()} == files
    other = runs.build("again_and_again", weights="equal")
    assert not other.already_built
    assert other.model_version != built.model_version


def test_the_summary_says_members_weights_and_how_wide_the_interval_is(runs: Runs) -> None:
    built = runs.build("summed_up", weights="validation")
    summary = json.loads((built.directory / "ensemble.json").read_text())
    assert [member["name"] for member in summary["members"]] == ["runs:/clips", "runs:/words"]
    assert [member["recipe"] for member in summary["members"]] == ["qwen2_audio", "transcript_severity"]
    assert sum(member["weight"] for member in summary["members"]) == pytest.approx(1)
    words = table_of(runs.storage / "words" / "predictions.parquet")
    rows = words[(words["split"] == "validation") & (words["target"] == "total")]
    assert summary["members"][1]["validation"]["mae"] == pytest.approx((rows["score"] - rows["label"]).abs().mean())
    assert summary["calibration"] == {"kind": "none"}
    assert summary["interval"]["level"] == 0.9
    assert summary["fitted_on"] == {"num_units": 20, "num_people": 20, "num_folds": 5, "split": "validation"}
    assert "pulled towards equal ones" in summary["weighting"]
    assert CANARY not in json.dumps(summary)


def dropping(units: int) -> Any:
    """Takes away so many interviews of validation."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        gone = sorted(set(frame[frame["split"] == "validation"]["unit_id"]))[:units]
        return frame[~frame["unit_id"].isin(gone)]

    return change


def test_interviews_that_one_member_does_not_score_are_counted_and_one_is_named(runs: Runs, tmp_path: Path) -> None:
    storage = runs.copied(tmp_path)
    change_table(storage / "words" / "predictions.parquet", dropping(3))
    with pytest.raises(ValueError, match=r"runs:/words: has no score of 3 of 20 validation .* such as daic_woz:404"):
        runs.build("missing", storage=storage)


def test_interviews_of_another_split_are_refused(runs: Runs, tmp_path: Path) -> None:
    storage = runs.copied(tmp_path)
    swapped = {"validation": "test", "test": "validation"}
    change_table(storage / "words" / "predictions.parquet", lambda rows: rows.assign(split=rows["split"].map(swapped)))
    with pytest.raises(ValueError, match=r"runs:/words: scores 6 interviews as validation that are not in the valid"):
        runs.build("swapped", storage=storage)


def test_labels_that_differ_from_the_manifests_are_refused(runs: Runs, tmp_path: Path) -> None:
    storage = runs.copied(tmp_path)
    change_table(storage / "clips" / "predictions.parquet", lambda rows: rows.assign(label=1 - rows["label"]))
    with pytest.raises(ValueError, match=r"runs:/clips: .* other labels than the manifest .* for 20 interviews"):
        runs.build("labels", storage=storage)


def test_totals_of_two_instruments_are_never_mixed(runs: Runs, tmp_path: Path) -> None:
    storage = runs.copied(tmp_path, "clips", "words", "more_words")
    nine = lambda rows: rows.assign(instrument="PHQ-9")  # noqa: E731
    change_table(storage / "words" / "predictions.parquet", nine)
    with pytest.raises(ValueError, match=r"runs:/more_words of PHQ-8, runs:/words of PHQ-9: .* never mixed"):
        runs.build("mixed", ("runs:/words", "runs:/more_words"), storage=storage)
    with pytest.raises(ValueError, match=r"daic_woz:404 was asked PHQ-8, the ensemble's totals are of PHQ-9"):
        runs.build("mixed", storage=storage)


@pytest.mark.parametrize("missing", ["predictions.parquet", "evaluation.json"])
def test_a_run_that_was_not_evaluated_is_refused_with_the_step_that_is_missing(
    runs: Runs, tmp_path: Path, missing: str
) -> None:
    storage = runs.copied(tmp_path)
    (storage / "words" / missing).unlink()
    with pytest.raises(ConfigError, match=f"{missing} is missing: run `moodscale evaluate` for this member first"):
        runs.build("unevaluated", storage=storage)


def test_a_run_that_is_not_there_or_of_another_evaluation_is_refused(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: no run \(train\.json is missing\)"):
        runs.build("nowhere", ("runs:/clips", "runs:/nowhere"))
    storage = runs.copied(tmp_path)
    evaluation = storage / "words" / "evaluation.json"
    evaluation.write_text(json.dumps({**json.loads(evaluation.read_text()), "model_versions": ["words@step-1:abc"]}))
    with pytest.raises(ValueError, match="the evaluation is of words@step-1:abc"):
        runs.build("older", storage=storage)


def learn_from_table(run: Path, manifest: Manifest, labeller: Labeller) -> TrainingLabels:
    """Make a run one of pseudo-labels, as training leaves it."""
    rows = []
    for one in manifest.interviews(Split.TRAIN).to_pylist():
        row = {name: one[name] for name in ("corpus", "interview_id", "person", "instrument")}
        row |= {"total": float(one["total"]), "items": None, "weight": 1.0, "provenance": "questionnaire"}
        rows.append({**row, "chain": [first_step(row, QUESTIONNAIRE, 0, None)]})
    table = write_labels(run / "labels.parquet", rows, {QUESTIONNAIRE: labeller}, manifest)
    facts = json.loads((run / "train.json").read_text())
    (run / "train.json").write_text(json.dumps({**facts, "labels": table.hash}))
    return table


def test_a_run_of_a_table_of_labels_has_learned_from_its_people(runs: Runs, tmp_path: Path) -> None:
    storage, manifest = runs.copied(tmp_path), Manifest.open(runs.manifest)
    table = learn_from_table(storage / "words", manifest, Labeller(QUESTIONNAIRE, ""))
    built = runs.build("labelled", storage=storage)
    assert set(digests_of(table.people)) <= built.members[1].trained_people
    (storage / "words" / "labels.parquet").unlink()
    with pytest.raises(CorpusError, match=r"labels\.parquet: no readable table of labels"):
        runs.build("labelled", storage=storage)


def test_a_member_that_has_learned_from_a_test_person_is_refused_by_person_key(runs: Runs) -> None:
    manifest = Manifest.open(runs.manifest)
    names = ("runs:/clips", "runs:/words")
    (clips, words) = open_members(names, manifest, location(runs.storage), runs.uri, location(runs.storage / "kept"))
    check_not_learned_from("runs:/words", words.trained_people, manifest)
    person = manifest.people(Split.TEST)[2]
    leaky = words.trained_people | set(digests_of([person]))
    with pytest.raises(CorpusError, match=rf"runs:/words has learned from {person}, .* test split .* \(1 such"):
        check_not_learned_from("runs:/words", leaky, manifest)
    assert clips.trained_people == set(digests_of([*manifest.people(Split.TRAIN), *manifest.people(Split.VALIDATION)]))


def other_split(runs: Runs, directory: Path, seed: int) -> Path:
    """The same people, split otherwise."""
    splits = {"kind": "stratified", "validation": 0.2, "test": 0.2, "seed": seed}
    config = validate(PrepareConfig, {"clip_s": 1.0, "transcripts": "as_is", "splits": splits})
    build_manifest(DaicWozConfig(path=str(runs.storage / "corpus")), config, directory)
    return directory


def test_a_run_of_another_split_is_refused_whoever_it_was_trained_on(runs: Runs, tmp_path: Path) -> None:
    storage = runs.copied(tmp_path, "clips")
    other = other_split(runs, storage / "leaky" / "manifest", seed=1)
    recipe = severity_recipe(instrument="PHQ-8")
    add_run(storage, "leaky", recipe, {"target": "total", "unit": "interview"}, manifest=other)
    with pytest.raises(CorpusError, match=r"runs:/leaky (has learned from|was trained on) daic:4\d\d"):
        runs.build("leaks", ("runs:/clips", "runs:/leaky"), storage=storage)


@pytest.fixture(scope="module")
def registered_words(runs: Runs) -> str:
    """The run ``words`` as a registered model."""
    job, _ = ensemble_members._job_of(location(runs.storage / "words"), Manifest.open(runs.manifest))
    judgement = Judgement.from_json(json.loads((runs.storage / "words" / "evaluation.json").read_text()))
    run_id = runs.tracking.open(str(runs.storage)).start_or_resume(RunSpec("words", "words")).run_id
    done = register(
        job,
        runs.tracking,
        str(runs.storage),
        run_id,
        RegistryConfig(name="words", compare_clips=2),
        judgement,
        runs.storage / "words" / "predictions.parquet",
        reloader=in_this_process,
    )
    return done.model_uri


def test_a_registered_member_is_scored_once_and_says_what_its_run_said(
    runs: Runs, registered_words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Manifest.open(runs.manifest).num_test_reads()
    built = runs.build("of_registered", ("runs:/clips", "models:/words@candidate"))
    assert Manifest.open(runs.manifest).num_test_reads() == reads + 1
    assert built.members[1].name == registered_words == "models:/words/1"
    answers = pq.read_table(built.directory / "answers.parquet").to_pandas().set_index("unit_id")
    run = table_of(runs.storage / "words" / "predictions.parquet")
    own = run[run["target"] == "total"]["score"].reindex(answers.index).to_numpy()
    assert np.abs(answers["models:/words/1"].to_numpy() - own).max() < 1e-4

    def never(*_: Any) -> Any:
        raise AssertionError("its scores were kept")

    monkeypatch.setattr(ensemble_members, "sessions_of", never)
    assert runs.build("of_registered", ("runs:/clips", registered_words)).already_built


def test_a_registered_member_that_has_learned_from_test_people_is_refused_before_it_is_scored(
    runs: Runs, registered_words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("nothing is to be scored")

    monkeypatch.setattr(ensemble_members, "sessions_of", never)
    other = other_split(runs, tmp_path / "manifest", seed=1)
    config = EnsembleConfig(members=("runs:/clips", registered_words), name="leaks")
    with pytest.raises(CorpusError, match=r"models:/words/1 has learned from daic:4\d\d, who is in the test split"):
        open_members(config.members[1:], Manifest.open(other), location(tmp_path), runs.uri, location(tmp_path))


def test_a_member_of_another_manifest_is_said_where_it_knows_validation_people(
    runs: Runs, registered_words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = validate(PrepareConfig, {"clip_s": 2.0, "transcripts": "as_is"})
    build_manifest(DaicWozConfig(path=str(runs.storage / "corpus")), config, tmp_path / "manifest")
    open_members(
        (registered_words,), Manifest.open(tmp_path / "manifest"), location(tmp_path), runs.uri, location(tmp_path)
    )
    assert "models:/words/1 comes from another manifest and knows 20 validation people" in caplog.text


def test_one_model_by_two_names_is_refused(runs: Runs, registered_words: str) -> None:
    with pytest.raises(ValueError, match=r"models:/words/1 and models:/words@candidate are the same model"):
        runs.build("twice", (registered_words, "models:/words@candidate"))
    with pytest.raises(ValueError, match=r"runs:/words and models:/words/1 are the same model \(words@step-"):
        runs.build("twice", ("runs:/words", registered_words))


def test_a_version_that_is_not_there_is_refused(runs: Runs, registered_words: str) -> None:
    with pytest.raises(ConfigError, match="models:/words/7 is not in the registry"):
        runs.build("absent", ("runs:/clips", "models:/words/7"))


def test_runs_in_object_storage_make_the_same_ensemble(runs: Runs, bucket: UPath, tmp_path: Path) -> None:
    for name in ("clips", "words", "manifest"):
        bucket.fs.put(str(runs.storage / name), (bucket / name).path, recursive=True)
    config = EnsembleConfig(members=("runs:/clips", "runs:/words"), name="afar", weights="validation")
    places = (str(bucket / "manifest"), str(bucket), str(bucket / "ensembles" / "afar"), runs.uri)
    built = build_ensemble(config, *places)
    near = runs.build("afar", weights="validation")
    assert built.model_version == near.model_version
    assert pq.read_table(BytesIO(built.predictions.read_bytes())).equals(pq.read_table(near.predictions))
    assert build_ensemble(config, *places).already_built
    assert built.members[1].write_package(tmp_path).model_version == built.members[1].model_version
