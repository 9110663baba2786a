"""The command line in this process; `tests/entry/test_inspect.py` starts a real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from upath import UPath

from moodscale import cli
from moodscale.prepare.manifest import Manifest
from moodscale.storage import upload
from tiny_manifests import prepared, sessions


@pytest.fixture(autouse=True)
def _stdout_stays_pytests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_claim_stdout", lambda: None)


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``moodscale inspect ARGUMENTS``."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["inspect", *map(str, arguments)])
    shown = capsys.readouterr()
    return int(caught.value.code or 0), shown.out, shown.err


def test_overlap_decides_the_exit_code(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    people = sessions(8)
    first = prepared(tmp_path / "a", people)
    people[0].split = "test"
    second = prepared(tmp_path / "b", people)
    code, out, err = run(capsys, "--check-overlap", first.path)
    assert (code, out.strip()[:8]) == (0, "disjoint"), err
    code, out, _ = run(capsys, "--check-overlap", first.path, second.path)
    assert code == 1
    assert "daic:500" in out
    code, out, _ = run(capsys, "--check-overlap", "--json", first.path, second.path)
    assert (code, json.loads(out.splitlines()[-1])["people"][0]["person"]) == (1, "daic:500")
    assert first.num_test_reads() == second.num_test_reads() == 0
    assert not (tmp_path / "a" / "inspect.html").exists()


def test_the_page_goes_where_it_is_told_and_test_labels_can_be_left_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    manifest = prepared(tmp_path / "m", sessions(8))
    code, out, err = run(capsys, manifest.path, "--out", tmp_path / "sub" / "r.html", "--no-test-labels")
    assert code == 0, err
    assert "what is wrong, worst first" in out
    assert (tmp_path / "sub" / "r.html").is_file()
    assert manifest.num_test_reads() == 0


def test_what_cannot_be_done_is_one_message(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    manifest = prepared(tmp_path / "m", sessions(8))
    for arguments, said in (
        ((tmp_path / "none",), "no manifest"),
        (("--check-overlap", "--out", tmp_path / "x.html", manifest.path), "--check-overlap writes no page"),
        ((manifest.path, manifest.path), "named twice"),
    ):
        code, _, err = run(capsys, *arguments)
        assert code == 2
        assert err.splitlines()[-1].startswith("error: ")
        assert said in err


def test_a_manifest_in_object_storage_gets_its_page_there(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    bucket: UPath,
) -> None:
    local = prepared(tmp_path / "m", sessions(8))
    place = bucket / "m"
    upload({file: place / file.name for file in (tmp_path / "m").iterdir() if file.is_file()})
    code, _, err = run(capsys, str(place), "--json")
    assert code == 0, err
    assert (place / "inspect.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (Manifest.open(place).num_test_reads(), local.num_test_reads()) == (1, 0)
