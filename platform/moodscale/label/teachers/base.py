"""What a teacher is: a configuration that opens it, and an object that scores transcripts.

There are two forms. A :class:`Teacher` answers one transcript at a time from elsewhere; when to ask, to wait, to ask
again and to stop is not its business but ``label.dispatch``'s. A :class:`BatchTeacher` is on this machine or
cluster, and takes all of them.
"""

from __future__ import annotations

import abc
import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from pydantic import Field

from moodscale.config import Component, Config
from moodscale.label.answer import Answer, RefusedAnswer, Usage, parse_text
from moodscale.label.money import Cost
from moodscale.label.transcript import Transcript


class Policy(Config):
    """How a server is asked."""

    concurrency: int = Field(default=8, ge=1, le=1024, description="requests on their way at a time")
    timeout_s: float = Field(default=120.0, gt=0, description="longest wait for one answer")
    max_retries: int = Field(default=5, ge=0, le=20, description="repeats of a request that failed in passing")
    backoff_s: float = Field(default=1.0, gt=0, description="wait before the first repeat; it doubles with each")
    max_backoff_s: float = Field(
        default=120.0, gt=0, description="longest wait before a repeat, a server's Retry-After included"
    )
    requests_per_minute: float | None = Field(default=None, gt=0, description="no more requests than that")
    tokens_per_minute: float | None = Field(
        default=None, gt=0, description="no more tokens than that, estimated from the transcript's length"
    )
    max_failures_in_a_row: int = Field(
        default=10, ge=1, description="stop when as many transcripts in a row got no answer; what is labelled is kept"
    )


class Failure(enum.StrEnum):
    """Why no reply came. Never stored: the next run asks again."""

    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    UNREADABLE = "unreadable"
    BAD_REQUEST = "bad_request"


class TeacherFailure(Exception):
    """No reply came. The message is the reason code alone.

    Attributes:
        passing: whether the same request may succeed later.
        maybe_paid: whether the server may have answered without our having it.
        retry_after_s: how long the server asks everybody to wait.
    """

    def __init__(
        self, reason: Failure, *, passing: bool, maybe_paid: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.passing = passing
        self.maybe_paid = maybe_paid
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        raw: an object as :func:`moodscale.label.answer.parse_answer` reads it, or an answer of a teacher that needs no
            parsing.
        usage: the tokens it took, ``None`` where nobody said.
    """

    raw: Mapping[str, Any] | Answer = field(repr=False)
    usage: Usage | None = None


Outcome = Reply | RefusedAnswer | TeacherFailure
"""Of one transcript, where all are asked at once: what is wrong with one is given, not raised."""


def read_reply(text: str, usage: Usage | None) -> Reply:
    """A reply from what a model wrote.

    Raises:
        RefusedAnswer: there is no object in it; with what was paid.
    """
    try:
        return Reply(parse_text(text), usage)
    except RefusedAnswer as refused:
        refused.usage = usage
        raise


@runtime_checkable
class Teacher(Protocol):
    """Answers one transcript at a time."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that changes an answer, as JSON: a part of every answer's key."""
        ...

    @property
    def external_host(self) -> str | None:
        """Where transcripts go, if that is outside."""
        ...

    @property
    def policy(self) -> Policy: ...

    @property
    def cost(self) -> Cost: ...

    def worst_usage(self, transcript: Transcript) -> Usage:
        """The most tokens that one request can take."""
        ...

    async def ask(self, transcript: Transcript, num_refused: int = 0) -> Reply:
        """One request, made once.

        Args:
            num_refused: how often the answer to this very question was refused before; a server that keeps replies by
                key must not give the same one again.
        Raises:
            RefusedAnswer: the reply is none.
            TeacherFailure: there was no reply.
            ConfigError: no request can succeed: the key, the model or a setting is wrong.
        """
        ...

    async def close(self) -> None: ...


@runtime_checkable
class BatchTeacher(Protocol):
    """Answers many transcripts, on this machine or this cluster."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that changes an answer, as JSON: a part of every answer's key."""
        ...

    def ask_all(self, transcripts: Sequence[Transcript]) -> Iterator[tuple[int, Outcome]]:
        """Index and reply of each, in any order, as soon as it is there; a failure is not stored."""
        ...


class TeacherConfig(Component, abc.ABC):
    """Which teacher, and how it is asked."""

    @abc.abstractmethod
    def open(self) -> Teacher | BatchTeacher:
        """Get ready.

        Raises:
            ConfigError: a package, a key, a file or a model is missing, or transcripts may not go there.
        """
