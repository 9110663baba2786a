"""A hand-made corpus in DAIC-WOZ's layout: tones instead of speech, any session and any defect, in milliseconds."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

ITEMS = ("NoInterest", "Depressed", "Sleep", "Tired", "Appetite", "Failure", "Concentrating", "Moving")
TRAIN = "train_split_Depression_AVEC2017.csv"
DEV = "dev_split_Depression_AVEC2017.csv"
TEST = "test_split_Depression_AVEC2017.csv"
FULL_TEST = "full_test_split.csv"

Row = tuple[Any, Any, str, str]
"""start_time, stop_time, speaker, value"""


def talk(duration_s: float, turn_s: float = 4.0, pause_s: float = 0.5) -> list[Row]:
    """Ellie and the participant in turns, with pauses, up to the end."""
    rows: list[Row] = []
    at = 0.25
    while at + turn_s <= duration_s:
        rows.append((at, at + turn_s, "Participant" if len(rows) % 2 else "Ellie", f"something number {len(rows)}"))
        at += turn_s + pause_s
    return rows


def tone(duration_s: float, rate_hz: int = 16_000, channels: int = 1) -> np.ndarray[Any, Any]:
    """A sawtooth that tells every sample of 2 s apart from its neighbours. float32 ``[samples, channels]``."""
    samples = (np.arange(round(duration_s * rate_hz)) % (2 * rate_hz)) / (2 * rate_hz) * 0.8 - 0.4
    return np.repeat(samples[:, None].astype(np.float32), channels, axis=1)


@dataclass
class Session:
    """One session as it is to be written; ``audio`` writes the wav itself where a tone will not do."""

    id: str
    split: str = "train"
    score: int | str = 4
    binary: int | str | None = None
    items: Sequence[int | str] | None = None
    gender: int | str = 0
    duration_s: float = 30.0
    rows: Sequence[Row] | None = None
    rate_hz: int = 16_000
    channels: int = 1
    subtype: str = "PCM_16"
    audio: bytes | np.ndarray[Any, Any] | None = None
    folder: bool = True
    extra_files: Mapping[str, bytes] = field(default_factory=dict)


def write_corpus(root: Path, sessions: Sequence[Session], archives: bool = False, full_test: bool = True) -> Path:
    """Write label tables and sessions (folders, or zips) under ``root``."""
    root.mkdir(parents=True, exist_ok=True)
    write_labels(root, sessions, full_test)
    for session in sessions:
        if session.folder:
            folder = root / f"{session.id}_P"
            write_session(folder, session)
            if archives:
                pack(folder)
    return root


def write_labels(root: Path, sessions: Sequence[Session], full_test: bool = True) -> None:
    header = "Participant_ID,PHQ8_Binary,PHQ8_Score,Gender," + ",".join(f"PHQ8_{item}" for item in ITEMS)
    for name, split in ((TRAIN, "train"), (DEV, "validation")):
        lines = [header]
        for session in (one for one in sessions if one.split == split):
            items = spread(session.score) if session.items is None else session.items
            cells = [session.id, _binary(session), session.score, session.gender, *items]
            lines.append(",".join(str(cell) for cell in cells))
        (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    test = [session for session in sessions if session.split == "test"]
    (root / TEST).write_text(
        "\n".join(["participant_ID,Gender", *(f"{one.id},{one.gender}" for one in test)]) + "\n", encoding="utf-8"
    )
    if full_test:
        lines = ["Participant_ID,PHQ_Binary,PHQ_Score,Gender"]
        lines += [f"{one.id},{_binary(one)},{one.score},{one.gender}" for one in test]
        (root / FULL_TEST).write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_session(folder: Path, session: Session) -> None:
    folder.mkdir(exist_ok=True)
    rows = talk(session.duration_s) if session.rows is None else session.rows
    lines = ["start_time\tstop_time\tspeaker\tvalue", *("\t".join(str(cell) for cell in row) for row in rows)]
    (folder / f"{session.id}_TRANSCRIPT.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    wav = folder / f"{session.id}_AUDIO.wav"
    if isinstance(session.audio, bytes):
        wav.write_bytes(session.audio)
    else:
        samples = session.audio
        if samples is None:
            samples = tone(session.duration_s, session.rate_hz, session.channels)
        soundfile.write(wav, samples, session.rate_hz, subtype=session.subtype, format="WAV")
    for name, data in session.extra_files.items():
        (folder / name).write_bytes(data)


def pack(folder: Path) -> Path:
    """A session's folder → the archive it is distributed as; the folder goes."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
            file.unlink()
    folder.rmdir()
    return path


def people(num: int, **changes: Any) -> list[Session]:
    """``num`` sessions over the official splits, both classes and genders in each."""
    splits = ("train", "train", "train", "train", "validation", "validation", "test", "test")
    return [
        Session(str(500 + i), splits[i % 8], score=15 if i % 2 else 3, gender=(i // 2) % 2, **changes)
        for i in range(num)
    ]


def spread(score: int | str) -> list[int | str]:
    """Eight items that add up to the score, where it is one."""
    if not isinstance(score, int) or not 0 <= score <= 24:
        return [0] * 8
    return [score // 8 + (index < score % 8) for index in range(8)]


def _binary(session: Session) -> int | str:
    if session.binary is not None:
        return session.binary
    return int(session.score >= 10) if isinstance(session.score, int) else 0
