"""Broken recordings: in a folder, in a zip, in a tar, and of a question."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np

from broken import SAID, Broken, Change, Edit, becomes, edit, encoded, packed, places, wav
from tiny_daic import tone

DAIC, CMDC = "500_P/500_AUDIO.wav", "CMDC_EULA/part1/HC01/Q1.wav"

_DECODED = ("an AIFF that claims more", "an RF64 that claims 2**60", "an RF64 that claims 2**63")
"""The decoder gives what there is of them."""


def contents() -> list[tuple[str, Edit, str]]:
    """What stands in the place of a sound recording, and what comes of it."""
    quarantined: list[tuple[str, Edit]] = [
        ("empty", becomes(b"")),
        ("four bytes", becomes(b"RIFF")),
        ("a header and nothing else", lambda data: data[:44]),
        ("cut off in its header", lambda data: data[:30]),
        ("cut off in its samples", lambda data: data[: len(data) // 2]),
        ("cut off by one byte", lambda data: data[:-1]),
        ("claims 4 GB", becomes(lambda: wav(claim=0xFFFFFFFE, riff=0xFFFFFFFF))),
        ("claims 2 GB", becomes(lambda: wav(claim=2**31))),
        ("claims no samples", becomes(lambda: wav(claim=0))),
        ("no channels", becomes(lambda: wav(channels=0))),
        ("255 channels", becomes(lambda: wav(channels=255))),
        ("65,535 channels", becomes(lambda: wav(channels=65_535, block=2))),
        ("0 Hz", becomes(lambda: wav(rate=0))),
        ("1 Hz", becomes(lambda: wav(rate=1))),
        ("1 GHz", becomes(lambda: wav(rate=10**9))),
        ("4 GHz", becomes(lambda: wav(rate=0xFFFFFFFF))),
        ("0 bits", becomes(lambda: wav(bits=0, block=2))),
        ("13 bits in 7 bytes", becomes(lambda: wav(bits=13, block=7))),
        ("65,535 bits", becomes(lambda: wav(bits=65_535, block=2))),
        ("a block of no bytes", becomes(lambda: wav(block=0))),
        ("an unknown code", becomes(lambda: wav(code=0x7777))),
        ("a format chunk of 4 bytes", becomes(lambda: wav(fmt_bytes=4))),
        ("a format chunk of 15 bytes", becomes(lambda: wav(fmt_bytes=15))),
        ("samples before their format", becomes(lambda: b"RIFF" + struct.pack("<I", 100) + b"WAVEdata" + struct.pack("<I", 40) + bytes(80))),
        ("no samples chunk", becomes(lambda: wav(data=b"", claim=0)[:-8])),
        ("a chunk of 4 GB", becomes(lambda: wav(before=b"LIST" + struct.pack("<I", 0xFFFFFFF0)))),
        ("ten thousand chunks", becomes(lambda: wav(before=(b"junk" + struct.pack("<I", 0)) * 10_000))),
        ("a RIFF of AVI", becomes(lambda: wav(form=b"AVI "))),
        ("a RIFF of WEBP", becomes(lambda: wav(form=b"WEBP"))),
        ("a RIFF of nothing", becomes(lambda: b"RIFF" + bytes(4) + b"    " + bytes(100))),
        ("words", becomes(lambda: f"{SAID}\n".encode() * 100)),
        ("a page of an error", becomes(b"<html><body>404 Not Found</body></html>\n")),
        ("a picture", becomes(lambda: b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)),
        ("NUL bytes only", becomes(bytes(4096))),
        ("packed", packed),
        ("samples without a header", lambda data: data[44:]),
        ("infinite samples", becomes(lambda: encoded("WAV", "FLOAT", np.full(160_000, np.inf, np.float32)))),
        ("samples that are no numbers", becomes(lambda: encoded("WAV", "FLOAT", np.full(160_000, np.nan, np.float32)))),
        ("one sample that is no number", becomes(lambda: encoded("WAV", "FLOAT", _one_nan()))),
        ("samples of 1e308", becomes(lambda: encoded("WAV", "DOUBLE", np.full(160_000, 1e308)))),
        ("a FLAC that is cut off", becomes(lambda: encoded("FLAC")[:3000])),
        ("a FLAC with a hole", becomes(lambda: _holed(encoded("FLAC")))),
        ("an Ogg that is cut off", becomes(lambda: encoded("OGG", "VORBIS")[:6000])),
        ("an AIFF that claims more", becomes(lambda: _aiff())),
        ("an RF64 that claims 2**60", becomes(lambda: _rf64(2**60))),
        ("an RF64 that claims 2**63", becomes(lambda: _rf64(2**63 - 1))),
        ("an AU of 4 GB", becomes(lambda: b".snd" + struct.pack(">5I", 24, 0xFFFFFFF0, 3, 16_000, 1) + bytes(3200))),
    ]  # fmt: skip
    repaired: list[tuple[str, Edit]] = [
        ("every sample zero", becomes(lambda: encoded("WAV", samples=np.zeros(192_000)))),
        ("every sample clipped", becomes(lambda: encoded("WAV", samples=np.sign(tone(12.0))))),
        ("samples of 1e30", becomes(lambda: encoded("WAV", "FLOAT", tone(12.0) * np.float32(1e30)))),
        ("a FLAC", becomes(lambda: encoded("FLAC"))),
        ("an Ogg", becomes(lambda: encoded("OGG", "VORBIS"))),
        ("one sample", becomes(lambda: wav(data=b"\1\0"))),
    ]
    return [
        *((what, change, "repaired" if what in _DECODED else "quarantined") for what, change in quarantined),
        *((w, c, "repaired") for w, c in repaired),
    ]


def broken() -> list[Broken]:
    found: list[Broken] = []
    for what, change, expect in contents():
        found.append(
            Broken(f"500_AUDIO.wav: {what}", "daic", edit(DAIC, change), expect, _named(what, expect, "500_AUDIO.wav"))
        )
    chosen = (
        "empty",
        "claims 4 GB",
        "1 GHz",
        "words",
        "a RIFF of AVI",
        "cut off in its samples",
        "infinite samples",
        "a FLAC with a hole",
        "an RF64 that claims 2**60",
    )
    for what, change, expect in (one for one in contents() if one[0] in chosen):
        found += [
            Broken(f"Q1.wav: {what}", "cmdc", edit(CMDC, change), expect, ("Q1.wav",)),
            Broken(f"500_P.zip, 500_AUDIO.wav: {what}", "daic zips", _in_zip(change), expect, ("500_AUDIO.wav",)),
            Broken(
                f"600_P.tar.gz, 600_AUDIO.wav: {what}",
                "edaic tars",
                _in_tar("data/600_P.tar.gz", change),
                expect,
                ("600_AUDIO.wav",),
            ),
            Broken(
                f"600_P.tar, 600_AUDIO.wav: {what}",
                "edaic plain tars",
                _in_tar("data/600_P.tar", change),
                expect,
                ("600_AUDIO.wav",),
            ),
        ]
    for what, change, _ in places(DAIC):
        found.append(Broken(f"500_AUDIO.wav: {what}", "daic", change, "quarantined", ("500_AUDIO.wav",)))
    for what, change, how in places(CMDC):
        expect = "repaired" if how == "missing" or what in ("a link to nothing", "a link to itself") else "quarantined"
        found.append(
            Broken(f"Q1.wav: {what}", "cmdc", change, expect, ("question(s) 1" if expect == "repaired" else "Q1.wav",))
        )
    return found


def _named(what: str, expect: str, name: str) -> tuple[str, ...]:
    return () if what == "one sample" else (name,)


def _in_zip(change: Edit) -> Change:
    def apply(root: Path) -> None:
        path = root / "500_P.zip"
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members["500_AUDIO.wav"] = change(members["500_AUDIO.wav"])
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)

    return apply


def _in_tar(path: str, change: Edit) -> Change:
    def apply(root: Path) -> None:
        members: dict[str, bytes] = {}
        with tarfile.open(root / path) as archive:
            for info in archive:
                file = archive.extractfile(info)
                assert file is not None
                members[info.name] = file.read()
        with tarfile.open(root / path, "w:gz" if path.endswith("gz") else "w") as archive:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                data = change(data) if name.endswith(".wav") else data
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))

    return apply


def _one_nan() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    samples = np.zeros(192_000, np.float32)
    samples[100_000] = np.nan
    return samples


def _holed(data: bytes) -> bytes:
    return data[:2000] + bytes(1000) + data[3000:]


def _aiff() -> bytes:
    data = bytearray(encoded("AIFF"))
    at = data.index(b"COMM") + 10
    data[at : at + 4] = struct.pack(">I", 0x7FFFFFFF)
    return bytes(data[:4000])


def _rf64(num: int) -> bytes:
    fmt = struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)
    ds64 = struct.pack("<QQQI", num, num, num, 0)
    body = b"WAVEds64" + struct.pack("<I", len(ds64)) + ds64 + b"fmt " + struct.pack("<I", 16) + fmt
    return b"RF64" + b"\xff" * 4 + body + b"data" + b"\xff" * 4 + bytes(3200)
