"""The nouns everything else speaks in, and the Arrow schemas of the tables they are stored in.

Text never appears in a ``repr``: a noun may end in a log line or a traceback, and what a person said must not.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

DEPRESSED_FROM = 10
"""PHQ-8 and PHQ-9 total from which a person counts as depressed (Kroenke et al.; domain convention for both)."""


class Instrument(enum.StrEnum):
    """A questionnaire. Scores of different instruments are never mixed without an explicit mapping."""

    PHQ8 = "PHQ-8"
    PHQ9 = "PHQ-9"

    @property
    def num_items(self) -> int:
        return 8 if self is Instrument.PHQ8 else 9

    @property
    def max_total(self) -> int:
        return 3 * self.num_items


class Provenance(enum.StrEnum):
    """Who a label comes from."""

    QUESTIONNAIRE = "questionnaire"
    REPAIRED = "repaired"
    PSEUDO = "pseudo"


class Speaker(enum.StrEnum):
    PARTICIPANT = "participant"
    INTERVIEWER = "interviewer"
    UNKNOWN = "unknown"


class Split(enum.StrEnum):
    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True)
class Turn:
    """One row of a transcript, one answer, or one message.

    Attributes:
        start_s, stop_s: seconds from the start of its recording; for a message, both are seconds from the first
            message of the interview.
        recording: index of its recording among the interview's; for a message, of its conversation.
        question: number of the question that it answers, where the corpus has numbered questions.
    """

    speaker: Speaker
    start_s: float
    stop_s: float
    text: str = field(default="", repr=False)
    recording: int = 0
    question: int | None = None


@dataclass(frozen=True)
class Label:
    """A questionnaire's result.

    Attributes:
        total: sum score, 0 to ``instrument.max_total``.
        items: one answer (0 to 3, ``None`` where missing) an item, in the questionnaire's order; empty where
            the corpus gives totals only.
    Raises:
        ValueError: a total or an item outside its range, or the wrong number of items.
    """

    instrument: Instrument
    total: int
    items: tuple[int | None, ...] = ()
    provenance: Provenance = Provenance.QUESTIONNAIRE

    def __post_init__(self) -> None:
        if not 0 <= self.total <= self.instrument.max_total:
            raise ValueError(
                f"total={self.total} is outside {self.instrument}'s range 0-{self.instrument.max_total}; "
                "check the label table"
            )
        if self.items and len(self.items) != self.instrument.num_items:
            raise ValueError(f"{len(self.items)} items given, {self.instrument} has {self.instrument.num_items}")
        for number, value in enumerate(self.items, start=1):
            if value is not None and not 0 <= value <= 3:
                raise ValueError(f"item {number}={value} is outside 0-3; check the label table")

    @property
    def depressed(self) -> bool:
        return self.total >= DEPRESSED_FROM


@dataclass(frozen=True)
class AudioFile:
    """Where a recording lies: a path relative to a named root of the manifest (``corpus`` or ``manifest``).

    A recording in a tar that is read in place has the path ``archive!member``.
    """

    root: str
    path: str
    sample_rate_hz: int
    num_samples: int

    @property
    def duration_s(self) -> float:
        return self.num_samples / self.sample_rate_hz


@dataclass(frozen=True)
class FeatureFile:
    """A file of features that came with the corpus, one row a frame.

    Attributes:
        kind: what it holds, e.g. ``openface`` or ``covarep``; the same in every corpus that has it.
        format: how it is written, a name of ``corpora.reading.features``.
        root, path: as of an :class:`AudioFile`.
        recording: index of the recording that it goes with.
    """

    kind: str
    format: str
    root: str
    path: str
    recording: int = 0


@dataclass(frozen=True)
class Interview:
    """One session of one person: recorded, or written as conversations before one questionnaire."""

    interview_id: str
    """Unique within the corpus, e.g. ``300``."""
    person: str
    """The global person key, e.g. ``daic:300``: the same for one person in every corpus. Splits are by person."""
    corpus: str
    turns: tuple[Turn, ...] = field(repr=False)
    recordings: tuple[AudioFile, ...]
    """Usually one; one a question where the corpus has it so; none where nothing was recorded."""
    label: Label | None
    gender: str = "unknown"
    """``female``, ``male`` or ``unknown``."""
    split: Split | None = None
    """The corpus' official split, where it has one."""
    features: tuple[FeatureFile, ...] = ()
    missing: tuple[str, ...] = ()
    """Kinds of features that the corpus has for others and not for this interview: masked, never invented."""
    administered_at: str | None = None
    """When the questionnaire was filled in (ISO 8601), where the corpus says so."""


def person_hash(person: str) -> str:
    """A person's key as models and tables keep it that must tell whom they have seen, without naming anybody."""
    return hashlib.sha256(person.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Repair:
    """One line of the repair ledger. ``before`` and ``after`` hold numbers, times and counts, never words."""

    corpus: str
    interview_id: str
    defect: str
    """A short stable code such as ``offset`` or ``binary_contradicts_score``."""
    where: str
    before: str
    after: str
    source: str


@dataclass(frozen=True)
class Quarantined:
    """An interview, label row or clip that was left out, and why (file, field, reason; never words)."""

    corpus: str
    interview_id: str
    where: str
    reason: str


class CorpusError(ValueError):
    """Input that cannot be used. The message names file, field, value and fix, and never quotes speech."""


SEGMENT = pa.struct([("start_s", pa.float64()), ("stop_s", pa.float64()), ("path", pa.string())])
"""A stretch of a recording; ``path`` is null where it is the row's own, and under the row's root always."""

CLIP_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("person", pa.string(), nullable=False),
        pa.field("interview_id", pa.string(), nullable=False),
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("root", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("sample_rate_hz", pa.int32(), nullable=False),
        pa.field("segments", pa.list_(SEGMENT), nullable=False),
        pa.field("duration_s", pa.float64(), nullable=False),
        pa.field("num_turns", pa.int32(), nullable=False),
        pa.field("instrument", pa.string(), nullable=False),
        pa.field("total", pa.int32(), nullable=False),
        pa.field("depressed", pa.int8(), nullable=False),
        pa.field("gender", pa.string(), nullable=False),
    ]
)
"""One row a clip: a window onto a recording (``segments`` in file time, in order), never the waveform itself."""

PREDICTION_SCHEMA = pa.schema(
    [
        pa.field("person", pa.string(), nullable=False),
        pa.field("unit", pa.string(), nullable=False),
        pa.field("unit_id", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("label", pa.float64(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("corpus", pa.string()),
        pa.field("gender", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("num_turns", pa.int32()),
        pa.field("score_normalised", pa.float64()),
        pa.field("answer", pa.string()),
        pa.field("instrument", pa.string()),
    ]
)
"""One row a scored unit. ``score`` is P(depressed) for target ``depressed``; ``score_normalised`` is the
length-normalised variant and ``answer`` the greedy answer's class (``depressed`` / ``not_depressed`` /
``unparsable``), where a recipe has them. For target ``total`` label and score are totals of the questionnaire that
``instrument`` names (``PHQ-8``, ``PHQ-9``), for ``item_1`` … ``item_9`` its items, 0 to 3. A table from elsewhere
needs ``PREDICTION_REQUIRED`` only: ``PREDICTION_DEFAULTS`` fills the other non-nullable columns, and the nullable
ones may be left out."""

PREDICTION_REQUIRED: Sequence[str] = ("person", "unit_id", "label", "score")
PREDICTION_DEFAULTS: dict[str, str] = {
    "unit": "clip",
    "target": "depressed",
    "split": "test",
    "model_version": "unversioned",
}
