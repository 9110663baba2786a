"""Places on local disk and on a real S3 endpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from upath import UPath

from moodscale.config import ConfigError
from moodscale.storage import (
    check_reachable,
    display,
    download,
    is_local,
    local_copy,
    local_output,
    location,
    read_bytes,
    remove_tree,
    scratch_directory,
    upload,
    write_bytes,
    write_table,
    writing,
)
from object_storage import SECRET, ObjectStorage


def test_a_local_place_is_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for given in ("runs", "./runs", tmp_path / "runs", f"file://{tmp_path}/runs"):
        place = location(given)
        assert is_local(place)
        assert str(place) == str(tmp_path / "runs")


@pytest.mark.parametrize(
    "uri",
    ["s3://id:canary@bucket/x", "s3://id@bucket/x", "s3://bucket/x?secret=canary", "s3://bucket/x#canary"],
)
def test_credentials_in_a_uri_are_refused_without_being_quoted(uri: str) -> None:
    with pytest.raises(ConfigError, match="AWS_SECRET_ACCESS_KEY") as caught:
        location(uri)
    assert "canary" not in str(caught.value)
    assert "s3://bucket/x" in str(caught.value)
    assert "canary" not in display(uri)


def test_an_unknown_scheme_and_a_missing_bucket_are_refused(object_storage: ObjectStorage) -> None:
    with pytest.raises(ConfigError, match="no storage that is known"):
        location("warp://bucket/x")
    with pytest.raises(ConfigError, match="names no bucket"):
        location("s3:///x")


def write_half(place: UPath) -> None:
    with writing(place) as stream:
        stream.write(b"x" * 100)
        raise KeyError


def test_what_is_not_whole_does_not_appear(bucket: UPath, tmp_path: Path) -> None:
    for place in (bucket / "a" / "file", location(tmp_path) / "a" / "file"):
        with pytest.raises(KeyError):
            write_half(place)
        assert not place.exists()
        write_bytes(place, b"whole")
        assert place.read_bytes() == b"whole"
        remove_tree(place.parent)
        remove_tree(place.parent)
        assert not place.exists()


def test_a_mistyped_bucket_is_named_and_not_made(object_storage: ObjectStorage, bucket: UPath) -> None:
    place = location("s3://mistyped/runs")
    with pytest.raises(ConfigError, match=r"s3://mistyped/runs: there is no bucket mistyped"):
        check_reachable(place)
    with pytest.raises(FileNotFoundError):
        write_bytes(place / "file", b"x")
    assert "mistyped" not in bucket.fs.ls("", refresh=True)
    check_reachable(bucket)
    check_reachable(bucket / "not" / "yet")
    check_reachable(Path("/nowhere"))


def test_an_endpoint_that_does_not_answer_is_named_without_credentials() -> None:
    script = (
        "from moodscale.storage import check_reachable, location\n"
        "from moodscale.config import ConfigError\n"
        "try:\n"
        "    check_reachable(location('s3://bucket/runs'))\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ENDPOINT_URL": f"http://user:{SECRET}@127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_MAX_ATTEMPTS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert "s3://bucket/runs: no answer from http://127.0.0.1:9 (" in done.stdout, done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_files_go_up_and_come_down_and_have_local_names_meanwhile(bucket: UPath, tmp_path: Path) -> None:
    for name in ("one", "two [x]*"):
        (tmp_path / name).write_bytes(name.encode())
    upload({tmp_path / name: bucket / "up" / name for name in ("one", "two [x]*")})
    download({bucket / "up" / name: tmp_path / "down" / name for name in ("one", "two [x]*")})
    assert (tmp_path / "down" / "two [x]*").read_bytes() == b"two [x]*"
    with local_copy(bucket / "up" / "one") as copy:
        assert (copy.name, copy.read_bytes()) == ("one", b"one")
    assert not copy.exists()
    with local_copy(tmp_path / "one") as same:
        assert same == tmp_path / "one"
    with local_output(bucket / "report.html") as output:
        output.write_bytes(b"page")
        assert not (bucket / "report.html").exists()
    assert (bucket / "report.html").read_bytes() == b"page"
    assert not output.exists()


def test_scratch_of_a_killed_process_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    script = "from moodscale.storage import scratch_directory; print(scratch_directory(), flush=True); input()"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        killed, living = (Path(one.stdout.readline().strip()) for one in processes if one.stdout)
        processes[0].kill()
        processes[0].wait()
        assert killed.is_dir()
        for directory in (killed, living):
            os.utime(directory, (0, 0))
        ended = subprocess.run(
            [sys.executable, "-c", script], env=environment, input="\n", capture_output=True, text=True, check=True
        )
        assert not killed.exists()
        assert living.is_dir()
        assert not Path(ended.stdout.strip()).exists(), "a process that ends removes its own"
    finally:
        for one in processes:
            one.kill()
            one.wait()
    assert scratch_directory().stat().st_mode & 0o077 == 0


_READ_AND_END = """
import os, sys
from moodscale.storage import location, read_table
for _ in range(25):
    child = os.fork()
    if child == 0:
        for _ in range(20):
            read_table(location(sys.argv[1]))
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_process_that_has_read_a_table_ends_in_peace(tmp_path: Path) -> None:
    write_table(tmp_path / "table.parquet", pa.table({"text": ["a"] * 100, "lists": [[1.0]] * 100}))
    done = subprocess.run(
        [sys.executable, "-c", _READ_AND_END, str(tmp_path / "table.parquet")],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.split() == ["0"] * 25, done.stderr


def test_a_file_that_others_write_anew_can_be_read_all_the_time(bucket: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bucket / "beat.json"
    write_bytes(path, b"old")
    information = bucket.fs.info

    def asked(*args: Any, **kwargs: Any) -> Any:
        found = information(*args, **kwargs)
        write_bytes(path, b"newer")
        return found

    monkeypatch.setattr(bucket.fs, "info", asked)
    with pytest.raises(OSError):
        path.read_bytes()  # what is stored now is not what was asked about
    assert read_bytes(path) == b"newer"
    with pytest.raises(FileNotFoundError):
        read_bytes(bucket / "nowhere.json")
