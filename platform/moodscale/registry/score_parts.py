"""What a folder of scores holds: a plan, parts of some interviews each, and a summary when all are there.

```
plan.json             which model scores which interviews of which manifest; nothing else may be put here
parts/part-00000…     Parquet, SCORE_SCHEMA: a row an interview, scored or not; whole under its name, or not there
score.json            written last: the model, the manifest, counts, and the parts' hashes
```
It lies on a disk that every node sees, or on object storage. No words are in it.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from moodscale.config import ConfigError
from moodscale.storage import Place, display, read_parquet, write_bytes, writing

PLAN_FILE = "plan.json"
SUMMARY_FILE = "score.json"
PARTS_DIR = "parts"
FORMAT = 1

SCORE_SCHEMA = pa.schema(
    [
        pa.field("person", pa.string(), nullable=False),
        pa.field("interview_id", pa.string(), nullable=False),
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("probability", pa.float64()),
        pa.field("depressed", pa.bool_()),
        pa.field("instrument", pa.string()),
        pa.field("severity_band", pa.string()),
        pa.field("items", pa.list_(pa.float64())),
        pa.field("raw_score", pa.float64()),
        pa.field("not_scored", pa.string()),
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("scored_at", pa.string(), nullable=False),
    ]
)
"""``score`` is null where ``not_scored`` says why there is none; what a kind of model does not give is null. See
:class:`moodscale.registry.serving.base.Answer`. ``scored_at`` is ISO 8601, UTC."""

_METADATA = b"moodscale"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a folder of scores is for.

    Attributes:
        model: ``models:/NAME/VERSION``, or the folder of a package.
        package_sha256: of ``model.json``, which holds the hashes of every other file of the package.
        batch: interviews a part; a folder keeps the one that it began with.
    """

    model: str
    model_version: str
    package_sha256: str
    manifest_hash: str
    selection: str
    num_interviews: int
    batch: int

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Part:
    """Some interviews that are scored and written together: (corpus, interview id) each, in order."""

    name: str
    keys: tuple[tuple[str, str], ...]

    def to_json(self) -> str:
        return json.dumps({"name": self.name, "keys": self.keys})

    @classmethod
    def from_json(cls, text: str) -> Part:
        values = json.loads(text)
        return cls(values["name"], tuple((corpus, interview) for corpus, interview in values["keys"]))


@dataclass(frozen=True)
class PartFacts:
    """What a stored part holds.

    Attributes:
        not_scored: interviews without a score, by reason.
    """

    sha256: str
    num_scored: int
    not_scored: dict[str, int]


def plan_parts(interviews: pa.Table, batch: int) -> list[Part]:
    """Interviews in their order, ``batch`` a part: the same for every submission."""
    keys = list(zip(interviews["corpus"].to_pylist(), interviews["interview_id"].to_pylist(), strict=True))
    starts = range(0, len(keys), batch)
    return [Part(f"part-{number:05d}.parquet", tuple(keys[at : at + batch])) for number, at in enumerate(starts)]


def claim(out: UPath, plan: Plan) -> Plan:
    """Make a folder this plan's, or find that it is.

    Returns:
        the folder's plan, which has the batch that the folder began with.
    Raises:
        ConfigError: the folder holds something else, named.
    """
    path = out / PLAN_FILE
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        _check_empty(out)
        write_bytes(path, json.dumps({"format": FORMAT, **asdict(plan)}, indent=1).encode())
        return plan
    except ValueError:
        raise ConfigError(f"{display(path)}: not readable as JSON; score into another folder") from None
    expected = {"format": FORMAT, **asdict(plan)}
    differing = [name for name in expected if name not in ("batch", "model") and values.get(name) != expected[name]]
    if differing:
        named = ", ".join(f"{name}={values.get(name)!r} there, {expected[name]!r} now" for name in differing[:3])
        raise ConfigError(f"{display(out)} holds other scores ({named}); give --out another folder")
    return Plan(**{**asdict(plan), "model": str(values["model"]), "batch": int(values["batch"])})


def _check_empty(out: UPath) -> None:
    try:
        found = next(iter(out.iterdir()), None)
    except (FileNotFoundError, NotADirectoryError):
        found = None
    if found is not None:
        raise ConfigError(f"{display(out)} holds {found.name!r} and no {PLAN_FILE}; give --out a folder of its own")


def write_part(out: Place, name: str, rows: Sequence[dict[str, Any]], plan_digest: str) -> PartFacts:
    """Write a part whole under its name, or not at all."""
    metadata = {"plan": plan_digest, "rows": _digest(rows)}
    schema = SCORE_SCHEMA.with_metadata({_METADATA: json.dumps(metadata).encode()})
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), buffer, compression="zstd")
    with writing(out / PARTS_DIR / name) as stream:
        stream.write(buffer.getvalue())
    return _facts(buffer.getvalue(), rows)


def read_part(out: UPath, part: Part, plan_digest: str) -> PartFacts | None:
    """What a stored part holds; ``None`` where there is none, or where it is not whole or not this plan's."""
    path = out / PARTS_DIR / part.name
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        table = read_parquet(io.BytesIO(data))
        metadata = json.loads((table.schema.metadata or {}).get(_METADATA, b"{}"))
        rows = table.to_pylist()
        keys = tuple((row["corpus"], row["interview_id"]) for row in rows)
        whole = (
            table.schema.equals(SCORE_SCHEMA)
            and metadata == {"plan": plan_digest, "rows": _digest(rows)}
            and keys == part.keys
        )
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        log.warning("%s is damaged or of something else; it is scored again now", display(path))
        return None
    return _facts(data, rows)


def _facts(data: bytes, rows: Sequence[dict[str, Any]]) -> PartFacts:
    reasons = [row["not_scored"] for row in rows if row["not_scored"] is not None]
    counts = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    return PartFacts(hashlib.sha256(data).hexdigest(), len(rows) - len(reasons), counts)


def _digest(rows: Sequence[dict[str, Any]]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update((json.dumps([row[name] for name in SCORE_SCHEMA.names]) + "\n").encode())
    return digest.hexdigest()
