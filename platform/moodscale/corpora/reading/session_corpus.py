"""What DAIC-WOZ and E-DAIC share: numbered sessions in folders or archives, label tables by split, feature files."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from pydantic import Field
from upath import UPath

from moodscale.corpora.base import CORPUS_ROOT, FolderCorpusConfig, InputFile, Reading
from moodscale.corpora.reading.labels import read_label
from moodscale.corpora.reading.ledger import Ledger
from moodscale.corpora.reading.members import open_input
from moodscale.corpora.reading.paths import AnyPath, resolve, why
from moodscale.corpora.reading.people import PersonRow
from moodscale.corpora.reading.sessions import SessionFiles, find_sessions, is_archive, open_session
from moodscale.corpora.reading.tables import Table, parse_table, read_bytes
from moodscale.corpora.reading.turns import Cut, clip_to_recording
from moodscale.corpora.reading.wav import probe_stream
from moodscale.schema import (
    AudioFile,
    CorpusError,
    FeatureFile,
    Instrument,
    Interview,
    Label,
    Quarantined,
    Repair,
    Turn,
)
from moodscale.storage import location

NUM_LOOKED_INTO = 8
"""Archives that tell which kinds of features a corpus has: to look into one costs a pass over it."""


@dataclass(frozen=True)
class FeatureKind:
    """A kind of feature file: how it is named, without the session's number, and written."""

    kind: str
    format: str
    suffix: str


@dataclass(frozen=True)
class Layout:
    """How a corpus names its files; ``{id}`` is the session's number."""

    name: str
    title: str
    folders: tuple[str, ...]
    transcripts: tuple[str, ...]
    past_end: str
    """What a turn after the recording's end is called in the ledger."""
    example: str
    features: tuple[FeatureKind, ...]


class SessionCorpusConfig(FolderCorpusConfig):
    features: tuple[str, ...] | None = Field(
        default=None, description="kinds of feature files to look for; left out, all that the corpus has"
    )
    max_audio_bytes: int = Field(default=2 * 2**30, gt=0, description="largest wav that is unpacked from a zip")


def check_features(wanted: tuple[str, ...] | None, layout: Layout) -> tuple[str, ...] | None:
    """For a config's validator: every kind is one of the layout's."""
    known = [feature.kind for feature in layout.features]
    for kind in wanted or ():
        if kind not in known:
            raise ValueError(f"{kind!r} is no kind of features of {layout.title}; known are {', '.join(known)}")
    return wanted


class SessionCorpus(abc.ABC):
    """An opened corpus of numbered sessions."""

    layout: Layout

    def __init__(self, config: SessionCorpusConfig, unpack_to: UPath | None) -> None:
        self.root = location(config.path)
        self.roots: Mapping[str, UPath] = {CORPUS_ROOT: self.root}
        self._config = config
        self._unpack_to = unpack_to
        if not self.root.is_dir():
            raise CorpusError(f"corpus.path={config.path}: no such folder; set it to where the sessions lie")
        self._sessions = find_sessions(self.root, self.layout.folders)
        if not self._sessions:
            raise CorpusError(
                f"corpus.path={config.path}: no session folder or archive named like {self.layout.example}"
            )
        self._tables, self._people = self._read_tables()

    @property
    def name(self) -> str:
        return self.layout.name

    def interview_ids(self) -> Sequence[str]:
        return list(self._sessions)

    def absent(self) -> Sequence[Repair]:
        return [
            Repair(
                self.name, id_, "absent_session", person.table, "label row", "no session folder, left out",
                "label table",
            )
            for id_, person in sorted(self._people.items(), key=lambda pair: int(pair[0]))
            if id_ not in self._sessions
        ]  # fmt: skip

    def inputs(self) -> Iterator[InputFile]:
        for name in self._tables:
            yield InputFile(self.root / name, name, content=True)
        for id_, path in self._sessions.items():
            folder = self.root / path
            if is_archive(path):
                yield InputFile(folder, path)
                continue
            names = [name.format(id=id_) for name in (*self.layout.transcripts[:1], "{id}_AUDIO.wav")]
            try:
                with open_session(self.roots, path, None, 0) as files:
                    names += [found for _, found in self._found(id_, files)]
            except (CorpusError, OSError):
                pass  # it is quarantined when it is read
            for name in names:
                yield InputFile(folder.joinpath(*name.split("/")), f"{path}/{name}")

    def read(self, interview_id: str) -> Reading:
        if interview_id not in self._sessions:
            raise CorpusError(f"interview {interview_id!r} is not in the corpus at {self._config.path}")
        ledger = Ledger(self.name, interview_id)
        where = "label table"
        try:
            person = self._people.get(interview_id)
            label = self._label(person, ledger)
            gender = self._gender(person, ledger)
            where = "session"
            interview = self._interview(interview_id, ledger)
        except (CorpusError, OSError) as error:
            reason = str(error) if isinstance(error, CorpusError) else f"cannot be read ({why(error)})"
            quarantined = Quarantined(self.name, interview_id, where, reason)
            return Reading(None, tuple(ledger.repairs), (quarantined,))
        split = person.split if person else None
        return Reading(replace(interview, label=label, gender=gender, split=split), tuple(ledger.repairs))

    @abc.abstractmethod
    def _read_tables(self) -> tuple[Sequence[str], dict[str, PersonRow]]:
        """The label tables' paths under the root, and the people in them by session number."""

    @abc.abstractmethod
    def _label(self, person: PersonRow | None, ledger: Ledger) -> Label | None:
        """A person's label; ``None`` where there is none."""

    @abc.abstractmethod
    def _gender(self, person: PersonRow | None, ledger: Ledger) -> str: ...

    @abc.abstractmethod
    def _turns(self, interview_id: str, data: bytes, name: str, ledger: Ledger) -> tuple[Turn, ...]:
        """A transcript's turns, repaired, sorted by time; not yet clipped to the recording."""

    def _interview(self, interview_id: str, ledger: Ledger) -> Interview:
        with open_session(
            self.roots, self._sessions[interview_id], self._unpack_to, self._config.max_audio_bytes
        ) as files:
            count = sum(name.rpartition("/")[2].startswith("._") for name in files.names)
            if count:
                ledger.note("apple_double", "session files", f"{count} file(s) named ._*", "ignored")
            if files.is_flat_tar:
                ledger.note(
                    "flat_tar", files.name, f"{len(files.names)} members not under a folder", "read all the same"
                )
            member = files.require(*(name.format(id=interview_id) for name in self.layout.transcripts))
            name = member.rpartition("/")[2]
            turns = self._turns(interview_id, files.read(member), name, ledger)
            audio = self._audio(*files.recording(files.require(f"{interview_id}_AUDIO.wav")), ledger)
            features = [
                FeatureFile(one.kind, one.format, *files.place(found))
                for one, found in self._found(interview_id, files)
            ]
        cut = clip_to_recording(turns, audio.duration_s)
        note_cut(cut, self.layout.past_end, name, f"outside 0-{audio.duration_s:.3f} s", ledger)
        there = {feature.kind for feature in features}
        missing = tuple(feature.kind for feature in self._kinds if feature.kind not in there)
        if missing:
            ledger.note("missing_feature", "session files", f"no file of {', '.join(missing)}", "masked")
        return Interview(
            interview_id, f"daic:{interview_id}", self.name, cut.turns, (audio,), None,
            features=tuple(features), missing=missing,
        )  # fmt: skip

    def _audio(self, root: str, path: str, ledger: Ledger) -> AudioFile:
        name = path.rpartition("/")[2]
        roots: dict[str, AnyPath] = dict(self.roots)
        if self._unpack_to is not None:
            roots.setdefault(root, self._unpack_to.parent)
        with open_input(roots, root, path) as stream:
            facts = probe_stream(stream, name)
        if facts.container not in ("WAV", "WAVEX"):
            ledger.note("mislabelled_audio", name, "named .wav", f"decoded as {facts.container}")
        return AudioFile(root, path, facts.sample_rate_hz, facts.num_samples)

    def _found(self, interview_id: str, files: SessionFiles) -> list[tuple[FeatureKind, str]]:
        """The feature files that a session has, of the kinds that are wanted."""
        wanted = self._config.features
        found = (
            (one, files.find(f"{interview_id}_{one.suffix}"))
            for one in self.layout.features
            if wanted is None or one.kind in wanted
        )
        return [(one, name) for one, name in found if name is not None]

    @cached_property
    def _kinds(self) -> tuple[FeatureKind, ...]:
        """The kinds that every session is expected to have: those of the settings, or those that any session has.

        Of archives a few are looked into, from the first to the last.
        """
        wanted = self._config.features
        possible = [one for one in self.layout.features if wanted is None or one.kind in wanted]
        if wanted is not None:
            return tuple(possible)
        archives = [(id_, path) for id_, path in self._sessions.items() if is_archive(path)]
        step = max(1, -(-len(archives) // NUM_LOOKED_INTO))
        folders = [(id_, path) for id_, path in self._sessions.items() if not is_archive(path)]
        seen: set[FeatureKind] = set()
        for id_, path in [*folders, *archives[::step]]:
            try:
                with open_session(self.roots, path, None, 0) as files:
                    seen |= {one for one, _ in self._found(id_, files)}
            except (CorpusError, OSError):
                continue
            if len(seen) == len(possible):
                break
        return tuple(one for one in possible if one in seen)


def note_cut(cut: Cut, defect: str, name: str, span: str, ledger: Ledger) -> tuple[Turn, ...]:
    """A line for what a cut took away, where it took anything; the turns that are left."""
    if cut.touched:
        ledger.note(defect, name, f"turns {span}", counted(cut))
    return cut.turns


def counted(cut: Cut) -> str:
    return f"{cut.num_dropped} dropped, {cut.num_trimmed} trimmed"


def label_of(
    person: PersonRow,
    total: str | None,
    binary: str | None,
    items: tuple[str, ...],
    ledger: Ledger,
    items_table: str = "",
) -> Label | None:
    """A person's label from a row of a label table, with a line for every repair.

    Args:
        items_table: the table that the items come from, where it is another one.
    Raises:
        CorpusError: naming table and field.
    """
    if total is None:
        ledger.note("no_label", person.table, "table without totals", "kept without a label, gives no clips")
        return None
    try:
        reading = read_label(person.row, Instrument.PHQ8, total, binary, items)
    except CorpusError as error:
        table = items_table if items_table and str(error).split("=")[0] in items else person.table
        raise CorpusError(f"{table}: {error}") from None
    for repair in reading.repairs:
        ledger.note(repair.defect, f"{person.table}: {repair.field}", repair.before, repair.after, "label arithmetic")
    return reading.label


def known_person(person: PersonRow | None, ledger: Ledger) -> bool:
    """Whether there is a row at all.

    Raises:
        CorpusError: there are two that disagree.
    """
    if person is None:
        ledger.note("no_label", "label tables", "no row", "kept without a label, gives no clips")
        return False
    if person.duplicate is not None:
        raise CorpusError(person.duplicate)
    return True


Gender = Literal["female", "male"]


def gender_of(person: PersonRow | None, code: str | None, codes: Mapping[str, Gender], ledger: Ledger) -> str:
    """What a code of the label table means, ``unknown`` with a line where it means nothing."""
    if code is not None and code in codes:
        return codes[code]
    if person is not None:
        where = f"{person.table}: Gender"
        ledger.note("unknown_gender", where, "a code without a meaning", "unknown", "gender_codes")
    return "unknown"


def read_table(roots: Mapping[str, AnyPath], path: str, required: Sequence[str] = ()) -> Table:
    """A label table under the corpus' root.

    Raises:
        CorpusError: it cannot be read, or lacks a column.
    """
    return parse_table(read_bytes(resolve(roots, CORPUS_ROOT, path)), path.rpartition("/")[2], required)


def first_there(root: UPath, *paths: str) -> str | None:
    """The first of several paths under the root that there is."""
    return next((path for path in paths if root.joinpath(*path.split("/")).exists()), None)
