from __future__ import annotations

import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest

from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.corpora.reading import archives
from moodscale.corpora.reading.archives import SafeZip
from moodscale.schema import CorpusError
from tiny_daic import Session, tone, write_corpus

MIB = 2**20


def write_zip(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for name, data in members:
            archive.writestr(name, data)
    return path


def test_an_archive_reads_as_its_folder_does(tmp_path: Path) -> None:
    write_corpus(tmp_path / "folders", [Session("300")])
    write_corpus(tmp_path / "zips", [Session("300")], archives=True)
    of_folder = DaicWozConfig(path=str(tmp_path / "folders")).open().read("300").interview
    of_zip = DaicWozConfig(path=str(tmp_path / "zips")).open(tmp_path / "m" / "audio").read("300").interview
    assert of_folder is not None
    assert of_zip is not None
    assert of_zip.turns == of_folder.turns
    (audio,) = of_zip.recordings
    assert (audio.root, audio.path) == ("manifest", "audio/300_AUDIO.wav")
    original = (tmp_path / "folders" / "300_P" / "300_AUDIO.wav").read_bytes()
    assert (tmp_path / "m" / "audio" / "300_AUDIO.wav").read_bytes() == original


def test_members_may_lie_in_the_sessions_own_folder(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "corpus", [Session("300")])
    folder = root / "300_P"
    with zipfile.ZipFile(root / "300_P.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"300_P/{file.name}")
        archive.writestr("__MACOSX/300_P/._300_AUDIO.wav", b"x")
    for file in list(folder.iterdir()):
        file.unlink()
    folder.rmdir()
    reading = DaicWozConfig(path=str(root)).open(tmp_path / "audio").read("300")
    assert reading.interview is not None
    assert [repair.defect for repair in reading.repairs] == ["apple_double"]


def test_a_recording_is_unpacked_once(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "corpus", [Session("300")], archives=True)
    corpus = DaicWozConfig(path=str(root)).open(tmp_path / "audio")
    corpus.read("300")
    first = (tmp_path / "audio" / "300_AUDIO.wav").stat().st_ino
    corpus.read("300")
    assert (tmp_path / "audio" / "300_AUDIO.wav").stat().st_ino == first


def test_a_recording_above_the_cap_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "corpus", [Session("300")], archives=True)
    reading = DaicWozConfig(path=str(root), max_audio_bytes=1000).open(tmp_path / "audio").read("300")
    assert "above the 1,000 allowed" in reading.quarantined[0].reason
    assert list((tmp_path / "audio").iterdir()) == []


@pytest.mark.parametrize("name", ["../outside.txt", "a/../../outside.txt", "/etc/outside.txt", "C:/outside.txt"])
def test_a_name_that_leaves_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    path = write_zip(tmp_path / "x.zip", ("fine.txt", b"1"), (name, b"2"))
    with pytest.raises(CorpusError, match="refused"):
        SafeZip(path)


def test_a_nul_in_a_name_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", ("300_AUDIO_wav", b"2"))
    path.write_bytes(path.read_bytes().replace(b"300_AUDIO_wav", b"300_AUDIO\0wav"))
    with pytest.raises(CorpusError, match="NUL"):
        SafeZip(path)


def test_a_link_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("300_AUDIO.wav")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(CorpusError, match="link"):
        SafeZip(tmp_path / "x.zip")


def test_one_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="twice"):
        SafeZip(write_zip(tmp_path / "x.zip", ("a", b"1"), ("a", b"2")))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "300_P.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("300_AUDIO.wav", "w") as member:
        for _ in range(64):
            member.write(bytes(MIB))
    tracemalloc.start()
    with pytest.raises(CorpusError, match="200 times its size"):
        SafeZip(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MIB


def test_a_directory_that_lies_about_a_size_ends_as_damage_in_bounded_memory(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", ("300_AUDIO.wav", bytes(32 * MIB)))
    data = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(signature) + at, 1000)
    path.write_bytes(data)
    tracemalloc.start()
    with SafeZip(path) as archive, pytest.raises(CorpusError, match="damaged"):
        archive.unpack("300_AUDIO.wav", tmp_path / "out.wav", 64 * MIB)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * MIB
    assert not (tmp_path / "out.wav").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["x.zip"]


def test_unpacking_holds_a_piece_at_a_time(tmp_path: Path) -> None:
    noise = (tone(400)[:, 0] * 2**30).astype("<i4").tobytes()
    path = write_zip(tmp_path / "x.zip", ("300_AUDIO.wav", noise))
    with SafeZip(path) as archive:
        tracemalloc.start()
        archive.unpack("300_AUDIO.wav", tmp_path / "out.wav", len(noise))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (tmp_path / "out.wav").read_bytes() == noise
    assert peak < 8 * archives.CHUNK_BYTES < len(noise) / 3


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip" * 1000])
def test_something_else_than_a_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(CorpusError, match="not a readable zip"):
        SafeZip(tmp_path / "x.zip")


def test_a_huge_directory_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zip(tmp_path / "x.zip", *((f"{index}", b"") for index in range(100)))
    monkeypatch.setattr(archives, "MAX_DIRECTORY_BYTES", 1000)
    monkeypatch.setattr(archives.zipfile, "ZipFile", None)
    with pytest.raises(CorpusError, match="its directory of"):
        SafeZip(path)


def test_a_damaged_member_quarantines_its_session_without_a_word(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "corpus", [Session("300"), Session("301")], archives=True)
    path = root / "300_P.zip"
    data = bytearray(path.read_bytes())
    data[200:260] = bytes(60)
    path.write_bytes(data)
    corpus = DaicWozConfig(path=str(root)).open(tmp_path / "audio")
    assert "damaged" in corpus.read("300").quarantined[0].reason
    assert corpus.read("301").interview is not None
