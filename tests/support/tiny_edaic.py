"""A hand-made corpus in E-DAIC's layout: tones instead of speech, any session and any defect, in milliseconds."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soundfile

from tiny_daic import spread, tone

SPLITS = {"train": "train_split.csv", "validation": "dev_split.csv", "test": "test_split.csv"}
LABLES, LABELS = "detailed_lables.csv", "Detailed_PHQ8_Labels.csv"
ITEMS = ("NoInterest", "Depressed", "Sleep", "Tired", "Appetite", "Failure", "Concentrating", "Moving")
LABLES_ITEMS = ("NoInterest", "Depressed", "Sleep", "Tired", "Appetite", "Failure", "Concentration", "Psychomotor")

Row = tuple[Any, ...]
"""Start_Time, End_Time, Text, Confidence"""
ROWS: tuple[Row, ...] = ((1.0, 3.0, "well hello", 0.9), (4.0, 6.5, "not so good", 0.8))


@dataclass
class Session:
    """One session as it is to be written. ``lables`` and ``labels`` are the two tables' items."""

    id: str
    split: str = "train"
    score: int | str = 4
    binary: int | None = None
    gender: str = "male"
    lables: Sequence[int | str] | None = None
    labels: Sequence[int | str] | None = None
    severity: int | None = None
    rows: Sequence[Row] = ROWS
    duration_s: float = 10.0
    folder: bool = True
    features: Mapping[str, bytes] = field(default_factory=dict)
    extra_files: Mapping[str, bytes] = field(default_factory=dict)


def write_corpus(
    root: Path,
    sessions: Sequence[Session],
    tables: str = "labels",
    data: str = "data",
    items: Sequence[str] = (LABLES, LABELS),
    archive: str = "",
) -> Path:
    """Write label tables and sessions under ``root``.

    Args:
        tables, data: folders of either, ``""`` is the top.
        items: which item tables there are.
        archive: ``tar.gz`` or ``tar`` instead of folders.
    """
    for folder in (root / tables, root / data):
        folder.mkdir(parents=True, exist_ok=True)
    write_labels(root / tables, sessions, items)
    for session in (one for one in sessions if one.folder):
        folder = write_session(root / data, session)
        if archive:
            pack(folder, archive)
    return root


def write_labels(folder: Path, sessions: Sequence[Session], items: Sequence[str] = (LABLES, LABELS)) -> None:
    for split, name in SPLITS.items():
        lines = ["Participant_ID,Gender,PHQ_Binary,PHQ_Score,PCL-C (PTSD),PTSD Severity"]
        for one in (one for one in sessions if one.split == split):
            lines.append(f"{one.id},{one.gender},{_binary(one)},{one.score},0,20")
        (folder / name).write_text("\n".join(lines) + "\n")
    if LABLES in items:
        names = ",".join(f"PHQ8_{number}_{item}" for number, item in enumerate(LABLES_ITEMS, 1))
        lines = [f"Participant,gender,age,split,Depression_severity,Depression_label,PTSD_severity,PTSD_label,{names}"]
        for one in sessions:
            answers = spread(one.score) if one.lables is None else one.lables
            severity = one.score if one.severity is None else one.severity
            lines.append(f"{one.id},{one.gender},30,{one.split},{severity},{_binary(one)},20,0,{_cells(answers)}")
        (folder / LABLES).write_text("\n".join(lines) + "\n")
    if LABELS in items:
        lines = ["Participant_ID," + ",".join(f"PHQ_8{item}" for item in ITEMS) + ",PHQ_8Total"]
        for one in (one for one in sessions if one.split != "test"):
            answers = one.labels if one.labels is not None else one.lables
            lines.append(f"{one.id},{_cells(spread(one.score) if answers is None else answers)},{one.score}")
        (folder / LABELS).write_text("\n".join(lines) + "\n")


def write_session(data: Path, session: Session) -> Path:
    folder = data / f"{session.id}_P"
    folder.mkdir(exist_ok=True)
    lines = ["Start_Time,End_Time,Text,Confidence", *(_cells(row) for row in session.rows)]
    (folder / f"{session.id}_Transcript.csv").write_text("\n".join(lines) + "\n")
    soundfile.write(folder / f"{session.id}_AUDIO.wav", tone(session.duration_s), 16_000, subtype="PCM_16")
    if session.features:
        (folder / "features").mkdir(exist_ok=True)
    for name, content in session.features.items():
        (folder / "features" / f"{session.id}_{name}").write_bytes(content)
    for name, content in session.extra_files.items():
        (folder / name).write_bytes(content)
    return folder


def pack(folder: Path, suffix: str = "tar.gz", flat: bool = False) -> Path:
    """A session's folder → the archive it is distributed as; the folder goes."""
    path = folder.with_name(f"{folder.name}.{suffix}")
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    with tarfile.open(path, "w:gz" if suffix.endswith("gz") else "w") as archive:
        for file in files:
            archive.add(file, str(file.relative_to(folder if flat else folder.parent)))
            file.unlink()
    for below in sorted(folder.rglob("*"), reverse=True):
        below.rmdir()
    folder.rmdir()
    return path


def _cells(values: Sequence[Any]) -> str:
    return ",".join(str(value) for value in values)


def _binary(session: Session) -> int:
    if session.binary is not None:
        return session.binary
    return int(isinstance(session.score, int) and session.score >= 10)
