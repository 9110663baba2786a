"""Registering: what must hold before a model gets a version, and what a version says of its model."""

from __future__ import annotations

import dataclasses
import json
import logging
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from moodscale.config import ConfigError
from moodscale.models.lora import ADAPTER_FILE, load_adapter, save_adapter
from moodscale.registry.compare import ModelMismatchError
from moodscale.registry.config import RegistryConfig
from moodscale.registry.package import MODEL_FILE, sha256
from moodscale.registry.register import register
from moodscale.registry.reload import Request
from moodscale.registry.store import RegistryStore
from moodscale.registry.versions import Registered
from moodscale.tracking import TrackerError
from moodscale.tracking.jsonl import JsonlConfig
from tiny_registry import Trained, in_process, stored_model, table_with_scores, write_checkpoint, write_predictions


def client(trained: Trained) -> MlflowClient:
    return MlflowClient(trained.uri, registry_uri=trained.uri)


def never(request: Request, timeout_s: float) -> list[dict[str, Any]]:
    raise AssertionError("nothing should be loaded")


def versions(trained: Trained, name: str) -> list[Any]:
    return list(client(trained).search_model_versions(f"name = '{name}'"))


def logged_models(trained: Trained) -> dict[str, str]:
    experiment = client(trained).get_run(trained.run_id).info.experiment_id
    return {model.model_id: str(model.status) for model in client(trained).search_logged_models([experiment])}


def test_a_reloaded_and_compared_model_becomes_the_candidate(trained: Trained, registered: Registered) -> None:
    assert (registered.num_compared, registered.already_registered) == (3, False)
    assert registered.max_difference <= 1e-4
    assert registered.model_uri == "models:/tiny/1"
    version = client(trained).get_model_version_by_alias("tiny", "candidate")
    assert str(version.version) == registered.version
    assert version.run_id == trained.run_id
    tags = version.tags
    assert tags["moodscale.model_version"] == trained.model_version
    assert tags["moodscale.guard_verdict"] == "fail"
    assert tags["moodscale.guard_reasons"] == "auc_not_above_chance"
    assert json.loads(tags["moodscale.compare"])["num_compared"] == 3
    assert tags["moodscale.adapter_sha256"] == sha256(trained.job.store().best().path / ADAPTER_FILE)
    assert tags["moodscale.alias.candidate"].endswith("before: none")
    assert "Not a medical device" in version.description
    run = client(trained).get_run(trained.run_id)
    logged = [client(trained).get_logged_model(output.model_id) for output in run.outputs.model_outputs]
    assert [model.status.name for model in logged if model.artifact_location == version.source] == ["READY"]


def test_the_stored_model_is_code_json_and_safetensors(trained: Trained, registered: Registered) -> None:
    directory = stored_model(trained.uri, registered.name)
    suffixes = {path.suffix for path in directory.rglob("*") if path.is_file()}
    assert suffixes == {".py", ".html", ".css", ".json", ".jinja", ".safetensors", ".yaml", ".txt", ""}
    assert {path.name for path in directory.rglob("*") if path.is_file() and not path.suffix} == {
        "MLmodel",
        "registered_model_meta",
    }
    assert sum(path.stat().st_size for path in directory.rglob("*")) < 5e6, "the base's weights are not in it"
    facts = json.loads((directory / "artifacts" / "package" / MODEL_FILE).read_text())
    assert facts["base"]["source"] == "random"
    assert facts["recipe"]["kind"] == "qwen2_audio"
    assert facts["manifest_hash"] == client(trained).get_model_version("tiny", "1").tags["moodscale.manifest_hash"]


def test_registering_again_finds_the_version_and_changes_nothing(
    trained: Trained, registered: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    before, models = client(trained).get_model_version("tiny", "1").tags, logged_models(trained)
    with caplog.at_level(logging.INFO):
        again = register(**trained.arguments(), config=RegistryConfig(name="tiny"), reloader=never)
    assert again == dataclasses.replace(registered, already_registered=True)
    assert "already" in caplog.text
    assert client(trained).get_model_version("tiny", "1").tags == before
    assert logged_models(trained) == models


def test_another_operating_point_is_another_version(trained: Trained) -> None:
    first = register(**trained.arguments(), config=RegistryConfig(name="points"), reloader=in_process)
    point = dataclasses.replace(trained.judgement.point, threshold=0.7)
    arguments = {**trained.arguments(), "judgement": dataclasses.replace(trained.judgement, point=point)}
    second = register(**arguments, config=RegistryConfig(name="points"), reloader=in_process)
    assert (first.version, second.version, second.already_registered) == ("1", "2", False)


def test_a_registration_interrupted_before_its_alias_is_completed(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise TrackerError("setting the alias", "here", "away", transient=True)

    config = RegistryConfig(name="interrupted")
    with monkeypatch.context() as patch:
        patch.setattr(RegistryStore, "set_alias", away)
        with pytest.raises(TrackerError):
            register(**trained.arguments(), config=config, reloader=in_process)
    assert len(versions(trained, "interrupted")) == 1
    again = register(**trained.arguments(), config=config, reloader=never)
    assert (again.version, again.already_registered) == ("1", True)
    assert client(trained).get_model_version_by_alias("interrupted", "candidate").version == 1
    assert len(versions(trained, "interrupted")) == 1


def test_a_model_that_scores_otherwise_gets_no_version_and_is_withdrawn(trained: Trained, tmp_path: Path) -> None:
    other = table_with_scores(trained.predictions, lambda scores: scores + 0.01, tmp_path / "predictions.parquet")
    before = logged_models(trained)
    arguments = {**trained.arguments(), "predictions": other}
    with pytest.raises(ModelMismatchError, match=r"differs .* by 0\.01\d* at clip daic_woz:\d+:\d+.*4 of 4"):
        register(**arguments, config=RegistryConfig(name="mismatch"), reloader=in_process)
    assert versions(trained, "mismatch") == []
    assert logged_models(trained) == before


def test_differences_within_the_tolerance_pass(trained: Trained, tmp_path: Path) -> None:
    other = table_with_scores(trained.predictions, lambda scores: scores + 5e-5, tmp_path / "predictions.parquet")
    arguments = {**trained.arguments(), "predictions": other}
    done = register(**arguments, config=RegistryConfig(name="close"), reloader=in_process)
    assert 4e-5 < done.max_difference < 1e-4


def change_adapter(package: Path) -> None:
    """Other weights, everything else untouched."""
    state = load_adapter(package / ADAPTER_FILE)
    save_adapter({name: tensor * 1.5 for name, tensor in state.items()}, package / ADAPTER_FILE)


def change_adapter_and_its_hashes(package: Path) -> None:
    """Other weights, and a model.json that agrees: only the scores can tell."""
    change_adapter(package)
    facts = json.loads((package / MODEL_FILE).read_text())
    facts["files"][ADAPTER_FILE] = facts["adapter_sha256"] = sha256(package / ADAPTER_FILE)
    (package / MODEL_FILE).write_text(json.dumps(facts))


class Payload:
    """Unpickling this writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "ran")


def adapter_is_a_pickle(package: Path) -> None:
    (package / ADAPTER_FILE).write_bytes(pickle.dumps(Payload(package.parent / "ran")))


def a_pickle_beside_it(package: Path) -> None:
    (package / "extra.pkl").write_bytes(pickle.dumps(Payload(package.parent / "ran")))


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (change_adapter, "adapter.safetensors: hash mismatch"),
        (change_adapter_and_its_hashes, "differs from the evaluated one"),
        (adapter_is_a_pickle, "refused, not opened"),
        (a_pickle_beside_it, "extra.pkl: only .* refused"),
    ],
)
def test_a_package_changed_between_packing_and_reloading_gets_no_version(
    trained: Trained, tamper: Callable[[Path], None], said: str
) -> None:
    packages: list[Path] = []

    def tampered(request: Request, timeout_s: float) -> list[dict[str, Any]]:
        location = client(trained).get_logged_model(request.model_uri.removeprefix("models:/")).artifact_location
        packages.append(Path(location.removeprefix("file://")) / "artifacts" / "package")
        tamper(packages[0])
        return in_process(request, timeout_s)

    before = logged_models(trained)
    with pytest.raises(ModelMismatchError, match=said):
        register(**trained.arguments(), config=RegistryConfig(name="tampered"), reloader=tampered)
    assert versions(trained, "tampered") == []
    assert logged_models(trained) == before
    assert not (packages[0].parent / "ran").exists()


def test_the_alias_moves_to_a_newer_model_and_both_versions_say_so(trained: Trained, tmp_path: Path) -> None:
    config = RegistryConfig(name="moving", compare_clips=1)
    register(**trained.arguments(), config=config, reloader=in_process)
    shutil.copytree(trained.storage / "run", tmp_path / "run")
    job = trained.job.model_copy(update={"run_dir": str(tmp_path / "run")})
    version = write_predictions(job, write_checkpoint(job, 9), tmp_path / "predictions.parquet")
    judgement = dataclasses.replace(trained.judgement, model_versions=(version,))
    newer = {"job": job, "judgement": judgement, "predictions": tmp_path / "predictions.parquet"}
    second = register(**{**trained.arguments(), **newer}, config=config, reloader=in_process)
    assert second.version == "2"
    assert client(trained).get_model_version_by_alias("moving", "candidate").version == 2
    first_tags, second_tags = (client(trained).get_model_version("moving", number).tags for number in "12")
    assert "by version 2" in first_tags["moodscale.alias.candidate.replaced"]
    assert second_tags["moodscale.alias.candidate"].endswith("before: version 1")
    # The older one again: it has its version, and takes the alias from nobody.
    older = register(**trained.arguments(), config=config, reloader=never)
    assert older.version == "1"
    assert client(trained).get_model_version_by_alias("moving", "candidate").version == 2


def test_a_failed_guard_is_said_aloud_and_a_passed_one_is_not(
    trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    passed = dataclasses.replace(trained.judgement, guard_verdict="pass", guard_reasons=())
    register(**{**trained.arguments(), "judgement": passed}, config=RegistryConfig(name="passed"), reloader=in_process)
    assert "do not use its scores" not in caplog.text
    register(**trained.arguments(), config=RegistryConfig(name="failed"), reloader=in_process)
    assert "auc_not_above_chance" in caplog.text
    assert "do not use its scores" in caplog.text


def test_an_evaluation_or_a_table_of_another_model_is_refused(trained: Trained, tmp_path: Path) -> None:
    other = dataclasses.replace(trained.judgement, model_versions=("other@step-1:abc",))
    with pytest.raises(ValueError, match=r"the evaluation is of other@step-1:abc.*moodscale evaluate"):
        register(**{**trained.arguments(), "judgement": other}, config=RegistryConfig(), reloader=never)
    shutil.copytree(trained.storage / "run", tmp_path / "run")
    job = trained.job.model_copy(update={"run_dir": str(tmp_path / "run")})
    version = write_predictions(job, write_checkpoint(job, 9), tmp_path / "other.parquet")
    judgement = dataclasses.replace(trained.judgement, model_versions=(version,))
    with pytest.raises(ValueError, match=r"predictions\.parquet: column model_version has tiny@step-00000007"):
        register(**{**trained.arguments(), "job": job, "judgement": judgement}, config=RegistryConfig(), reloader=never)


def test_without_mlflow_there_is_no_registry(trained: Trained) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.kind='jsonl' has no model registry; set tracking\.kind: mlflow"):
        register(**{**trained.arguments(), "tracking": JsonlConfig()}, config=RegistryConfig(), reloader=never)


def test_without_a_checkpoint_there_is_nothing_to_register(trained: Trained, tmp_path: Path) -> None:
    job = trained.job.model_copy(update={"run_dir": str(tmp_path)})
    with pytest.raises(ValueError, match="has no checkpoint; run `moodscale train` first"):
        register(**{**trained.arguments(), "job": job}, config=RegistryConfig(), reloader=never)


def test_compared_clips_span_the_scores(trained: Trained) -> None:
    seen: list[int] = []

    def counting(request: Request, timeout_s: float) -> list[dict[str, Any]]:
        seen.append(len(request.waveforms))
        assert all(np.abs(waveform).max() > 0 and len(waveform) == 32_000 for waveform in request.waveforms)
        return in_process(request, timeout_s)

    config = RegistryConfig(name="two", compare_clips=2)
    assert register(**trained.arguments(), config=config, reloader=counting).num_compared == 2
    assert seen == [2]


@pytest.mark.parametrize("name", ["a b", "x; rm -rf ~", "../up", "$(id)", ""])
def test_names_with_shell_characters_are_refused(name: str) -> None:
    with pytest.raises(ValueError):
        RegistryConfig(name=name)
    with pytest.raises(ValueError):
        RegistryConfig(alias=name)
