"""Session fixtures of the tests that run the real main: a corpus of synthesised speech, a manifest, a whole run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tiny_experiment import Done, Runner, write_config

NewRunner = Callable[..., Runner]


@pytest.fixture(scope="session")
def speech_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen people, 40 s of synthesised speech each."""
    from moodscale.corpora.synthesize import synthesize
    from moodscale.corpora.synthesize.base import SynthesizeConfig

    out = tmp_path_factory.mktemp("corpus") / "daic_woz"
    synthesize("daic_woz", SynthesizeConfig(out=out, num_participants=16, minutes=0.7, num_workers=1))
    return out


@pytest.fixture(scope="session")
def ray_dir() -> Iterator[Path]:
    """Where these runs' Ray sessions write. Short: Unix sockets lie below, whose paths may hold 107 characters."""
    path = Path(tempfile.mkdtemp(prefix="ms-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def _runners() -> Iterator[list[Runner]]:
    runners: list[Runner] = []
    yield runners
    for runner in runners:
        runner.end()


@pytest.fixture(scope="session")
def new_runner(
    tmp_path_factory: pytest.TempPathFactory, speech_corpus: Path, ray_dir: Path, _runners: list[Runner]
) -> NewRunner:
    """Makes runners, each with a directory and a storage of its own, on the shared corpus unless told otherwise."""

    def make(
        name: str, *, prefix: tuple[str, ...] = (), environment: dict[str, str] | None = None, **changes: Any
    ) -> Runner:
        directory = tmp_path_factory.mktemp(name)
        changes = {"corpus__path": str(speech_corpus), "storage_path": str(directory / "runs"), **changes}
        config = write_config(directory / "experiment.yaml", **changes)
        _runners.append(Runner(directory, config, {"RAY_TMPDIR": str(ray_dir), **(environment or {})}, prefix))
        return _runners[-1]

    return make


@dataclass(frozen=True)
class Whole:
    """A run that nothing interrupted: its results are what every interrupted one must reach."""

    runner: Runner
    prepared: Done
    trained: Done

    @property
    def storage(self) -> Path:
        return self.runner.directory / "runs"

    @property
    def run_dir(self) -> Path:
        return self.storage / "tiny"

    @property
    def manifest(self) -> Path:
        return self.run_dir / "manifest"


@pytest.fixture(scope="session")
def whole_run(new_runner: NewRunner) -> Whole:
    runner = new_runner("whole")
    prepared = runner.run("prepare")
    assert prepared.code == 0, prepared.text
    trained = runner.run("train")
    assert trained.code == 0, trained.text
    return Whole(runner, prepared, trained)
