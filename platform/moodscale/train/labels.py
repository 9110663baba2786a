"""A table of labels to train on: true ones as they are, pseudo ones with everything that made them what they are.

One row an interview. ``chain`` holds a step for the questionnaire or for every labeller in turn, each with a digest of
the steps before it; the row's digest covers the rest of the row. Opening a table checks all of it against the manifest:

- a row whose provenance does not hash to what it says is refused, by name;
- nobody of the validation or test split is in it, and nobody's true label is another than the manifest's;
- whoever gave a pseudo-label has not learned from the person whom it labels (out of fold, or a teacher that never saw
  them), and from nobody of the test split.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from moodscale.prepare.manifest import Manifest
from moodscale.recipes.base import TRAINING_LABELS
from moodscale.schema import CorpusError, Instrument, Provenance, Split, person_hash
from moodscale.storage import Place, display, read_table, write_table

STEP = pa.struct(
    [
        ("round", pa.int32()),
        ("labeller", pa.string()),
        ("given", pa.float64()),
        ("total", pa.float64()),
        ("items", pa.list_(pa.float64())),
        ("confidence", pa.float64()),
        ("digest", pa.string()),
    ]
)
"""One labelling: what the labeller gave, and what the label became (blended with what it was, perhaps)."""

LABELS_SCHEMA = pa.schema(
    [
        *TRAINING_LABELS,
        pa.field("provenance", pa.string(), nullable=False),
        pa.field("chain", pa.list_(STEP), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
    ]
)

QUESTIONNAIRE = "questionnaire"
"""The labeller of a true label."""
_METADATA = b"moodscale"
_COVERED = [field.name for field in LABELS_SCHEMA if field.name != "digest"]


@dataclass(frozen=True)
class Labeller:
    """Who gave labels.

    Attributes:
        kind: ``teacher`` or ``fold``.
        version: what identifies it for good: a teacher's settings by hash, a model by its adapter.
        learned_from: :func:`moodscale.schema.person_hash` of everybody whose label it was trained on.
    """

    kind: str
    version: str
    learned_from: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "version": self.version, "learned_from": sorted(self.learned_from)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Labeller:
        return cls(str(values["kind"]), str(values["version"]), frozenset(values["learned_from"]))


@dataclass(frozen=True)
class TrainingLabels:
    """A checked table.

    Attributes:
        rows: in ``LABELS_SCHEMA``.
        hash: of the content.
    """

    rows: pa.Table
    labellers: Mapping[str, Labeller]
    hash: str

    def for_training(self) -> pa.Table:
        """What a recipe reads."""
        return self.rows.select(TRAINING_LABELS.names).cast(TRAINING_LABELS)

    @property
    def people(self) -> frozenset[str]:
        """Keys of everybody in it."""
        return frozenset(self.rows["person"].to_pylist())


def first_step(row: Mapping[str, Any], labeller: str, round_: int, confidence: float | None) -> dict[str, Any]:
    """The first step of a row's chain: the label as it was given."""
    return next_step([], labeller, round_, row["total"], row["total"], row.get("items"), confidence)


def next_step(
    chain: Sequence[Mapping[str, Any]],
    labeller: str,
    round_: int,
    given: float,
    total: float,
    items: Sequence[float | None] | None,
    confidence: float | None,
) -> dict[str, Any]:
    """A further step of a chain, with the digest of all of it.

    Args:
        given: what the labeller said.
        total: what the label is from now on.
    """
    step = {
        "round": round_,
        "labeller": labeller,
        "given": float(given),
        "total": float(total),
        "items": None if items is None else [None if one is None else float(one) for one in items],
        "confidence": None if confidence is None else float(confidence),
    }
    return {**step, "digest": _digest(chain[-1]["digest"] if chain else "", step)}


def write_labels(
    path: Place, rows: Iterable[Mapping[str, Any]], labellers: Mapping[str, Labeller], manifest: Manifest
) -> TrainingLabels:
    """Write a table, in the order of interviews, and check it as any reader would.

    Args:
        rows: with every column of ``LABELS_SCHEMA`` but ``digest``.
    Raises:
        CorpusError: see :func:`open_labels`; nothing is written then.
    """
    ordered = sorted(rows, key=lambda row: (row["corpus"], row["interview_id"]))
    complete = [{**{name: row[name] for name in _COVERED}, "digest": _row_digest(row)} for row in ordered]
    table = pa.Table.from_pylist(complete, LABELS_SCHEMA)
    used = {step["labeller"] for row in ordered for step in row["chain"]}
    kept = {name: one for name, one in sorted(labellers.items()) if name in used}
    facts = {"manifest": manifest.hash, "labellers": {name: one.to_json() for name, one in kept.items()}}
    facts["hash"] = _table_hash(table, facts)
    found = _checked(table, facts, manifest, display(path))
    write_table(path, table.replace_schema_metadata({_METADATA: json.dumps(facts).encode()}))
    return found


def open_labels(path: Place, manifest: Manifest) -> TrainingLabels:
    """Read a table and check all of it.

    Raises:
        CorpusError: not such a table, made for another manifest, altered since it was made, or somebody in it who must
            not be; names the interview and what is wrong.
    """
    shown = display(path)
    try:
        table = read_table(path)
    except (OSError, pa.ArrowException):
        raise CorpusError(f"{shown}: no readable table of labels; make it with `moodscale label`") from None
    facts = json.loads((table.schema.metadata or {}).get(_METADATA, b"null"))
    table = table.replace_schema_metadata(None)
    if facts is None or not table.schema.equals(LABELS_SCHEMA):
        raise CorpusError(f"{shown}: is no table of labels of this version; make it with `moodscale label`")
    return _checked(table, facts, manifest, shown)


def _checked(table: pa.Table, facts: Mapping[str, Any], manifest: Manifest, shown: str) -> TrainingLabels:
    if facts["manifest"] != manifest.hash:
        raise CorpusError(
            f"{shown}: made for the manifest {facts['manifest']}, this is {manifest.hash}; label this one instead"
        )
    rows = table.to_pylist()
    for row in rows:
        _check_digests(row, shown)
    labellers = {name: Labeller.from_json(values) for name, values in facts["labellers"].items()}
    _check_people(rows, manifest, shown)
    _check_labels(rows, manifest, shown)
    _check_labellers(rows, labellers, manifest, shown)
    # Last: an altered row is named before the table is.
    if facts["hash"] != _table_hash(table, facts):
        raise CorpusError(f"{shown}: rows were added or taken away since it was made; make it with `moodscale label`")
    return TrainingLabels(table, labellers, str(facts["hash"]))


def _check_digests(row: Mapping[str, Any], shown: str) -> None:
    before = ""
    for number, step in enumerate(row["chain"], start=1):
        if step["digest"] != _digest(before, {name: value for name, value in step.items() if name != "digest"}):
            raise CorpusError(
                f"{shown}: interview {row['interview_id']} of {row['person']}: step {number} of its provenance was "
                "altered; make the table again with `moodscale label`"
            )
        before = step["digest"]
    if row["digest"] != _row_digest(row):
        raise CorpusError(
            f"{shown}: interview {row['interview_id']} of {row['person']}: the row was altered after it was made; make "
            "the table again with `moodscale label`"
        )


def _check_people(rows: Sequence[Mapping[str, Any]], manifest: Manifest, shown: str) -> None:
    held_out = {person: split for split in (Split.VALIDATION, Split.TEST) for person in manifest.people(split)}
    for row in rows:
        if row["person"] in held_out:
            raise CorpusError(
                f"{shown}: interview {row['interview_id']}: person {row['person']} is in the {held_out[row['person']]} "
                "split, and nobody of it may be trained on"
            )


def _check_labels(rows: Sequence[Mapping[str, Any]], manifest: Manifest, shown: str) -> None:
    """True labels are the manifest's, pseudo ones are of people without any, each interview is there once."""
    known = {
        (row["corpus"], row["interview_id"]): row
        for table in (manifest.interviews(Split.TRAIN), manifest.unlabelled())
        for row in table.select(["corpus", "interview_id", "person", "instrument", "total"]).to_pylist()
    }
    seen = set()
    for row in rows:
        key, where = (row["corpus"], row["interview_id"]), f"{shown}: interview {row['interview_id']}"
        own = known.get(key)
        if own is None or own["person"] != row["person"]:
            raise CorpusError(f"{where} of {row['person']} is not in the manifest's training people")
        if key in seen:
            raise CorpusError(f"{where} is there twice; keep one row")
        seen.add(key)
        is_pseudo = row["provenance"] == Provenance.PSEUDO
        if is_pseudo and own["total"] is not None:
            raise CorpusError(f"{where} has a true label, and a pseudo-label may not take its place")
        if not is_pseudo and (own["total"] != row["total"] or own["instrument"] != row["instrument"]):
            raise CorpusError(f"{where}: its true label is not the manifest's; true labels never change")
        highest = Instrument(row["instrument"]).max_total
        if not 0 <= row["total"] <= highest:
            raise CorpusError(f"{where}: total is outside {row['instrument']}'s range 0-{highest}")
        if not (math.isfinite(row["weight"]) and row["weight"] > 0):
            raise CorpusError(f"{where}: weight={row['weight']:g} must be above 0; leave the row out instead")
        if not row["chain"] or row["chain"][-1]["total"] != row["total"]:
            raise CorpusError(f"{where}: its provenance does not end at its label")


def _check_labellers(
    rows: Sequence[Mapping[str, Any]], labellers: Mapping[str, Labeller], manifest: Manifest, shown: str
) -> None:
    tested = {person_hash(person): person for person in manifest.people(Split.TEST)}
    for name, labeller in sorted(labellers.items()):
        known = sorted(tested[one] for one in labeller.learned_from & tested.keys())
        if known:
            raise CorpusError(
                f"{shown}: {name} has learned from person {known[0]} of the test split ({len(known)} in all): its "
                "labels would carry their answers into training"
            )
    for row in rows:
        where = f"{shown}: interview {row['interview_id']}"
        for step in row["chain"]:
            name = step["labeller"]
            if (name == QUESTIONNAIRE) is (row["provenance"] == Provenance.PSEUDO):
                raise CorpusError(f"{where}: provenance {row['provenance']} with a label by {name}")
            if name == QUESTIONNAIRE:
                continue
            if name not in labellers:
                raise CorpusError(f"{where}: its labeller {name} is not among the table's")
            if person_hash(row["person"]) in labellers[name].learned_from:
                raise CorpusError(
                    f"{where}: {name} has learned from person {row['person']} and may not label them; label out of fold"
                )


def _digest(before: str, content: Mapping[str, Any]) -> str:
    return hashlib.sha256((before + json.dumps(content, sort_keys=True)).encode()).hexdigest()[:32]


def _row_digest(row: Mapping[str, Any]) -> str:
    content = {name: row[name] for name in _COVERED if name != "chain"}
    return _digest(row["chain"][-1]["digest"] if row["chain"] else "", content)


def _table_hash(table: pa.Table, facts: Mapping[str, Any]) -> str:
    content = {"rows": table["digest"].to_pylist(), "manifest": facts["manifest"], "labellers": facts["labellers"]}
    return _digest("", content)
