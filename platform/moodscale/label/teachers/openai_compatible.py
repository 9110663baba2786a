"""Any server with the chat completions interface: a provider's, or one of your own (vLLM, SGLang, llama.cpp …)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from moodscale.config import ConfigError
from moodscale.label.answer import Refusal, RefusedAnswer, Usage
from moodscale.label.answers import request_key
from moodscale.label.hosts import check_deidentified
from moodscale.label.http_teacher import HttpTeacherConfig, failure_of, network_options, silence_sdks
from moodscale.label.prompt import SCHEMA_NAME, answer_schema, build_prompt
from moodscale.label.teachers.base import Failure, Reply, TeacherFailure, read_reply
from moodscale.label.transcript import Transcript

if TYPE_CHECKING:
    import openai


class OpenAiCompatibleConfig(HttpTeacherConfig):
    """The server, the model, and how much of the form it enforces."""

    kind: Literal["openai_compatible"] = "openai_compatible"
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str | None = "OPENAI_API_KEY"
    structured: Literal["json_schema", "json_object", "none"] = Field(
        default="json_schema",
        description="what the server is asked to hold an answer to: our schema, any JSON object, or nothing",
    )
    token_limit: Literal["max_completion_tokens", "max_tokens"] = Field(
        default="max_completion_tokens", description="what the server calls the limit; older ones know max_tokens only"
    )
    seed: int | None = Field(default=0, description="sent where the server may repeat itself; null leaves it out")
    extra_body: dict[str, Any] = Field(
        default={}, description="further fields of a request, e.g. {reasoning_effort: low}; they are part of the key"
    )

    def open(self) -> OpenAiCompatibleTeacher:
        host = self.check_network()
        try:
            import openai
        except ImportError:
            raise ConfigError("label.teacher.kind=openai_compatible: pip install 'moodscale[teachers]'") from None
        silence_sdks()
        return OpenAiCompatibleTeacher(self, host, openai)


class OpenAiCompatibleTeacher:
    """One request an answer."""

    _UNUSED_KEY: ClassVar[str] = "none"

    def __init__(self, config: OpenAiCompatibleConfig, host: str | None, sdk: Any) -> None:
        self._config = config
        self._sdk = sdk
        self._key = config.key()
        self.external_host = host
        self.policy = config.policy
        self.cost = config.cost

    @property
    def identity(self) -> Mapping[str, Any]:
        own = {"structured": self._config.structured, "seed": self._config.seed, "extra": self._config.extra_body}
        return self._config.common_identity() | own

    def worst_usage(self, transcript: Transcript) -> Usage:
        return self._config.worst_usage(transcript)

    @cached_property
    def _client(self) -> openai.AsyncOpenAI:
        """Made where it is used: it belongs to the event loop of its first request."""
        http = self._sdk.DefaultAsyncHttpxClient(**network_options(self.external_host))
        client: openai.AsyncOpenAI = self._sdk.AsyncOpenAI(
            api_key=self._key or self._UNUSED_KEY, base_url=self._config.base_url, max_retries=0,
            timeout=self._config.policy.timeout_s, http_client=http,
        )  # fmt: skip
        return client

    def request(self, transcript: Transcript) -> dict[str, Any]:
        """The request's fields."""
        config = self._config
        fields: dict[str, Any] = {
            "model": config.model,
            "messages": build_prompt(transcript, config.speech).messages(),
        }
        if config.structured == "json_schema":
            schema = {"name": SCHEMA_NAME, "schema": answer_schema(transcript.instrument), "strict": True}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif config.structured == "json_object":
            fields["response_format"] = {"type": "json_object"}
        optional = {"temperature": config.temperature, "seed": config.seed}
        fields |= {name: value for name, value in optional.items() if value is not None}
        return fields | {config.token_limit: config.max_output_tokens}

    async def ask(self, transcript: Transcript, num_refused: int = 0) -> Reply:
        check_deidentified(self.external_host, [transcript])
        key = f"{request_key(self.identity, transcript)}-{num_refused}"
        fields = self.request(transcript)
        # The SDK rewrites typed fields one by one; a schema is JSON already, and the largest of them.
        extra = {name: fields.pop(name) for name in ("response_format",) if name in fields} | self._config.extra_body
        try:
            completion = await self._client.chat.completions.create(
                **fields, extra_headers={"Idempotency-Key": key}, extra_body=extra
            )
            failure = None
        except Exception as error:
            # Raised outside of this block: an exception holds on to the one that was being handled, and it quotes.
            failure = failure_of(error, self._sdk, self._config.model)
        if failure is not None:
            raise failure
        return _reply(completion)

    async def close(self) -> None:
        if "_client" in self.__dict__:
            await self._client.close()


def _reply(completion: Any) -> Reply:
    """What a completion says.

    Raises:
        RefusedAnswer, TeacherFailure: nothing usable.
    """
    choices = getattr(completion, "choices", None)
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = getattr(choice, "message", None)
    if message is None:
        raise TeacherFailure(Failure.UNREADABLE, passing=True, maybe_paid=True)
    usage = _usage(getattr(completion, "usage", None))
    reason = getattr(choice, "finish_reason", None)
    if getattr(message, "refusal", None):
        raise RefusedAnswer(Refusal.DECLINED, usage)
    if reason == "content_filter":
        raise RefusedAnswer(Refusal.CONTENT_FILTER, usage)
    if reason == "length":
        raise RefusedAnswer(Refusal.TRUNCATED, usage)
    content = getattr(message, "content", None)
    return read_reply(content if isinstance(content, str) else "", usage)


def _usage(given: Any) -> Usage | None:
    numbers = [getattr(given, name, None) for name in ("prompt_tokens", "completion_tokens")]
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        return None
    return Usage(*numbers)  # type: ignore[arg-type]
