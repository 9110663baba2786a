"""What a run was made with: code, packages, hardware."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import psutil

import moodscale

STACK = (
    "ray",
    "torch",
    "transformers",
    "peft",
    "deepspeed",
    "mlflow",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "librosa",
    "soundfile",
    "soxr",
    "safetensors",
    "pydantic",
)
"""The packages whose version can change a result."""

GIT_COMMIT_VARIABLE = "MOODSCALE_GIT_COMMIT"
"""Set in images and job environments, where the code runs without its repository; ``-dirty`` at its end counts."""


@dataclass(frozen=True)
class CodeState:
    """Which code ran.

    Attributes:
        commit: full commit id, or ``unknown`` outside a repository.
        dirty: whether tracked files differ from the commit; None where unknown.
        code_hash: hash of the package's Python files: known everywhere, equal only for equal code.
    """

    commit: str
    dirty: bool | None
    code_hash: str


@dataclass(frozen=True)
class Hardware:
    """This machine. ``num_cpus`` are those the process may use; memory is in GiB."""

    num_cpus: int
    memory_gib: float
    gpus: tuple[str, ...]


def code_state() -> CodeState:
    package = Path(moodscale.__file__).parent
    return CodeState(*_git_state(package), _code_hash(package))


def package_versions(names: tuple[str, ...] = STACK) -> dict[str, str]:
    """Installed versions; packages that are not installed are left out."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> Hardware:
    """CPUs, memory and GPUs. Imports torch, so call it where torch is needed anyway."""
    import torch

    gpus = tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Hardware(cpus, round(psutil.virtual_memory().total / 2**30, 1), gpus)


def environment_tags() -> dict[str, str]:
    """The facts as run tags. No host or user name: they identify people and explain no result."""
    code, machine = code_state(), hardware()
    tags = {
        "moodscale.version": moodscale.__version__,
        "git.commit": code.commit,
        "git.dirty": "unknown" if code.dirty is None else str(code.dirty).lower(),
        "code.hash": code.code_hash,
        "python.version": platform.python_version(),
        "hardware.cpus": str(machine.num_cpus),
        "hardware.memory_gib": str(machine.memory_gib),
        "hardware.gpus": ", ".join(machine.gpus) or "none",
    }
    if code.dirty is not None:
        tags["mlflow.source.git.commit"] = code.commit
    return tags | {f"version.{name}": version for name, version in package_versions().items()}


def _git_state(package: Path) -> tuple[str, bool | None]:
    # A package installed into some other project's repository must not report that project's commit.
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None:
        commit = _git(package, "rev-parse", "HEAD")
        if commit:
            return commit, bool(_git(package, "status", "--porcelain", "--untracked-files=no"))
    given = os.environ.get(GIT_COMMIT_VARIABLE, "")
    match = re.fullmatch(r"([0-9a-f]{7,64})(-dirty)?", given)
    return (match[1], match[2] is not None) if match else ("unknown", None)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def _code_hash(package: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
