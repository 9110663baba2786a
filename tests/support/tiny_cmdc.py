"""A hand-made corpus in CMDC's layout: tones instead of speech, any person and any defect, in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soundfile

from tiny_daic import tone

ITEMS = tuple(f"phq_{number}" for number in range(1, 10))
QUESTION_ITEMS = {1: 3, 2: 4, 3: 5, 4: 1, 5: 6, 6: 1, 7: 7, 8: 9, 9: 2, 10: 2, 11: 8}
"""Made up, apart from 4, 6, 8, 9 and 10. Question 12 asks about no item."""
OPENFACE_HEADER = "frame, face_id, timestamp, confidence, success, gaze_0_x, AU12_r"


@dataclass
class Person:
    """One person as they are to be written. ``audio`` replaces recordings by bytes, ``None`` leaves one out."""

    id: str = "HC01"
    total: int | str = 4
    items: Sequence[int | str] | None = None
    gender: str = "F"
    part: int = 1
    duration_s: float = 2.0
    rate_hz: int = 16_000
    audio: Mapping[int, bytes | None] = field(default_factory=dict)
    files: Mapping[str, str | bytes] = field(default_factory=dict)


def write_cmdc(root: Path, people: Sequence[Person], eula: bool = True, **table: Any) -> Path:
    """Write folders and ``SubjectInfo.csv``."""
    root.mkdir(parents=True, exist_ok=True)
    base = root / "CMDC_EULA" if eula else root
    lines = [",".join(("ID", "PHQtotal", "gender", "age", *ITEMS))]
    for person in people:
        items = spread(person.total) if person.items is None else person.items
        lines.append(",".join(str(cell) for cell in (person.id, person.total, person.gender, 33, *items)))
        write_person(base / f"part{person.part}" / person.id, person)
    (root / "SubjectInfo.csv").write_text("\n".join([*lines, *table.get("more_rows", ())]) + "\n", encoding="utf-8")
    return root


def write_person(folder: Path, person: Person) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for question in range(1, 13):
        content = person.audio.get(question, b"tone")
        if content is None:
            continue
        path = folder / f"Q{question}.wav"
        if content == b"tone":
            soundfile.write(path, tone(person.duration_s, person.rate_hz), person.rate_hz, subtype="PCM_16")
        else:
            path.write_bytes(content)
    for name, data in person.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)


def openface(*successes: int, value: str = "0.5") -> str:
    rows = [f"{index}, 0, {index / 30:.3f}, 0.98, {success}, {value}, 1.0" for index, success in enumerate(successes)]
    return "\n".join([OPENFACE_HEADER, *rows]) + "\n"


def spread(total: int | str) -> list[int | str]:
    """Nine items that add up to the total, where it is one."""
    if not isinstance(total, int) or not 0 <= total <= 27:
        return [0] * 9
    return [total // 9 + (index < total % 9) for index in range(9)]
