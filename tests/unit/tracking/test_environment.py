import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import moodscale
from moodscale.tracking import environment


def _git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.delenv(environment.GIT_COMMIT_VARIABLE, raising=False)
    package = tmp_path / "moodscale"
    package.mkdir()
    (package / "__init__.py").write_text("x = 1\n")
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-q", "-m", "one")
    return package


def test_a_clean_checkout_gives_its_commit_and_an_edit_makes_it_dirty(repository):
    commit, dirty = environment._git_state(repository)
    assert re.fullmatch(r"[0-9a-f]{40}", commit)
    assert dirty is False
    (repository / "__init__.py").write_text("x = 2\n")
    assert environment._git_state(repository) == (commit, True)


def test_a_package_installed_inside_a_foreign_repository_does_not_report_its_commit(repository):
    installed = repository.parent / "site-packages" / "moodscale"
    shutil.copytree(repository, installed)
    assert environment._git_state(installed) == ("unknown", None)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("a" * 40, ("a" * 40, False)), ("abc1234-dirty", ("abc1234", True)), ("$(reboot)", ("unknown", None))],
)
def test_without_a_repository_the_commit_comes_from_the_environment(tmp_path, monkeypatch, given, expected):
    monkeypatch.setenv(environment.GIT_COMMIT_VARIABLE, given)
    assert environment._git_state(tmp_path) == expected


def test_the_code_hash_follows_the_code(repository):
    environment._code_hash.cache_clear()
    before = environment._code_hash(repository)
    environment._code_hash.cache_clear()
    assert environment._code_hash(repository) == before
    (repository / "__init__.py").write_text("x = 2\n")
    environment._code_hash.cache_clear()
    assert environment._code_hash(repository) != before


def test_tags_name_code_packages_and_hardware_but_no_host_or_user():
    tags = environment.environment_tags()
    assert tags["moodscale.version"] == moodscale.__version__
    assert tags["version.torch"].startswith("2.")
    assert int(tags["hardware.cpus"]) >= 1
    assert re.fullmatch(r"[0-9a-f]{16}", tags["code.hash"])
    assert not any("host" in key or "user" in key for key in tags)
    assert str(Path.home()) not in " ".join(tags.values())


def test_a_missing_package_is_left_out():
    assert environment.package_versions(("ray", "no-such-package")).keys() == {"ray"}


def test_importing_the_package_switches_every_usage_report_off():
    code = (
        "import os, moodscale\n"
        "assert os.environ['MLFLOW_DISABLE_TELEMETRY'] == 'true'\n"
        "assert os.environ['DO_NOT_TRACK'] == 'true'\n"
        "assert os.environ['HF_HUB_DISABLE_TELEMETRY'] == '1'\n"
        "assert os.environ['RAY_USAGE_STATS_ENABLED'] == '0'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
