"""Asking a teacher from elsewhere: so many at a time, not faster than allowed, again after what passes, within budget.

One place decides all of it, whatever the teacher: an SDK that repeats requests by itself knows no budget, and many
requests that each wait by themselves do not hear that the server asked everybody to wait.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from moodscale.label.answer import RefusedAnswer, Usage
from moodscale.label.money import Budget
from moodscale.label.teachers.base import Failure, Policy, Reply, Teacher, TeacherFailure
from moodscale.label.transcript import Transcript

MAX_COST = "max_cost"
NO_ANSWERS = "max_failures_in_a_row"
_BYTES_A_TOKEN = 3
_ANSWER_TOKENS = 512
"""Both for pacing alone, where an estimate does."""


@dataclass(frozen=True)
class Question:
    """One thing to ask, for one unit or several of one person that say the same.

    Attributes:
        key: of its answer in the store.
        num_refused: how often it was refused before.
    """

    key: str
    transcripts: tuple[Transcript, ...]
    num_refused: int = 0


@dataclass
class Outcome:
    """What became of a run of questions.

    Attributes:
        failures: reason by key, where no reply came.
        stopped_by: the setting that ended the run early.
    """

    failures: dict[str, Failure] = field(default_factory=dict)
    num_requests: int = 0
    num_retries: Counter[str] = field(default_factory=Counter)
    stopped_by: str | None = None


OnReply = Callable[[Question, "Reply | RefusedAnswer"], Awaitable[None]]
"""Stores what came; an answer counts when it returns."""
Sleep = Callable[[float], Awaitable[None]]


class Pace:
    """When the next request may leave."""

    def __init__(self, policy: Policy, clock: Callable[[], float], sleep: Sleep) -> None:
        self._request_s = 60.0 / policy.requests_per_minute if policy.requests_per_minute else 0.0
        self._token_s = 60.0 / policy.tokens_per_minute if policy.tokens_per_minute else 0.0
        self._clock, self._sleep = clock, sleep
        self._next = self._paused_until = 0.0

    async def take(self, num_tokens: int) -> None:
        """Wait for one's turn: evenly, since a burst at each minute's start is what servers refuse."""
        now = self._clock()
        start = max(now, self._next)
        self._next = start + max(self._request_s, num_tokens * self._token_s)
        if start > now:
            await self._sleep(start - now)
        while (left := self._paused_until - self._clock()) > 0:
            await self._sleep(left)

    def pause(self, wait_s: float) -> None:
        """The server wants to be left alone for a while, by everybody."""
        self._paused_until = max(self._paused_until, self._clock() + wait_s)


class Dispatcher:
    """One run of questions to one teacher."""

    def __init__(
        self,
        teacher: Teacher,
        budget: Budget,
        on_reply: OnReply,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._teacher, self._budget, self._on_reply = teacher, budget, on_reply
        self._policy = teacher.policy
        self._sleep, self._jitter = sleep, jitter
        self._in_a_row = 0
        self._error: Exception | None = None
        self.outcome = Outcome()

    async def run(self, questions: Sequence[Question]) -> Outcome:
        """Ask everything, or until something ends the run. What was asked by then is waited for: it is paid.

        Raises:
            ConfigError: no request can succeed.
            OSError: an answer could not be stored.
        """
        self._pace = Pace(self._policy, asyncio.get_running_loop().time, self._sleep)
        self._settled = asyncio.Event()
        waiting = iter(questions)
        num_workers = min(self._policy.concurrency, len(questions))
        try:
            await asyncio.gather(*(self._work(waiting) for _ in range(num_workers)))
        finally:
            await self._teacher.close()
        if self._error is not None:
            raise self._error
        return self.outcome

    @property
    def _ended(self) -> bool:
        return self.outcome.stopped_by is not None or self._error is not None

    async def _work(self, waiting: Iterator[Question]) -> None:
        for question in waiting:
            if self._ended:
                return
            try:
                await self._answer(question)
            except Exception as error:
                # The others finish what they have asked before it is raised.
                self._error = self._error or error
                self._settled.set()

    async def _answer(self, question: Question) -> None:
        """Ask one question until there is a reply, or no hope of one."""
        num_retries = self._policy.max_retries
        for attempt in range(num_retries + 1):
            try:
                reply = await self._attempt(question)
            except TeacherFailure as failure:
                if self._ended:
                    return
                if not failure.passing or attempt == num_retries:
                    self._give_up(question, failure.reason)
                    return
                self.outcome.num_retries[failure.reason.value] += 1
                await self._wait(attempt, failure)
                continue
            if reply is not None:
                self._in_a_row = 0
                await self._on_reply(question, reply)
            return

    async def _attempt(self, question: Question) -> Reply | RefusedAnswer | None:
        """One request; ``None`` where the run ended before it was made."""
        transcript = question.transcripts[0]
        worst = self._teacher.worst_usage(transcript)
        if not await self._reserve(worst):
            return None
        used: Usage | None = Usage()
        try:
            await self._pace.take(worst.input_tokens // _BYTES_A_TOKEN + _ANSWER_TOKENS)
            if self._ended:
                return None
            self.outcome.num_requests += 1
            used = None  # from here on, unless somebody says, all of it may have been used
            reply = await self._ask(transcript, question.num_refused)
            used = reply.usage
            return reply
        except TeacherFailure as failure:
            used = None if failure.maybe_paid else Usage()
            raise
        finally:
            self._budget.settle(worst, used)
            self._settled.set()

    async def _ask(self, transcript: Transcript, num_refused: int) -> Reply | RefusedAnswer:
        try:
            # A client's own timeout is for each read: a server that drips would hold a place for ever.
            async with asyncio.timeout(self._policy.timeout_s):
                return await self._teacher.ask(transcript, num_refused)
        except RefusedAnswer as refused:
            return refused
        except TimeoutError:
            pass
        raise TeacherFailure(Failure.TIMEOUT, passing=True, maybe_paid=True)

    async def _reserve(self, worst: Usage) -> bool:
        """Wait for money that others may leave over; end the run where there can be none."""
        while not self._ended:
            self._settled.clear()
            if self._budget.reserve(worst):
                return True
            if not self._budget.anything_reserved:
                self.outcome.stopped_by = MAX_COST
                self._settled.set()
                break
            await self._settled.wait()
        return False

    async def _wait(self, attempt: int, failure: TeacherFailure) -> None:
        longest = self._policy.max_backoff_s
        wait_s = min(longest, self._policy.backoff_s * 2**attempt) * (0.5 + 0.5 * self._jitter())
        if failure.retry_after_s is not None:
            self._pace.pause(min(longest, failure.retry_after_s))
        await self._sleep(wait_s)

    def _give_up(self, question: Question, reason: Failure) -> None:
        self.outcome.failures[question.key] = reason
        self._in_a_row += 1
        if self._in_a_row >= self._policy.max_failures_in_a_row:
            self.outcome.stopped_by = NO_ANSWERS
            self._settled.set()
