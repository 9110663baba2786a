"""Broken logs of conversations: JSON Lines, packed and not, and Parquet."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from broken import SAID, Broken, Edit, append, becomes, chats, edit, encoded, packed, places, recoded

LOG, PACKED, PARQUET = "conversations.jsonl", "conversations.jsonl.gz", "conversations.parquet"
T = "2025-03-01T12:00:00+00:00"

_OTHERS = [f"u{number}" for number in range(1, 12)]


def broken() -> list[Broken]:
    return [*_lines(), *_fields(), *_packed(), *_parquet(), *_parquet_labels()]


def _first(change: Callable[[str], str | bytes]) -> Edit:
    """Change the first line."""

    def changed(data: bytes) -> bytes:
        first, _, rest = data.partition(b"\n")
        found = change(first.decode())
        return (found if isinstance(found, bytes) else found.encode()) + b"\n" + rest

    return changed


def _lines() -> list[Broken]:
    one = ("line 1",)
    rows: list[tuple[str, Edit, str, tuple[str, ...]]] = [
        ("empty", becomes(b""), "refused", ()),
        ("line ends and nothing else", becomes(b"\n\n\n"), "refused", ()),
        ("two million line ends", append(b"\n" * 2_000_000), "refused", (LOG,)),
        ("NUL bytes only", becomes(bytes(4096)), "refused", ()),
        ("in UTF-16", recoded("utf-16"), "refused", ()),
        ("packed in spite of its name", packed, "refused", ()),
        ("one array", lambda data: b"[" + data.strip().replace(b"\n", b",") + b"]", "refused", ()),
        ("pretty", lambda data: json.dumps(json.loads(data.split(b"\n")[0]), indent=1).encode(), "refused", ()),
        ("a table", becomes(b"user_id,conversation_id\nu0,c0\n"), "refused", ()),
        ("a Parquet file", becomes(lambda: _table(chats())), "refused", ()),
        ("lines end with CR", lambda data: data.replace(b"\n", b"\r"), "refused", ()),
        ("a pickle", becomes(lambda: pickle.dumps(chats())), "refused", ()),
        ("lines end with CRLF", lambda data: data.replace(b"\n", b"\r\n"), "harmless", ()),
        ("blank lines", lambda data: data.replace(b"\n", b"\n \n"), "harmless", ()),
        ("a byte order mark", lambda data: b"\xef\xbb\xbf" + data, "harmless", ()),
        ("no line end at its end", lambda data: data.rstrip(b"\n"), "harmless", ()),
        ("the first line in Latin-1", _first(lambda text: json.dumps(json.loads(text), ensure_ascii=False).encode("latin-1")), "repaired", one),
        ("cut off in its first line", _first(lambda text: text[:60]), "repaired", one),
        ("cut off in its last line", lambda data: data[:-40], "repaired", ("line 12",)),
        ("a line of 17 MB", _first(lambda text: text.replace("marmalade", "m" * (17 * 2**20), 1)), "repaired", one),
        ("a line of 10 MB that is no JSON", _first(lambda text: "[" * (10 * 2**20)), "repaired", one),
        ("a line of 10 MB", append(b'{"user_id":"u9","conversation_id":"c9","started_at":"2025-03-01","messages":[],"x":"' + b"x" * (10 * 2**20) + b'"}\n'), "quarantined", ("u9",)),
        ("nested 100,000 deep", _first(lambda text: text[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}"), "repaired", one),
        ("a number of 10,000 digits", _first(lambda text: text[:-1] + ', "x": ' + "9" * 10_000 + "}"), "repaired", one),
        ("an array", _first(lambda text: f"[{text}]"), "repaired", one),
        ("a text", _first(lambda text: json.dumps(SAID)), "repaired", one),
        ("a number", _first(lambda text: "1"), "repaired", one),
        ("null", _first(lambda text: "null"), "repaired", one),
        ("two objects in a line", _first(lambda text: text + text), "repaired", one),
        ("single quotes", _first(lambda text: text.replace('"', "'")), "repaired", one),
        ("a comma too many", _first(lambda text: text[:-1] + ",}"), "repaired", one),
        ("a comment", _first(lambda text: f"// {SAID}\n{text}"), "repaired", one),
        ("a control character in a text", _first(lambda text: text.replace("xylo", "xylo\x01")), "repaired", one),
        ("a key twice", _first(lambda text: text[:-1] + ', "user_id": "u0"}'), "harmless", ()),
        ("an unknown key", _first(lambda text: text[:-1] + f', "notes": "{SAID}"}}'), "harmless", ()),
        ("a conversation twice", lambda data: data.split(b"\n")[0] + b"\n" + data, "repaired", ("line 2",)),
        ("an id twice", lambda data: data.split(b"\n")[0].replace(b"xylo", b"XYLO") + b"\n" + data, "quarantined", ("line 2", "conversation_id")),
    ]  # fmt: skip
    for depth in (300, 600, 900, 940, 960, 980, 990):
        nested = f', "x": {"[" * depth}{"]" * depth}}}'
        rows.append(
            (f"a conversation twice, nested {depth} deep",
             lambda data, nested=nested: (data.split(b"\n")[0][:-1] + nested.encode() + b"\n") * 2 + data.split(b"\n", 1)[1],
             "repaired", ())
        )  # fmt: skip
    whys = {
        "lines end with CRLF": "a line's end is no content",
        "blank lines": "nothing stands in them",
        "a byte order mark": "it is no character of the text",
        "no line end at its end": "the end of the file ends the line",
        "a key twice": "JSON leaves it open; the last one counts, and it is the same here",
        "an unknown key": "keys that no reader asks for mean nothing",
    }
    found = [
        Broken(f"{LOG}: {what}", "chats", edit(LOG, change), expect, says, whys.get(what, ""))
        for what, change, expect, says in rows
    ]
    found += [Broken(f"{LOG}: {what}", "chats", change, "refused", ()) for what, change, _ in places(LOG)]
    return found


def _fields() -> list[Broken]:
    """One field of the first conversation is another thing."""
    wrong: tuple[Any, ...] = (
        None,
        "",
        " ",
        1.5,
        True,
        [],
        {},
        ["u0"],
        {"a": 1},
        float("nan"),
        "x" * 1000,
        "a\0b",
        "\ud800",
        10**30,
    )
    found: list[Broken] = []

    def field(name: str, value: Any, expect: str, says: tuple[str, ...], where: str = "", why: str = "") -> None:
        def change(text: str) -> str:
            values = json.loads(text)
            target = values["messages"][0] if where else values
            if value is _GONE:
                del target[name]
            else:
                target[name] = value
            return json.dumps(values)

        shown = "gone" if value is _GONE else ascii(value)[:60]
        found.append(Broken(f"{LOG}: {where}{name} is {shown}", "chats", edit(LOG, _first(change)), expect, says, why))

    for value in (_GONE, *wrong):
        field("user_id", value, "repaired", ("line 1", "user_id"))
        field("conversation_id", value, "repaired", ("line 1", "conversation_id"))
    for value in (_GONE, None, "", "yesterday", 1741176000, True, [], "2025-02-30", "9" * 5000, "0000-00-00", SAID):
        field("started_at", value, "repaired", ("line 1", "started_at"))
    field("started_at", "0001-01-01", "repaired", ())
    field("started_at", "9999-12-31T23:59:59+00:00", "repaired", ())
    field("started_at", "2025-03-01T12:00:00", "repaired", ("line 1",))
    for value in (_GONE, None, SAID, {}, 5, True):
        field("messages", value, "quarantined", ("line 1", "messages"))
    for value in (
        [],
        [None],
        [SAID],
        [[SAID]],
        [{}],
        [{"role": "user", "content": ""}],
        [{"role": "user", "content": 5}],
    ):
        field("messages", value, "quarantined", ())
    for value in (_GONE, None, SAID, [], "USER", "system"):
        field("role", value, "repaired", ("line 1",), "messages.")
    for value in (_GONE, None, [], {}, 5, [SAID], "", "  "):
        field("content", value, "repaired", ("line 1",), "messages.")
    for value in ("yesterday", 5, [], SAID, "2025-02-30"):
        field("at", value, "repaired", ("line 1",), "messages.")
    field("at", "2026-01-01T00:00:00+00:00", "repaired", ("line 1",), "messages.")
    field(
        "at",
        "0001-01-01T00:00:00+00:00",
        "silent",
        (),
        "messages.",
        "a wrong clock is told by nothing from a right one",
    )
    return found


_GONE = object()


def _packed() -> list[Broken]:
    rows: list[tuple[str, Edit, str]] = [
        ("empty", becomes(b""), "refused"),
        ("not packed in spite of its name", gzip.decompress, "refused"),
        ("words", becomes(lambda: SAID.encode() * 50), "refused"),
        ("cut off", lambda data: data[: len(data) // 2], "refused"),
        ("cut off by one byte", lambda data: data[:-1], "refused"),
        ("a wrong checksum", lambda data: data[:-8] + b"\1\2\3\4" + data[-4:], "refused"),
        ("a hole", lambda data: data[:60] + bytes(20) + data[80:], "refused"),
        ("words after its end", append(SAID.encode()), "refused"),
        ("packed twice", packed, "refused"),
        ("a bomb", becomes(lambda: gzip.compress(b"x" * 2**28)), "refused"),
        ("a bomb of line ends", becomes(lambda: gzip.compress(b"\n" * 2**27)), "refused"),
        ("a hundred thousand gzip streams", lambda data: gzip.compress(b"") * 100_000 + data, "refused"),
    ]
    found = [
        Broken(f"{PACKED}: {what}", "chats gz", edit(PACKED, change), expect, (PACKED,))
        for what, change, expect in rows
    ]
    found.append(
        Broken(
            f"{PACKED}: a line that is no JSON",
            "chats gz",
            edit(PACKED, lambda data: gzip.compress(b"{\n" + gzip.decompress(data))),
            "repaired",
            (PACKED, "line 1"),
        )
    )
    found.append(
        Broken(
            f"{PACKED}: two streams",
            "chats gz",
            edit(PACKED, lambda data: gzip.compress(b"\n") + data),
            "harmless",
            why="some tools pack in several streams",
        )
    )
    found.append(
        Broken(
            f"{PACKED}: a plain one beside it",
            "chats gz",
            lambda root: (root / LOG).write_text("{}\n") and None,
            "refused",
            (LOG,),
        )
    )
    return found


def _table(rows: list[dict[str, Any]], schema: pa.Schema | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer, **options)
    return buffer.getvalue()


def _changed(change: Callable[[pa.Table], pa.Table]) -> Edit:
    def changed(data: bytes) -> bytes:
        buffer = io.BytesIO()
        pq.write_table(change(pq.read_table(io.BytesIO(data))), buffer)
        return buffer.getvalue()

    return changed


def _column(name: str, values: Any) -> Edit:
    return _changed(
        lambda table: table.set_column(
            table.schema.get_field_index(name), name, values if isinstance(values, pa.Array) else pa.array(values)
        )
    )


def _invalid_text(texts: list[bytes]) -> pa.Array:
    """Texts that say to be UTF-8 and are not."""
    data = pa.array(texts, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(texts), data.buffers())


def _invalid_messages() -> pa.Array:
    content = _invalid_text([SAID.encode("latin-1")] * 12)
    messages = pa.StructArray.from_arrays([pa.array(["user"] * 12), content], ["role", "content"])
    return pa.ListArray.from_arrays(pa.array(range(13), pa.int32()), messages)


def _parquet() -> list[Broken]:
    told = chats()[0]["messages"]
    far = pa.array(
        [[{"role": "user", "content": SAID, "at": 2**62}]] * 12,
        pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("at", pa.timestamp("us"))])),
    )
    rows: list[tuple[str, Edit, str, tuple[str, ...]]] = [
        ("empty", becomes(b""), "refused", ()),
        ("words", becomes(lambda: SAID.encode() * 50), "refused", ()),
        ("marks and nothing between", becomes(lambda: b"PAR1" + bytes(4) + b"PAR1"), "refused", ()),
        ("NUL bytes only", becomes(bytes(4096)), "refused", ()),
        ("a pickle", becomes(lambda: pickle.dumps(chats())), "refused", ()),
        ("JSON Lines", becomes(lambda: b"".join(json.dumps(one).encode() + b"\n" for one in chats())), "refused", ()),
        ("cut off", lambda data: data[: len(data) // 2], "refused", ()),
        ("cut off by one byte", lambda data: data[:-1], "refused", ()),
        ("without its beginning", lambda data: data[200:], "refused", ()),
        ("a footer of 4 GB", lambda data: data[:-8] + b"\xff\xff\xff\xff" + data[-4:], "refused", ()),
        ("a footer of nothing", lambda data: data[:-8] + bytes(4) + data[-4:], "refused", ()),
        ("a footer of noise", lambda data: data[:-200] + bytes(100) + data[-100:], "refused", ()),
        ("a hole in its first page", lambda data: data[:20] + b"\xff" * 40 + data[60:], "refused", ()),
        ("encrypted", lambda data: b"PARE" + data[4:-4] + b"PARE", "refused", ()),
        ("an Arrow file", becomes(lambda: _arrow()), "refused", ()),
        ("a picture", becomes(lambda: b"\x89PNG\r\n\x1a\n" + bytes(range(256))), "refused", ()),
        ("a recording", becomes(lambda: encoded("WAV")[:4096]), "refused", ()),
        ("no rows", _changed(lambda table: table.slice(0, 0)), "refused", ()),
        ("no columns", _changed(lambda table: table.select([])), "refused", ("user_id",)),
        *((f"no {name}", _changed(lambda table, name=name: table.drop_columns([name])), "refused", (name,)) for name in ("user_id", "conversation_id", "started_at", "messages")),
        ("users are numbers with a point", _column("user_id", [0.5] * 12), "refused", ("user_id",)),
        ("users are lists", _column("user_id", [["u"]] * 12), "refused", ("user_id",)),
        ("users are nothing", _column("user_id", pa.array([None] * 12, pa.string())), "refused", ()),
        ("one user is nothing", _column("user_id", [None, *_OTHERS]), "repaired", ("line 1", "user_id")),
        ("one user is long", _column("user_id", ["x" * 10**6, *_OTHERS]), "repaired", ("line 1", "user_id")),
        ("users are not UTF-8", _column("user_id", _invalid_text([b"u\xff"] * 12)), "refused", ()),
        ("times are numbers", _column("started_at", [5] * 12), "refused", ("started_at",)),
        ("times are words", _column("started_at", [SAID] * 12), "refused", ()),
        ("times are timestamps far away", _column("started_at", pa.array([2**62] * 12, pa.timestamp("us"))), "refused", ()),
        ("messages are a text", _column("messages", [SAID] * 12), "refused", ("messages",)),
        ("messages are numbers", _column("messages", [[1]] * 12), "refused", ("messages",)),
        ("messages without a role", _column("messages", [[{"content": SAID}]] * 12), "refused", ("messages",)),
        ("messages are nothing", _column("messages", pa.array([None, *[told] * 11])), "quarantined", ("line 1", "messages")),
        ("messages are empty", _column("messages", pa.array([[], *[told] * 11])), "quarantined", ()),
        ("messages are not UTF-8", _column("messages", _invalid_messages()), "refused", ("line 1",)),
        ("messages at times far away", _column("messages", far), "refused", ("line 1",)),
        ("a column twice", _changed(lambda table: table.append_column("user_id", table["user_id"])), "refused", ()),
        ("a bomb of messages", becomes(lambda: _bomb("messages")), "refused", ()),
        ("a bomb of users", becomes(lambda: _bomb("user_id")), "refused", ()),
        ("an unknown column", _changed(lambda table: table.append_column("notes", pa.array([SAID] * 12))), "harmless", ()),
    ]  # fmt: skip
    found = []
    for what, change, expect, says in rows:
        why = "columns that no reader asks for mean nothing" if expect == "harmless" else ""
        named = () if what in ("no rows", "users are nothing", "times are words", "messages are empty") else (PARQUET,)
        found.append(
            Broken(
                f"{PARQUET}: {what}",
                "chats parquet",
                edit(PARQUET, change),
                expect,
                () if why else (*named, *says),
                why,
            )
        )
    found += [
        Broken(f"{PARQUET}: {what}", "chats parquet", change, "refused", ()) for what, change, _ in places(PARQUET)
    ]
    return found


def _bomb(name: str) -> bytes:
    """Two gigabytes of one text, which Parquet keeps once."""
    rows = [{**one, "messages": list(one["messages"])} for one in chats()[:1]] * 2000
    text = "m" * 2**20
    if name == "messages":
        rows = [{**row, "messages": [{"role": "user", "content": text}]} for row in rows]
        first = pa.Table.from_pylist(rows[:1])
        struct = pa.StructArray.from_arrays(
            [
                pa.array(["user"] * 2000),
                pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array([text])),
            ],
            ["role", "content"],
        )
        messages = pa.ListArray.from_arrays(pa.array(range(2001), pa.int32()), struct)
        ids = pa.array([f"c{number}" for number in range(2000)])
        del first
        table = pa.table(
            {
                "user_id": pa.array(["u0"] * 2000),
                "conversation_id": ids,
                "started_at": pa.array([T] * 2000),
                "messages": messages,
            }
        )
    else:
        ids = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array([text]))
        messages = pa.array([row["messages"] for row in rows])
        table = pa.table(
            {
                "user_id": ids,
                "conversation_id": pa.array(["c"] * 2000),
                "started_at": pa.array([T] * 2000),
                "messages": messages,
            }
        )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, store_schema=False)
    return buffer.getvalue()


def _arrow() -> bytes:
    table = pa.Table.from_pylist(chats())
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def _parquet_labels() -> list[Broken]:
    path = "labels.parquet"
    rows: list[tuple[str, Edit, str, tuple[str, ...]]] = [
        ("empty", becomes(b""), "refused", ()),
        ("words", becomes(lambda: SAID.encode() * 50), "refused", ()),
        ("a pickle", becomes(lambda: pickle.dumps({"a": 1})), "refused", ()),
        ("cut off", lambda data: data[: len(data) // 2], "refused", ()),
        ("no rows", _changed(lambda table: table.slice(0, 0)), "refused", ()),
        ("no column of totals", _changed(lambda table: table.drop_columns(["total"])), "refused", ("total",)),
        ("totals are lists", _column("total", [["9"]] * 12), "refused", ("row 1", "total")),
        ("totals are words", _column("total", [SAID] * 12), "refused", ("row 1", "total")),
        ("totals are no numbers", _column("total", [float("nan")] * 12), "refused", ("row 1", "total")),
        ("totals are bytes", _column("total", [b"9"] * 12), "refused", ("row 1", "total")),
        ("an item is nothing", _column("item_1", [None, *["2", "1"] * 5, "2"]), "repaired", ("row 1", "item_1")),
        ("users are not UTF-8", _column("user_id", _invalid_text([b"u\xff"] * 12)), "refused", ()),
        ("users are numbers", _column("user_id", [1.5] * 12), "refused", ()),
        ("times are far away", _column("administered_at", pa.array([2**62] * 12, pa.timestamp("us"))), "refused", ()),
    ]  # fmt: skip
    found = []
    for what, change, expect, says in rows:
        named = () if what in ("no rows", "users are numbers") else (path,)
        found.append(Broken(f"{path}: {what}", "chats parquet", edit(path, change), expect, (*named, *says)))
    found.append(
        Broken(
            f"{path}: a CSV beside it",
            "chats parquet",
            lambda root: (root / "labels.csv").write_text("x\n") and None,
            "refused",
            ("labels.csv",),
        )
    )
    return found
