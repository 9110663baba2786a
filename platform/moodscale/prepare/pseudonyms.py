"""Keyed pseudonyms: who a row is about cannot be told without the key, and one key gives one person one name always.

A person's key becomes ``p:`` and 16 hex digits of an HMAC-SHA256, an interview's id ``i:`` and 16. Splits and overlap
checks work on them as on the originals, within a manifest and between manifests of one key. Dates are moved back by
one to ten years in whole days, each person's by their own number: the days between two dates of one person stay.
Recordings and feature files lie in the manifest under the hash of their content: see ``prepare/own_files.py``.

What is left is what a person is recognised by in any case: the voice, and what was said. Pseudonymous data are personal
data still, for whoever has the key or the corpus.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from moodscale.config import ConfigError
from moodscale.prepare.tables import CollectedInterview
from moodscale.schema import Quarantined, Repair

KEY_VARIABLE = "MOODSCALE_PSEUDONYM_KEY"
KEY_FILE_VARIABLE = "MOODSCALE_PSEUDONYM_KEY_FILE"
MIN_KEY_BYTES = 32
FEWEST_DIFFERENT_BYTES = 12
"""A key of 32 random bytes has fewer different ones about never; one that somebody typed easily has."""
PERSON_PREFIX, INTERVIEW_PREFIX = "p:", "i:"

_SHIFT_DAYS = (365, 3650)
_MAKE_ONE = "make one: python -c 'import secrets; print(secrets.token_hex(32))'"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?")

Line = TypeVar("Line", Repair, Quarantined)


@dataclass(frozen=True)
class Pseudonyms:
    """The names that one key gives."""

    _key: bytes = field(repr=False)

    @property
    def key_id(self) -> str:
        """Tells two keys apart and gives neither away."""
        return self._digest("key id", "")

    def person(self, person: str) -> str:
        return PERSON_PREFIX + self._digest("person", person)

    def interview(self, corpus: str, interview_id: str) -> str:
        """The same whether the corpus was prepared by itself or combined with others."""
        return INTERVIEW_PREFIX + self._digest("interview", f"{corpus}\0{own_id(corpus, interview_id)}")

    def digest(self, text: str) -> str:
        """A keyed hash in place of a plain one of something that could be guessed."""
        return self._digest("digest", text)

    def shifted(self, person: str, when: str | None) -> str | None:
        """An ISO 8601 date or time, moved back by the person's own number of days; ``None`` where it is none."""
        first, last = _SHIFT_DAYS
        days = timedelta(days=first + int(self._digest("days", person), 16) % (last - first + 1))
        try:
            if when is None:
                return None
            if len(when) == len("2025-03-01"):
                return (date.fromisoformat(when) - days).isoformat()
            return (datetime.fromisoformat(when) - days).isoformat()
        except (ValueError, OverflowError):
            return None

    def line(self, line: Line) -> Line:
        """A line of the ledger or the quarantine, its texts too. Dates in them go: they cannot all be a person's."""
        own = own_id(line.corpus, line.interview_id)
        names = sorted({line.interview_id, own, own.partition("@")[0]} - {""}, key=len, reverse=True)
        pseudonym = self.interview(line.corpus, line.interview_id) if own else ""

        def scrubbed(text: str) -> str:
            for name in names:
                # Not within a word, and not within a number such as 1,300.5.
                text = re.sub(rf"(?<![0-9A-Za-z])(?<!\d[.,]){re.escape(name)}(?![0-9A-Za-z]|[.,]\d)", pseudonym, text)
            return _DATE.sub("a date", text)

        texts = {name: scrubbed(value) for name, value in vars(line).items() if name not in ("corpus", "interview_id")}
        return replace(line, interview_id=pseudonym, **texts)

    def _digest(self, purpose: str, text: str) -> str:
        return hmac.new(self._key, f"{purpose}\0{text}".encode(), hashlib.sha256).hexdigest()[:16]


def own_id(corpus: str, interview_id: str) -> str:
    """An interview's id within its own corpus: combined corpora put the corpus' name before it."""
    return interview_id.removeprefix(f"{corpus}:")


def pseudonyms_from_environment() -> Pseudonyms:
    """With the key that the environment holds, or that the file holds which it names.

    Raises:
        ConfigError: no key, or one that could be guessed. No message holds any part of it.
    """
    found = find_pseudonyms()
    if found is None:
        raise ConfigError(
            f"prepare.pseudonymise needs a key: set {KEY_VARIABLE}, or {KEY_FILE_VARIABLE} to a file that holds it, "
            f"and keep it away from the manifests; {_MAKE_ONE}"
        )
    return found


def find_pseudonyms() -> Pseudonyms | None:
    """As ``pseudonyms_from_environment``; ``None`` where the environment names no key."""
    text, source = os.environ.get(KEY_VARIABLE), KEY_VARIABLE
    file = os.environ.get(KEY_FILE_VARIABLE)
    if not text and file:
        source = f"{KEY_FILE_VARIABLE}={file}"
        try:
            text = Path(file).expanduser().read_text(encoding="ascii")
        except (OSError, UnicodeError):
            raise ConfigError(f"{source}: cannot be read as a file of hex digits; {_MAKE_ONE}") from None
    if not text:
        return None
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        raise ConfigError(f"{source}: the key is not hexadecimal; {_MAKE_ONE}") from None
    if len(key) < MIN_KEY_BYTES:
        raise ConfigError(f"{source}: a key of {len(key)} bytes, {MIN_KEY_BYTES} are the fewest; {_MAKE_ONE}")
    if len(set(key)) < FEWEST_DIFFERENT_BYTES:
        raise ConfigError(f"{source}: the key repeats itself and could be guessed; {_MAKE_ONE}")
    return Pseudonyms(key)


def hide(
    pseudonyms: Pseudonyms, prepared: Sequence[CollectedInterview], notes: Sequence[Repair]
) -> tuple[list[CollectedInterview], list[Repair]]:
    """Put pseudonyms into everything that becomes a table, and into their order: the corpus' would give ids away.

    Args:
        prepared: with recordings and features that name nobody (``own_files``).
        notes: ledger lines of the corpus as a whole.
    """
    people = {one.row["person"] for one in prepared if one.row is not None}
    lines = [_without_people(pseudonyms, pseudonyms.line(line), people) for line in notes]
    return (
        sorted((_hidden(pseudonyms, one) for one in prepared), key=_order),
        sorted(lines, key=lambda line: (line.corpus, line.interview_id, line.defect, line.where)),
    )


def hide_message(pseudonyms: Pseudonyms, text: str, names: Sequence[str]) -> str:
    """A message without the people's own names, for a log that outlives the job."""
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<![0-9A-Za-z]){re.escape(name)}(?![0-9A-Za-z])", pseudonyms.person(name), text)
    return text


def _hidden(pseudonyms: Pseudonyms, one: CollectedInterview) -> CollectedInterview:
    one = replace(
        one,
        repairs=tuple(pseudonyms.line(line) for line in one.repairs),
        quarantined=tuple(pseudonyms.line(line) for line in one.quarantined),
    )
    if one.row is None:
        return one
    person, corpus = one.row["person"], one.row["corpus"]
    names = {
        "person": pseudonyms.person(person),
        "interview_id": pseudonyms.interview(corpus, one.row["interview_id"]),
    }
    row = {**one.row, **names, "administered_at": pseudonyms.shifted(person, one.row["administered_at"])}
    return replace(one, row=row, clips=_renamed(one.clips, names, corpus), turns=_renamed(one.turns, names, corpus))


def _renamed(batch: pa.RecordBatch | None, names: Mapping[str, str], corpus: str) -> pa.RecordBatch | None:
    if batch is None:
        return None
    values: dict[str, Sequence[Any]] = {name: [value] * batch.num_rows for name, value in names.items()}
    if "clip_id" in batch.schema.names:
        numbers = [clip_id.rpartition(":")[2] for clip_id in batch.column("clip_id").to_pylist()]
        values["clip_id"] = [f"{corpus}:{names['interview_id']}:{number}" for number in numbers]
    columns = [
        pa.array(values[field.name], field.type) if field.name in values else batch.column(field.name)
        for field in batch.schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _order(one: CollectedInterview) -> tuple[str, str]:
    if one.row is not None:
        return one.row["corpus"], one.row["interview_id"]
    lines: list[Repair | Quarantined] = [*one.quarantined, *one.repairs]
    return (lines[0].corpus, lines[0].interview_id) if lines else ("", "")


def _without_people(pseudonyms: Pseudonyms, line: Repair, people: set[str]) -> Repair:
    """A line about the corpus as a whole may name anybody."""
    texts = {
        name: " ".join(pseudonyms.person(word) if word in people else word for word in getattr(line, name).split(" "))
        for name in ("where", "before", "after")
    }
    return replace(line, **texts)
