"""Making a manifest, apart from how the interviews are worked through: that is a function given from outside."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import moodscale
from moodscale.config import ConfigError
from moodscale.corpora.base import CORPUS_ROOT, MANIFEST_ROOT, Corpus, CorpusConfig
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.interview import PreparedInterview, prepare_interview
from moodscale.prepare.manifest import FORMAT, MANIFEST_FILE, read_facts
from moodscale.prepare.splits.base import Person
from moodscale.prepare.summary import ManifestSummary, render_html, summarise
from moodscale.prepare.tables import CollectedInterview, build_tables, collect, content_hash
from moodscale.schema import CorpusError, Split

AUDIO_DIR = "audio"
PAPER_CLIP_S = 10.0
_SHOWN_REASONS = 10
_VERSIONS = ("numpy", "pyarrow", "ray", "soundfile", "soxr", "librosa")

MapInterviews = Callable[[CorpusConfig, PrepareConfig, Sequence[str], Path], Iterator[PreparedInterview]]
"""Corpus, settings, interview ids and the manifest's directory → each interview prepared once, in any order."""

log = logging.getLogger(__name__)


def prepare_serially(
    corpus: CorpusConfig, config: PrepareConfig, interview_ids: Sequence[str], manifest_dir: Path
) -> Iterator[PreparedInterview]:
    """One interview after the other, in this process."""
    opened = corpus.open(unpack_to=manifest_dir / AUDIO_DIR)
    roots = {CORPUS_ROOT: opened.root, MANIFEST_ROOT: manifest_dir}
    for interview_id in interview_ids:
        yield prepare_interview(opened, interview_id, config, roots)


def build_manifest(
    corpus: CorpusConfig, config: PrepareConfig, out: Path, map_interviews: MapInterviews = prepare_serially
) -> ManifestSummary:
    """Make the manifest at ``out``, or find that it is there already and current.

    It is written beside ``out`` and renamed at the end: a directory with that name is always complete. A lock keeps
    two jobs from writing the same one.

    Raises:
        CorpusError: the corpus cannot be used; too many interviews are quarantined; or ``out`` holds another corpus,
            other settings or something else.
        ConfigError: the people cannot be split as asked.
    """
    out = Path(out).absolute()
    opened = corpus.open()
    # Workers may run in another folder, so a relative path would mean another place there.
    corpus = corpus.model_copy(update={"path": str(opened.root)})
    settings = {"corpus": _content(corpus), "prepare": config.content()}
    fingerprint = input_fingerprint(opened, settings)
    out.parent.mkdir(parents=True, exist_ok=True)
    with _locked(out):
        existing = _existing(out, settings)
        if existing is not None and existing["input_fingerprint"] == fingerprint:
            log.info("%s is current (%s): nothing to do", out, existing["hash"])
            return replace(ManifestSummary.from_json(existing["summary"]), path=str(out), reused=True)
        partial = out.with_name(f".{out.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            prepared = _collect(opened, map_interviews(corpus, config, opened.interview_ids(), partial))
            _check_quarantine(prepared, config)
            tables = build_tables(prepared, opened.absent(), _assign(prepared, config))
            facts = _facts(corpus, config, opened, settings, tables, fingerprint)
            summary = summarise(
                tables, out, facts["hash"], opened.name, settings["prepare"], _expected_clips(corpus, config, prepared)
            )
            for warning in summary.warnings:
                log.warning("%s", warning)
            facts["summary"] = summary.to_json()
            if existing is not None:
                return _keep(out, existing, facts, summary)
            _write(partial, tables, summary, facts)
            if out.exists():
                out.rmdir()
            partial.rename(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return summary


def input_fingerprint(corpus: Corpus, settings: Mapping[str, Any]) -> str:
    """Hash of settings and input files: label tables by content, the rest by name, size and time of change."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for file in corpus.inputs():
        try:
            if file.content:
                what = hashlib.sha256(file.path.read_bytes()).hexdigest()
            else:
                status = file.path.stat()
                what = f"{status.st_size}:{status.st_mtime_ns}"
        except OSError as error:
            what = str(error.strerror)
        digest.update(f"\n{file.name}={what}".encode())
    return digest.hexdigest()[:32]


def _content(corpus: CorpusConfig) -> dict[str, Any]:
    """The corpus' settings apart from where it lies: the same data give the same hash on every machine."""
    return {key: value for key, value in corpus.to_json().items() if key != "path"}


def _existing(out: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / MANIFEST_FILE).is_file():
        raise CorpusError(f"{out}: is there already and is no manifest; choose another folder")
    facts = read_facts(out)
    differing = [
        f"{section}.{key}"
        for section, values in settings.items()
        for key in sorted({*values, *facts["settings"].get(section, {})})
        if values.get(key) != facts["settings"].get(section, {}).get(key)
    ]
    if differing:
        raise CorpusError(
            f"{out}: holds a manifest made with other settings ({', '.join(differing)}); choose another folder, or "
            "remove this one"
        )
    return facts


def _keep(
    out: Path, existing: Mapping[str, Any], facts: Mapping[str, Any], summary: ManifestSummary
) -> ManifestSummary:
    """The inputs look changed: a manifest that others may have used stays only if its content is the same."""
    if existing["hash"] != facts["hash"]:
        raise CorpusError(
            f"{out}: the corpus changed since this manifest was made (it would now hash to {facts['hash']} instead of "
            f"{existing['hash']}); choose another folder, or remove this one"
        )
    log.info("%s: input files were touched, their content is the same (%s)", out, existing["hash"])
    current = {**existing, "input_fingerprint": facts["input_fingerprint"], "roots": facts["roots"]}
    _write_json(out / MANIFEST_FILE, current)
    return replace(summary, reused=True)


def _collect(corpus: Corpus, results: Iterator[PreparedInterview]) -> list[CollectedInterview]:
    """Every interview exactly once, in the corpus' order, whatever order and retries they came in."""
    wanted = corpus.interview_ids()
    found: dict[str, CollectedInterview] = {}
    for count, one in enumerate(results, start=1):
        if one.interview_id in found:
            raise RuntimeError(f"interview {one.interview_id} was prepared twice")
        found[one.interview_id] = collect(one)
        if count % max(len(wanted) // 10, 1) == 0 or count == len(wanted):
            log.info("prepared %d of %d interviews", count, len(wanted))
    if found.keys() != set(wanted):
        raise RuntimeError(f"{len(set(wanted) - found.keys())} of {len(wanted)} interviews were lost on the way")
    return [found[interview_id] for interview_id in wanted]


def _check_quarantine(prepared: Sequence[CollectedInterview], config: PrepareConfig) -> None:
    lines = [line for one in prepared if one.row is None for line in one.quarantined]
    num = sum(one.row is None for one in prepared)
    if num <= config.max_quarantined_fraction * len(prepared):
        return
    shown = "\n".join(f"  {line.interview_id}: {line.reason}" for line in lines[:_SHOWN_REASONS])
    more = f"\n  and {len(lines) - _SHOWN_REASONS} more" if len(lines) > _SHOWN_REASONS else ""
    raise CorpusError(
        f"{num} of {len(prepared)} interviews cannot be used, more than max_quarantined_fraction="
        f"{config.max_quarantined_fraction:g}; repair them or raise it:\n{shown}{more}"
    )


def _assign(prepared: Sequence[CollectedInterview], config: PrepareConfig) -> dict[str, Split]:
    """Everyone with a label gets a split, clips or not: who is where must not depend on whose speech is cut."""
    people: dict[str, Person] = {}
    for row in (one.row for one in prepared if one.row is not None and one.row["depressed"] is not None):
        official = None if row["official_split"] is None else Split(row["official_split"])
        earlier = people.get(row["person"])
        if earlier is not None and earlier.official is not official:
            raise CorpusError(f"person {row['person']} is in two official splits: {earlier.official} and {official}")
        # With several questionnaires a person counts as depressed who was so at any of them.
        depressed = bool(row["depressed"]) or (earlier is not None and earlier.depressed)
        people[row["person"]] = Person(row["person"], depressed, row["gender"], official)
    if not people:
        raise CorpusError("no interview has a label, so there is nothing to train on; check the label tables")
    assigned = config.splits.assign(list(people.values()))
    missing = sorted(people.keys() - assigned.keys())
    if missing:
        raise ConfigError(f"splits.kind={config.splits.kind}: gave {len(missing)} people no split, first {missing[0]}")
    return dict(assigned)


def _expected_clips(corpus: CorpusConfig, config: PrepareConfig, prepared: Sequence[CollectedInterview]) -> int | None:
    as_published = (config.speech, config.clip_s, config.tail) == ("participant", PAPER_CLIP_S, "drop")
    return corpus.expected_num_clips(len(prepared)) if as_published else None


def _facts(
    corpus: CorpusConfig,
    config: PrepareConfig,
    opened: Corpus,
    settings: Mapping[str, Any],
    tables: Mapping[str, pa.Table],
    fingerprint: str,
) -> dict[str, Any]:
    people: dict[str, list[str]] = {split.value: [] for split in Split}
    for person, split in sorted(
        set(zip(tables["interviews"]["person"].to_pylist(), tables["interviews"]["split"].to_pylist(), strict=True)),
        key=lambda pair: pair[0],
    ):
        if split is not None:
            people[split].append(person)
    return {
        "format": FORMAT,
        "hash": content_hash(tables, settings),
        "settings": settings,
        "corpus": corpus.to_json(),
        "prepare": config.to_json(),
        "roots": {CORPUS_ROOT: str(opened.root), MANIFEST_ROOT: "."},
        "people": people,
        "num_rows": {name: table.num_rows for name, table in tables.items()},
        "input_fingerprint": fingerprint,
        "versions": {
            "moodscale": moodscale.__version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _VERSIONS},
        },
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _write(directory: Path, tables: Mapping[str, pa.Table], summary: ManifestSummary, facts: Mapping[str, Any]) -> None:
    for name, table in tables.items():
        pq.write_table(table, directory / f"{name}.parquet", compression="zstd")
    (directory / "summary.html").write_text(render_html(summary, tables), encoding="utf-8")
    _write_json(directory / MANIFEST_FILE, facts)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(values, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Held by the process, so a killed one leaves no lock behind."""
    with out.with_name(f".{out.name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CorpusError(f"{out}: another job is making this manifest; wait for it") from None
        yield
