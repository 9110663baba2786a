"""A manifest: what a corpus became, as a directory of Parquet tables that everything downstream names by its hash.

```
clips.parquet         one row a clip: a window onto a recording (CLIP_SCHEMA)
interviews.parquet    one row an interview: label, gender, recordings, feature files, levels; no words
turns.parquet         one row a turn: who, when, how much; what was said only where prepare.transcripts asks for it
ledger.parquet        every repair          quarantine.parquet   everything left out, and why
manifest.json         hash, settings, people by split, counts, versions
summary.html          for a person to read  audio/               recordings unpacked from archives
test_reads.jsonl      one line for each time the test split was read (test_reads/, an object each, on object storage)
```
It lies on a disk that every node sees, or on object storage.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from upath import UPath

from moodscale.corpora.base import CORPUS_ROOT, MANIFEST_ROOT
from moodscale.corpora.reading.paths import check_relative, resolve
from moodscale.prepare.tables import LABELS_AND_WORDS, SCHEMAS, content_hash
from moodscale.schema import CorpusError, Split
from moodscale.storage import is_local, location, read_table, write_bytes

FORMAT = 2
MANIFEST_FILE = "manifest.json"
TEST_READS_FILE = "test_reads.jsonl"
TEST_READS_DIR = "test_reads"
MAX_MANIFEST_BYTES = 64 * 2**20

log = logging.getLogger(__name__)


class Manifest:
    """An opened, verified manifest."""

    def __init__(self, path: UPath, facts: Mapping[str, Any], moved: Mapping[str, UPath] | None = None) -> None:
        self.path = path
        self.facts = facts
        self.hash = str(facts["hash"])
        self.roots: dict[str, UPath] = {
            **{name: location(root) for name, root in facts["roots"].items() if name != MANIFEST_ROOT},
            **(moved or {}),
            MANIFEST_ROOT: path,
        }
        """Folder of each root's name, for ``read_clip``."""

    def __repr__(self) -> str:
        return f"Manifest({str(self.path)!r}, hash={self.hash!r})"

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        corpus_root: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | None = None,
    ) -> Manifest:
        """Open a manifest and verify it: schemas, content hash, and that every path stays under its root.

        Args:
            corpus_root: where the corpus lies now, if it moved since; of several corpora, by the root's name.
        Raises:
            CorpusError: no manifest, another format, a table that is missing, altered or holds a path that is refused.
        """
        directory = location(path)
        facts = read_facts(directory)
        if corpus_root is None:
            corpus_root = {}
        elif not isinstance(corpus_root, Mapping):
            corpus_root = {CORPUS_ROOT: corpus_root}
        unknown = sorted(corpus_root.keys() - facts["roots"].keys())
        if unknown:
            raise CorpusError(f"{directory}: has no root {unknown[0]!r}, its roots are {', '.join(facts['roots'])}")
        manifest = cls(directory, facts, {name: location(root) for name, root in corpus_root.items()})
        tables = {name: manifest._table(name) for name in SCHEMAS}
        # Paths go first: a hostile one is to be named as such, whether or not the hash was made to fit.
        _check_clip_paths(tables["clips"], directory.name, manifest.roots)
        _check_interview_paths(tables["interviews"], directory.name, manifest.roots)
        found = content_hash(tables, manifest.facts["settings"])
        if found != manifest.hash:
            raise CorpusError(
                f"{directory}: its content hashes to {found}, {MANIFEST_FILE} says {manifest.hash}: it was altered "
                "after it was made; prepare it again"
            )
        return manifest

    def clips(self, split: Split | str, reader: str = "") -> pa.Table:
        """The clips of a split (``CLIP_SCHEMA``), in the order of interviews and time.

        Reading the test split is logged and counted in ``test_reads.jsonl``.

        Args:
            reader: who reads, for that line, e.g. ``evaluate``.
        Raises:
            CorpusError: no such split.
        """
        return self._of_split("clips", split, reader)

    def interviews(self, split: Split | str, reader: str = "") -> pa.Table:
        """The interviews of a split (``INTERVIEW_SCHEMA``); the test split is counted as by ``clips``."""
        return self._of_split("interviews", split, reader)

    def unlabelled(self) -> pa.Table:
        """The interviews without a label of everybody who is in no held-out split (``INTERVIEW_SCHEMA``)."""
        table = self._table("interviews")
        held_out = [*self.people(Split.VALIDATION), *self.people(Split.TEST)]
        is_free = pc.and_(
            pc.is_null(table["total"]), pc.invert(pc.is_in(table["person"], pa.array(held_out, pa.string())))
        )
        return table.filter(is_free)

    def turns(self, split: Split | str, reader: str = "") -> pa.Table:
        """The turns of a split's interviews (``TURN_SCHEMA``); the test split is counted as by ``clips``."""
        return self.turns_of(self._of_split("interviews", split, reader))

    def turns_of(self, interviews: pa.Table) -> pa.Table:
        """The turns of interviews that were read already, by interview and in order (``TURN_SCHEMA``)."""
        keys = interviews.select(["corpus", "interview_id"])
        return (
            self._table("turns")
            .join(keys, ["corpus", "interview_id"], join_type="left semi")
            .sort_by([("corpus", "ascending"), ("interview_id", "ascending"), ("turn", "ascending")])
        )

    def without_labels(self, name: str) -> pa.Table:
        """A table of everybody, in a split or in none, without labels and words: no read of the test split.

        Args:
            name: ``clips``, ``interviews`` or ``turns``.
        """
        return self._table(name, [column for column in SCHEMAS[name].names if column not in LABELS_AND_WORDS])

    def approximations(self) -> tuple[str, ...]:
        """What a reader of any figure made from it must know of its corpora."""
        return tuple(self.facts["approximations"])

    def ledger(self) -> pa.Table:
        """Every repair."""
        return self._table("ledger")

    def quarantine(self) -> pa.Table:
        """Everything that was left out, and why."""
        return self._table("quarantine")

    def people(self, split: Split | str) -> tuple[str, ...]:
        """Keys of the people in a split; it shows no label and is not counted as a read."""
        return tuple(self.facts["people"][str(_split(split))])

    @property
    def pseudonym_key_id(self) -> str | None:
        """Which key its people's pseudonyms are made with; ``None`` where they bear their own names."""
        known: Mapping[str, str] = self.facts.get("pseudonyms", {})
        return known.get("key_id")

    def num_test_reads(self) -> int:
        """How often the test split was read."""
        if not is_local(self.path):
            folder = self.path / TEST_READS_DIR
            return sum(1 for _ in folder.iterdir()) if folder.exists() else 0
        file = self.path / TEST_READS_FILE
        return len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0

    def check_people_disjoint(self, *others: Manifest) -> None:
        """Refuse one person in two splits, over this and other manifests: keys are global, so two corpora's too.

        Raises:
            CorpusError: naming the person and both places; or manifests whose people bear names of different keys.
        """
        for manifest in others:
            if manifest.pseudonym_key_id != self.pseudonym_key_id:
                raise CorpusError(
                    f"{self.path.name} and {manifest.path.name} name people by different keys ("
                    f"{self.pseudonym_key_id or 'none'} and {manifest.pseudonym_key_id or 'none'}), so nobody can be "
                    "found in both; prepare them with one pseudonym key"
                )
        seen: dict[str, tuple[str, str]] = {}
        for manifest in (self, *others):
            for person, split in manifest._person_splits():
                place = f"{split} of {manifest.path.name}"
                earlier_split, earlier_place = seen.setdefault(person, (split, place))
                if earlier_split != split:
                    raise CorpusError(
                        f"person {person} is in {earlier_place} and in {place}: a person may be in one split only; "
                        "prepare with one split for both"
                    )

    def _person_splits(self) -> list[tuple[str, str]]:
        pairs = {(person, split) for split, people in self.facts["people"].items() for person in people}
        for name in ("clips", "interviews"):
            table = self._table(name, columns=["person", "split"]).group_by(["person", "split"]).aggregate([])
            pairs.update((row["person"], row["split"]) for row in table.to_pylist() if row["split"] is not None)
        return sorted(pairs)

    def _of_split(self, name: str, split: Split | str, reader: str) -> pa.Table:
        wanted = _split(split)
        if wanted is Split.TEST:
            self._count_test_read(name, reader)
        table = self._table(name)
        return table.filter(pc.equal(table["split"], wanted.value))

    def _count_test_read(self, name: str, reader: str) -> None:
        line = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "table": name,
            "reader": reader,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        try:
            if is_local(self.path):
                with (self.path / TEST_READS_FILE).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            else:
                write_bytes(self.path / TEST_READS_DIR / f"{uuid.uuid4().hex}.json", json.dumps(line).encode())
        except OSError as error:
            raise CorpusError(
                f"{self.path / TEST_READS_FILE}: a read of the test split cannot be counted ({error.strerror}); "
                "make the manifest's folder writable"
            ) from None
        log.info(
            "test split read: %s of %s by %s (read %d times)", name, self.hash, reader or "?", self.num_test_reads()
        )

    def _table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        path = resolve({MANIFEST_ROOT: self.path}, MANIFEST_ROOT, f"{name}.parquet")
        try:
            table = read_table(path, columns)
        except (pa.ArrowException, OSError):
            raise CorpusError(f"{path}: not readable as Parquet; prepare it again") from None
        expected = SCHEMAS[name] if columns is None else pa.schema([SCHEMAS[name].field(column) for column in columns])
        if not table.schema.equals(expected):
            differing = sorted({*table.schema.names} ^ {*expected.names}) or [
                field.name for field in expected if not table.schema.field(field.name).equals(field)
            ]
            raise CorpusError(f"{path}: its columns are not this version's ({', '.join(differing)}); prepare it again")
        return table


def read_facts(directory: UPath) -> dict[str, Any]:
    """``manifest.json`` alone, not yet compared with the tables.

    Raises:
        CorpusError: there is none, or it is of another format.
    """
    path = directory / MANIFEST_FILE
    if not path.is_file():
        raise CorpusError(f"{directory}: no manifest ({MANIFEST_FILE} is missing); make one with 'moodscale prepare'")
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise CorpusError(f"{path}: larger than any manifest")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        raise CorpusError(f"{path}: not readable as JSON; prepare it again") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise CorpusError(f"{path}: not a manifest of format {FORMAT}; prepare it again with this version")
    missing = [
        key
        for key in ("hash", "settings", "roots", "approximations", "people", "input_fingerprint", "summary")
        if key not in facts
    ]
    if missing:
        raise CorpusError(f"{path}: {', '.join(missing)} missing; prepare it again")
    return facts


def _check_clip_paths(table: pa.Table, manifest: str, roots: Mapping[str, UPath]) -> None:
    places = {(row["root"], row["path"]) for row in table.select(["root", "path"]).to_pylist()}
    own = table["segments"].combine_chunks().flatten().field("path").unique().to_pylist()
    # A stretch lies under its row's root, which is checked with the row.
    places |= {(MANIFEST_ROOT, path) for path in own if path is not None}
    _check_paths(places, f"{manifest}/clips.parquet", roots)


def _check_interview_paths(table: pa.Table, manifest: str, roots: Mapping[str, UPath]) -> None:
    rows = table.select(["recordings", "features"]).to_pylist()
    places = {(one["root"], one["path"]) for row in rows for one in (*row["recordings"], *row["features"])}
    _check_paths(places, f"{manifest}/interviews.parquet", roots)


def _check_paths(places: set[tuple[str, str]], name: str, roots: Mapping[str, UPath]) -> None:
    for root, path in sorted(places):
        if root not in roots:
            raise CorpusError(f"{name}: root={root!r} is not one of {sorted(roots)}: refused")
        try:
            check_relative(path)
        except CorpusError as error:
            raise CorpusError(f"{name}: {error}") from None


def _split(split: Split | str) -> Split:
    try:
        return Split(split)
    except ValueError:
        raise CorpusError(f"split={split!r} is not one of {', '.join(Split)}") from None
