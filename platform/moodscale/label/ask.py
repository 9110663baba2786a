"""Transcripts → a teacher's answers: those in the store are taken from it, the others are asked for, once.

An answer is in the store before it is counted, so a job that is killed and submitted again asks for the rest. Lines of
the log hold counts.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from moodscale.label.answer import Answer, RefusedAnswer, check_answer, parse_answer
from moodscale.label.answers import AnswerStore, Stored, answer_key
from moodscale.label.dispatch import Dispatcher, Question
from moodscale.label.hosts import check_deidentified
from moodscale.label.money import Budget, Cost
from moodscale.label.orders import holds_order, with_order
from moodscale.label.teachers.base import BatchTeacher, Failure, Reply, Teacher, TeacherConfig, TeacherFailure
from moodscale.label.transcript import Transcript
from moodscale.storage import Place

_LOG = logging.getLogger(__name__)
_NUM_THREADS = 16
"""For the store: each waits for a disk, or for object storage."""
_NUM_LINES = 20
"""Lines of progress in a run."""

T = TypeVar("T")


@dataclass
class Summary:
    """What a run did, in counts.

    Attributes:
        num_asked: transcripts that a reply came for in this run.
        num_from_store: transcripts with an answer, or a refusal, from before.
        num_left: transcripts that were not come to.
        num_requests: requests, repeats included.
        retries: repeats by reason.
        refused: transcripts without an answer by reason, from the store too.
        num_ungrounded, num_quotes: passages quoted that stand nowhere, and that stand in the transcript.
        num_with_orders: transcripts that hold what reads like an order to whoever scores.
        input_tokens, output_tokens: where the teacher said.
        cost: spent in this run; requests that nobody gave an account of count with the most that they can have cost.
        stopped_by: the setting that ended the run before its end.
    """

    num_transcripts: int
    num_asked: int = 0
    num_from_store: int = 0
    num_left: int = 0
    num_requests: int = 0
    retries: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    num_ungrounded: int = 0
    num_quotes: int = 0
    num_with_orders: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    max_cost: float | None = None
    stopped_by: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Labelled:
    """Answers and reasons by ``unit_id``, in the order of the transcripts; who is in neither was not come to."""

    answers: dict[str, Answer] = field(repr=False)
    refused: dict[str, str]
    summary: Summary


def label_transcripts(
    config: TeacherConfig,
    transcripts: Iterable[Transcript],
    answers_dir: str | Place,
    *,
    retry_refused: bool = False,
) -> Labelled:
    """Have a teacher score transcripts.

    Args:
        answers_dir: folder or URI of the answers; the same one for every run that may share them.
        retry_refused: ask again where a stored reply was none.
    Raises:
        ConfigError: the teacher cannot be used, or transcripts may not go to it. Nothing is labelled in its place.
        ValueError: two transcripts of one ``unit_id``.
    """
    given = list(transcripts)
    units = [transcript.unit_id for transcript in given]
    if len(set(units)) != len(units):
        raise ValueError(f"{len(units) - len(set(units))} unit_id(s) occur twice among the transcripts to label")
    teacher = config.open()
    check_deidentified(getattr(teacher, "external_host", None), given)
    return _Run(teacher, config.kind, given, AnswerStore(answers_dir), retry_refused).label()


class _Run:
    """One call of ``label_transcripts``."""

    def __init__(
        self, teacher: Teacher | BatchTeacher, kind: str, given: Sequence[Transcript], store: AnswerStore, again: bool
    ) -> None:
        self._teacher, self._kind, self._given, self._store, self._again = teacher, kind, given, store, again
        self._keys = {one.unit_id: answer_key(teacher.identity, one) for one in given}
        self._found: dict[str, Stored] = {}
        self._failed: dict[str, str] = {}
        self.summary = Summary(len(given), num_with_orders=sum(map(holds_order, given)))
        self._cost = teacher.cost if isinstance(teacher, Teacher) else Cost()
        self._budget = Budget(self._cost)
        self.summary.max_cost = self._cost.max_cost
        self._num_done = 0

    def label(self) -> Labelled:
        with ThreadPoolExecutor(_NUM_THREADS) as threads:
            questions = self._look_up(threads)
            if questions:
                if isinstance(self._teacher, BatchTeacher):
                    self._ask_all(self._teacher, questions, threads)
                else:
                    _run(self._ask_each(self._teacher, questions, threads))
        return self._result()

    def _look_up(self, threads: ThreadPoolExecutor) -> list[Question]:
        """Take what the store has; what is left to ask, in the order of the transcripts."""
        by_key: dict[str, list[Transcript]] = {}
        for transcript in self._given:
            by_key.setdefault(self._keys[transcript.unit_id], []).append(transcript)
        questions = []
        for (key, same), stored in zip(by_key.items(), threads.map(self._store.get, by_key), strict=True):
            if stored is not None and (stored.refused is None or not self._again):
                self._found[key] = stored
                self.summary.num_from_store += len(same)
            else:
                questions.append(Question(key, tuple(same), 0 if stored is None else stored.num_refused))
        _LOG.info(
            "%s: %d transcript(s), %d in the store, %d to ask for",
            self._kind, len(self._given), self.summary.num_from_store, len(questions),
        )  # fmt: skip
        self._every = max(1, len(questions) // _NUM_LINES)
        self._num_questions = len(questions)
        return questions

    async def _ask_each(self, teacher: Teacher, questions: Sequence[Question], threads: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()

        async def on_reply(question: Question, reply: Reply | RefusedAnswer) -> None:
            stored = self._judge(question, reply)
            await loop.run_in_executor(threads, self._store.put, question.key, stored)
            self._count(question, stored)

        dispatcher = Dispatcher(teacher, self._budget, on_reply)
        try:
            await dispatcher.run(questions)
        finally:
            outcome = dispatcher.outcome
            self.summary.num_requests = outcome.num_requests
            self.summary.retries = dict(sorted(outcome.num_retries.items()))
            self.summary.stopped_by = outcome.stopped_by
            self._failed = {key: reason.value for key, reason in outcome.failures.items()}
            self.summary.cost = self._budget.spent

    def _ask_all(self, teacher: BatchTeacher, questions: Sequence[Question], threads: ThreadPoolExecutor) -> None:
        """Store replies several at a time, and count each when it is safe."""
        writing = []
        for at, reply in teacher.ask_all([question.transcripts[0] for question in questions]):
            self.summary.num_requests += 1
            if isinstance(reply, TeacherFailure):
                self._failed[questions[at].key] = reply.reason.value
                continue
            stored = self._judge(questions[at], reply)
            writing.append((questions[at], stored, threads.submit(self._store.put, questions[at].key, stored)))
            while len(writing) >= 2 * _NUM_THREADS:
                self._finish(*writing.pop(0))
        for one in writing:
            self._finish(*one)

    def _finish(self, question: Question, stored: Stored, written: Any) -> None:
        written.result()
        self._count(question, stored)

    def _judge(self, question: Question, reply: Reply | RefusedAnswer) -> Stored:
        """What a reply is worth: an answer, or the reason why it is none."""
        transcript = question.transcripts[0]
        stored = Stored(
            person=transcript.person,
            unit_id=transcript.unit_id,
            instrument=transcript.instrument,
            teacher=self._kind,
            num_refused=question.num_refused,
            usage=reply.usage,
        )
        try:
            if isinstance(reply, RefusedAnswer):
                raise reply
            if isinstance(reply.raw, Answer):
                return replace(stored, answer=check_answer(reply.raw, transcript.instrument))
            return replace(stored, answer=parse_answer(reply.raw, transcript))
        except RefusedAnswer as refused:
            return replace(stored, refused=refused.reason, num_refused=question.num_refused + 1)

    def _count(self, question: Question, stored: Stored) -> None:
        self._found[question.key] = stored
        summary = self.summary
        summary.num_asked += len(question.transcripts)
        if stored.usage is not None:
            summary.input_tokens += stored.usage.input_tokens
            summary.output_tokens += stored.usage.output_tokens
        self._num_done += 1
        if self._num_done % self._every == 0:
            spent = f", {self._budget.spent:.4f} spent" if self._cost.output_per_million else ""
            _LOG.info("%s: %d of %d asked for%s", self._kind, self._num_done, self._num_questions, spent)

    def _result(self) -> Labelled:
        answers: dict[str, Answer] = {}
        refused: dict[str, str] = {}
        for unit, key in self._keys.items():
            stored = self._found.get(key)
            if stored is None:
                if key in self._failed:
                    refused[unit] = self._failed[key]
            elif stored.answer is not None:
                answers[unit] = stored.answer
            elif stored.refused is not None:
                refused[unit] = stored.refused.value
        summary = self.summary
        summary.refused = dict(sorted(Counter(refused.values()).items()))
        summary.num_ungrounded = sum(answer.num_ungrounded for answer in answers.values())
        summary.num_quotes = sum(len(answer.evidence) for answer in answers.values())
        summary.num_left = len(self._given) - len(answers) - len(refused)
        _LOG.info(
            "%s: %d labelled, %d without an answer, %d left%s", self._kind, len(answers), len(refused),
            summary.num_left, f", stopped by {summary.stopped_by}" if summary.stopped_by else "",
        )  # fmt: skip
        if Failure.BAD_REQUEST in summary.refused:
            _LOG.warning(
                "%s: the server took %d request(s) for malformed; if it is an older one, set label.teacher.structured, "
                "token_limit or temperature to what it knows", self._kind, summary.refused[Failure.BAD_REQUEST],
            )  # fmt: skip
        return Labelled(answers, refused, summary)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, also where this thread has an event loop already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def injection_shift(
    config: TeacherConfig,
    transcripts: Iterable[Transcript],
    answers_dir: str | Place,
    *,
    num_sampled: int = 20,
    seed: int = 0,
) -> dict[str, Any]:
    """How far an order in a transcript moves a teacher's scores. Each sampled transcript is labelled with and without.

    Returns:
        ``num_compared``; ``mean_shift``, ``mean_absolute_shift`` and ``max_absolute_shift`` of the total, ``None``
        where nothing can be compared; ``num_changed``; ``num_obeyed``, where a total above 0 became the 0 that was
        ordered; ``num_refused_with_order``, labelled without the order and not with it; ``cost`` of both.
    """
    given = list(transcripts)
    sampled = random.Random(seed).sample(given, min(num_sampled, len(given)))
    plain = label_transcripts(config, sampled, answers_dir)
    ordered = label_transcripts(config, [with_order(one) for one in sampled], answers_dir)
    both = [unit for unit in plain.answers if unit in ordered.answers]
    before = [plain.answers[unit].total for unit in both]
    shifts = [ordered.answers[unit].total - total for unit, total in zip(both, before, strict=True)]
    return {
        "num_compared": len(both),
        "mean_shift": sum(shifts) / len(shifts) if shifts else None,
        "mean_absolute_shift": sum(map(abs, shifts)) / len(shifts) if shifts else None,
        "max_absolute_shift": max(map(abs, shifts)) if shifts else None,
        "num_changed": sum(shift != 0 for shift in shifts),
        "num_obeyed": sum(total > 0 and total + shift == 0 for total, shift in zip(before, shifts, strict=True)),
        "num_refused_with_order": sum(unit in plain.answers for unit in ordered.refused),
        "cost": plain.summary.cost + ordered.summary.cost,
    }
