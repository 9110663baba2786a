"""The MLflow tracker on real stores: SQLite files, and a server process that is stopped and started again."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from mlflow import MlflowClient

from moodscale.config import ConfigError
from moodscale.config.lookup import find_component
from moodscale.tracking import (
    JournalSync,
    JournalWriter,
    MetricPoint,
    RunSpec,
    RunStatus,
    TrackerConfig,
    TrackerError,
    truncate,
)
from moodscale.tracking.mlflow import MlflowConfig
from moodscale.tracking.mlflow_tracker import MlflowTracker
from tiny_experiment import wait_for

SPEC = RunSpec("demo-1", "the demo", {"optim": {"lr": 1e-4, "betas": [0.9, 0.99]}, "seed": 0}, {"manifest": "abc"})


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """A migrated store, made once: creating its tables takes seconds."""
    folder = tmp_path_factory.mktemp("template")
    MlflowTracker(f"sqlite:///{folder / 'mlflow.db'}", patience_s=0).find("nothing")
    return folder / "mlflow.db"


@pytest.fixture
def storage(tmp_path, empty_database, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def tracker(storage):
    return MlflowConfig().open(str(storage))


def client(storage):
    return MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")


def history(storage, run_id, key="train/loss"):
    return sorted(metric.step for metric in client(storage).get_metric_history(run_id, key))


def test_a_run_holds_config_params_tags_metrics_and_artifacts_beside_the_database(storage, tracker):
    state = tracker.start_or_resume(SPEC)
    tracker.log_points([MetricPoint(step, 1000 + step, {"train/loss": 1 / step}) for step in range(1, 4)])
    (storage / "report.html").write_text("<p>report</p>")
    tracker.log_artifact(storage / "report.html", "report")
    tracker.log_dict({"auc": 0.8}, "evaluate/summary.json")
    tracker.finish(RunStatus.FINISHED)

    run = client(storage).get_run(state.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "the demo"
    assert run.data.params == {"optim.lr": "0.0001", "optim.betas": "[0.9, 0.99]", "seed": "0"}
    assert run.data.tags["manifest"] == "abc"
    assert run.data.tags["moodscale.attempt"] == "1"
    assert history(storage, state.run_id) == [1, 2, 3]
    artifacts = next((storage / "mlartifacts").glob("**/config.json")).parent
    assert json.loads((artifacts / "config.json").read_text()) == SPEC.config
    assert (artifacts / "report" / "report.html").read_text() == "<p>report</p>"
    assert json.loads((artifacts / "evaluate" / "summary.json").read_text()) == {"auc": 0.8}


def test_the_same_key_reopens_the_same_run_and_counts_the_attempt(storage, tracker):
    first = tracker.start_or_resume(SPEC)
    tracker.finish(RunStatus.FAILED)
    other = MlflowConfig().open(str(storage))
    assert other.find("demo-1").status is RunStatus.FAILED
    second = other.start_or_resume(SPEC)
    assert (second.run_id, second.attempt) == (first.run_id, 2)
    run = client(storage).get_run(first.run_id)
    assert run.info.status == "RUNNING"
    assert run.data.tags["moodscale.attempt"] == "2"
    assert other.start_or_resume(RunSpec("demo-2", "another")).run_id != first.run_id
    assert other.find("never") is None


def test_a_resume_with_another_value_keeps_the_first_param_and_says_so(storage, tracker, caplog):
    state = tracker.start_or_resume(SPEC)
    changed = RunSpec("demo-1", "the demo", {**SPEC.config, "seed": 7, "workers": 1})
    tracker.start_or_resume(changed)
    run = client(storage).get_run(state.run_id)
    assert run.data.params["seed"] == "0"
    assert run.data.params["workers"] == "1"
    assert run.data.tags["moodscale.params_changed"] == "seed"
    assert "seed" in caplog.text
    assert json.loads(next((storage / "mlartifacts").glob("**/config_attempt_2.json")).read_text())["seed"] == 7


def test_params_beyond_the_limits_and_credentials_are_made_safe(storage, tracker):
    config = {
        "long": "x" * 9000,
        "deep": {"k" * 300: 1, "k" * 299 + "j": 2},
        "a b!c": 3,
        "a b?c": 4,
        "tracking": {"uri": "postgresql://someone:s3cret@db/mlflow"},
        "many": {str(i): i for i in range(250)},
        "empty": {},
    }
    state = tracker.start_or_resume(RunSpec("limits", "limits", config, {"place": "https://u:s3cret@h/"}))
    run = client(storage).get_run(state.run_id)
    assert len(run.data.params) == 4 + 2 + 250 + 1 - 0
    assert {"3", "4"} <= set(run.data.params.values())
    assert run.data.params["empty"] == "{}"
    assert all(len(value) <= 6000 for value in run.data.params.values())
    assert run.data.params["tracking.uri"] == "postgresql://***@db/mlflow"
    stored = next((storage / "mlartifacts").glob("**/config.json")).read_text()
    assert "s3cret" not in stored + str(run.data.tags) + str(run.data.params)
    assert len(json.loads(stored)["long"]) == 9000


def test_many_points_go_in_requests_of_at_most_a_thousand_values(storage, tracker, monkeypatch):
    state = tracker.start_or_resume(SPEC)
    sizes = []
    real = tracker._client.log_batch

    def counted(run_id, metrics=(), **rest):
        sizes.append(len(metrics))
        real(run_id, metrics=metrics, **rest)

    monkeypatch.setattr(tracker._client, "log_batch", counted)
    keys = ["train/loss", "train/lr", "train/grad_norm"]
    tracker.log_points([MetricPoint(step, step, dict.fromkeys(keys, 1.0)) for step in range(1, 701)])
    assert sizes == [999, 999, 102]
    assert history(storage, state.run_id) == list(range(1, 701))


CRASH = """
import os, signal, sys
from moodscale.tracking import JournalSync, RunSpec
from moodscale.tracking.mlflow import MlflowConfig
storage, when, call = sys.argv[1], sys.argv[2], int(sys.argv[3])
tracker = MlflowConfig().open(storage)
tracker.start_or_resume(RunSpec("crash", "crash"))
real, calls = tracker.log_points, 0
def log_points(points):
    global calls
    calls += 1
    if calls == call and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(points)
    if calls == call and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
tracker.log_points = log_points
JournalSync(tracker, storage + "/metrics.jsonl", committed_step=12, batch_points=4).sync_now()
"""


@pytest.mark.parametrize(("when", "call", "held"), [("before", 1, 0), ("after", 2, 8)])
def test_a_driver_killed_while_it_sends_leaves_no_duplicate_after_the_next_attempt(storage, when, call, held):
    path = storage / "metrics.jsonl"
    with JournalWriter(path) as journal:
        for step in range(1, 16):
            journal.append(step, {"train/loss": 1.0})
    done = subprocess.run([sys.executable, "-c", CRASH, str(storage), when, str(call)], check=False)
    assert done.returncode == -signal.SIGKILL

    tracker = MlflowConfig().open(str(storage))
    state = tracker.start_or_resume(RunSpec("crash", "crash"))
    assert state.attempt == 2
    assert history(storage, state.run_id) == list(range(1, held + 1))
    truncate(path, after_step=12)
    with JournalWriter(path) as journal:  # steps 13-15 are done again
        for step in range(13, 21):
            journal.append(step, {"train/loss": 1.0})
    JournalSync(tracker, path, committed_step=20, batch_points=3).sync_now()
    assert history(storage, state.run_id) == list(range(1, 21))


def test_no_exception_or_log_quotes_what_was_sent(storage, tracker, caplog):
    canary = "I have been feeling hopeless since March"
    state = tracker.start_or_resume(SPEC)
    client(storage).delete_run(state.run_id)
    calls = [
        lambda: tracker.set_tags({"note": canary}),
        lambda: tracker.log_points([MetricPoint(1, 1, {canary + "!": 1.0})]),
        lambda: tracker.log_artifact(storage / canary),
        lambda: tracker.log_dict({"said": canary}, "said.json"),
    ]
    shutil.rmtree(storage / "mlartifacts")
    (storage / "mlartifacts").write_text("a file where the directory was")
    for call in calls:
        with pytest.raises(TrackerError) as caught:
            call()
        assert canary not in "".join(traceback.format_exception(caught.value))
        assert caught.value.__context__ is None
    assert canary not in caplog.text


def test_probing_finds_a_store_and_creates_none(storage, tmp_path_factory):
    assert MlflowConfig().probe(str(storage)) == f"sqlite:///{storage}/mlflow.db"
    elsewhere = tmp_path_factory.mktemp("empty")
    assert "created by the first run" in MlflowConfig().probe(str(elsewhere / "runs"))
    assert list(elsewhere.iterdir()) == []
    with pytest.raises(TrackerError):
        MlflowConfig(uri="http://127.0.0.1:9").probe(str(elsewhere))


def test_an_unreachable_server_is_named_without_its_password():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    tracker = MlflowConfig(uri=f"http://user:s3cret@127.0.0.1:{port}", patience_s=0).open("/nowhere")
    with pytest.raises(TrackerError, match=r"\*\*\*@127.0.0.1") as caught:
        tracker.start_or_resume(SPEC)
    assert caught.value.transient
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_the_uri_comes_from_the_config_then_the_environment_then_the_storage(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://from-environment")
    assert MlflowConfig(uri="http://from-config").resolve_uri(str(tmp_path)) == "http://from-config"
    assert MlflowConfig().resolve_uri(str(tmp_path)) == "http://from-environment"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert MlflowConfig().resolve_uri(str(tmp_path)) == f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(ConfigError, match=r"tracking\.uri"):
        MlflowConfig().resolve_uri("s3://bucket/runs")


def test_the_kind_finds_the_class_and_telemetry_is_off():
    assert find_component("moodscale.tracking", TrackerConfig, "mlflow") is MlflowConfig
    code = (
        "import os; os.environ.pop('PYTEST_CURRENT_TEST', None); os.environ.pop('CI', None)\n"
        "import moodscale.tracking.mlflow_tracker\n"
        "from mlflow.telemetry import get_telemetry_client\n"
        "from mlflow.environment_variables import MLFLOW_DISABLE_TELEMETRY\n"
        "assert MLFLOW_DISABLE_TELEMETRY.get() is True\n"
        "assert get_telemetry_client() is None, 'MLflow would report usage'\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in {"MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "CI"}}
    environment.pop("PYTEST_CURRENT_TEST", None)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


def test_the_registry_too_hears_a_stop_while_a_server_is_away():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_HTTP")}
    code = (
        "import moodscale.registry.store\n"
        "from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES\n"
        "assert MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 1, 'four minutes a call'\n"
    )
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


PATIENCE_S = 60.0


def _port_that_stays_free():
    """Below those that a system gives to whoever asks for any: nobody takes it while the server is away."""
    for port in random.sample(range(15_000, 30_000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("none of 100 ports is free")


class Server:
    """``mlflow server`` on loopback."""

    def __init__(self, folder: Path) -> None:
        self.port = _port_that_stays_free()
        self.folder = folder
        self.process = None

    @property
    def uri(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "served")]
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=1)
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError((self.folder / "server.log").read_text()[-3000:])

    def stop(self):
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            self.process = None


@pytest.fixture
def server(storage):
    server = Server(storage)
    yield server
    server.stop()


@pytest.mark.slow
def test_a_server_that_goes_away_and_comes_back_gets_every_step_once(server, storage):
    server.start()
    tracker = MlflowConfig(uri=server.uri, patience_s=PATIENCE_S).open(str(storage))
    state = tracker.start_or_resume(SPEC)
    path = storage / "metrics.jsonl"
    sync = JournalSync(tracker, path, interval_s=0.1, batch_points=20).start()
    slowest_s = 0.0
    with JournalWriter(path) as journal:
        for step in range(1, 201):
            began = time.monotonic()
            journal.append(step, {"train/loss": 1.0})
            sync.commit(step)
            slowest_s = max(slowest_s, time.monotonic() - began)
            if step == 50:
                assert sync.drain(timeout_s=30)
                server.stop()
            if step == 150:
                wait_for(lambda: "failed" in (sync.progress.last_error or ""), 60)
                server.start()
    assert sync.stop(timeout_s=60)
    tracker.log_dict({"auc": 0.8}, "summary.json")
    tracker.finish(RunStatus.FINISHED)
    counts = Counter(history(storage, state.run_id))
    assert counts == Counter(range(1, 201))
    assert client(storage).get_run(state.run_id).info.status == "FINISHED"
    assert list((storage / "served").glob("**/summary.json"))
    assert slowest_s < PATIENCE_S, "a step waited for the server"
