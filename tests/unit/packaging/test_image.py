"""The image's Dockerfile, read as text: its versions are those of constraints.txt and pyproject.toml, not its own."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from moodscale.doctor import read_constraints

REPOSITORY = Path(__file__).parents[3]
DOCKERFILE = REPOSITORY / "cluster" / "images" / "Dockerfile"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
PINS = read_constraints(REPOSITORY / "constraints.txt")


@dataclass(frozen=True)
class Instruction:
    stage: str
    name: str
    text: str


def instructions():
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE))
    stage, found = "", []
    for line in joined.splitlines():
        if not line.strip():
            continue
        name, _, text = line.strip().partition(" ")
        if name == "FROM":
            stage = re.search(r" AS (\S+)$", text)[1]
        found.append(Instruction(stage, name, " ".join(text.split())))
    return found


def named(name, stage=None):
    return [one for one in instructions() if one.name == name and stage in (None, one.stage)]


def requirements():
    extras = PROJECT["optional-dependencies"]
    return [Requirement(text) for text in [*PROJECT["dependencies"], *extras["demo"], *extras["gpu"], *extras["dev"]]]


def test_the_base_python_is_one_the_project_supports():
    [version] = [one.text.partition("=")[2] for one in named("ARG") if one.text.startswith("PYTHON_VERSION=")]
    assert SpecifierSet(PROJECT["requires-python"]).contains(version)
    outside = [one.text for one in named("FROM") if not one.text.startswith(("base ", "torch-"))]
    assert outside
    assert all(text.startswith("python:${PYTHON_VERSION}-") for text in outside)


def test_no_package_version_is_restated():
    assert not re.search(r"[=~<>]=\s*\d", DOCKERFILE.read_text())


def test_every_installation_takes_its_versions_from_the_constraints():
    installs = [one for one in named("RUN") if "pip install" in one.text]
    assert len(installs) == 3
    assert all("-c /opt/moodscale/constraints.txt" in one.text for one in installs)
    assert any(one.text == "constraints.txt /opt/moodscale/constraints.txt" for one in named("COPY", "base"))


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_each_target_installs_torch_before_the_wheel(target):
    [torch] = [one for one in named("RUN", f"torch-{target}") if "pip install" in one.text]
    assert torch.text.endswith(" torch")
    assert any(one.text.startswith("torch-${TARGET} ") for one in named("FROM"))
    assert [one for one in named("ARG") if one.stage == "" and one.text == "TARGET=cpu"]


def test_the_last_stage_installs_the_wheel_with_an_extra_of_the_project_and_runs_as_no_root():
    last = instructions()[-1].stage
    assert any("/wheels/*.whl" in one.text for one in named("RUN", last))
    extras = [one.text.partition("MOODSCALE_EXTRAS=")[2] for one in named("ENV") if "MOODSCALE_EXTRAS=" in one.text]
    assert len(extras) == 2
    assert {one for chosen in extras for one in chosen.split(",")} <= PROJECT["optional-dependencies"].keys()
    [user] = named("USER", last)
    assert user.text not in {"root", "0"}
    assert any(f"useradd --uid 1000 --create-home {user.text}" in one.text for one in named("RUN", "base"))
    after = instructions()[instructions().index(user) :]
    assert not any(one.name == "RUN" for one in after)


def test_nothing_but_the_package_can_enter_the_build():
    ignore = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().split("\n")
    assert "*" in ignore
    admitted = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copied = {name for one in named("COPY") for name in one.text.split()[:-1]}
    assert copied == admitted
    assert all((REPOSITORY / name).exists() for name in copied)


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_every_direct_requirement_is_pinned_within_its_range(requirement):
    if requirement.name == "moodscale":
        assert requirement.extras == {"demo", "privacy", "s3", "teachers"}, "the tests use them all"
        return
    name = re.sub(r"[-_.]+", "-", requirement.name).lower()
    assert name in PINS, f"{requirement.name} is not in constraints.txt"
    assert requirement.specifier.contains(PINS[name])
