from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import soundfile
from upath import UPath

from moodscale.corpora.reading import members
from moodscale.corpora.reading.members import open_input, open_tar, split_member
from moodscale.corpora.reading.paths import resolve
from moodscale.corpora.reading.wav import probe
from moodscale.prepare.audio import read_clip
from moodscale.schema import CorpusError
from tiny_daic import pack, tone
from tiny_tar import NOISE, write_tar

RATE = 16_000


@pytest.fixture
def bucket() -> UPath:
    """Object storage in memory: no links, no renames, another class of path."""
    return UPath(f"memory://{uuid4().hex}")


def wav(path: Path, duration_s: float, shift: float = 0.0) -> bytes:
    soundfile.write(path, tone(duration_s) + shift, RATE, subtype="PCM_16")
    return path.read_bytes()


def clip(path: str, *segments: tuple[float, float, str | None]) -> dict[str, Any]:
    return {
        "clip_id": "edaic:300:0000",
        "root": "corpus",
        "path": path,
        "sample_rate_hz": RATE,
        "segments": [{"start_s": start, "stop_s": stop, "path": where} for start, stop, where in segments],
        "duration_s": sum(stop - start for start, stop, _ in segments),
    }


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("data/300_P.tar.gz!300_P/a.wav", ("data/300_P.tar.gz", "300_P/a.wav")),
        ("300_P.zip!a.csv", ("300_P.zip", "a.csv")),
        ("odd!name/a.wav", ("odd!name/a.wav", None)),
        ("odd!name/x.tar!a!b", ("odd!name/x.tar", "a!b")),
    ],
)
def test_a_path_says_archive_and_member(path: str, expected: tuple[str, str | None]) -> None:
    assert split_member(path) == expected


def test_a_clip_from_a_tar_is_the_clip_from_the_file(tmp_path: Path) -> None:
    write_tar(tmp_path / "300_P.tar.gz", ("300_P/a.wav", wav(tmp_path / "a.wav", 40)), ("300_P/b", NOISE))
    spans = ((1.0, 3.0, None), (30.5, 31.0, None))
    of_file = read_clip({"corpus": tmp_path}, clip("a.wav", *spans))
    of_tar = read_clip({"corpus": tmp_path}, clip("300_P.tar.gz!300_P/a.wav", *spans))
    np.testing.assert_array_equal(of_tar, of_file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["300_P.tar.gz", "a.wav"]


def test_a_clip_may_go_from_one_recording_to_the_next(tmp_path: Path) -> None:
    wav(tmp_path / "Q1.wav", 3)
    wav(tmp_path / "Q2.wav", 3, shift=0.25)
    found = read_clip({"corpus": tmp_path}, clip("Q1.wav", (2.0, 3.0, None), (0.0, 1.5, "Q2.wav"), (0.0, 0.5, None)))
    one, two = tone(3)[:, 0], tone(3)[:, 0] + 0.25
    expected = np.concatenate([one[2 * RATE :], two[: 3 * RATE // 2], one[: RATE // 2]])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_object_storage_gives_the_same_clip_and_facts(tmp_path: Path, bucket: UPath) -> None:
    (bucket / "300_P").mkdir(parents=True, exist_ok=True)
    (bucket / "300_P" / "a.wav").write_bytes(wav(tmp_path / "a.wav", 20))
    (bucket / "x.tar.gz").write_bytes(
        write_tar(tmp_path / "x.tar.gz", ("a.wav", wav(tmp_path / "a.wav", 20))).read_bytes()
    )
    expected = read_clip({"corpus": tmp_path}, clip("a.wav", (2.0, 9.0, None)))
    for path in ("300_P/a.wav", "x.tar.gz!a.wav"):
        np.testing.assert_array_equal(read_clip({"corpus": bucket}, clip(path, (2.0, 9.0, None))), expected)
    assert probe(bucket / "300_P" / "a.wav") == probe(tmp_path / "a.wav")


def test_paths_on_object_storage_are_checked_and_must_be_there(bucket: UPath) -> None:
    (bucket / "a").mkdir(parents=True, exist_ok=True)
    with pytest.raises(CorpusError, match="refused"):
        resolve({"corpus": bucket}, "corpus", "../b")
    with pytest.raises(CorpusError, match="No such file"):
        resolve({"corpus": bucket}, "corpus", "a/none.wav")


@pytest.mark.parametrize("member", ["../a", "/a", "", "none.wav"])
def test_a_member_that_is_refused_or_not_there_is_named(tmp_path: Path, member: str) -> None:
    write_tar(tmp_path / "x.tar.gz", ("a.wav", b"1"))
    with (
        pytest.raises(CorpusError, match=r"refused|no 'none\.wav' in it"),
        open_input({"corpus": tmp_path}, "corpus", f"x.tar.gz!{member}"),
    ):
        pass


def test_an_archive_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "x.tar").symlink_to(write_tar(tmp_path / "x.tar", ("a", b"1"), mode="w"))
    with pytest.raises(CorpusError, match="link"), open_input({"corpus": tmp_path / "root"}, "corpus", "x.tar!a"):
        pass


def test_a_member_of_a_zip_is_read_in_place(tmp_path: Path) -> None:
    (tmp_path / "300_P").mkdir()
    (tmp_path / "300_P" / "300_COVAREP.csv").write_bytes(NOISE)
    pack(tmp_path / "300_P")
    with open_input({"corpus": tmp_path}, "corpus", "300_P.zip!300_COVAREP.csv") as stream:
        assert stream.read() == NOISE
        stream.seek(100)
        assert stream.read(50) == NOISE[100:150]


class TestIndexBesideTheManifest:
    @pytest.fixture(autouse=True)
    def _small_archives_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(members, "INDEX_FROM_BYTES", 0)

    def read(self, tmp_path: Path) -> bytes:
        members._open.clear()
        (tmp_path / "m").mkdir(exist_ok=True)
        with open_input({"corpus": tmp_path, "manifest": tmp_path / "m"}, "corpus", "x.tar.gz!a") as stream:
            stream.seek(2_000_000)
            return stream.read(100)

    def test_it_is_kept_and_saves_the_pass_of_the_next_process(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_tar(tmp_path / "x.tar.gz", ("a", NOISE))
        first = self.read(tmp_path)
        assert len(list((tmp_path / "m" / "index").iterdir())) == 2
        monkeypatch.setattr("moodscale.corpora.reading.tars.Gunzip", None)
        assert self.read(tmp_path) == first == NOISE[2_000_000:2_000_100]

    @pytest.mark.parametrize("suffix", ["gzidx", "json"])
    @pytest.mark.parametrize("damage", [b"", b"rubbish" * 100])
    def test_a_damaged_one_is_passed_over(self, tmp_path: Path, suffix: str, damage: bytes) -> None:
        write_tar(tmp_path / "x.tar.gz", ("a", NOISE))
        self.read(tmp_path)
        (file,) = (tmp_path / "m" / "index").glob(f"*.{suffix}")
        file.write_bytes(damage)
        assert self.read(tmp_path) == NOISE[2_000_000:2_000_100]

    def test_one_of_another_archive_is_not_used(self, tmp_path: Path) -> None:
        write_tar(tmp_path / "x.tar.gz", ("a", NOISE))
        self.read(tmp_path)
        write_tar(tmp_path / "x.tar.gz", ("a", NOISE[::-1]))
        assert self.read(tmp_path) == NOISE[::-1][2_000_000:2_000_100]


def test_few_archives_are_kept_open_and_streams_outlive_that(tmp_path: Path) -> None:
    members._open.clear()
    for one in range(members.NUM_KEPT_OPEN + 3):
        write_tar(tmp_path / f"{one}.tar.gz", ("a", NOISE))
    with open_input({"corpus": tmp_path}, "corpus", "0.tar.gz!a") as stream:
        for one in range(1, members.NUM_KEPT_OPEN + 3):
            open_tar(tmp_path / f"{one}.tar.gz")
        assert stream.read(10) == NOISE[:10]
    assert len(members._open) == members.NUM_KEPT_OPEN


def test_threads_share_an_archive(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar.gz", ("a", NOISE), ("b", NOISE[::-1]))
    wrong: list[str] = []

    def read(member: str, expected: bytes) -> None:
        for start in range(0, len(NOISE), 300_000):
            with open_input({"corpus": tmp_path}, "corpus", f"x.tar.gz!{member}") as stream:
                stream.seek(start)
                if stream.read(1000) != expected[start : start + 1000]:
                    wrong.append(f"{member} at {start}")

    threads = [threading.Thread(target=read, args=one) for one in (("a", NOISE), ("b", NOISE[::-1])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
