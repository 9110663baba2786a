"""A person out of runs: rows of predictions, files that name them; and which runs learned from them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from moodscale.features.store import EXTRACTOR_FILE
from moodscale.forget.action import Action, removing_files
from moodscale.forget.who import Who, mention
from moodscale.prepare.manifest import MANIFEST_FILE
from moodscale.storage import read_table, write_bytes, write_table
from moodscale.train.driver import CHECKPOINTS, JOB_FILE

MAX_TEXT_BYTES = 256 * 2**20

LABEL_DIR = "label"
"""Where rounds of pseudo-labels lie in an experiment's folder."""

_LINES = (".jsonl", ".csv", ".log", ".txt", ".out", ".err")
_TEXTS = (*_LINES, ".json", ".html", ".yaml", ".yml", ".md")
_PASSED_OVER = frozenset({CHECKPOINTS, "ray"})
"""Weights and Ray's own books: neither names anybody."""


@dataclass(frozen=True)
class Run:
    """A trained experiment.

    Attributes:
        manifest_hash: of the manifest that it trained on.
        checkpoints: names of what is kept of it.
        took_pseudo_labels: whether it learned from a table of labels, and so perhaps from people in no split.
    """

    directory: UPath
    name: str
    manifest_hash: str
    checkpoints: tuple[str, ...]
    took_pseudo_labels: bool = False


def runs_below(directory: UPath) -> list[Run]:
    """The experiments in a storage folder, or the one whose folder it is; with the models that labelled for them."""
    if not directory.is_dir():
        return []
    places = [directory, *_folders(directory)]
    places += [fold for place in places for round_ in _folders(place / LABEL_DIR) for fold in _folders(round_)]
    return [_run(place) for place in places if (place / JOB_FILE).is_file()]


def _folders(directory: UPath) -> list[UPath]:
    return [entry for entry in directory.iterdir() if entry.is_dir()] if directory.is_dir() else []


def find_in_files(directory: UPath, who: Who, interview_ids: Collection[str] = ()) -> list[Action]:
    """Tables and texts below a folder that name the person or, texts, an interview of theirs.

    Manifests and stores are looked at elsewhere.
    """
    actions = []
    pattern = mention((*who.names, *sorted(interview_ids)))
    for path in _files(directory):
        action = _table_action(path, who) if path.suffix == ".parquet" else _text_action(path, pattern)
        if action is not None:
            actions.append(action)
    return actions


def _run(directory: UPath) -> Run:
    content: Mapping[str, Any] = json.loads((directory / JOB_FILE).read_bytes())
    kept = directory / CHECKPOINTS
    checkpoints = sorted(one.name for one in kept.iterdir() if one.name.startswith("step")) if kept.is_dir() else []
    return Run(directory, directory.name, str(content["manifest"]), tuple(checkpoints), "labels" in content)


def _files(directory: UPath) -> Iterator[UPath]:
    if not directory.is_dir() or (directory / MANIFEST_FILE).is_file():
        return
    for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            if entry.name not in _PASSED_OVER and not (entry / EXTRACTOR_FILE).is_file():
                yield from _files(entry)
        elif entry.suffix in (".parquet", *_TEXTS):
            yield entry


def _table_action(path: UPath, who: Who) -> Action | None:
    """Rows of a table with a column ``person``, as the Prediction table is."""
    try:
        with path.open("rb") as stream:
            if "person" not in pq.read_schema(stream).names:
                return None
        people = read_table(path, ["person"])["person"].to_pylist()
    except (pa.ArrowException, OSError):
        return None
    number = sum(str(person) in who.names for person in people)
    return Action("predictions", path, "rows", number, _dropping_rows(path, who)) if number else None


def _dropping_rows(path: UPath, who: Who) -> Callable[[], None]:
    def run() -> None:
        table = read_table(path)
        kept = [str(person) not in who.names for person in table["person"].to_pylist()]
        write_table(path, table.filter(pa.array(kept, pa.bool_())))

    return run


def _text_action(path: UPath, pattern: re.Pattern[bytes]) -> Action | None:
    """Lines where a file is made of lines; else the whole file: a report is written again by ``moodscale evaluate``."""
    if path.stat().st_size > MAX_TEXT_BYTES:
        return None
    data = path.read_bytes()
    if not pattern.search(data):
        return None
    if path.suffix not in _LINES:
        return Action("reports", path, "file that names the person", 1, removing_files([path]))

    def drop_lines() -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        write_bytes(path, b"".join(line for line in lines if not pattern.search(line)))

    number = sum(pattern.search(line) is not None for line in data.splitlines())
    return Action("reports", path, "lines that name the person", number, drop_lines)
