"""A hand-made log of conversations and questionnaires, any row and any defect."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = ("user_id", "instrument", "administered_at", "total", *(f"item_{number}" for number in range(1, 10)))
TOLD = ({"role": "user", "content": "something told"}, {"role": "assistant", "content": "something asked"})


def chat(
    user: Any, id_: Any, began: Any = "2025-03-01T12:00:00+00:00", messages: Any = TOLD, **more: Any
) -> dict[str, Any]:
    given = list(messages) if isinstance(messages, tuple) else messages
    return {"user_id": user, "conversation_id": id_, "started_at": began, "messages": given, **more}


def label(
    user: str, at: str = "2025-03-05T12:00:00+00:00", total: Any = 9, items: Any = (1,) * 9, which: str = "PHQ-9"
) -> list[Any]:
    return [user, which, at, total, *items]


def write_log(
    root: Path, rows: Sequence[Any], labels: Sequence[Sequence[Any]] | None = (), form: str = "jsonl"
) -> Path:
    """Write both files. A row of bytes or text is a line as it stands."""
    root.mkdir(parents=True, exist_ok=True)
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), root / "conversations.parquet", row_group_size=2)
    else:
        data = b"".join(_line(row) + b"\n" for row in rows)
        (root / f"conversations.{form}").write_bytes(gzip.compress(data) if form.endswith("gz") else data)
    if labels is not None and form == "parquet":
        texts = [[str(cell) for cell in row] for row in labels]
        pq.write_table(
            pa.Table.from_pylist(
                [dict(zip(COLUMNS, row, strict=True)) for row in texts],
                schema=pa.schema([(name, pa.string()) for name in COLUMNS]),
            ),
            root / "labels.parquet",
        )
    elif labels is not None:
        lines = [",".join(COLUMNS), *(",".join(str(cell) for cell in row) for row in labels)]
        (root / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def _line(row: Any) -> bytes:
    if isinstance(row, bytes):
        return row
    return row.encode() if isinstance(row, str) else json.dumps(row).encode()
