"""Broken transcripts: DAIC-WOZ's, with tabs and speakers; E-DAIC's, with commas; CMDC's, a text an answer."""

from __future__ import annotations

import os
from pathlib import Path

from broken import (
    SAID,
    Broken,
    Change,
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

DAIC, EDAIC, CMDC = "500_P/500_TRANSCRIPT.csv", "data/600_P/600_Transcript.csv", "CMDC_EULA/part1/HC01/Q1.txt"
_NOWHERE = ("a link to nothing", "a link to itself")
_HARMLESS = {
    "a byte order mark": "it is no character of the text",
    "lines end with CRLF": "a line's end is no content",
    "lines end with CR": "a line's end is no content",
    "blank lines": "nothing stands in them",
    "spaces around cells": "cells are stripped",
    "a column more": "columns that are not known mean nothing here",
    "times in exponents": "the same numbers",
    "times in wide digits": "the same numbers",
}


def broken() -> list[Broken]:
    return [*_tables("daic", DAIC, "\t", 0, 1, 3, 2), *_tables("edaic", EDAIC, ",", 0, 1, 2, None), *_cmdc()]


def _tables(kind: str, path: str, tab: str, start: int, stop: int, text: int, speaker: int | None) -> list[Broken]:
    name = path.rpartition("/")[2]
    quotes = "silent" if tab == "\t" else "quarantined"
    rows: list[tuple[str, Edit, str]] = [
        *_as_a_whole(tab),
        ("a header and no rows", lambda data: data.split(b"\n")[0] + b"\n", "repaired"),
        ("no header", lambda data: data.split(b"\n", 1)[1], "quarantined"),
        ("the header twice", lambda data: data.split(b"\n")[0] + b"\n" + data, "repaired"),
        ("no column of starts", drop_column(start, tab), "quarantined"),
        ("no column of words", drop_column(text, tab), "quarantined"),
        ("two columns of starts", every(lambda number, row: f"{row}{tab}{row.split(tab)[start]}"), "quarantined"),
        ("two columns of words", every(lambda number, row: f"{row}{tab}{row.split(tab)[text]}"), "quarantined"),
        ("a column more", every(lambda number, row: f"{row}{tab}{'note' if number == 0 else number}"), "harmless"),
        ("a row with more cells", line(2, lambda row: f"{row}{tab}{SAID}"), "repaired"),
        ("a row with fewer cells", line(2, lambda row: row.split(tab)[0]), "repaired"),
        ("a row of delimiters", line(2, lambda row: f"{row}\n{tab * 3}"), "harmless"),
        ("a row twice", line(4, lambda row: f"{row}\n{row}"), "repaired"),
        ("rows backwards", lambda data: b"\n".join([*data.split(b"\n")[:1], *data.strip().split(b"\n")[:0:-1]]), "repaired"),
        ("an unbalanced quote", line(2, lambda row: row.replace("xylo", '"xylo')), quotes),
        ("an unbalanced quote at a cell's start", cell(2, text, f'"{SAID}', tab), quotes),
        ("two unbalanced quotes", lambda data: cell(2, text, f'"{SAID}', tab)(cell(3, text, f'{SAID}"', tab)(data)), quotes),
        ("a megabyte of words", cell(2, text, f"{SAID} " * 50_000, tab), "quarantined"),
        ("control characters", cell(2, text, f"{SAID}\x01\x1b[31m\x7f", tab), "silent"),
        ("blank words", cell(2, text, "  ", tab), "repaired"),
        ("not-a-number for words", cell(2, text, "NaN", tab), "repaired"),
        ("spaces around cells", every(lambda number, row: tab.join(f" {one} " for one in row.split(tab))), "harmless"),
        ("blank lines", lambda data: data.replace(b"\n", b"\n\n"), "harmless"),
        ("an overlap", lambda data: cell(2, start, "0.6", tab)(data), "silent" if tab == "\t" else "repaired"),
        ("a turn that ends past the end", cell(4, stop, "99", tab), "repaired"),
        ("a turn wholly past the end", lambda data: cell(4, start, "98", tab)(cell(4, stop, "99", tab)(data)), "repaired"),
        ("a turn of 300 digits past the end", cell(4, stop, "9" * 300, tab), "repaired"),
        ("a turn before the beginning", lambda data: cell(2, start, "-9", tab)(cell(2, stop, "-5", tab)(data)), "repaired"),
        ("every turn past the end", every(lambda number, row: row if number == 0 else tab.join(
            str(float(one) + 1e6) if place in (start, stop) else one for place, one in enumerate(row.split(tab)))), "repaired"),
        ("a turn without length", lambda data: cell(2, start, "3", tab)(cell(2, stop, "3", tab)(data)), "repaired"),
        ("a turn that ends before it starts", cell(2, stop, "0.01", tab), "repaired"),
        ("times in exponents", cell(1, start, {"daic": "2.5e-1", "edaic": "5e-1"}[kind], tab), "harmless"),
        ("times in wide digits", cell(1, start, {"daic": "０.２５", "edaic": "０.５"}[kind], tab), "harmless"),
        *((f"a start of {value or 'nothing'}", cell(2, start, value, tab), "repaired")
          for value in ("", "NaN", "inf", "-inf", "1e308", "1e999", "0x10", "1_0", "00:00:03", SAID, "--1", "3s")),
        *((f"a stop of {value or 'nothing'}", cell(2, stop, value, tab), "repaired") for value in ("", "nan", "inf", "1e308", "-1", SAID)),
    ]  # fmt: skip
    if speaker is not None:
        rows += [
            ("no column of speakers", drop_column(speaker, tab), "quarantined"),
            ("another speaker", cell(2, speaker, "Somebody", tab), "repaired"),
            ("no speaker", cell(2, speaker, "", tab), "repaired"),
            ("words for a speaker", cell(2, speaker, SAID, tab), "repaired"),
            (
                "nobody but another",
                lambda data: data.replace(b"Ellie", b"Eve").replace(b"Participant", b"Adam"),
                "repaired",
            ),
        ]
    else:
        rows += [
            ("a decimal comma", cell(2, start, "3,0"), "repaired"),
            ("a comma among words", cell(2, text, f"{SAID}, {SAID}"), "repaired"),
            ("words for a confidence", cell(2, 3, SAID), "harmless"),
            ("a confidence of 1e308", cell(2, 3, "1e308"), "harmless"),
        ]
    more = {
        "in UTF-7": "nothing tells it from text, and all but one letter is the same",
        "control characters": "whatever stands between the delimiters is what was said",
        "a million delimiters": "nothing stands between them",
        "a million lines": "nothing stands in them",
        **({"an overlap": "two people may speak at once"} if tab == "\t" else {}),
        "words for a confidence": "min_confidence compares numbers, and is 0",
        "a confidence of 1e308": "min_confidence compares numbers, and is 0",
        "a row of delimiters": "nothing stands in it",
    }
    unquoted = {} if tab == "," else dict.fromkeys(("an unbalanced quote", "an unbalanced quote at a cell's start", "two unbalanced quotes"), "a quote is a character of speech in this corpus, not a mark around cells")  # fmt: skip
    found = [
        Broken(
            f"{name}: {what}",
            kind,
            edit(path, change),
            expect,
            () if what in ("a header and no rows", "a row twice") else (name,),
            ({**_HARMLESS, **more, **unquoted}).get(what, ""),
        )
        for what, change, expect in rows
    ]
    found += [Broken(f"{name}: {what}", kind, change, "quarantined", (name,)) for what, change, _ in places(path)]
    found.append(Broken(f"{name}: more than a table can have", kind, _huge(path), "quarantined", (name,)))
    return found


def _as_a_whole(tab: str) -> list[tuple[str, Edit, str]]:
    other = "," if tab == "\t" else "\t"
    return [
        ("empty", becomes(b""), "quarantined"),
        ("a line's end and nothing else", becomes(b"\n"), "quarantined"),
        ("NUL bytes only", becomes(bytes(4096)), "quarantined"),
        ("a NUL among words", swap("marmalade", "mar\0malade", 1), "quarantined"),
        ("in Latin-1", recoded("latin-1"), "repaired"),
        ("in UTF-16", recoded("utf-16"), "quarantined"),
        ("in UTF-16 without a mark", recoded("utf-16-be"), "quarantined"),
        ("in UTF-32", recoded("utf-32"), "quarantined"),
        ("in UTF-7", lambda data: data.decode().encode("utf-7"), "silent"),
        ("in EBCDIC", lambda data: data.decode().encode("cp500"), "quarantined"),
        ("a byte order mark", lambda data: b"\xef\xbb\xbf" + data, "harmless"),
        ("a lone surrogate", swap("marmalade", "mar\ud800malade", 1), "repaired"),
        ("lines end with CRLF", lambda data: data.replace(b"\n", b"\r\n"), "harmless"),
        ("lines end with CR", lambda data: data.replace(b"\n", b"\r"), "harmless"),
        ("cut off within a character", lambda data: data[: data.rindex(b"\xa9")], "repaired"),
        ("delimited otherwise", swap(tab, other), "quarantined"),
        ("delimited by semicolons", swap(tab, ";"), "quarantined"),
        ("delimited by spaces", swap(tab, " "), "quarantined"),
        ("a picture", becomes(lambda: b"\x89PNG\r\n\x1a\n" + os.urandom(512)), "quarantined"),
        ("a recording", becomes(lambda: encoded("WAV")[:4096]), "quarantined"),
        ("packed", packed, "quarantined"),
        ("JSON", becomes(lambda: b'[{"start_time": 1, "value": "' + SAID.encode() + b'"}]'), "quarantined"),
        ("a page of an error", becomes(b"<html><body>404 Not Found</body></html>\n"), "quarantined"),
        ("a pointer of git-lfs", becomes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"), "quarantined"),
        ("a line of a megabyte", append(b"x" * 2**20), "quarantined"),
        ("a million delimiters", append(tab.encode() * 2**20 + b"\n"), "harmless"),
        ("a million lines", append(b"\n" * 2**20), "harmless"),
    ]  # fmt: skip


def _huge(path: str) -> Change:
    def apply(root: Path) -> None:
        with (root / path).open("r+b") as file:
            file.truncate(65 * 2**20)

    return apply


def _cmdc() -> list[Broken]:
    rows: list[tuple[str, Edit, str]] = [
        ("in Latin-1", recoded("latin-1"), "quarantined"),
        ("in UTF-16", recoded("utf-16"), "quarantined"),
        ("in GB18030", becomes(lambda: "今天天气很好".encode("gb18030")), "quarantined"),
        ("a NUL among words", swap("marmalade", "mar\0malade"), "quarantined"),
        ("a lone surrogate", swap("marmalade", "mar\ud800malade"), "quarantined"),
        ("cut off within a character", lambda data: data[:-1], "quarantined"),
        ("a picture", becomes(lambda: b"\x89PNG\r\n\x1a\n" + bytes(range(256))), "quarantined"),
    ]
    found = [
        Broken(f"CMDC's Q1.txt: {what}", "cmdc", edit(CMDC, change), expect, ("Q1.txt",))
        for what, change, expect in rows
    ]
    for what, change, how in places(CMDC):
        found.append(
            Broken(
                f"CMDC's Q1.txt: {what}",
                "cmdc",
                change,
                "repaired" if how == "missing" or what in _NOWHERE else "quarantined",
                ("question(s) 1" if how == "missing" or what in _NOWHERE else "Q1.txt",),
            )
        )
    found.append(Broken("CMDC's Q1.txt: more than a table can have", "cmdc", _huge(CMDC), "quarantined", ("Q1.txt",)))
    return found
