"""Broken label tables of every corpus."""

from __future__ import annotations

from collections.abc import Sequence

from broken import (
    CANARY,
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
    packed,
    places,
    recoded,
    swap,
)

_NUMBERS = (
    "-1",
    "28",
    "3.5",
    "1e308",
    "-1e308",
    "1e999",
    "99999999999999999999",
    "inf",
    "0x3",
    "1_0",
    SAID,
    "٣٠",
)


def broken() -> list[Broken]:
    return [
        *_table("daic", "train_split_Depression_AVEC2017.csv", "Participant_ID", 0, "PHQ8_Score", 2, "PHQ8_Sleep", 6),
        *_table("edaic", "labels/train_split.csv", "Participant_ID", 0, "PHQ_Score", 3, None, None),
        *_table("edaic", "labels/detailed_lables.csv", "Participant", 0, None, None, "PHQ8_3_Sleep", 10),
        *_table("cmdc", "SubjectInfo.csv", "ID", 0, "PHQtotal", 1, "phq_3", 6),
        *_table("chats", "labels.csv", "user_id", 0, "total", 3, "item_3", 6),
        *_more(),
    ]


def _table(
    kind: str,
    path: str,
    id_: str,
    id_at: int,
    total: str | None,
    total_at: int | None,
    item: str | None,
    item_at: int | None,
) -> list[Broken]:
    name = path.rpartition("/")[2]
    # Of conversations a row is one user's and the file goes on; elsewhere a row of nobody spoils the table.
    numbered = kind in ("daic", "edaic")
    items_only = total is None
    emptied = "silent" if items_only else "repaired" if numbered else "refused"
    rows: list[tuple[str, Edit, str, Sequence[str]]] = [
        ("empty", becomes(b""), "refused", ()),
        ("line ends and nothing else", becomes(b"\n\n\n"), "refused", ()),
        ("NUL bytes only", becomes(bytes(4096)), "refused", ()),
        ("a NUL in a cell", cell(1, 1, "1\0"), "refused", ()),
        ("in UTF-16", recoded("utf-16"), "refused", ()),
        ("in EBCDIC", recoded("cp500"), "refused", ()),
        ("a picture", becomes(lambda: b"\x89PNG\r\n\x1a\n" + bytes(512)), "refused", ()),
        ("a recording", becomes(lambda: encoded("WAV")[:4096]), "refused", ()),
        ("packed", packed, "refused", ()),
        ("a page of an error", becomes(lambda: f"<html>{SAID}</html>".encode()), "refused", ()),
        ("delimited by semicolons", swap(",", ";"), "refused", ()),
        ("delimited by tabs", swap(",", "\t"), "refused", ()),
        ("no header", lambda data: data.split(b"\n", 1)[1], "refused", ()),
        ("no column of ids", drop_column(id_at), "refused", (id_,)),
        (
            "two columns of ids",
            every(lambda _, row: f"{row},{row.split(',')[id_at]}"),
            "refused",
            ("columns 1 and",) if id_at == 0 else ("same name",),
        ),
        ("an unbalanced quote", line(1, lambda row: f'{row},"{SAID}'), "refused", ()),
        ("a row with a cell more", line(1, lambda row: "7," + row), "refused", ("row 2",)),
        ("a line of a megabyte", append(b"x" * 2**20), "refused", ()),
        ("a byte order mark", lambda data: b"\xef\xbb\xbf" + data, "harmless", ()),
        ("lines end with CRLF", lambda data: data.replace(b"\n", b"\r\n"), "harmless", ()),
        ("lines end with CR", lambda data: data.replace(b"\n", b"\r"), "harmless", ()),
        ("blank lines", lambda data: data.replace(b"\n", b"\n\n"), "harmless", ()),
        ("a row twice", line(1, lambda row: f"{row}\n{row}"), "repaired" if kind == "chats" else "harmless", ()),
        ("no id", cell(1, id_at, ""), "repaired" if kind == "chats" else "refused", ("row 2", id_)),
        ("words for an id", cell(1, id_at, SAID * 10), "repaired" if kind == "chats" else "refused", ("row 2", id_)),
        ("a header and no rows", lambda data: data.split(b"\n")[0] + b"\n", emptied, ()),
        ("a comma among a number", cell(1, 1, "1,0"), "refused", ("row 2",)),
    ]
    if numbered:
        rows += [
            (f"an id of {value}", cell(1, id_at, value), "refused", ("row 2", id_))
            for value in ("500.5", "inf", "5_00")
        ]
        rows += [
            (f"an id of {value}", cell(1, id_at, value), "harmless" if items_only else "repaired", ())
            for value in ("-500", "1e308", "0")
        ]
    if total is not None and total_at is not None:
        rows += [
            ("no column of totals", drop_column(total_at), {"daic": "repaired", "edaic": "harmless"}.get(kind, "refused"), ()),
            ("two columns of totals", every(lambda _, row: f"{row},{row.split(',')[total_at]}"), "refused", ("same name",)),
            ("two rows that disagree", line(1, lambda row: f"{row}\n{cell(0, total_at, '1')(row.encode()).decode()}"), "quarantined", ()),
            *((f"a total of {value}", cell(1, total_at, value), "quarantined", (total,)) for value in ("", "NaN", *_NUMBERS[:-2])),
            ("a total of words", cell(1, total_at, SAID), "quarantined", (total,)),
            ("a total in another script", cell(1, total_at, "٤"), "harmless" if kind == "cmdc" else "repaired", ()),
            ("a total that the items contradict", cell(1, total_at, "2"), "repaired", (total,)),
            ("a total with spaces", lambda data: data.replace(*_spaced(data, total_at), 1), "repaired" if kind == "edaic" else "harmless", ()),
        ]  # fmt: skip
    if item is not None and item_at is not None:
        rows += [
            ("no column of an item", drop_column(item_at), "repaired" if kind in ("daic", "chats") else "refused", ()),
            *((f"an item of {value}", cell(1, item_at, value), "quarantined", (item,)) for value in _NUMBERS[:-2]),
            ("an item of words", cell(1, item_at, SAID), "quarantined", (item,)),
            ("a blank item", cell(1, item_at, ""), "repaired", (item,)),
            ("items of nothing", every(lambda number, row: ",".join("" if place in (item_at, item_at + 1) and number else one for place, one in enumerate(row.split(",")))), "repaired", (item,)),
        ]  # fmt: skip
    found = [
        Broken(
            f"{name}: {what}",
            kind,
            edit(path, change),
            expect,
            (*_named(what, name), *says),
            _WHY.get(what, "") if expect in ("harmless", "silent") else "",
        )
        for what, change, expect, says in rows
    ]
    for what, change, how in places(path):
        expect = "repaired" if how == "missing" and numbered else "refused"
        # What stands nowhere is missing, whatever points at it.
        if numbered and what in ("a link to nothing", "a link to itself"):
            expect = "repaired"
        says = () if what == "a link to nothing" or how == "missing" else (name,)
        found.append(Broken(f"{name}: {what}", kind, change, expect, says))
    return found


def _named(what: str, name: str) -> tuple[str, ...]:
    """An empty table is named by nobody: each of its people is said to have no label."""
    return () if what == "a header and no rows" else (name,)


def _spaced(data: bytes, column: int) -> tuple[bytes, bytes]:
    """The first row, and the same with spaces around a cell."""
    row = data.split(b"\n")[1]
    cells = row.split(b",")
    cells[column] = b" " + cells[column] + b" "
    return row, b",".join(cells)


_WHY = {
    "a byte order mark": "it is no character of the text",
    "lines end with CRLF": "a line's end is no content",
    "lines end with CR": "a line's end is no content",
    "blank lines": "nothing stands in them",
    "a row twice": "it says the same",
    "a total with spaces": "cells are stripped",
    "no column of totals": "the table of items has them",
    "a total in another script": "the same number",
    "a header and no rows": "the other table of items has the same people",
    **{f"an id of {value}": "the other table of items has the person" for value in ("-500", "1e308", "0")},
}


def _more() -> list[Broken]:
    train, lables, info, labels = (
        "train_split_Depression_AVEC2017.csv", "labels/detailed_lables.csv", "SubjectInfo.csv", "labels.csv",
    )  # fmt: skip
    dev = "dev_split_Depression_AVEC2017.csv"
    return [
        Broken("a person in two splits", "daic", edit(dev, append(b"500,1,15,0,2,2,2,2,2,2,2,1\n")), "refused", ("daic:500", train, dev)),
        Broken("a person without a folder", "daic", edit(train, append(b"599,0,3,0,1,1,1,0,0,0,0,0\n")), "repaired", (train, "599")),
        Broken("binary contradicts the score", "daic", edit(train, cell(1, 1, "0")), "repaired", (train, "PHQ8_Binary")),
        Broken("words for a binary", "daic", edit(train, cell(1, 1, SAID)), "repaired", (train, "PHQ8_Binary")),
        Broken("a gender without a meaning", "daic", edit(train, cell(1, 3, SAID)), "repaired", (train, "Gender")),
        Broken("E-DAIC: a gender without a meaning", "edaic", edit("labels/train_split.csv", cell(1, 1, SAID)), "repaired", ("train_split.csv", "Gender")),
        Broken("E-DAIC: spaces around a gender", "edaic", edit("labels/train_split.csv", cell(1, 1, "  male ")), "repaired", ("train_split.csv", "Gender")),
        Broken("E-DAIC: the totals disagree", "edaic", edit(lables, cell(1, 4, "3")), "repaired", ("detailed_lables.csv", "Depression_severity")),
        Broken("E-DAIC: the totals are words", "edaic", edit(lables, cell(1, 4, SAID)), "repaired", ("detailed_lables.csv",)),
        Broken("E-DAIC: the item tables disagree", "edaic", edit("labels/Detailed_PHQ8_Labels.csv", cell(1, 1, SAID)), "repaired", ("Detailed_PHQ8_Labels.csv",)),
        Broken("CMDC: a gender without a meaning", "cmdc", edit(info, cell(1, 2, SAID)), "repaired", (info, "gender")),
        Broken("CMDC: an id of 5,000 digits", "cmdc", edit(info, append(b"HC" + b"1" * 5000 + b",3,F,30,0,0,0,0,0,0,1,1,1\n")), "refused", (info, "row 9", "ID")),
        Broken("CMDC: a person without a folder", "cmdc", edit(info, append(b"HC09,3,F,30,0,0,0,0,0,0,1,1,1\n")), "repaired", (info, "HC09")),
        Broken("CMDC: the group contradicts the total", "cmdc", edit(info, cell(1, 1, "14")), "repaired", (info, "PHQtotal")),
        *(
            Broken(f"labels.csv: a time of {value or 'nothing'}", "chats", edit(labels, cell(1, 2, value)), "repaired", (labels, "row 2", "administered_at"))
            for value in ("", "yesterday", "2025-13-45", "2025-02-30T00:00:00", "inf", "1741176000", "0000-01-01", "2025-03-05T25:00:00", SAID * 9)
        ),
        Broken("labels.csv: a time before all", "chats", edit(labels, cell(1, 2, "0001-01-01T00:00:00+00:00")), "repaired", (labels, "u0")),
        Broken("labels.csv: a time after all", "chats", edit(labels, cell(1, 2, "9999-12-31")), "repaired", (labels, "u0")),
        Broken("labels.csv: a time that overflows", "chats", edit(labels, cell(1, 2, "9999-12-31T23:59:59-12:00")), "repaired", (labels, "row 2", "administered_at")),
        Broken("labels.csv: a time without a zone", "chats", edit(labels, cell(1, 2, "2025-03-05T12:00:00")), "repaired", (labels, "administered_at")),
        Broken("labels.csv: another instrument", "chats", edit(labels, cell(1, 1, "GAD-7")), "repaired", (labels, "row 2", "instrument")),
        Broken("labels.csv: words for an instrument", "chats", edit(labels, cell(1, 1, SAID)), "repaired", (labels, "row 2", "instrument")),
        Broken("labels.csv: nobody of the log", "chats", edit(labels, cell(1, 0, "u99")), "repaired", (labels, "u99")),
    ]  # fmt: skip


assert CANARY in SAID
