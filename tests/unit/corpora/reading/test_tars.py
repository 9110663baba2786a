from __future__ import annotations

import gzip
import io
import tarfile
import time
import tracemalloc
from pathlib import Path

import pytest

from moodscale.corpora.reading import gunzip, tars
from moodscale.corpora.reading.tars import SafeTar
from moodscale.schema import CorpusError
from tiny_tar import MIB, NOISE, write_tar


def entry(name: str = "300_AUDIO.wav", **facts: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in facts.items():
        setattr(info, key, value)
    return info


def packed(path: Path, *parts: bytes) -> Path:
    path.write_bytes(gzip.compress(b"".join(parts)))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_any_place_of_a_member_is_read_as_it_was_packed(tmp_path: Path, mode: str) -> None:
    archive = SafeTar(write_tar(tmp_path / "x.tar.gz", ("300_P/a", b"first"), ("300_P/b", NOISE), mode=mode))
    with archive.open("300_P/b") as stream:
        stream.seek(1_234_567)
        assert stream.read(1000) == NOISE[1_234_567:1_235_567]
        stream.seek(-10, io.SEEK_END)
        assert stream.read() == NOISE[-10:]
        stream.seek(0)
        assert stream.read() == NOISE
    assert archive.read("300_P/a", 100) == b"first"


def test_an_index_saves_the_pass_and_is_bound_to_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path / "x.tar.gz", ("b", NOISE))
    index = SafeTar(path).index()
    monkeypatch.setattr(tars, "Gunzip", None)
    with SafeTar(path, index).open("b") as stream:
        stream.seek(2_000_000)
        assert stream.read(50) == NOISE[2_000_000:2_000_050]
    write_tar(path, ("b", NOISE[::-1]))
    with pytest.raises(CorpusError, match="another archive"):
        SafeTar(path, index)


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("name", ["300_P/" + "n" * 150 + ".txt", "300_P/ä" + "ö" * 120])
def test_long_and_other_names_are_understood(tmp_path: Path, format: int, name: str) -> None:
    assert SafeTar(write_tar(tmp_path / "x.tgz", (name, b"1"), format=format)).names() == [name]


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/etc/outside", "C:/outside", "a\\b"])
def test_a_name_that_leaves_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CorpusError, match=r"x\.tar\.gz: path=.*refused"):
        SafeTar(write_tar(tmp_path / "x.tar.gz", ("fine", b"1"), (name, b"2")))


def test_a_name_hidden_in_an_extended_header_is_checked_too(tmp_path: Path) -> None:
    info = entry("fine")
    info.pax_headers = {"path": "../outside"}
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    with pytest.raises(CorpusError, match="refused"):
        SafeTar(tmp_path / "x.tar.gz")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"S"]
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    path = packed(tmp_path / "x.tar.gz", entry(type=kind, linkname="/etc/passwd").tobuf(), bytes(1024))
    with pytest.raises(CorpusError, match="link or a device"):
        SafeTar(path)


def test_one_name_twice_and_too_many_names_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CorpusError, match="twice"):
        SafeTar(write_tar(tmp_path / "x.tar", ("a", b"1"), ("a", b"2"), mode="w"))
    monkeypatch.setattr(tars, "MAX_MEMBERS", 5)
    with pytest.raises(CorpusError, match="more than 5 files"):
        SafeTar(write_tar(tmp_path / "y.tar", *((str(one), b"") for one in range(6)), mode="w"))


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, -4])
def test_a_truncated_archive_is_cut_off(tmp_path: Path, kept: float) -> None:
    data = write_tar(tmp_path / "x.tar.gz", ("300_AUDIO.wav", NOISE)).read_bytes()
    (tmp_path / "x.tar.gz").write_bytes(data[: int(kept) if kept < 0 else int(len(data) * kept)])
    with pytest.raises(CorpusError, match=r"x\.tar\.gz: is cut off"):
        SafeTar(tmp_path / "x.tar.gz")


def test_a_tar_that_is_not_packed_and_cut_off_is_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", ("a", bytes(5000)), mode="w")
    for kept in (1000, 4000, 512 + 5120):
        (tmp_path / "cut.tar").write_bytes(path.read_bytes()[:kept])
        with pytest.raises(CorpusError, match="is cut off"):
            SafeTar(tmp_path / "cut.tar")


@pytest.mark.parametrize("at", [-6, 0.5])
def test_a_flipped_bit_is_damage(tmp_path: Path, at: float) -> None:
    data = bytearray(write_tar(tmp_path / "x.tar.gz", ("300_AUDIO.wav", NOISE)).read_bytes())
    data[int(at) if at < 0 else int(len(data) * at)] ^= 0x10
    (tmp_path / "x.tar.gz").write_bytes(data)
    with pytest.raises(CorpusError, match="damaged"):
        SafeTar(tmp_path / "x.tar.gz")


@pytest.mark.parametrize("size", [2**33, 2**40, 2**62])
def test_a_lying_size_is_refused(tmp_path: Path, size: int) -> None:
    info = entry(size=size)
    path = packed(tmp_path / "x.tar.gz", info.tobuf(tarfile.GNU_FORMAT), bytes(4096))
    with pytest.raises(CorpusError, match=r"unpacks to more than|is cut off"):
        SafeTar(path)


@pytest.mark.parametrize("claimed", [b"99999999 path=x\n", b"0 path=x\n", b"x path=y\n", b"7 path\n"])
def test_a_damaged_extended_header_is_refused(tmp_path: Path, claimed: bytes) -> None:
    head = entry("h", type=tarfile.XHDTYPE, size=len(claimed)).tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(CorpusError, match="damaged extended header"):
        SafeTar(packed(tmp_path / "x.tar.gz", head, claimed.ljust(512, b"\0"), entry().tobuf(), bytes(1024)))


def test_a_huge_extended_header_is_refused_unread(tmp_path: Path) -> None:
    head = entry("h", type=tarfile.GNUTYPE_LONGNAME, size=2**30).tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(CorpusError, match="impossible size"):
        SafeTar(packed(tmp_path / "x.tar.gz", head, bytes(4096)))


def test_a_bomb_is_refused_early_and_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gunzip, "RATIO_SLACK_BYTES", MIB)
    zeros = gzip.compress(bytes(64 * MIB))
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(entry(size=2**33).tobuf(tarfile.GNU_FORMAT)) + zeros * 40)
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(CorpusError, match="200 times its size"):
        SafeTar(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MIB
    assert time.process_time() - started < 60


def test_a_silent_recording_is_no_bomb(tmp_path: Path) -> None:
    archive = SafeTar(write_tar(tmp_path / "x.tar.gz", ("300_AUDIO.wav", bytes(32 * MIB))))
    assert archive.size("300_AUDIO.wav") == 32 * MIB


@pytest.mark.parametrize("before", [b"", NOISE])
def test_gzip_streams_of_nothing_without_end_are_refused(tmp_path: Path, before: bytes) -> None:
    path = write_tar(tmp_path / "x.tar.gz", ("a", before))
    path.write_bytes(path.read_bytes() + gzip.compress(b"") * 200_000)
    started = time.process_time()
    with pytest.raises(CorpusError, match="streams of almost nothing"):
        SafeTar(path)
    assert time.process_time() - started < 60


def test_an_archive_packed_in_several_streams_is_read(tmp_path: Path) -> None:
    data = gzip.decompress(write_tar(tmp_path / "x.tar.gz", ("a", NOISE)).read_bytes())
    parts = [gzip.compress(data[start : start + 65_280]) for start in range(0, len(data), 65_280)]
    (tmp_path / "x.tar.gz").write_bytes(b"".join(parts) + bytes(100))
    with SafeTar(tmp_path / "x.tar.gz").open("a") as stream:
        stream.seek(MIB)
        assert stream.read(100) == NOISE[MIB : MIB + 100]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is cut off"),
        (b"not a tar" * 100, "is not a tar"),
        (b"\x1f\x8b\x08" + NOISE[:5000], "damaged"),
        (gzip.compress(b""), "is cut off"),
        (gzip.compress(bytes(10240)), "holds no file"),
        (gzip.compress(entry().tobuf() + bytes(1024) + bytes(2 * MIB)), "goes on after its end"),
        (gzip.compress(entry().tobuf() + bytes(1024)) + b"rubbish", "something else follows"),
    ],
)
def test_something_else_than_a_tar_is_named(tmp_path: Path, data: bytes, problem: str) -> None:
    (tmp_path / "x.tar.gz").write_bytes(data)
    with pytest.raises(CorpusError, match=problem):
        SafeTar(tmp_path / "x.tar.gz")


def test_a_member_that_was_damaged_since_is_named_and_not_silently_short(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar.gz", ("a", NOISE))
    index = SafeTar(path).index()
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200_000] = bytes(200_000)
    path.write_bytes(data)
    archive = SafeTar(path, index)
    with pytest.raises(CorpusError, match=r"x\.tar\.gz: a is damaged"), archive.open("a") as stream:
        assert len(stream.read()) < len(NOISE)
