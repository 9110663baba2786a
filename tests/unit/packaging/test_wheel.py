"""The wheel, built and installed for real into an empty directory."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
PACKAGE = REPOSITORY / "platform" / "moodscale"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / name, source)
    shutil.copytree(PACKAGE, source / "platform" / "moodscale", ignore=shutil.ignore_patterns("__pycache__"))
    # Not isolated: setuptools is installed with the stack, and a build must not depend on a package index.
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(source)], check=True, timeout=300)
    [built] = folder.glob("moodscale-*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    sources = {
        f"moodscale/{path.relative_to(PACKAGE).as_posix()}"
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == sources
    assert {"moodscale/py.typed", "moodscale/cli.py"} <= held


@pytest.mark.slow
def test_the_installed_wheel_imports_from_its_own_place_with_templates_and_command(wheel, tmp_path):
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*install, str(wheel)], check=True, timeout=300)
    code = (
        "import moodscale, importlib.resources as r, pkgutil, importlib\n"
        f"assert moodscale.__file__.startswith({str(target)!r}), moodscale.__file__\n"
        "texts = [p for d in ('evaluate.report', 'prepare') for p in r.files(f'moodscale.{d}').iterdir()\n"
        "         if p.name.endswith(('.html', '.css'))]\n"
        "assert len(texts) >= 2 and all(p.read_text() for p in texts)\n"
        "import moodscale.doctor, moodscale.tracking, moodscale.schema\n"
        "assert moodscale.doctor.__file__.startswith(moodscale.__path__[0])\n"
        "from importlib.metadata import version, entry_points\n"
        "assert version('moodscale') == moodscale.__version__\n"
        "[command] = entry_points(group='console_scripts', name='moodscale')\n"
        "assert callable(command.load())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(target)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=120)
