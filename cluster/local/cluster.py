"""A real Ray cluster on this machine: a head and several worker nodes, with token authentication.

    python cluster/local/cluster.py up --nodes 2 --cpus-per-node 2
    source ~/.moodscale/cluster/env.sh
    ray job submit --working-dir . --runtime-env jobs/runtime_env.yaml -- python jobs/train.py CONFIG
    python cluster/local/cluster.py down

``up`` on a running cluster says so and changes nothing; ``down`` ends only processes that this cluster started.

There is no way to start it without a token: the dashboard and its job API listen on ``--dashboard-host`` alone, but
Ray's own ports (GCS, raylets) listen on every interface, and whoever may talk to them may run code. What answers
without a token is Ray's metrics, which name nodes and count tasks.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

ID_VARIABLE = "MOODSCALE_LOCAL_CLUSTER"
"""In the environment of every process of the cluster, with the cluster's own id: what ``down`` goes by."""

NODE_IP = "127.0.0.2"
"""Ray swaps 127.0.0.1 for the machine's outside address; any other loopback address it leaves alone."""

TEMP_PREFIX = "moodscale-ray-"
START_TIMEOUT_S = 90.0
LEAVE_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 15.0


class ClusterError(RuntimeError):
    """The cluster could not be started or stopped; the message names the fix."""


@dataclass
class State:
    """What is kept of a running cluster, in ``cluster.json``."""

    cluster_id: str
    address: str
    dashboard: str
    temp_dir: str
    nodes: int
    cpus_per_node: float
    gpus_per_node: float
    pids: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    nodes: int = 2
    cpus_per_node: float = 2
    gpus_per_node: float = 0
    object_store_mib: int = 512
    dashboard_host: str = "127.0.0.1"
    directory: Path = Path.home() / ".moodscale" / "cluster"


def up(options: Options) -> State:
    """Start the cluster, or return the running one.

    Raises:
        ClusterError: refused options, or Ray did not start (with the end of its log).
    """
    _check(options)
    options.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    options.directory.chmod(0o700)
    with _alone(options.directory):
        running = status(options.directory)
        if running is not None:
            return running
        _down(options.directory)  # what an interrupted start may have left
        return _up(options)


def _up(options: Options) -> State:
    token = options.directory / "token"
    _write_private(token, secrets.token_hex(32))
    port, dashboard_port = _free_ports(2)
    state = State(
        cluster_id=secrets.token_hex(8),
        address=f"{NODE_IP}:{port}",
        dashboard=f"http://{options.dashboard_host}:{dashboard_port}",
        # Short: Ray puts Unix sockets below it, whose paths may hold 107 characters.
        temp_dir=tempfile.mkdtemp(prefix=TEMP_PREFIX),
        nodes=options.nodes,
        cpus_per_node=options.cpus_per_node,
        gpus_per_node=options.gpus_per_node,
    )
    _save(options.directory, state)
    try:
        _start_nodes(options, state, token, port, dashboard_port)
    except BaseException:
        _down(options.directory)
        raise
    _write_private(options.directory / "env.sh", "\n".join(env_lines(state, token)) + "\n")
    return state


def down(directory: Path) -> bool:
    """Stop the cluster and remove token, state and temporary files; the nodes' start logs stay in ``directory``.

    Returns:
        Whether there was anything to stop.
    """
    if not directory.is_dir():
        return False
    with _alone(directory):
        return _down(directory)


def _down(directory: Path) -> bool:
    state = _load(directory)
    if state is None:
        return False
    _stop(state)
    if Path(state.temp_dir).name.startswith(TEMP_PREFIX):
        shutil.rmtree(state.temp_dir, ignore_errors=True)
    for name in ("cluster.json", "env.sh", "token"):
        (directory / name).unlink(missing_ok=True)
    return True


def status(directory: Path) -> State | None:
    """The running cluster, or None. One whose head or a node died is not running."""
    state = _load(directory)
    if state is None or len(state.pids) != state.nodes + 1:
        return None
    ours = {process.pid for process in _processes(state.cluster_id)}
    return state if ours.issuperset(state.pids) and (directory / "env.sh").exists() else None


def env_lines(state: State, token: Path) -> list[str]:
    """Shell lines that point Ray's tools at this cluster."""
    lines = [f"export RAY_ADDRESS={state.address}", f"export RAY_API_SERVER_ADDRESS={state.dashboard}"]
    lines += ["export RAY_AUTH_MODE=token", f"export RAY_AUTH_TOKEN_PATH={shlex.quote(str(token))}"]
    return [*lines, "unset RAY_AUTH_TOKEN", "export RAY_USAGE_STATS_ENABLED=0"]


def _check(options: Options) -> None:
    if not sys.platform.startswith("linux"):
        raise ClusterError("several Ray nodes on one machine need Linux")
    if options.nodes < 1 or options.cpus_per_node < 1:
        raise ClusterError(f"--nodes {options.nodes} and --cpus-per-node {options.cpus_per_node} must be 1 or more")
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    if mode.lower() != "token":
        raise ClusterError(
            f"RAY_AUTH_MODE={mode} asks for a cluster without a token (dashboard on {options.dashboard_host}): whoever "
            "reaches its ports would run code here. Unset RAY_AUTH_MODE"
        )


def _start_nodes(options: Options, state: State, token: Path, port: int, dashboard_port: int) -> None:
    environment = _environment(state, token)
    head = ["--head", f"--port={port}", "--num-cpus=0", "--num-gpus=0", "--include-dashboard=true"]
    head += [f"--dashboard-host={options.dashboard_host}", f"--dashboard-port={dashboard_port}"]
    # Ray opens its temporary directory to every user; the one around it stays closed.
    head += [f"--temp-dir={state.temp_dir}/ray", "--disable-usage-stats"]
    _start(options, state, environment, "head", head)
    _wait_for_nodes(options, state, token, count=1)
    for number in range(1, options.nodes + 1):
        node = [f"--address={state.address}", f"--num-cpus={options.cpus_per_node:g}"]
        node += [f"--num-gpus={options.gpus_per_node:g}"]
        _start(options, state, environment, f"node-{number}", node)
        # One after the other: nodes that start together on few cores run into Ray's own start limit.
        _wait_for_nodes(options, state, token, count=number + 1)


def _start(options: Options, state: State, environment: dict[str, str], name: str, arguments: list[str]) -> None:
    agent, agent_grpc, runtime_env, metrics, client = _free_ports(5)
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *arguments]
    command += [f"--node-ip-address={NODE_IP}", f"--node-name={name}"]
    command += [f"--object-store-memory={options.object_store_mib * 2**20}"]
    command += [f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}"]
    command += [f"--runtime-env-agent-port={runtime_env}", f"--metrics-export-port={metrics}"]
    if name == "head":
        command += [f"--ray-client-server-port={client}"]
    with open(options.directory / f"{name}.log", "wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    state.pids.append(process.pid)
    _save(options.directory, state)


def _environment(state: State, token: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return kept | {
        ID_VARIABLE: state.cluster_id,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        # A cluster whose reports are off still sends one that says so: let it go nowhere.
        "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
        # Ray Train's clean-up asks the state API from within the cluster, and would look for it in Ray's own directory.
        "RAY_API_SERVER_ADDRESS": state.dashboard,
        # `python jobs/train.py` in a job means the interpreter that started the cluster.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }


def _wait_for_nodes(options: Options, state: State, token: Path, count: int) -> None:
    """Until the dashboard answers and counts so many living nodes."""
    request = urllib.request.Request(f"{state.dashboard}/api/v0/nodes?limit=1000")
    request.add_header("Authorization", f"Bearer {token.read_text()}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        _require_alive(options, state)
        with contextlib.suppress(OSError, ValueError, KeyError), opener.open(request, timeout=5) as answer:
            nodes = json.load(answer)["data"]["result"]["result"]
            if sum(node["state"] == "ALIVE" for node in nodes) >= count:
                return
        time.sleep(0.3)
    raise ClusterError(f"{count} node(s) were not up in {START_TIMEOUT_S:.0f} s\n{_log_end(options.directory)}")


def _require_alive(options: Options, state: State) -> None:
    for pid in state.pids:
        if not _is_alive(pid):
            raise ClusterError(f"a Ray node ended while starting\n{_log_end(options.directory)}")


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _processes(cluster_id: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(ID_VARIABLE) == cluster_id:
                yield process


def _stop(state: State) -> None:
    # Workers before the head: a raylet leaves in order only while the head still answers. What has not left by
    # then, and what Ray no longer knows of, is killed; there is nothing in a local cluster that could be lost.
    for pids in (state.pids[1:], state.pids[:1]):
        starters = [process for process in _processes(state.cluster_id) if process.pid in pids]
        for process in starters:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        psutil.wait_procs(starters, timeout=LEAVE_TIMEOUT_S)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while left := list(_processes(state.cluster_id)):
        if time.monotonic() > deadline:
            raise ClusterError(f"processes {[process.pid for process in left]} do not end; stop them by hand")
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=0.5)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One ``up`` or ``down`` at a time; the kernel lets go of the lock whatever happens to its holder."""
    # Not inheritable: Ray's processes must not keep the lock.
    with open(directory / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _free_ports(count: int) -> list[int]:
    # All held at once, so no two are equal; another process could take one before Ray does, and Ray then says so.
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [held.getsockname()[1] for held in sockets]


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _save(directory: Path, state: State) -> None:
    temporary = directory / ".cluster.json.tmp"
    _write_private(temporary, json.dumps(asdict(state), indent=2))
    os.replace(temporary, directory / "cluster.json")


def _load(directory: Path) -> State | None:
    try:
        return State(**json.loads((directory / "cluster.json").read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise ClusterError(f"{directory / 'cluster.json'} is damaged; remove it and stop Ray by hand") from None


def _log_end(directory: Path) -> str:
    logs = sorted(directory.glob("*.log"), key=lambda path: path.stat().st_mtime)
    return "\n".join(f"--- {path}\n{path.read_text(errors='replace')[-2000:]}" for path in logs[-2:])


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("verb", choices=("up", "down", "status"))
    parser.add_argument("--nodes", type=int, default=Options.nodes, help="worker nodes beside the head")
    parser.add_argument("--cpus-per-node", type=float, default=Options.cpus_per_node, help="logical CPUs")
    parser.add_argument("--gpus-per-node", type=float, default=Options.gpus_per_node)
    parser.add_argument("--object-store-mib", type=int, default=Options.object_store_mib, help="of each node")
    parser.add_argument("--dashboard-host", default=Options.dashboard_host)
    parser.add_argument("--directory", type=Path, default=Options.directory, help="token, env.sh and logs")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    given = vars(_parse(arguments))
    verb = given.pop("verb")
    options = Options(**{**given, "directory": given["directory"].expanduser().absolute()})
    try:
        if verb == "down":
            print("stopped" if down(options.directory) else "nothing was running")
            return 0
        state = up(options) if verb == "up" else status(options.directory)
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    if state is None:
        print("not running", file=sys.stderr)
        return 1
    print(f"# {state.nodes} nodes × {state.cpus_per_node:g} CPUs; source {options.directory / 'env.sh'}, or:")
    print("\n".join(env_lines(state, options.directory / "token")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
