"""Making a manifest, apart from how the interviews are worked through: that is a function given from outside."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import logging
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from upath import UPath

import moodscale
from moodscale.corpora.base import MANIFEST_ROOT, Corpus, CorpusConfig
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.interview import PreparedInterview, prepare_interview
from moodscale.prepare.manifest import FORMAT, MANIFEST_FILE, read_facts
from moodscale.prepare.own_files import UNPACKED_DIR, remove_traces, remove_unpacked, with_own_files
from moodscale.prepare.people import assign_splits, compare_people
from moodscale.prepare.pseudonyms import Pseudonyms, hide, hide_message, pseudonyms_from_environment
from moodscale.prepare.summary import ManifestSummary, render_html, summarise
from moodscale.prepare.tables import CollectedInterview, build_tables, collect, content_hash
from moodscale.schema import CorpusError, Split
from moodscale.storage import is_local, location, remove_tree, write_bytes, write_table

AUDIO_DIR = "audio"
PAPER_CLIP_S = 10.0
_SHOWN_REASONS = 10
_UNFINISHED = ".unfinished"
_VERSIONS = ("numpy", "pyarrow", "ray", "soundfile", "soxr", "librosa")

MapInterviews = Callable[[CorpusConfig, PrepareConfig, Sequence[str], UPath], Iterator[PreparedInterview]]
"""Corpus, settings, interview ids and the manifest's directory → each interview prepared once, in any order."""

log = logging.getLogger(__name__)


def prepare_serially(
    corpus: CorpusConfig, config: PrepareConfig, interview_ids: Sequence[str], manifest_dir: UPath
) -> Iterator[PreparedInterview]:
    """One interview after the other, in this process."""
    opened = corpus.open(unpack_to=manifest_dir / (UNPACKED_DIR if config.pseudonymise else AUDIO_DIR))
    roots = {**opened.roots, MANIFEST_ROOT: manifest_dir}
    for interview_id in interview_ids:
        prepared = prepare_interview(opened, interview_id, config, roots)
        if config.pseudonymise:
            copied = with_own_files(prepared, roots, manifest_dir)
            remove_unpacked(prepared, manifest_dir)
            prepared = copied
        yield prepared


def build_manifest(
    corpus: CorpusConfig, config: PrepareConfig, out: UPath, map_interviews: MapInterviews = prepare_serially
) -> ManifestSummary:
    """Make the manifest at ``out``, or find that it is there already and current.

    It is written beside ``out`` and renamed at the end: a directory with that name is always complete. A lock keeps
    two jobs from writing the same one.

    Raises:
        CorpusError: the corpus cannot be used; too many interviews are quarantined; or ``out`` holds another corpus,
            other settings or something else.
        ConfigError: the people cannot be split as asked; no usable key to pseudonymise with; what de-identifying needs
            is not there.
    """
    out = location(out)
    corpus = corpus.absolute()
    pseudonyms = pseudonyms_from_environment() if config.pseudonymise else None
    if config.transcripts == "deidentified":
        config.deidentify.check()
    opened = corpus.open()
    settings = _settings(corpus, config, pseudonyms)
    fingerprint = _fingerprint(opened, settings, config, pseudonyms)
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out):
        existing = _existing(out, settings)
        if existing is not None and existing["input_fingerprint"] == fingerprint:
            log.info("%s is current (%s): nothing to do", out, existing["hash"])
            return replace(ManifestSummary.from_json(existing["summary"]), path=str(out), reused=True)
        with _staging(out, reserved=existing is not None) as partial:
            prepared = _collect(opened, map_interviews(corpus, config, opened.interview_ids(), partial))
            tables = _tables(prepared, opened, config, pseudonyms)
            notes, warnings = _notes(opened, config, pseudonyms)
            facts = _facts(corpus, config, opened, settings, tables, fingerprint, notes)
            if pseudonyms is not None:
                facts = _without_places(facts, pseudonyms)
                remove_traces(partial)
            summary = summarise(
                tables,
                out,
                facts["hash"],
                opened.name,
                settings["prepare"],
                _expected_clips(corpus, config, prepared),
                notes,
            )
            summary = replace(summary, warnings=(*warnings, *summary.warnings))
            for warning in summary.warnings:
                log.warning("%s", warning)
            facts["summary"] = summary.to_json()
            if existing is not None:
                return _keep(out, existing, facts, summary)
            _write(partial, tables, summary, facts)
    return summary


def _tables(
    prepared: Sequence[CollectedInterview], opened: Corpus, config: PrepareConfig, pseudonyms: Pseudonyms | None
) -> dict[str, pa.Table]:
    rows = [one.row for one in prepared if one.row is not None]
    notes = [*opened.absent(), *compare_people(rows)]
    if pseudonyms is None:
        _check_quarantine(prepared, config)
        return build_tables(prepared, notes, assign_splits(prepared, config))
    # People are split by their own keys, as without pseudonyms; from here on, and in every message, they have none.
    hidden, notes = hide(pseudonyms, prepared, notes)
    _check_quarantine(hidden, config)
    try:
        splits = assign_splits(prepared, config)
    except ValueError as error:
        message = hide_message(pseudonyms, str(error), [row["person"] for row in rows])
        raise type(error)(f"{message} (people are pseudonymised; prepare without to see who is meant)") from None
    return build_tables(hidden, notes, {pseudonyms.person(key): split for key, split in splits.items()})


def _settings(corpus: CorpusConfig, config: PrepareConfig, pseudonyms: Pseudonyms | None) -> dict[str, Any]:
    settings = {"corpus": corpus.content(), "prepare": config.content()}
    if pseudonyms is not None:
        splits = {
            key: pseudonyms.digest(value) if key == "rows" else value
            for key, value in settings["prepare"]["splits"].items()
        }
        settings["prepare"] |= {"splits": splits, "pseudonym_key_id": pseudonyms.key_id}
    return settings


def _fingerprint(
    opened: Corpus, settings: Mapping[str, Any], config: PrepareConfig, pseudonyms: Pseudonyms | None
) -> str:
    found = input_fingerprint(opened, settings)
    if config.transcripts == "deidentified":
        found = hashlib.sha256(f"{found}\n{config.deidentify.inputs()}".encode()).hexdigest()[:32]
    return found if pseudonyms is None else pseudonyms.digest(found)


def _notes(opened: Corpus, config: PrepareConfig, pseudonyms: Pseudonyms | None) -> tuple[list[str], list[str]]:
    """What a reader of any figure must know, and what is worth a warning."""
    notes, warnings = list(opened.approximations()), list[str]()
    if config.transcripts == "deidentified":
        said, warnings = config.deidentify.notes()
        notes += said
    if pseudonyms is not None:
        notes.append(
            f"Pseudonyms: people and interviews bear keyed hashes (key {pseudonyms.key_id}); dates are moved "
            "back by one to ten years, by the same number of days for everything of one person; voices and words "
            "are as they were."
        )
    return notes, warnings


def _without_places(facts: Mapping[str, Any], pseudonyms: Pseudonyms) -> dict[str, Any]:
    """Paths lead to the originals: the corpus' root, and files that settings name."""
    return {
        **facts,
        "corpus": facts["settings"]["corpus"],
        "prepare": facts["settings"]["prepare"],
        "roots": {MANIFEST_ROOT: "."},
        "pseudonyms": {"key_id": pseudonyms.key_id},
    }


def input_fingerprint(corpus: Corpus, settings: Mapping[str, Any]) -> str:
    """Hash of settings and input files: label tables by content, the rest by name, size and time of change."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for file in corpus.inputs():
        try:
            if file.content:
                what = hashlib.sha256(file.path.read_bytes()).hexdigest()
            else:
                status = file.path.stat()
                what = f"{status.st_size}:{status.st_mtime}"
        except OSError:
            what = "absent"
        digest.update(f"\n{file.name}={what}".encode())
    return digest.hexdigest()[:32]


def _existing(out: UPath, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / MANIFEST_FILE).is_file():
        if (out / _UNFINISHED).is_file():
            return None
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
    out: UPath, existing: Mapping[str, Any], facts: Mapping[str, Any], summary: ManifestSummary
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
    notes: Sequence[str],
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
        "roots": {**{name: str(root) for name, root in opened.roots.items()}, MANIFEST_ROOT: "."},
        "approximations": list(notes),
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


def _write(
    directory: UPath, tables: Mapping[str, pa.Table], summary: ManifestSummary, facts: Mapping[str, Any]
) -> None:
    for name, table in tables.items():
        write_table(directory / f"{name}.parquet", table)
    write_bytes(directory / "summary.html", render_html(summary, tables).encode())
    _write_json(directory / MANIFEST_FILE, facts)


def _write_json(path: UPath, values: Mapping[str, Any]) -> None:
    write_bytes(path, json.dumps(values, indent=1).encode())


@contextmanager
def _staging(out: UPath, reserved: bool) -> Iterator[UPath]:
    """A folder to write a manifest in, which is at ``out`` when the block has ended well.

    Locally it is renamed. Object storage has no rename: there it is ``out`` itself, marked as unfinished until
    ``manifest.json``, which is written last, makes a manifest of it. What a killed job left is written over.

    Args:
        reserved: a manifest is at ``out`` already and stays.
    """
    if not is_local(out) and not reserved:
        write_bytes(out / _UNFINISHED, b"")
        yield out
        (out / _UNFINISHED).unlink()
        return
    partial = out.with_name(f".{out.name}.partial")
    remove_tree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        if not reserved:
            if out.exists():
                out.rmdir()
            partial.rename(out)
    finally:
        remove_tree(partial)


@contextmanager
def locked(out: UPath) -> Iterator[None]:
    """Held by the process, so a killed one leaves no lock behind.

    Object storage knows no such lock. Two jobs there write the same bytes where corpus and settings are the same;
    where they are not, the content hash of what results holds for neither, and the manifest is refused.
    """
    if not is_local(out):
        yield
        return
    with out.with_name(f".{out.name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CorpusError(f"{out}: another job is making this manifest; wait for it") from None
        yield
