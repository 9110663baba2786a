"""The local cluster for real: started, used with its token, refused without, stopped."""

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "cluster" / "local" / "cluster.py"


def load_script():
    spec = importlib.util.spec_from_file_location("local_cluster", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["local_cluster"] = module
    spec.loader.exec_module(module)
    return module


cluster = load_script()

JOB = """
import moodscale, ray
ray.init()

@ray.remote(num_cpus=1)
def where():
    import moodscale
    return moodscale.__file__, ray.get_runtime_context().get_node_id()

paths = {path for path, _ in ray.get([where.remote() for _ in range(4)])} | {moodscale.__file__}
assert all("/working_dir_files/" in path for path in paths), paths
print("CPUs", ray.cluster_resources()["CPU"], "nodes", len(ray.nodes()), "version", moodscale.__version__)
"""


def http_status(url, method="GET", **headers):
    request = urllib.request.Request(url, method=method, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def shell_environment(directory):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    clean["PATH"] = f"{Path(sys.executable).parent}:{clean['PATH']}"
    lines = subprocess.run(
        ["bash", "-c", f"set -a; . {directory}/env.sh; env -0"], env=clean, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.mark.slow
def test_a_cluster_starts_runs_a_job_with_its_token_refuses_one_without_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    options = cluster.Options(nodes=2, cpus_per_node=1, object_store_mib=100, directory=tmp_path / "cluster")
    state = cluster.up(options)
    try:
        token = options.directory / "token"
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert stat.S_IMODE(Path(state.temp_dir).stat().st_mode) == 0o700
        assert state.dashboard.startswith("http://127.0.0.1:")
        assert cluster.up(options) == state, "a second start must find the first"

        jobs = f"{state.dashboard}/api/jobs/"
        good = f"Bearer {token.read_text()}"
        assert http_status(jobs) == 401
        assert http_status(jobs, Authorization="Bearer guess") == 403
        assert http_status(jobs, method="POST", Host="attacker.example") == 401
        assert http_status(jobs, Authorization=good) == 200

        # What is submitted is a clone: the tracked files, nothing else of this checkout.
        clone = tmp_path / "clone"
        shutil.copytree(REPOSITORY / "platform", clone / "platform", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(REPOSITORY / "jobs", clone / "jobs")
        (clone / "job.py").write_text(JOB)
        submit = ["ray", "job", "submit", "--working-dir", ".", "--runtime-env", "jobs/runtime_env.yaml"]
        submit += ["--", "python", "job.py"]
        environment = shell_environment(options.directory)
        done = subprocess.run(submit, cwd=clone, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "CPUs 2.0 nodes 3" in done.stdout

        for variable in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
            del environment[variable]
        environment["HOME"] = str(tmp_path)  # no token of the user's own either
        refused = subprocess.run(submit, cwd=clone, env=environment, capture_output=True, text=True, check=False)
        assert refused.returncode != 0
        assert token.read_text() not in refused.stdout + refused.stderr
    finally:
        cluster.down(options.directory)
    assert cluster.status(options.directory) is None
    assert not Path(state.temp_dir).exists()
    assert not token.exists()
    assert list(cluster._processes(state.cluster_id)) == []
    assert cluster.down(options.directory) is False


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_a_cluster_without_a_token_is_refused_before_anything_starts(tmp_path, monkeypatch, capsys, host):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    directory = tmp_path / "cluster"
    assert cluster.main(["up", "--dashboard-host", host, "--directory", str(directory)]) == 1
    message = capsys.readouterr().err
    assert "RAY_AUTH_MODE=disabled" in message
    assert host in message
    assert not directory.exists()


def test_down_ends_only_processes_of_its_own_cluster(tmp_path):
    def process(cluster_id):
        environment = {**os.environ, cluster.ID_VARIABLE: cluster_id}
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=environment)

    mine, other = process("a" * 16), process("b" * 16)
    try:
        temp_dir = tmp_path / "moodscale-ray-x"
        temp_dir.mkdir()
        state = cluster.State("a" * 16, "127.0.0.2:1", "http://127.0.0.1:1", str(temp_dir), 1, 1, 0, [mine.pid])
        cluster._save(tmp_path, state)
        assert cluster.down(tmp_path) is True
        assert mine.poll() is not None
        assert other.poll() is None
        assert not temp_dir.exists()
    finally:
        for one in (mine, other):
            one.kill()
            one.wait()


def test_a_pid_taken_by_a_stranger_is_not_this_cluster(tmp_path):
    state = cluster.State("c" * 16, "127.0.0.2:1", "http://127.0.0.1:1", str(tmp_path), 1, 1, 0, [1, os.getpid()])
    cluster._save(tmp_path, state)
    (tmp_path / "env.sh").write_text("")
    assert cluster.status(tmp_path) is None


def test_a_damaged_state_file_is_named(tmp_path, capsys):
    (tmp_path / "cluster.json").write_text("{")
    assert cluster.main(["status", "--directory", str(tmp_path)]) == 1
    assert "cluster.json" in capsys.readouterr().err
