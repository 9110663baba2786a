"""Broken inputs: small sound corpora of every kind, and what is done to them. The catalogues are in ``broken_*.py``."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import soundfile

import tiny_chats
import tiny_cmdc
import tiny_daic
import tiny_edaic

CANARY = "xylophonic marmalade"
"""What people say in every text of the base corpora: it may stand in a turn, and nowhere else."""
SAID = f"{CANARY} café"

Change = Callable[[Path], None]
Edit = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Broken:
    """One broken input.

    Attributes:
        kind: the base corpus, a key of ``BASES``.
        apply: breaks a copy of it, given its folder.
        expect: ``repaired`` (in the ledger, or masked in a file of frames), ``quarantined``, ``refused``, or
            ``harmless``: read as if nothing were wrong.
        says: what ledger, quarantine or message must name: the file, and row or field where it is about one.
        why: for a harmless one, why nobody needs to be told.
    """

    name: str
    kind: str
    apply: Change
    expect: str
    says: tuple[str, ...] = ()
    why: str = ""


def edit(path: str, change: Edit) -> Change:
    """Rewrite one file of the corpus."""

    def apply(root: Path) -> None:
        (root / path).write_bytes(change((root / path).read_bytes()))

    return apply


def becomes(data: bytes | Callable[[], bytes]) -> Edit:
    """Other bytes instead; a function where they are costly to make."""
    return lambda _: data if isinstance(data, bytes) else data()


def swap(old: str, new: str, count: int = -1) -> Edit:
    """Replace text that must be there."""

    def change(data: bytes) -> bytes:
        text = data.decode()
        assert old in text, old
        return text.replace(old, new, count).encode("utf-8", "surrogatepass")

    return change


def line(number: int, change: Callable[[str], str]) -> Edit:
    """Change one line, from 0."""

    def edited(data: bytes) -> bytes:
        lines = data.decode().split("\n")
        lines[number] = change(lines[number])
        return "\n".join(lines).encode("utf-8", "surrogatepass")

    return edited


def cell(row: int, column: int, value: str, delimiter: str = ",") -> Edit:
    """Change one cell; row 0 is the header."""

    def changed(text: str) -> str:
        cells = text.split(delimiter)
        cells[column] = value
        return delimiter.join(cells)

    return line(row, changed)


def every(change: Callable[[int, str], str]) -> Edit:
    """Change every line that holds something."""

    def edited(data: bytes) -> bytes:
        lines = data.decode().split("\n")
        return "\n".join(change(number, text) if text else text for number, text in enumerate(lines)).encode()

    return edited


def drop_column(column: int, delimiter: str = ",") -> Edit:
    def dropped(_: int, text: str) -> str:
        cells = text.split(delimiter)
        del cells[column]
        return delimiter.join(cells)

    return every(dropped)


def recoded(encoding: str) -> Edit:
    return lambda data: data.decode().encode(encoding)


def append(data: bytes) -> Edit:
    return lambda before: before + data


def places(path: str) -> list[tuple[str, Change, str]]:
    """Things other than a file that stand where a file should: name, change, and what comes of it as a rule."""

    def instead(make: Callable[[Path], Any]) -> Change:
        def apply(root: Path) -> None:
            (root / path).unlink()
            make(root / path)

        return apply

    def link(target: Path) -> None:
        outside = target.parent / "elsewhere.bin"
        outside.write_text(SAID)
        target.symlink_to(outside)

    return [
        ("missing", instead(lambda _: None), "missing"),
        ("a folder", instead(Path.mkdir), "folder"),
        ("a link to a file", instead(link), "link"),
        ("a link to nothing", instead(lambda target: target.symlink_to("nowhere")), "link"),
        ("a link to itself", instead(lambda target: target.symlink_to(target.name)), "link"),
        ("a link to a device", instead(lambda target: target.symlink_to("/dev/zero")), "link"),
        ("a pipe that nobody writes to", instead(os.mkfifo), "pipe"),
    ]


COVAREP = "\n".join(",".join(["120.5", "1", *["0.25"] * 72]) for _ in range(20)) + "\n"
FORMANT = "\n".join("500,1500,2500,3500,4500" for _ in range(20)) + "\n"
CLNF = "frame, timestamp, confidence, success, AU01_r, AU02_r\n" + "".join(
    f"{row + 1}, {row / 30:.4f}, 0.95, 1, 0.5, 0.25\n" for row in range(20)
)
OPENFACE = tiny_cmdc.openface(*[1] * 20)
EGEMAPS = "name;frameTime;Loudness;alphaRatio\n" + "".join(f"'x';{row / 100:.2f};0.5;0.25\n" for row in range(20))


def matlab(value: Any = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    values = {"feature": np.arange(20.0 * 6).reshape(20, 6) if value is None else value}
    scipy.io.savemat(buffer, options.pop("values", values), **options)
    return buffer.getvalue()


def wav(
    *,
    rate: int = 16_000,
    channels: int = 1,
    bits: int = 16,
    code: int = 1,
    seconds: float = 1.0,
    data: bytes | None = None,
    claim: int | None = None,
    riff: int | None = None,
    block: int | None = None,
    before: bytes = b"",
    fmt_bytes: int = 16,
    form: bytes = b"WAVE",
) -> bytes:
    """A wav written by hand, whatever its header says."""
    if data is None:
        data = (np.arange(round(seconds * 16_000)) % 1000).astype("<i2").tobytes()
    given = channels * bits // 8 if block is None else block
    fmt = struct.pack("<HHIIHH", code, channels, rate, rate * given & 0xFFFFFFFF, given, bits)[:fmt_bytes]
    body = form + b"fmt " + struct.pack("<I", len(fmt)) + fmt + before
    body += b"data" + struct.pack("<I", len(data) if claim is None else claim) + data
    return b"RIFF" + struct.pack("<I", len(body) if riff is None else riff) + body


def encoded(format: str, subtype: str | None = None, samples: Any = None) -> bytes:
    """A recording as soundfile writes it."""
    buffer = io.BytesIO()
    soundfile.write(buffer, tiny_daic.tone(12.0) if samples is None else samples, 16_000, subtype, format=format)
    return buffer.getvalue()


def write_daic(root: Path, archives: bool = False) -> None:
    rows = [(start, stop, who, SAID) for start, stop, who, _ in tiny_daic.talk(12.0, 2.0)]
    files = {"COVAREP.csv": COVAREP, "FORMANT.csv": FORMANT, "CLNF_AUs.txt": CLNF}
    sessions = [
        tiny_daic.Session(
            str(number), split, score, items=None, gender=number % 2, duration_s=12.0, rows=rows,
            extra_files={f"{number}_{name}": text.encode() for name, text in files.items()},
        )
        for number, split, score in ((500, "train", 15), (501, "train", 3), (502, "validation", 12), (503, "test", 2))
    ]  # fmt: skip
    tiny_daic.write_corpus(root, sessions, archives)


def write_edaic(root: Path, archive: str = "") -> None:
    rows = [(start, start + 2.0, SAID, 0.9) for start in (0.5, 3.0, 5.5, 8.0)]
    files = {
        "OpenFace2.1.0_Pose_gaze_AUs.csv": OPENFACE.encode(),
        "OpenSMILE2.3.0_egemaps.csv": EGEMAPS.encode(),
        "CNN_ResNet.mat": matlab(),
    }
    sessions = [
        tiny_edaic.Session(str(number), split, score, rows=rows, duration_s=12.0, features=files)
        for number, split, score in ((600, "train", 15), (601, "train", 3), (602, "validation", 12), (603, "test", 2))
    ]
    tiny_edaic.write_corpus(root, sessions, archive=archive)


def write_cmdc(root: Path) -> None:
    quiet = dict.fromkeys(range(4, 13))
    files: dict[str, str | bytes] = {f"Q{number}.txt": SAID for number in (1, 2, 3)}
    files["Q1.csv"] = OPENFACE
    people = [
        tiny_cmdc.Person(id_, total, audio=quiet, files=files)
        for id_, total in (
            ("HC01", 4),
            ("HC02", 3),
            ("HC03", 1),
            ("HC41", 2),
            ("MDD01", 15),
            ("MDD02", 12),
            ("MDD21", 14),
        )
    ]
    tiny_cmdc.write_cmdc(root, people)


def chats() -> list[dict[str, Any]]:
    told = [
        {"role": "user", "content": SAID, "at": "2025-03-01T12:00:00+00:00"},
        {"role": "assistant", "content": SAID, "at": "2025-03-01T12:01:00+00:00"},
    ]
    return [tiny_chats.chat(f"u{number}", f"c{number}", messages=told) for number in range(12)]


def write_chats(root: Path, form: str = "jsonl") -> None:
    labels = [
        tiny_chats.label(f"u{number}", total=18 if number % 2 else 9, items=(2 if number % 2 else 1,) * 9)
        for number in range(12)
    ]
    tiny_chats.write_log(root, chats(), labels, form)


BASES: dict[str, tuple[Change, dict[str, Any], dict[str, Any]]] = {
    "daic": (write_daic, {"kind": "daic_woz"}, {}),
    "daic zips": (lambda root: write_daic(root, archives=True), {"kind": "daic_woz"}, {}),
    "edaic": (write_edaic, {"kind": "edaic"}, {}),
    "edaic tars": (lambda root: write_edaic(root, "tar.gz"), {"kind": "edaic"}, {}),
    "edaic plain tars": (lambda root: write_edaic(root, "tar"), {"kind": "edaic"}, {}),
    "cmdc": (
        write_cmdc,
        {
            "kind": "cmdc", "item_columns": list(tiny_cmdc.ITEMS), "question_items": None,
            "transcript_pattern": "Q{question}.txt", "openface_pattern": "Q{question}.csv",
        },
        {"splits": {"kind": "official", "validation": 0.5}},
    ),
    "chats": (write_chats, {"kind": "conversations"}, {"splits": {"kind": "stratified"}}),
    "chats gz": (lambda root: write_chats(root, "jsonl.gz"), {"kind": "conversations"}, {"splits": {"kind": "stratified"}}),
    "chats parquet": (lambda root: write_chats(root, "parquet"), {"kind": "conversations"}, {"splits": {"kind": "stratified"}}),
}  # fmt: skip
"""Base corpora: how each is written, and the settings that it is read and prepared with."""


def write_bases(folder: Path) -> None:
    for kind, (write, _, _) in BASES.items():
        (folder / kind).mkdir(parents=True)
        write(folder / kind)


def break_copy(one: Broken, bases: Path, at: Path) -> Path:
    """A copy of its base, broken."""
    root = at / "corpus"
    shutil.copytree(bases / one.kind, root)
    one.apply(root)
    return root


def catalogue() -> list[Broken]:
    import broken_archives
    import broken_audio
    import broken_chats
    import broken_features
    import broken_labels
    import broken_transcripts

    modules: Sequence[Any] = (
        broken_transcripts, broken_labels, broken_audio, broken_archives, broken_features, broken_chats,
    )  # fmt: skip
    found = [one for module in modules for one in module.broken()]
    assert len({one.name for one in found}) == len(found), "each has a name of its own"
    return found


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)
