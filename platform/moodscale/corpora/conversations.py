"""Conversations with an assistant, and the questionnaires of those who had them. Text only.

A folder holds ``conversations.jsonl``, ``.jsonl.gz`` or ``.parquet`` (or a folder ``conversations/`` of such files),
one conversation a line (``user_id``, ``conversation_id``, ``started_at``, ``messages: [{role, content, at?}]``), and
``labels.csv`` or ``.parquet`` (``user_id, instrument, administered_at, total, item_1`` …).

Every questionnaire is an interview of the conversations that began within its look-back window; a user without one is
an interview of all their conversations, without a label. A user's first interview has the user's own id, a later one
``{user_id}@{day}``. Lines of the ledger about conversations bear the user's id, and each defect is there once, however
many windows it lies in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, groupby
from typing import Any, Literal

from pydantic import Field
from upath import UPath

from moodscale.corpora.base import CORPUS_ROOT, FolderCorpusConfig, InputFile, Reading
from moodscale.corpora.conversation_files import Found, open_conversations
from moodscale.corpora.conversation_index import MAX_LISTED, ConversationIndex, Entry
from moodscale.corpora.conversation_turns import DEFECTS, Conversation, read_conversation, to_turns
from moodscale.corpora.joining import NO_TIME, Window, first_window
from moodscale.corpora.questionnaires import Questionnaire, Questionnaires, read_questionnaires
from moodscale.corpora.reading.paths import resolve
from moodscale.schema import CorpusError, Instrument, Interview, Quarantined, Repair
from moodscale.storage import location

NAME = "conversations"

_ENDS = (".jsonl", ".jsonl.gz", ".parquet")
_LABEL_ENDS = (".csv", ".parquet")
_CHECKED = "checked on reading"


class ConversationsConfig(FolderCorpusConfig):
    kind: Literal["conversations"] = "conversations"
    conversations: str = Field(
        default="conversations",
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="name of the file, without .jsonl, .jsonl.gz or .parquet, or of a folder of such files",
    )
    labels: str | None = Field(
        default="labels",
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="name of the label table, without .csv or .parquet; null where nobody filled in a questionnaire",
    )
    instrument: Instrument = Field(
        default=Instrument.PHQ9, description="the questionnaire that is read; rows of others are left out and noted"
    )
    look_back_days: float = Field(
        default=14.0,
        gt=0,
        le=3650,
        description="a questionnaire goes with conversations that began at most so long before it, both edges included",
    )
    person_prefix: str = Field(
        default="conv",
        pattern=r"^[a-z][a-z0-9_]*$",
        description="before the user's id in the person key; another one for users of another service",
    )

    def open(self, unpack_to: UPath | None = None) -> Conversations:
        return Conversations(self)


@dataclass(frozen=True)
class _Session:
    """What an interview is made of: a user, and one of their questionnaires or none."""

    user_id: str
    questionnaire: Questionnaire | None


class Conversations:
    """An opened folder of conversations: the text stays in its files, an index of numbers is held."""

    name = NAME

    def __init__(self, config: ConversationsConfig) -> None:
        self.config = config
        self.root = location(config.path)
        if not self.root.is_dir():
            raise CorpusError(f"corpus.path={config.path}: no such folder; set it to where the conversations lie")
        self._names = _find_conversations(self.root, config)
        self._labels = _find_labels(self.root, config)
        self._files = [open_conversations(resolve(self.roots, CORPUS_ROOT, name), name) for name in self._names]
        self._index = ConversationIndex(self._files)
        questionnaires = Questionnaires({}, ())
        if self._labels is not None:
            questionnaires = read_questionnaires(resolve(self.roots, CORPUS_ROOT, self._labels), config.instrument)
        self._absent: list[Repair] = []
        self._sessions: dict[str, _Session] = {}
        self._questionnaires: dict[str, list[Questionnaire]] = {}
        self._unlabelled = [user_id for user_id in self._index.users if user_id not in questionnaires.by_user]
        self._plan(questionnaires)
        if not self._sessions:
            names = ", ".join(self._names)
            raise CorpusError(f"corpus.path={config.path}: no user with a conversation that can be used in {names}")

    @property
    def roots(self) -> Mapping[str, UPath]:
        return {CORPUS_ROOT: self.root}

    def interview_ids(self) -> Sequence[str]:
        return list(self._sessions)

    def absent(self) -> Sequence[Repair]:
        return self._absent

    def inputs(self) -> Iterator[InputFile]:
        for name in self._names:
            yield InputFile(self.root / name, name)
        if self._labels is not None:
            yield InputFile(self.root / self._labels, self._labels, content=True)

    def approximations(self) -> Sequence[str]:
        days = f"{self.config.look_back_days:g}"
        return [
            f"Conversations: a questionnaire goes with conversations that began in the {days} days before it, without "
            "what was written after it.",
            "Conversations: who writes to an assistant chose to, and so did who filled in a questionnaire: neither "
            "is a sample of a population.",
            f"Conversations: {len(self._unlabelled):,} of {len(self._index.users):,} users have no questionnaire; they "
            "take no part in any figure.",
        ]

    def read(self, interview_id: str) -> Reading:
        session = self._sessions.get(interview_id)
        if session is None:
            raise CorpusError(f"interview {interview_id!r} is not in the corpus at {self.config.path}")
        try:
            return _SessionReader(self, interview_id, session).read()
        except (CorpusError, OSError) as error:
            reason = str(error) if isinstance(error, CorpusError) else "the files cannot be read"
            return Reading(None, (), (Quarantined(NAME, interview_id, "conversations", reason),))

    def _plan(self, questionnaires: Questionnaires) -> None:
        """Which interviews there are, and what is missing from the corpus as a whole."""
        lines: list[Repair] = []
        for problem in self._index.problems:
            where = f"{self._names[problem.file]}: line {problem.number}"
            lines.append(_line(f"line {problem.number}", "invalid_line", where, problem.reason, "left out"))
        if more := self._index.num_problems - len(self._index.problems):
            lines.append(_line("", "invalid_line", "further lines", f"{more} more", "left out"))
        lines += [_line(one.user_id, one.defect, one.where, one.before, one.after) for one in questionnaires.notes]
        for user_id in sorted(questionnaires.by_user.keys() - set(self._index.users)):
            lines.append(_line(user_id, "absent_session", self._labels or "", "label row", "no conversation, left out"))
        for user_id in self._index.users:
            given = questionnaires.by_user.get(user_id)
            if given is None:
                self._sessions[user_id] = _Session(user_id, None)
                continue
            times = self._index.times_us(user_id)
            kept = [one for one in given if isinstance(one.reading, str) or self._window(one).of(times)]
            for one in (one for one in given if one not in kept):
                before = f"0 of {len(times)} conversations in the {self.config.look_back_days:g} days before {one.day}"
                lines.append(_line(user_id, "no_conversations", self._labels or "", before, "left out"))
            if not kept:  # read by nobody, who would say it
                for entry in self._index.entries(user_id):
                    if entry.started_us == NO_TIME:
                        where = f"{self._names[entry.file]}: line {entry.place.number}: started_at"
                        lines.append(_line(user_id, "bad_time", where, "no ISO 8601 time", "left out"))
            self._questionnaires[user_id] = kept
            for one in kept:
                self._sessions[self._free_id(user_id, one)] = _Session(user_id, one)
        if len(self._unlabelled) > MAX_LISTED:
            before = f"{len(self._unlabelled)} users without a questionnaire"
            lines.append(_line("", "no_label", self._labels or "", before, "kept without a label"))
        self._absent = _bounded(lines)

    def _free_id(self, user_id: str, questionnaire: Questionnaire) -> str:
        """The user's own id for the first; another user may be called what a later one would be."""
        if user_id not in self._sessions:
            return user_id
        days = (f"{user_id}@{questionnaire.day}{more}" for more in chain([""], (f".{n}" for n in count(2))))
        return next(id_ for id_ in days if id_ not in self._sessions and id_ not in self._index)

    def _window(self, questionnaire: Questionnaire) -> Window:
        return Window.before(questionnaire.at.us, self.config.look_back_days)


class _SessionReader:
    """Reads the conversations of one interview and collects what was repaired on the way."""

    def __init__(self, corpus: Conversations, interview_id: str, session: _Session) -> None:
        self.corpus = corpus
        self.id = interview_id
        self.user_id = session.user_id
        self.questionnaire = session.questionnaire
        self.is_first = interview_id == session.user_id
        usable = [one for one in corpus._questionnaires.get(self.user_id, ()) if not isinstance(one.reading, str)]
        self._windows = [corpus._window(one) for one in usable]
        self._own = usable.index(self.questionnaire) if self.questionnaire in usable else None
        self.repairs: list[Repair] = []
        self.quarantined: list[Quarantined] = []
        self._counts: Counter[str] = Counter()
        self._where: dict[str, str] = {}

    def note(self, interview_id: str, defect: str, where: str, before: str, after: str) -> None:
        self.repairs.append(_line(interview_id, defect, where, before, after))

    def read(self) -> Reading:
        entries = self.corpus._index.entries(self.user_id)
        label = None
        if self.is_first:
            self._look_at_all(entries)
        if self.questionnaire is not None:
            label = self._label(self.questionnaire)
            if label is None:
                return Reading(None, tuple(self.repairs), tuple(self.quarantined))
            window = self.corpus._window(self.questionnaire)
            entries = [one for one in entries if one.started_us in window]
        conversations = self._conversations([one for one in entries if one.started_us != NO_TIME])
        if self.questionnaire is not None:
            conversations = self._until(self.questionnaire.at.us, conversations)
        for defect, times in self._counts.items():
            found, done = DEFECTS[defect]
            self.note(self.user_id, defect, self._where[defect], f"{times} {found}", done)
        turns = to_turns(conversations)
        if not turns:
            reason = "no conversation with a usable message"
            self.quarantined.append(Quarantined(NAME, self.id, "conversations", reason))
            return Reading(None, tuple(self.repairs), tuple(self.quarantined))
        interview = Interview(
            self.id,
            f"{self.corpus.config.person_prefix}:{self.user_id}",
            NAME,
            turns,
            (),
            label,
            administered_at=None if self.questionnaire is None else self.questionnaire.at.iso,
        )
        return Reading(interview, tuple(self.repairs), tuple(self.quarantined))

    def _until(self, administered_us: int, conversations: Sequence[Conversation]) -> list[Conversation]:
        """What was written after the questionnaire may tell of it: it is left out."""
        kept = [
            replace(one, messages=tuple(message for message in one.messages if message.us <= administered_us))
            for one in conversations
        ]
        if late := sum(len(one.messages) for one in conversations) - sum(len(one.messages) for one in kept):
            self.note(
                self.id, "after_questionnaire", "messages", f"{late} message(s) after the questionnaire", "left out"
            )
        return kept

    def _look_at_all(self, entries: Sequence[Entry]) -> None:
        """What is said once of all of a user's conversations."""
        for entry in entries:
            if entry.started_us == NO_TIME:
                reason = "bad_time: started_at is no ISO 8601 time; the conversation is left out"
                self.quarantined.append(Quarantined(NAME, self.user_id, f"{self._place(entry)}: started_at", reason))
        if self.questionnaire is None:
            if len(self.corpus._unlabelled) <= MAX_LISTED:
                self.note(self.user_id, "no_label", self.corpus._labels or "", "no row", "kept without a label")
            return
        windows = [self.corpus._window(one) for one in self.corpus._questionnaires[self.user_id]]
        times = [one.started_us for one in entries if one.started_us != NO_TIME]
        if outside := sum(first_window(us, windows) is None for us in times):
            days = f"{self.corpus.config.look_back_days:g} days"
            before = f"{outside} of {len(times)} conversations began outside the {days} before a questionnaire"
            self.note(self.user_id, "out_of_window", "started_at", before, "left out")

    def _label(self, questionnaire: Questionnaire) -> Any:
        if isinstance(questionnaire.reading, str):
            self.quarantined.append(Quarantined(NAME, self.id, self.corpus._labels or "", questionnaire.reading))
            return None
        for one in questionnaire.reading.repairs:
            self.note(self.id, one.defect, one.field, one.before, one.after)
        if questionnaire.at.naive:
            where = f"{self.corpus._labels}: administered_at"
            self.note(self.id, "naive_time", where, "a time without a zone", "taken as UTC, a day alone as its end")
        return questionnaire.reading.label

    def _conversations(self, entries: Sequence[Entry]) -> list[Conversation]:
        """In order of time, a duplicate once."""
        seen: dict[Any, Mapping[str, Any]] = {}
        kept: list[Conversation] = []
        for entry, found in self._found(entries):
            here = self._own is None or first_window(entry.started_us, self._windows) == self._own
            values = found.values or {}
            try:
                if found.values is None:
                    raise CorpusError(f"{found.problem}; the file changed since it was indexed")
                earlier = seen.get(values.get("conversation_id"))
                if earlier is not None and earlier != values:
                    raise CorpusError(
                        "conversation_id: another conversation of the same id differs; keep the right one"
                    )
                conversation = read_conversation(values)
            except CorpusError as error:
                if here:
                    line = Quarantined(NAME, self.user_id, self._place(entry), str(error))
                    self.quarantined.append(line)
                continue
            defects = conversation.defects if earlier is None else Counter({"duplicate_conversation": 1})
            if here:
                self._count(defects, self._place(entry))
            if earlier is None:
                seen[values.get("conversation_id")] = values
                if conversation.messages:
                    kept.append(conversation)
        return kept

    def _found(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Found]]:
        """Conversations in the order of the entries; each file is opened once for neighbours of it."""
        for file, group in groupby(entries, key=lambda entry: entry.file):
            own = list(group)
            yield from zip(own, self.corpus._files[file].read([one.place for one in own]), strict=True)

    def _count(self, defects: Counter[str], where: str) -> None:
        for defect, times in defects.items():
            self._counts[defect] += times
            self._where.setdefault(defect, where)

    def _place(self, entry: Entry) -> str:
        return f"{self.corpus._names[entry.file]}: line {entry.place.number}"


def _line(interview_id: str, defect: str, where: str, before: str, after: str) -> Repair:
    return Repair(NAME, interview_id, defect, where, before, after, _CHECKED)


def _bounded(lines: Iterable[Repair]) -> list[Repair]:
    """At most ``MAX_LISTED`` lines of a defect, and one that counts the rest."""
    counts: Counter[str] = Counter()
    kept: list[Repair] = []
    for line in lines:
        counts[line.defect] += 1
        if counts[line.defect] <= MAX_LISTED:
            kept.append(line)
    for defect, times in counts.items():
        if times > MAX_LISTED:
            kept.append(_line("", defect, "further ones", f"{times - MAX_LISTED} more", "left out"))
    return kept


def _find_conversations(root: UPath, config: ConversationsConfig) -> list[str]:
    """The files' names relative to the root, in order."""
    name = config.conversations
    found = [f"{name}{end}" for end in _ENDS if (root / f"{name}{end}").is_file()]
    if (root / name).is_dir():
        inside = sorted(entry.name for entry in (root / name).iterdir() if entry.name.endswith(_ENDS))
        found += [f"{name}/{one}" for one in inside if not one.startswith((".", "_"))]
        if len(found) > len(inside):
            raise CorpusError(f"corpus.path={config.path}: both a file and a folder {name}; keep one")
    elif len(found) > 1:
        raise CorpusError(f"corpus.path={config.path}: {' and '.join(found)} are both there; keep one")
    if not found:
        wanted = ", ".join(f"{name}{end}" for end in _ENDS)
        raise CorpusError(f"corpus.path={config.path}: none of {wanted}; name it with corpus.conversations")
    return found


def _find_labels(root: UPath, config: ConversationsConfig) -> str | None:
    if config.labels is None:
        return None
    found = [f"{config.labels}{end}" for end in _LABEL_ENDS if (root / f"{config.labels}{end}").is_file()]
    if len(found) != 1:
        wanted = " nor ".join(f"{config.labels}{end}" for end in _LABEL_ENDS)
        what = f"{' and '.join(found)} are both there; keep one" if found else f"neither {wanted}"
        raise CorpusError(f"corpus.path={config.path}: {what}; corpus.labels names the table, null is for none")
    return found[0]
