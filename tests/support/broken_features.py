"""Broken feature files: tables of numbers and MATLAB matrices."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import scipy.io

from broken import (
    COVAREP,
    SAID,
    Broken,
    Edit,
    append,
    becomes,
    cell,
    drop_column,
    edit,
    encoded,
    every,
    line,
    matlab,
    packed,
    places,
    recoded,
    swap,
)

COVAREP_FILE, CLNF_FILE = "500_P/500_COVAREP.csv", "500_P/500_CLNF_AUs.txt"
OPENFACE_FILE = "data/600_P/features/600_OpenFace2.1.0_Pose_gaze_AUs.csv"
EGEMAPS_FILE = "data/600_P/features/600_OpenSMILE2.3.0_egemaps.csv"
MAT_FILE, CMDC_FILE = "data/600_P/features/600_CNN_ResNet.mat", "CMDC_EULA/part1/HC01/Q1.csv"


def broken() -> list[Broken]:
    found: list[Broken] = []
    for kind, path, tab, column, head in (
        ("daic", COVAREP_FILE, ",", 5, False),
        ("daic", CLNF_FILE, ",", 4, True),
        ("edaic", OPENFACE_FILE, ",", 5, True),
        ("edaic", EGEMAPS_FILE, ";", 2, True),
        ("cmdc", CMDC_FILE, ",", 5, True),
    ):
        found += _table(kind, path, tab, column, head)
    return [*found, *_matlab()]


def _table(kind: str, path: str, tab: str, column: int, head: bool) -> list[Broken]:
    name = path.rpartition("/")[2]
    rows: list[tuple[str, Edit, str, tuple[str, ...]]] = [
        ("empty", becomes(b""), "quarantined", ()),
        ("NUL bytes only", becomes(bytes(4096)), "quarantined", ()),
        ("words", becomes(lambda: f"{SAID}\n".encode() * 20), "quarantined", ()),
        ("a picture", becomes(lambda: b"\x89PNG\r\n\x1a\n" + bytes(range(256))), "quarantined", ()),
        ("a recording", becomes(lambda: encoded("WAV")[:4096]), "quarantined", ()),
        ("packed", packed, "quarantined", ()),
        ("in UTF-16", recoded("utf-16"), "quarantined", ()),
        ("delimited otherwise", swap(tab, "|"), "quarantined", ()),
        ("words in a cell", cell(5, column, SAID, tab), "quarantined", ("row 6", f"column {column + 1}")),
        ("words in a cell of the last row", cell(-2, column, SAID, tab), "quarantined", (f"column {column + 1}",)),
        ("a number with an underscore", cell(5, column, "1_0", tab), "quarantined", ("row 6",)),
        ("a row with a cell more", line(5, lambda row: f"{row}{tab}0.5"), "quarantined", ("row 6",)),
        ("a row with a cell less", line(5, lambda row: row.rpartition(tab)[0]), "quarantined", ("row 6",)),
        ("cut off within a row", lambda data: data[: data.rindex(tab.encode(), 0, len(data) * 2 // 3)], "quarantined", ()),
        ("a line of two megabytes", append(b"1" * 2**21), "quarantined", ()),
        ("a hundred thousand columns", append(tab.encode() * 100_000), "quarantined", ()),
        ("not a number in a cell", cell(5, column, "NaN", tab), "repaired", ()),
        ("nothing in a cell", cell(5, column, "", tab), "repaired", ()),
        ("infinite in a cell", cell(5, column, "-inf", tab), "repaired", ()),
        ("1e308 in a cell", cell(5, column, "1e308", tab), "repaired", ()),
        ("1e999 in a cell", cell(5, column, "1e999", tab), "repaired", ()),
        ("Windows' not a number", cell(5, column, "-1.#IND", tab), "repaired", ()),
        ("lines end with CRLF", lambda data: data.replace(b"\n", b"\r\n"), "harmless", ()),
        ("a byte order mark", lambda data: b"\xef\xbb\xbf" + data, "harmless", ()),
        ("blank lines", lambda data: data.replace(b"\n", b"\n\n"), "harmless", ()),
        ("spaces around cells", every(lambda number, row: tab.join(f" {one} " for one in row.split(tab))), "harmless", ()),
    ]  # fmt: skip
    if head:
        wanted = "success" if "OpenSMILE" not in path else "frametime"
        at = {CLNF_FILE: 3, OPENFACE_FILE: 4, CMDC_FILE: 4, EGEMAPS_FILE: 1}[path]
        rows += [
            ("a header and no rows", lambda data: data.split(b"\n")[0] + b"\n", "quarantined", ()),
            ("no header", lambda data: data.split(b"\n", 1)[1], "quarantined", ()),
            (f"no column {wanted}", drop_column(at, tab), "quarantined", (wanted,)),
        ]
        if wanted == "success":
            rows.append(("a frame without a face", cell(5, at, "0", tab), "repaired", ()))
    else:
        rows += [
            ("a header", lambda data: b",".join([b"F0"] * 74) + b"\n" + data, "quarantined", ("row 1",)),
            ("a column less", becomes(lambda: "\n".join(one.rpartition(",")[0] for one in COVAREP.split("\n")).encode()), "quarantined", ("row 1",)),
            ("frames without a voice", cell(5, 1, "0"), "repaired", ()),
        ]  # fmt: skip
    whys = {
        "lines end with CRLF": "a line's end is no content",
        "a byte order mark": "it is no character of the text",
        "blank lines": "nothing stands in them",
        "spaces around cells": "cells are stripped",
    }
    found = [
        Broken(
            f"{name}: {what}",
            kind,
            edit(path, change),
            expect,
            (name, *says) if expect == "quarantined" else says,
            whys.get(what, ""),
        )
        for what, change, expect, says in rows
    ]
    for what, change, how in places(path):
        gone = how == "missing" or (kind == "cmdc" and what in ("a link to nothing", "a link to itself"))
        # Nobody else of CMDC's base has another file: there the setting is told to find nothing.
        found.append(
            Broken(f"{name}: {what}", kind, change, "repaired" if gone else "quarantined", () if gone else (name,))
        )
    return found


def _matlab() -> list[Broken]:
    name = MAT_FILE.rpartition("/")[2]
    values = np.arange(120.0).reshape(20, 6)
    objects = np.empty((2, 2), object)
    objects[:] = [[SAID, 1], [2, 3]]
    rows: list[tuple[str, Edit]] = [
        ("empty", becomes(b"")),
        ("words", becomes(lambda: SAID.encode() * 50)),
        ("NUL bytes only", becomes(bytes(4096))),
        ("packed", packed),
        ("a table", becomes(b"a,b\n1,2\n")),
        ("HDF5", becomes(lambda: b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(512))),
        ("MATLAB 4", becomes(lambda: _version_4())),
        ("another byte order", lambda data: data[:124] + b"\x01\x00MI" + data[128:]),
        ("cut off in its header", lambda data: data[:100]),
        ("cut off in its tag", lambda data: data[:132]),
        ("cut off in its values", lambda data: data[: len(data) // 2]),
        ("another key", becomes(lambda: matlab(values={"features": values}))),
        ("no matrix", lambda data: data[:128]),
        ("a hundred other matrices", becomes(lambda: matlab(values={f"f{number}": 1.0 for number in range(120)}))),
        ("words in it", becomes(lambda: matlab(np.array([SAID, SAID])))),
        ("cells", becomes(lambda: matlab(objects))),
        ("a struct", becomes(lambda: matlab({"a": values}))),
        ("three dimensions", becomes(lambda: matlab(np.zeros((2, 3, 4))))),
        ("no rows", becomes(lambda: matlab(np.zeros((0, 6))))),
        ("no columns", becomes(lambda: matlab(np.zeros((6, 0))))),
        ("complex numbers", becomes(lambda: matlab(values * 1j))),
        ("a sparse matrix", becomes(lambda: _sparse())),
        ("a claim of 2**31 rows", _claimed(2**31 - 1, 6)),
        ("a claim of 2**28 values", _claimed(2**14, 2**14)),
        ("a claim of minus one row", _claimed(-1, 6)),
        ("a claim of fewer rows", _claimed(19, 6)),
        ("a claim of 4 GB", lambda data: data[:132] + struct.pack("<I", 0xFFFFFFF0) + data[136 : len(data) // 2]),
        ("an element of an unknown type", lambda data: data[:128] + struct.pack("<I", 77) + data[132:]),
        ("a damaged packed matrix", becomes(lambda: _holed(matlab(do_compression=True)))),
        ("a packed matrix with a wrong checksum", becomes(lambda: matlab(do_compression=True)[:-4] + b"\1\2\3\4")),
        ("a bomb", becomes(lambda: _bomb())),
    ]  # fmt: skip
    found = [
        Broken(f"{name}: {what}", "edaic", edit(MAT_FILE, change), "quarantined", (name,)) for what, change in rows
    ]
    found += [
        Broken(
            f"{name}: {what}",
            "edaic",
            edit(MAT_FILE, becomes(lambda value=value: matlab(_with(values, value)))),
            "repaired",
        )
        for what, value in (("not a number in it", np.nan), ("infinite in it", np.inf), ("1e308 in it", 1e308))
    ]
    found.append(
        Broken(f"{name}: packed matrix", "edaic", edit(MAT_FILE, becomes(lambda: matlab(do_compression=True))), "harmless",
               why="MATLAB writes it so")
    )  # fmt: skip
    for what, change, how in places(MAT_FILE):
        found.append(
            Broken(
                f"{name}: {what}",
                "edaic",
                change,
                "repaired" if how == "missing" else "quarantined",
                () if how == "missing" else (name,),
            )
        )
    return found


def _with(
    values: np.ndarray[tuple[int, int], np.dtype[np.float64]], value: float
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    changed = values.copy()
    changed[3, 3] = value
    return changed


def _version_4() -> bytes:
    import io

    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"feature": np.zeros((3, 2))}, format="4")
    return buffer.getvalue()


def _sparse() -> bytes:
    import scipy.sparse

    return matlab(scipy.sparse.csc_matrix(np.eye(5)))


def _claimed(rows: int, columns: int) -> Edit:
    def change(data: bytes) -> bytes:
        at = data.index(struct.pack("<ii", 20, 6))
        return data[:at] + struct.pack("<ii", rows, columns) + data[at + 8 :]

    return change


def _holed(data: bytes) -> bytes:
    return data[:150] + bytes(10) + data[160:]


def _bomb() -> bytes:
    """A gigabyte of zeros in a megabyte."""
    num = 2**27
    head = struct.pack("<IIIIII", 6, 8, 6, 0, 5, 8) + struct.pack("<ii", num // 1024, 1024)
    head += struct.pack("<II", 1, 7) + b"feature\0" + struct.pack("<II", 9, 8 * num)
    deflate = zlib.compressobj(1)
    pieces = [deflate.compress(struct.pack("<II", 14, len(head) + 8 * num) + head)]
    pieces += [deflate.compress(bytes(2**24)) for _ in range(2**6)]
    packed_matrix = b"".join([*pieces, deflate.flush()])
    return matlab()[:128] + struct.pack("<II", 15, len(packed_matrix)) + packed_matrix
