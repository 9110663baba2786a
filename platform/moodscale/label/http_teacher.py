"""What teachers behind an HTTP interface have in common: settings, the client's network, what a failure means.

Their SDKs repeat requests, follow redirects and take proxies from the environment by themselves. None of that is left
to them: ``label.ask`` repeats, since it knows the budget, and a server inside is talked to directly and nowhere else.
"""

from __future__ import annotations

import email.utils
import importlib
import logging
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from moodscale.config import ConfigError
from moodscale.label.answer import Refusal, RefusedAnswer, Usage
from moodscale.label.answers import request_key
from moodscale.label.hosts import check_allowed, check_deidentified, external_host
from moodscale.label.money import Cost
from moodscale.label.prompt import answer_schema, build_prompt
from moodscale.label.teachers.base import Failure, Policy, Reply, TeacherConfig, TeacherFailure
from moodscale.label.transcript import Speech, Transcript

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_SECRETS = ("api_key", "auth_token", "token", "key", "password", "headers", "default_headers")
_SDK_LOGGERS = ("openai", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2")
_TOO_LONG = frozenset({"context_length_exceeded", "request_too_large", "string_above_max_length"})
_FILTERED = frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"})
_ALL_SCHEMES = ("http://", "https://", "all://")
_NO_KEY = "none"
"""Where a server wants no key: without one the SDKs look for one in the environment and in the user's profile."""
_FRAME_TOKENS = 1024
"""For what a server wraps around messages, a tool's preamble included."""


class HttpTeacherConfig(TeacherConfig):
    """Settings of a teacher behind an HTTP interface."""

    model: str = Field(min_length=1, description="the model's name on that server, dated where it has such")
    base_url: str = Field(description="address of the interface, without credentials")
    api_key_env: str | None = Field(
        description="environment variable that holds the key; null for a server that wants none"
    )
    allow_external: bool = Field(
        default=False, description="whether de-identified transcripts may go to a host outside this network"
    )
    speech: Speech = Field(default="everything", description="whose turns the teacher reads")
    temperature: float | None = Field(
        default=0.0, ge=0, le=2, description="null leaves it out, for models that refuse it"
    )
    max_output_tokens: int = Field(
        default=2048, ge=64, le=131_072, description="longest answer, a model's thinking included"
    )
    policy: Policy = Policy()
    cost: Cost = Cost()

    @model_validator(mode="before")
    @classmethod
    def _no_secrets(cls, values: Any) -> Any:
        """Refused before any field is looked at: an error about a field shows its value."""
        if not isinstance(values, dict):
            return values
        found = [name for name in _SECRETS if name in values]
        if found:
            raise ValueError(f"{found[0]}: a key does not belong in a configuration; name its variable in api_key_env")
        variable = values.get("api_key_env")
        if variable is not None and not (isinstance(variable, str) and _VARIABLE.fullmatch(variable)):
            raise ValueError("api_key_env: is not the name of an environment variable, such as TEACHER_API_KEY")
        url = values.get("base_url")
        if isinstance(url, str) and not _is_plain(url):
            raise ValueError("base_url: write http(s)://host[:port]/path, without user, password, query or fragment")
        return values

    @field_validator("speech")
    @classmethod
    def _of_the_participant(cls, value: Speech) -> Speech:
        if value == "interviewer":
            raise ValueError("a teacher cannot score a participant from the interviewer's turns alone")
        return value

    def key(self) -> str | None:
        """The key, from the environment of this process.

        Raises:
            ConfigError: it is not there.
        """
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise ConfigError(
                f"label.teacher.api_key_env={self.api_key_env}: the variable is not set in this process' environment; "
                "set it, or write null for a server that wants no key"
            )
        return key

    def check_network(self) -> str | None:
        """The host, where it is outside.

        Raises:
            ConfigError: it is outside and may not be.
        """
        host = external_host(self.base_url)
        check_allowed(host, self.allow_external)
        return host

    def common_identity(self) -> dict[str, Any]:
        """What changes an answer of any of them. The address belongs to it: a name there may be another model."""
        return {
            "kind": self.kind, "model": self.model, "base_url": self.base_url.rstrip("/"), "speech": self.speech,
            "temperature": self.temperature, "max_output_tokens": self.max_output_tokens,
        }  # fmt: skip

    def worst_usage(self, transcript: Transcript) -> Usage:
        """A bound: every token of the prompt and the schema is at least a byte."""
        num_bytes = build_prompt(transcript, self.speech).num_bytes + len(repr(answer_schema(transcript.instrument)))
        return Usage(num_bytes + _FRAME_TOKENS, self.max_output_tokens)


ConfigT = TypeVar("ConfigT", bound=HttpTeacherConfig)


class HttpTeacher(ABC, Generic[ConfigT]):
    """One request an answer, over a provider's SDK."""

    SDK: ClassVar[str]
    """The SDK's module, imported where a teacher is opened."""

    def __init__(self, config: ConfigT) -> None:
        self._config = config
        self.external_host = config.check_network()
        self._sdk = _imported(self.SDK, config.kind)
        self._key = config.key() or _NO_KEY
        self.policy = config.policy
        self.cost = config.cost

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Everything that changes an answer."""

    @abstractmethod
    def request(self, transcript: Transcript) -> dict[str, Any]:
        """The request's fields."""

    @abstractmethod
    def _make_client(self, **options: Any) -> Any: ...

    @abstractmethod
    async def _send(self, fields: dict[str, Any], headers: dict[str, str]) -> Any: ...

    @abstractmethod
    def _read(self, response: Any) -> Reply:
        """What a response says.

        Raises:
            RefusedAnswer, TeacherFailure: nothing usable.
        """

    def worst_usage(self, transcript: Transcript) -> Usage:
        return self._config.worst_usage(transcript)

    @cached_property
    def _client(self) -> Any:
        """Made where it is used: it belongs to the event loop of its first request."""
        return self._make_client(
            api_key=self._key,
            base_url=self._config.base_url,
            max_retries=0,
            timeout=self._config.policy.timeout_s,
            http_client=self._sdk.DefaultAsyncHttpxClient(**network_options(self.external_host)),
        )

    async def ask(self, transcript: Transcript, num_refused: int = 0) -> Reply:
        check_deidentified(self.external_host, [transcript])
        key = f"{request_key(self.identity, transcript)}-{num_refused}"
        fields = self.request(transcript)  # a mistake of ours in there is none of the server's
        try:
            response = await self._send(fields, {"Idempotency-Key": key})
            failure = None
        except Exception as error:
            # Raised outside of this block: an exception holds on to the one that was being handled, and it quotes.
            failure = failure_of(error, self._sdk, self._config.model)
        if failure is not None:
            raise failure
        return self._read(response)

    async def close(self) -> None:
        if "_client" in self.__dict__:
            await self._client.close()


def _imported(sdk: str, kind: str) -> Any:
    try:
        module = importlib.import_module(sdk)
    except ImportError:
        raise ConfigError(f"label.teacher.kind={kind}: pip install 'moodscale[teachers]'") from None
    silence_sdks()
    return module


def usage_of(sent: Sequence[Any], received: Any) -> Usage | None:
    """Tokens sent, in parts, and received; ``None`` where a server told none, or no numbers."""
    if not all(isinstance(number, int) and number >= 0 for number in (*sent, received)):
        return None
    return Usage(sum(sent), received)


def _is_plain(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and "@" not in parts.netloc
            and not parts.query
            and not parts.fragment
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        return False


def silence_sdks() -> None:
    """No line of theirs: at their debug level they log whole requests, and an environment variable turns that on."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in _SDK_LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    for name in _SDK_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def network_options(host: str | None) -> dict[str, Any]:
    """For the HTTP client: no redirect, which could lead outside, and no proxy between us and a server inside."""
    if host is not None:
        return {"follow_redirects": False}
    # One SDK looks for proxies by itself, whatever trust_env says: its mounts are overridden by name.
    return {"follow_redirects": False, "trust_env": False, "mounts": dict.fromkeys(_ALL_SCHEMES)}


def failure_of(error: Exception, sdk: Any, model: str) -> Exception:
    """What an SDK's error means, without its text: that quotes requests and whatever the server wrote.

    Args:
        sdk: its module; both have the same classes.
    """
    if isinstance(error, sdk.APITimeoutError):
        return TeacherFailure(Failure.TIMEOUT, passing=True, maybe_paid=True)
    if isinstance(error, sdk.APIConnectionError):
        return TeacherFailure(Failure.CONNECTION, passing=True, maybe_paid=True)
    if isinstance(error, sdk.APIStatusError):
        return _of_status(error.status_code, _code(error), error.response.headers, model)
    return TeacherFailure(Failure.UNREADABLE, passing=True, maybe_paid=True)


def _of_status(status: int, code: str, headers: Mapping[str, str], model: str) -> Exception:
    if status in (401, 403):
        return ConfigError(
            f"label.teacher.api_key_env: the server answered {status}; check the key in that variable, and what "
            "it may use"
        )
    if status == 404:
        return ConfigError(
            f"label.teacher.model={model}: the server answered 404; check it, and label.teacher.base_url"
        )
    if code in _TOO_LONG or status == 413:
        return RefusedAnswer(Refusal.TOO_LONG, Usage())
    if code in _FILTERED:
        return RefusedAnswer(Refusal.CONTENT_FILTER, Usage())
    wait_s = retry_after_s(headers)
    if status == 429 and code != "insufficient_quota":
        return TeacherFailure(Failure.RATE_LIMITED, passing=True, retry_after_s=wait_s)
    if status in (402, 429):
        return ConfigError(
            f"label.teacher: the server answered {status}, the account's quota is used up; raise it there"
        )
    if status in (408, 409) or status >= 500:
        return TeacherFailure(Failure.SERVER_ERROR, passing=True, retry_after_s=wait_s)
    return TeacherFailure(Failure.BAD_REQUEST, passing=False)


def _code(error: Any) -> str:
    """The error's code, compared with known ones and never shown."""
    body = error.body if isinstance(error.body, Mapping) else {}
    inner = body.get("error", body)
    inner = inner if isinstance(inner, Mapping) else {}
    return str(inner.get("code") or inner.get("type") or "")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``retry-after`` (a number or a date); ``None`` without either."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name)
        if not value:
            continue
        try:
            return max(0.0, float(value) * unit)
        except ValueError:
            parsed = email.utils.parsedate_tz(value)
            if parsed is not None:
                return max(0.0, email.utils.mktime_tz(parsed) - time.time())
    return None
