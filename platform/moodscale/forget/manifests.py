"""A person out of a manifest: rows, copied files, cached features; the rest stays a manifest, with a hash of its own.

``forgetting.json`` says that it is under way and what it must come to; ``manifest.json`` is written last, but for the
line in ``forgotten.jsonl``. So one that was killed is known as such, and run again it ends the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
from upath import UPath

from moodscale.corpora.base import MANIFEST_ROOT
from moodscale.corpora.reading.members import INDEX_DIR, split_member
from moodscale.corpora.reading.paths import check_relative
from moodscale.forget.action import Action, removing_files
from moodscale.forget.who import Who
from moodscale.prepare.deidentify import NAMES_NOT_LOOKED_FOR
from moodscale.prepare.manifest import MANIFEST_FILE, Manifest, read_facts
from moodscale.prepare.pseudonyms import INTERVIEW_PREFIX, own_id
from moodscale.prepare.summary import ManifestSummary, render_html, summarise
from moodscale.prepare.tables import SCHEMAS, content_hash
from moodscale.schema import CorpusError, Split
from moodscale.storage import location, read_table, write_bytes, write_table

FORGOTTEN_FILE = "forgotten.jsonl"
UNDER_WAY_FILE = "forgetting.json"
CACHE_DIR = "features"
"""Of the manifest: what training keeps of each clip."""


@dataclass(frozen=True)
class FoundIn:
    """A manifest that has, or had, the person.

    Attributes:
        hashes: the one it had with the person, and all it had before: whoever trained on those had the person too.
        new_hash: the one it has, or will have, without.
        split: the person's; ``None`` where they had no label.
        audio_hashes: of the recordings that are the person's alone.
        interview_ids: what names their interviews by themselves: a pseudonym, or ``corpus:id``.
        actions: what is to be done to it; nothing where the person is gone already.
    """

    path: UPath
    hashes: tuple[str, ...]
    new_hash: str
    split: str | None
    audio_hashes: frozenset[str] = frozenset()
    interview_ids: frozenset[str] = frozenset()
    actions: tuple[Action, ...] = ()


def find_in_manifest(path: UPath, who: Who) -> FoundIn | None:
    """Look for a person in a manifest; nothing is changed.

    Raises:
        CorpusError: no manifest, or one that was altered; or another forgetting of it was interrupted.
        ConfigError: its people bear pseudonyms of a key that is not at hand.
    """
    facts = read_facts(path)
    name = who.name_in(facts, str(path))
    under_way = _under_way(path)
    if under_way is not None and not who.is_sealed_in(under_way, name):
        raise CorpusError(
            f"{path}: forgetting somebody else was interrupted; run that again first, with its pseudonym key if any"
        )
    if under_way is None:
        Manifest.open(str(path))  # what was altered must not get a new hash here
    lines = _lines(path)
    tables = {table: read_table(path / f"{table}.parquet") for table in SCHEMAS}
    kept = _without(tables, who, name)
    gone = sum(tables[table].num_rows - kept[table].num_rows for table in SCHEMAS)
    own_split = next((split for split, people in facts["people"].items() if name in people), None)
    if under_way is None and not gone and own_split is None:
        return _forgotten_before(path, who, name, lines)
    new_hash = content_hash(kept, facts["settings"])
    if under_way is not None and under_way["new_hash"] != new_hash:
        raise CorpusError(f"{path}: was altered while somebody was being forgotten; prepare it again")
    line = under_way or {
        "old_hash": str(facts["hash"]),
        "new_hash": new_hash,
        "split": own_split,
        **who.seal(name),
    }
    rewriting = _Rewriting(path, facts, kept, line, lines, name)
    own = [row for row in tables["interviews"].to_pylist() if row["person"] == name]
    audio, files = _own_files(own, kept["interviews"].to_pylist())
    actions = [
        *_file_actions(path, files, _members(own)),
        *_cache_actions(path, _clip_ids(tables["clips"], name)),
        Action("manifest", path, f"rows; its hash becomes {new_hash}", gone, rewriting.run),
    ]
    hashes = (str(line["old_hash"]), *_earlier(lines, str(line["old_hash"])))
    return FoundIn(path, hashes, new_hash, line["split"], frozenset(audio), _interview_ids(own), tuple(actions))


@dataclass(frozen=True)
class _Rewriting:
    path: UPath
    facts: Mapping[str, Any]
    tables: Mapping[str, pa.Table]
    line: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    name: str

    def run(self) -> None:
        write_bytes(self.path / UNDER_WAY_FILE, json.dumps(self.line).encode())
        # Interviews last: they say whose the lines of the other tables are.
        for table in sorted(self.tables, key=lambda table: table == "interviews"):
            write_table(self.path / f"{table}.parquet", self.tables[table])
        summary = self._summary()
        write_bytes(self.path / "summary.html", render_html(summary, self.tables).encode())
        people = {split: [one for one in own if one != self.name] for split, own in self.facts["people"].items()}
        facts = {
            **self.facts,
            "hash": self.line["new_hash"],
            "people": people,
            "num_rows": {table: rows.num_rows for table, rows in self.tables.items()},
            "summary": summary.to_json(),
        }
        write_bytes(self.path / MANIFEST_FILE, json.dumps(facts, indent=1).encode())
        if all(line.get("digest") != self.line["digest"] for line in self.lines):
            stamped = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **self.line}
            text = "".join(json.dumps(line) + "\n" for line in [*self.lines, stamped])
            write_bytes(self.path / FORGOTTEN_FILE, text.encode())
        (self.path / UNDER_WAY_FILE).unlink(missing_ok=True)

    def _summary(self) -> ManifestSummary:
        before = ManifestSummary.from_json(self.facts["summary"])
        after = summarise(
            self.tables,
            self.path,
            str(self.line["new_hash"]),
            before.corpus,
            self.facts["settings"]["prepare"],
            None,
            self.facts["approximations"],
        )
        still_true = [warning for warning in before.warnings if warning.startswith(NAMES_NOT_LOOKED_FOR)]
        return replace(after, warnings=(*still_true, *after.warnings))


def _without(tables: Mapping[str, pa.Table], who: Who, name: str) -> dict[str, pa.Table]:
    """The tables without the person: by key, and what the ledger and the quarantine say of their interviews."""
    rows = tables["interviews"].select(["person", "corpus", "interview_id"]).to_pylist()
    own = {(row["corpus"], row["interview_id"]) for row in rows if row["person"] == name}
    others = {(row["corpus"], row["interview_id"]) for row in rows} - own

    def is_about(row: Mapping[str, Any]) -> bool:
        if "person" in row:
            return bool(row["person"] == name)
        place = (row["corpus"], row["interview_id"])
        texts = " ".join(str(value) for value in row.values())
        return place in own or (place not in others and who.is_own_interview(*place)) or who.stands_in(texts)

    return {
        table: given.filter(pa.array([not is_about(row) for row in _keys(given)], pa.bool_()))
        for table, given in tables.items()
    }


def _keys(table: pa.Table) -> Iterable[dict[str, Any]]:
    columns = ["person"] if "person" in table.column_names else table.column_names
    rows: list[dict[str, Any]] = table.select(columns).to_pylist()
    return rows


def _own_files(own: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> tuple[set[str], set[str]]:
    """Hashes of the person's recordings, and their files in the manifest, without those that others have too."""

    def hashes(rows: Sequence[Mapping[str, Any]]) -> set[str]:
        return {one["audio_hash"] for row in rows for one in row["recordings"]}

    def files(rows: Sequence[Mapping[str, Any]]) -> set[str]:
        places = (one for row in rows for one in (*row["recordings"], *row["features"]))
        return {split_member(one["path"])[0] for one in places if one["root"] == MANIFEST_ROOT}

    return hashes(own) - hashes(others), files(own) - files(others)


def _interview_ids(own: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    ids = ((row["corpus"], row["interview_id"]) for row in own)
    return frozenset(
        id_ if id_.startswith(INTERVIEW_PREFIX) else f"{corpus}:{own_id(corpus, id_)}" for corpus, id_ in ids
    )


def _members(own: Sequence[Mapping[str, Any]]) -> set[str]:
    """File names of the person's recordings and features within archives, which an index beside the manifest names."""
    paths = (one["path"] for row in own for one in (*row["recordings"], *row["features"]))
    return {PurePosixPath(member).name for _, member in map(split_member, paths) if member is not None}


def _clip_ids(clips: pa.Table, name: str) -> list[str]:
    rows = clips.select(["person", "clip_id"]).to_pylist()
    return [row["clip_id"] for row in rows if row["person"] == name]


def _file_actions(path: UPath, files: set[str], members: set[str]) -> list[Action]:
    there = []
    for file in sorted(files):
        check_relative(file)
        if (path / file).is_file():
            there.append(path / file)
    actions, indexed = [], []
    if there:
        actions.append(Action("copied files", path, "recordings and feature files", len(there), removing_files(there)))
    if members and (path / INDEX_DIR).is_dir():
        for index in (path / INDEX_DIR).glob("*.json"):
            if any(PurePosixPath(str(one[0])).name in members for one in json.loads(index.read_bytes())["members"]):
                indexed += [index.with_name(f"{index.stem}.gzidx"), index]
    if indexed:
        actions.append(Action("index", path / INDEX_DIR, "index of archives", len(indexed), removing_files(indexed)))
    return actions


def _cache_actions(path: UPath, clip_ids: Sequence[str]) -> list[Action]:
    cache = path / CACHE_DIR
    if not clip_ids or not cache.is_dir():
        return []
    names = [hashlib.sha256(clip_id.encode()).hexdigest() for clip_id in clip_ids]
    folders = [folder for folder in cache.iterdir() if folder.is_dir()]
    places = [folder / name[:2] / f"{name}.npy" for folder in folders for name in names]
    there = [place for place in places if place.is_file()]
    return [Action("cached features", cache, "clips", len(there), removing_files(there))] if there else []


def _under_way(path: UPath) -> dict[str, Any] | None:
    file = path / UNDER_WAY_FILE
    if not file.is_file():
        return None
    line: dict[str, Any] = json.loads(file.read_bytes())
    return line


def _lines(path: UPath) -> list[dict[str, Any]]:
    file = path / FORGOTTEN_FILE
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def _earlier(lines: Sequence[Mapping[str, Any]], hash_: str) -> list[str]:
    """Hashes from which a manifest came to this one by forgetting."""
    before = {str(line["new_hash"]): str(line["old_hash"]) for line in lines}
    found: list[str] = []
    while hash_ in before and before[hash_] not in found:
        hash_ = before[hash_]
        found.append(hash_)
    return found


def _forgotten_before(path: UPath, who: Who, name: str, lines: Sequence[Mapping[str, Any]]) -> FoundIn | None:
    for line in lines:
        if who.is_sealed_in(line, name):
            hashes = (str(line["old_hash"]), *_earlier(lines, str(line["old_hash"])))
            return FoundIn(path, hashes, str(line["new_hash"]), line["split"])
    return None


def manifests_below(directory: UPath) -> list[UPath]:
    """The manifests of experiments in a storage folder, or of one experiment in its own."""
    if (directory / MANIFEST_FILE).is_file():
        return [location(directory)]
    if not directory.is_dir():
        return []
    inside = [entry for entry in directory.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    places = [directory / "manifest", *(entry / "manifest" for entry in inside), *inside]
    return [place for place in places if (place / MANIFEST_FILE).is_file()]


def was_trained_on(found: FoundIn) -> bool:
    """Whether models of that manifest learned from the person or were chosen by them."""
    return found.split in (Split.TRAIN.value, Split.VALIDATION.value)
