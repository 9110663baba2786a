"""What people said is in the corpus and nowhere else; nothing leaves the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from synthesised import NewRunner, Whole
from tiny_daic import people, talk, write_corpus
from tiny_experiment import SUPPORT, losses, tracked

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CANARY = "the seventh lighthouse keeps my brother's letters"
TRAP = SUPPORT / "outside_trap.py"


def can_close_off() -> bool:
    if os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("ip")):
        return False
    return subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0


def files_with(words: str, *directories: Path) -> Iterator[Path]:
    """Files below that hold the words in any usual encoding, even in part."""
    parts = [words, words[: len(words) // 2], words[len(words) // 2 :]]
    wanted = [part.encode(encoding) for part in parts for encoding in ("utf-8", "utf-16-le")]
    for directory in directories:
        for path in directory.rglob("*"):
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                if any(one in data for one in wanted):
                    yield path


def test_words_of_a_transcript_appear_nowhere_whatever_fails(new_runner: NewRunner, tmp_path: Path) -> None:
    ray_dir = Path("/tmp") / f"ms-{os.getpid()}"
    sessions = people(16)
    for session in sessions:
        session.rows = [(start, stop, who, f"{CANARY} {start}") for start, stop, who, _ in talk(30.0)]
    # Rows whose times are words; a transcript without its header line, a label of words: neither can be used.
    said = sessions[4].rows or []
    sessions[4].rows = [*said[:3], (CANARY, 19.0, "Participant", CANARY), (20.0, 21.0, CANARY, CANARY)]
    sessions[5].extra_files = {f"{sessions[5].id}_TRANSCRIPT.csv": f"{CANARY}\t{CANARY}\n".encode()}
    sessions[8].score = CANARY
    corpus = write_corpus(tmp_path / "corpus", sessions)
    runner = new_runner(
        "canary",
        environment={"RAY_TMPDIR": str(ray_dir)},
        corpus__path=str(corpus),
        prepare__max_quarantined_fraction=0.5,
        recipe__kind="plugins.faulty_recipe",
        recipe__accidents=[{"rank": 1, "call": 2, "what": "raise"}],
        recipe__accidents_dir=str(tmp_path / "accidents"),
        train__max_failures=0,
    )
    try:
        prepared = runner.run("prepare")
        assert prepared.code == 0, prepared.text
        assert {one[0] for one in prepared.result["quarantined"]} >= {sessions[5].id}
        started = runner.start("train")
        failed = started.wait()
        assert failed.code == 1, failed.text
        assert "error: " in failed.err.splitlines()[-1]
        assert "rank 1: ArithmeticError: accident 0 on rank 1" in failed.err.splitlines()[-1]
        assert "train.max_failures=0" in failed.err.splitlines()[-1]
        assert failed.out == ""
        assert tracked(runner.directory / "runs").status == "FAILED"
        assert started.gone() == []
        strict = runner.run("prepare", "name=strict", "prepare.max_quarantined_fraction=0")
        assert strict.code == 2
        assert any(ray_dir.rglob("*.out")), "Ray's session directory is where it is searched"
        assert sorted(files_with(CANARY, runner.directory, ray_dir)) == []
        assert any(files_with(CANARY, corpus)), "the search finds what is there"
    finally:
        runner.end()
        shutil.rmtree(ray_dir, ignore_errors=True)


@pytest.mark.skipif(not can_close_off(), reason="needs root, unshare and ip")
def test_the_trap_hears_who_tries_to_get_out(tmp_path: Path) -> None:
    attempt = "import urllib.request; urllib.request.urlopen('https://huggingface.co', timeout=5)"
    command = ["unshare", "-n", sys.executable, str(TRAP), str(tmp_path / "log"), sys.executable, "-c", attempt]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode != 0
    assert "huggingface" in (tmp_path / "log").read_text()


@pytest.mark.skipif(not can_close_off(), reason="needs root, unshare and ip")
def test_without_a_network_and_without_offline_switches_nothing_tries_to_get_out(
    new_runner: NewRunner, whole_run: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for switch in os.environ:
        if switch.startswith(("HF_", "TRANSFORMERS_", "DO_NOT_TRACK")):
            monkeypatch.delenv(switch)
    log = tmp_path / "attempts"
    prefix = ("unshare", "-n", sys.executable, str(TRAP), str(log))
    runner = new_runner("closed", prefix=prefix, manifest=str(whole_run.manifest))
    for verb in ("train", "evaluate"):
        done = runner.run(verb)
        assert done.code == 0, done.text
    assert losses(runner.directory / "runs" / "tiny") == losses(whole_run.run_dir)
    assert log.read_text() == ""
