"""Files that corpora have in common: label tables, and what a Mac leaves beside them."""

from __future__ import annotations

import csv
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

APPLE_DOUBLE = struct.pack(">II16xH", 0x00051607, 0x00020000, 0) + bytes(94)
"""An AppleDouble file, as ``._NAME`` is beside ``NAME`` on a disk that knows no resource forks."""

Cell = int | float | str


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Cell]], delimiter: str = ",") -> None:
    """Write a table in UTF-8; cells are quoted where they have to be."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n", delimiter=delimiter)
        writer.writerow(header)
        writer.writerows(rows)


def add_apple_doubles(folder: Path) -> int:
    """Put an AppleDouble file beside every file of a folder; how many."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for path in files:
        path.with_name(f"._{path.name}").write_bytes(APPLE_DOUBLE)
    return len(files)
