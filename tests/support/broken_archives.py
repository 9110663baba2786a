"""Broken and hostile archives: DAIC-WOZ's zips, E-DAIC's tars, packed and not."""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broken import SAID, Broken, Change, Edit, append, becomes, edit, packed, places

ZIP, TGZ, TAR = "500_P.zip", "data/600_P.tar.gz", "data/600_P.tar"

_SPACES = b" " * (66 * 2**20)
Rewrite = Callable[[zipfile.ZipFile], None]


def broken() -> list[Broken]:
    return [*_zips(), *_tars()]


def _zips() -> list[Broken]:
    whole: list[tuple[str, Edit]] = [
        ("empty", becomes(b"")),
        ("an end and nothing else", becomes(lambda: b"PK\x05\x06" + bytes(18))),
        ("words", becomes(lambda: SAID.encode() * 50)),
        ("NUL bytes only", becomes(bytes(4096))),
        ("a tar", becomes(lambda: _tar([("500_TRANSCRIPT.csv", b"x")], "w"))),
        ("packed", packed),
        ("cut off at the end", lambda data: data[:-100]),
        ("cut off in the middle", lambda data: data[: len(data) // 2]),
        ("without its beginning", lambda data: data[500:]),
        ("a wrong checksum", _wrong_crc),
        ("a hole in a member", lambda data: data[:60] + bytes(40) + data[100:]),
        ("a password's flag", _flagged(0x1)),
        ("a strong password's flag", _flagged(0x41)),
        ("an unknown way of packing", _method(77)),
        ("a claim to be stored", _method(0)),
        ("a claim of 4 GB", _claimed(0xFFFFFFF0)),
        ("a claim of one byte", _claimed(1)),
        ("an offset past the end", _offset(0x7FFFFFFF)),
        ("a directory of 4 GB", _directory(0xFFFFFFF0)),
        ("a directory that starts after its end", _directory_at(0xFFFFFF00)),
        ("a zip64 locator", lambda data: data[: data.rindex(b"PK\x05\x06")] + b"PK\x06\x07" + bytes(16) + data[data.rindex(b"PK\x05\x06") :]),
    ]  # fmt: skip
    added: list[tuple[str, Rewrite]] = [
        ("a path that goes up", lambda archive: archive.writestr("../../evil.csv", "x")),
        ("a path that goes up from within", lambda archive: archive.writestr("500_P/../../evil.csv", "x")),
        ("an absolute path", lambda archive: archive.writestr("/etc/evil", "x")),
        ("a path with a drive", lambda archive: archive.writestr("C:\\evil", "x")),
        ("a path with backslashes", lambda archive: archive.writestr(_info("..\\..\\evil"), "x")),
        ("a link", lambda archive: archive.writestr(_info("500_COVAREP2.csv", stat.S_IFLNK), "/etc/passwd")),
        ("a device", lambda archive: archive.writestr(_info("zero", stat.S_IFCHR), "")),
        ("a pipe", lambda archive: archive.writestr(_info("pipe", stat.S_IFIFO), "")),
        ("the transcript twice", lambda archive: archive.writestr("500_TRANSCRIPT.csv", SAID)),
        ("the transcript in another folder too", lambda archive: archive.writestr("b/500_TRANSCRIPT.csv", SAID)),
        ("a bomb", lambda archive: archive.writestr("zeros.bin", bytes(64 * 2**20), zipfile.ZIP_DEFLATED)),
        ("a bomb of bzip2", lambda archive: archive.writestr("zeros.bin", bytes(64 * 2**20), zipfile.ZIP_BZIP2)),
        ("a hundred thousand members", _many),
    ]  # fmt: skip
    replaced: list[tuple[str, dict[str, Any], int]] = [
        ("no transcript", {"500_TRANSCRIPT.csv": None}, zipfile.ZIP_DEFLATED),
        ("no recording", {"500_AUDIO.wav": None}, zipfile.ZIP_DEFLATED),
        ("a transcript bomb", {"500_TRANSCRIPT.csv": _SPACES}, zipfile.ZIP_DEFLATED),
        ("a recording bomb", {"500_AUDIO.wav": b"RIFF" + bytes(64 * 2**20)}, zipfile.ZIP_DEFLATED),
        ("a nested archive", {"500_TRANSCRIPT.csv": None, "500_P.zip": _zip({"500_TRANSCRIPT.csv": b"x"})}, zipfile.ZIP_STORED),
    ]  # fmt: skip
    found = [
        Broken(f"500_P.zip: {what}", "daic zips", edit(ZIP, change), "quarantined", ("500_P.zip",))
        for what, change in whole
    ]
    found += [
        Broken(f"500_P.zip: {what}", "daic zips", _adding(change), "quarantined", ("500_P.zip",))
        for what, change in added
    ]
    for what, members, method in replaced:
        found.append(
            Broken(f"500_P.zip: {what}", "daic zips", _replacing(members, method), "quarantined", ("500_P.zip",))
        )
    found += [
        Broken("500_P.zip: something before it", "daic zips", edit(ZIP, lambda data: b"#!/bin/sh\n" + data), "harmless", why="a zip counts from its end"),
        Broken("500_P.zip: an AppleDouble", "daic zips", _adding(lambda archive: archive.writestr("__MACOSX/._500_TRANSCRIPT.csv", "x")), "repaired", ("._*",)),
        *(
            Broken(f"500_P.zip: members packed with {name}", "daic zips", _replacing({}, method), "harmless", why="another way of packing that is read as well")
            for name, method in (("LZMA", zipfile.ZIP_LZMA), ("bzip2", zipfile.ZIP_BZIP2))
        ),
        Broken("500_P.zip: a comment", "daic zips", _adding(lambda archive: setattr(archive, "comment", SAID.encode())), "harmless", why="a comment is not read"),
        Broken("500_P.zip: an unknown member", "daic zips", _adding(lambda archive: archive.writestr("notes.txt", SAID)), "harmless", why="files that no reader asks for are not opened"),
    ]  # fmt: skip
    found += [
        Broken(
            f"500_P.zip: {what}",
            "daic zips",
            change,
            "repaired" if how == "missing" else "quarantined",
            ("500" if how == "missing" else "500_P.zip",),
        )
        for what, change, how in places(ZIP)
    ]
    return found


def _tars() -> list[Broken]:
    whole: list[tuple[str, Edit]] = [
        ("empty", becomes(b"")),
        ("words", becomes(lambda: SAID.encode() * 50)),
        ("a zip", becomes(lambda: _zip({"600_Transcript.csv": b"x"}))),
        ("cut off at the end", lambda data: data[: -len(data) // 10]),
        ("cut off in the middle", lambda data: data[: len(data) // 2]),
        ("without its beginning", lambda data: data[300:]),
        ("no member", becomes(lambda: _tar([], "w:gz"))),
    ]
    packed_only: list[tuple[str, Edit]] = [
        ("cut off by its last byte", lambda data: data[:-1]),
        ("a wrong checksum", lambda data: data[:-8] + b"\1\2\3\4" + data[-4:]),
        ("a wrong length", lambda data: data[:-4] + b"\1\2\3\4"),
        ("a hole", lambda data: data[:2000] + bytes(50) + data[2050:]),
        ("an unknown way of packing", lambda data: data[:2] + b"\x07" + data[3:]),
        ("words after its end", append(SAID.encode())),
        ("a bomb", becomes(lambda: _gzip_bomb())),
        ("a bomb of zeros after its end", lambda data: data + gzip.compress(bytes(2**26)) * 4),
        ("a hundred thousand gzip streams", lambda data: gzip.compress(b"") * 100_000 + data),
        ("packed twice", packed),
        ("a name in its header that never ends", lambda data: data[:3] + b"\x08" + data[4:10] + b"a" * 2**20),
    ]
    headers: list[tuple[str, Callable[[bytearray], None]]] = [
        ("a member of 8 GB", _field(124, b"77777777777\0")),
        ("a member of 2**60 bytes", _field(124, b"\x80" + bytes(3) + struct.pack(">Q", 2**60))),
        ("a member of minus one byte", _field(124, b"\xff" * 12)),
        ("words for a size", _field(124, b"marmalade\0\0\0")),
        ("a wrong checksum in a header", lambda data: data.__setitem__(slice(148, 156), b"0000000\0")),
        ("a link", _field(156, b"2")),
        ("a hard link", _field(156, b"1")),
        ("a device", _field(156, b"3")),
        ("a pipe", _field(156, b"6")),
        ("a sparse file", _field(156, b"S")),
        ("an unknown kind of member", _field(156, b"Z")),
        ("a name of other bytes", _field(0, b"\xff\xfe\xed\xa0\x80/x\0")),
    ]  # fmt: skip
    added: list[tuple[str, str, dict[str, Any]]] = [
        ("a path that goes up", "../../evil.csv", {}),
        ("a path that goes up from within", "600_P/../../evil.csv", {}),
        ("an absolute path", "/etc/evil", {}),
        ("a path with backslashes", "..\\evil", {}),
        ("a link out of it", "600_P/link", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ("a hard link out of it", "600_P/link", {"type": tarfile.LNKTYPE, "linkname": "../../evil"}),
        ("a device among others", "600_P/zero", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5}),
        ("the transcript twice", "600_P/600_Transcript.csv", {}),
        ("the transcript in another folder too", "b/600_Transcript.csv", {}),
        ("a long name that goes up", "../" + "a" * 300, {}),
        ("a size in another script", "600_P/x", {"pax_headers": {"size": "²"}}),
        ("a size of words", "600_P/x", {"pax_headers": {"size": SAID}}),
        ("a size of minus one", "600_P/x", {"pax_headers": {"size": "-1"}}),
        ("a size of 40 digits", "600_P/x", {"pax_headers": {"size": "9" * 40}}),
        ("a path in an extended header that goes up", "600_P/x", {"pax_headers": {"path": "../../evil"}}),
        ("a path of nothing", "600_P/x", {"pax_headers": {"path": ""}}),
        ("a path with a NUL", "600_P/x", {"pax_headers": {"path": "600_P/x\0y"}}),
        ("a sparse member", "600_P/x", {"pax_headers": {"GNU.sparse.major": "1"}}),
        ("a huge extended header", "600_P/x", {"pax_headers": {"comment": "x" * 2**20}}),
    ]
    found: list[Broken] = []
    for kind, path in (("edaic tars", TGZ), ("edaic plain tars", TAR)):
        name = path.rpartition("/")[2]
        more = (
            packed_only
            if kind == "edaic tars"
            else [("a byte of a header changed", lambda data: data[:100] + b"9" + data[101:])]
        )
        found += [
            Broken(f"{name}: {what}", kind, edit(path, change), "quarantined", (name,))
            for what, change in [*whole, *more]
        ]
        for what, member, facts in added:
            found.append(
                Broken(f"{name}: {what}", kind, edit(path, _with_member(member, facts)), "quarantined", (name,))
            )
        for what, change, how in places(path):
            found.append(
                Broken(
                    f"{name}: {what}",
                    kind,
                    change,
                    "repaired" if how == "missing" else "quarantined",
                    ("600" if how == "missing" else name,),
                )
            )
    for what, patch in headers:
        found.append(
            Broken(
                f"600_P.tar.gz: {what} (first header)",
                "edaic tars",
                edit(TGZ, _patched(patch)),
                "harmless" if "name" in what else "quarantined",
                ("600_P.tar.gz",),
                "the folder's own header: its members carry their whole paths" if "name" in what else "",
            )
        )
    found += [
        Broken("600_P.tar.gz: no transcript", "edaic tars", edit(TGZ, _without("Transcript.csv")), "quarantined", ("600_P.tar.gz", "600_Transcript.csv")),
        Broken("600_P.tar.gz: no recording", "edaic tars", edit(TGZ, _without("AUDIO.wav")), "quarantined", ("600_P.tar.gz", "600_AUDIO.wav")),
        Broken("600_P.tar.gz: no features", "edaic tars", edit(TGZ, _without("features/")), "repaired", ("openface",)),
        Broken("600_P.tar.gz: members not under a folder", "edaic tars", edit(TGZ, _flat), "repaired", ("600_P.tar.gz",)),
        Broken("600_P.tar.gz: ten thousand members more", "edaic tars", edit(TGZ, _crowd), "quarantined", ("600_P.tar.gz",)),
        Broken("600_P.tar.gz: an AppleDouble", "edaic tars", edit(TGZ, _with_member("600_P/._600_Transcript.csv", {})), "repaired", ("._*",)),
        Broken("600_P.tar.gz: zeros after its end", "edaic tars", edit(TGZ, append(bytes(512))), "harmless", why="tapes are padded with zeros"),
        Broken("600_P.tar.gz: not packed in spite of its name", "edaic tars", edit(TGZ, gzip.decompress), "harmless", why="the content tells that it is not packed"),
        Broken("600_P.tar: packed in spite of its name", "edaic plain tars", edit(TAR, packed), "harmless", why="the content tells that it is packed"),
        Broken("600_P.tar.gz: two gzip streams", "edaic tars", edit(TGZ, _two_streams), "harmless", why="some tools pack in several streams"),
        Broken("600_P.tar.gz: an unknown member", "edaic tars", edit(TGZ, _with_member("600_P/notes.txt", {})), "harmless", why="files that no reader asks for are not opened"),
        Broken("600_P.tar.gz: a folder beside it", "edaic tars", lambda root: (root / "data/600_P").mkdir(), "quarantined", ("600_P",)),
    ]  # fmt: skip
    return found


def _info(name: str, kind: int = stat.S_IFREG) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("placeholder")
    info.filename = name
    info.external_attr = (kind | 0o644) << 16
    return info


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _adding(change: Rewrite) -> Change:
    def apply(root: Path) -> None:
        with zipfile.ZipFile(root / ZIP, "a") as archive:
            change(archive)

    return apply


def _replacing(changed: dict[str, Any], method: int) -> Change:
    def apply(root: Path) -> None:
        with zipfile.ZipFile(root / ZIP) as archive:
            members = {name: archive.read(name) for name in archive.namelist()} | changed
        with zipfile.ZipFile(root / ZIP, "w", method) as archive:
            for name, data in members.items():
                if data is not None:
                    archive.writestr(name, data)

    return apply


def _many(archive: zipfile.ZipFile) -> None:
    for number in range(65_000):
        archive.writestr(f"a/{number}{'x' * 40}", b"")


def _central(data: bytes, member: bytes = b"500_TRANSCRIPT.csv") -> int:
    """Where the directory's entry of a member begins."""
    return data.index(member, data.index(b"PK\x01\x02")) - 46


def _patch(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def _wrong_crc(data: bytes) -> bytes:
    return _patch(data, _central(data) + 16, b"\1\2\3\4")


def _flagged(bits: int) -> Edit:
    return lambda data: _patch(data, _central(data) + 8, struct.pack("<H", bits))


def _method(number: int) -> Edit:
    def change(data: bytes) -> bytes:
        at = _central(data)
        local = struct.unpack_from("<I", data, at + 42)[0]
        return _patch(_patch(data, at + 10, struct.pack("<H", number)), local + 8, struct.pack("<H", number))

    return change


def _claimed(num_bytes: int) -> Edit:
    return lambda data: _patch(data, _central(data) + 24, struct.pack("<I", num_bytes))


def _offset(at: int) -> Edit:
    return lambda data: _patch(data, _central(data) + 42, struct.pack("<I", at))


def _directory(num_bytes: int) -> Edit:
    return lambda data: _patch(data, data.rindex(b"PK\x05\x06") + 12, struct.pack("<I", num_bytes))


def _directory_at(at: int) -> Edit:
    return lambda data: _patch(data, data.rindex(b"PK\x05\x06") + 16, struct.pack("<I", at))


def _tar(members: list[tuple[str, bytes]], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _unpacked(data: bytes) -> tuple[bytes, bool]:
    is_packed = data[:2] == b"\x1f\x8b"
    return (gzip.decompress(data) if is_packed else data), is_packed


def _members(data: bytes) -> list[tuple[str, bytes]]:
    found = []
    with tarfile.open(fileobj=io.BytesIO(_unpacked(data)[0])) as archive:
        for info in archive:
            file = archive.extractfile(info)
            assert file is not None
            found.append((info.name, file.read()))
    return found


def _with_member(name: str, facts: dict[str, Any]) -> Edit:
    """One member more, written by hand: the library corrects what is wrong."""

    def change(data: bytes) -> bytes:
        raw, is_packed = _unpacked(data)
        content = SAID.encode()
        info = tarfile.TarInfo(name)
        for key, value in facts.items():
            if key != "pax_headers":
                setattr(info, key, value)
        info.size = len(content) if info.isreg() else 0
        more = b""
        if pax := facts.get("pax_headers"):
            records = b"".join(_record(key, value) for key, value in pax.items())
            head = tarfile.TarInfo("PaxHeaders/x")
            head.type, head.size = tarfile.XHDTYPE, len(records)
            more += head.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)
        more += info.tobuf(tarfile.GNU_FORMAT)
        more += (content + bytes(-len(content) % 512)) if info.isreg() else b""
        end = len(raw.rstrip(b"\0"))
        end += -end % 512
        changed = raw[:end] + more + bytes(1024)
        return gzip.compress(changed) if is_packed else changed

    return change


def _record(key: str, value: str) -> bytes:
    body = b" " + key.encode() + b"=" + value.encode() + b"\n"
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length += 1
    return str(length).encode() + body


def _field(at: int, value: bytes) -> Callable[[bytearray], None]:
    def patch(data: bytearray) -> None:
        data[at : at + len(value)] = value
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:512])

    return patch


def _patched(patch: Callable[[bytearray], None]) -> Edit:
    def change(data: bytes) -> bytes:
        raw = bytearray(gzip.decompress(data))
        patch(raw)
        return gzip.compress(bytes(raw))

    return change


def _without(part: str) -> Edit:
    return lambda data: _tar([(name, content) for name, content in _members(data) if part not in name], "w:gz")


def _flat(data: bytes) -> bytes:
    return _tar([(name.partition("/")[2], content) for name, content in _members(data)], "w:gz")


def _crowd(data: bytes) -> bytes:
    return _tar([*_members(data), *((f"600_P/{number}", b"") for number in range(10_000))], "w:gz")


def _two_streams(data: bytes) -> bytes:
    raw = gzip.decompress(data)
    return gzip.compress(raw[:10_000]) + gzip.compress(raw[10_000:])


def _gzip_bomb() -> bytes:
    """Half a gigabyte of zeros as a member of a tar."""
    info = tarfile.TarInfo("600_P/600_AUDIO.wav")
    info.size = 2**29
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    pieces = [deflate.compress(info.tobuf())]
    pieces += [deflate.compress(bytes(2**22)) for _ in range(2**7)]
    return b"".join([*pieces, deflate.flush()])
