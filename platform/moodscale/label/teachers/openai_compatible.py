"""Any server with the chat completions interface: a provider's, or one of your own (vLLM, SGLang, llama.cpp …)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from moodscale.label.answer import Refusal, RefusedAnswer, Usage
from moodscale.label.http_teacher import HttpTeacher, HttpTeacherConfig, usage_of
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
        return OpenAiCompatibleTeacher(self)


class OpenAiCompatibleTeacher(HttpTeacher[OpenAiCompatibleConfig]):
    """Chat completions."""

    SDK = "openai"

    @property
    def identity(self) -> Mapping[str, Any]:
        own = {"structured": self._config.structured, "seed": self._config.seed, "extra": self._config.extra_body}
        return self._config.common_identity() | own

    def _make_client(self, **options: Any) -> openai.AsyncOpenAI:
        client: openai.AsyncOpenAI = self._sdk.AsyncOpenAI(**options)
        return client

    def request(self, transcript: Transcript) -> dict[str, Any]:
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

    async def _send(self, fields: dict[str, Any], headers: dict[str, str]) -> Any:
        # The SDK rewrites typed fields one by one; a schema is JSON already, and the largest of them.
        extra = {name: fields.pop(name) for name in ("response_format",) if name in fields} | self._config.extra_body
        return await self._client.chat.completions.create(**fields, extra_headers=headers, extra_body=extra)

    def _read(self, response: Any) -> Reply:
        choices = getattr(response, "choices", None)
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = getattr(choice, "message", None)
        if message is None:
            raise TeacherFailure(Failure.UNREADABLE, passing=True, maybe_paid=True)
        usage = _usage(getattr(response, "usage", None))
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
    return usage_of([getattr(given, "prompt_tokens", None)], getattr(given, "completion_tokens", None))
