"""Claude, over the Messages interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from moodscale.config import ConfigError
from moodscale.label.answer import Refusal, RefusedAnswer, Usage
from moodscale.label.http_teacher import HttpTeacher, HttpTeacherConfig, usage_of
from moodscale.label.prompt import SCHEMA_NAME, answer_schema, build_prompt
from moodscale.label.teachers.base import Failure, Reply, TeacherFailure, read_reply
from moodscale.label.transcript import Transcript

if TYPE_CHECKING:
    import anthropic

_WANTED = "Hands in the scores of the questionnaire."


class AnthropicConfig(HttpTeacherConfig):
    """The model, and how it hands in its answer."""

    kind: Literal["anthropic"] = "anthropic"
    base_url: str = "https://api.anthropic.com"
    api_key_env: str | None = "ANTHROPIC_API_KEY"
    temperature: float | None = Field(
        default=None, ge=0, le=1, description="sent where a model still takes it; newer ones refuse it"
    )
    structured: Literal["json_schema", "tool", "none"] = Field(
        default="json_schema",
        description="structured output, a tool that must be called (for models without), or text alone",
    )
    thinking_tokens: int | None = Field(
        default=None, ge=1024, description="budget of extended thinking, within max_output_tokens; off if unset"
    )
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = Field(
        default=None, description="sent where the model knows it"
    )

    def open(self) -> AnthropicTeacher:
        self._check()
        return AnthropicTeacher(self)

    def _check(self) -> None:
        if self.thinking_tokens is None:
            return
        if self.thinking_tokens >= self.max_output_tokens:
            raise ConfigError(
                f"label.teacher.thinking_tokens={self.thinking_tokens} leaves nothing of "
                f"label.teacher.max_output_tokens={self.max_output_tokens} for the answer; raise the latter"
            )
        if self.structured == "tool" or self.temperature is not None:
            raise ConfigError(
                "label.teacher.thinking_tokens goes with structured=json_schema or none, and temperature=null"
            )


class AnthropicTeacher(HttpTeacher[AnthropicConfig]):
    """Messages."""

    SDK = "anthropic"

    @property
    def identity(self) -> Mapping[str, Any]:
        config = self._config
        own = {"structured": config.structured, "thinking": config.thinking_tokens, "effort": config.effort}
        return config.common_identity() | own

    def _make_client(self, **options: Any) -> anthropic.AsyncAnthropic:
        client: anthropic.AsyncAnthropic = self._sdk.AsyncAnthropic(**options, open_telemetry=False)
        return client

    def request(self, transcript: Transcript) -> dict[str, Any]:
        config = self._config
        prompt = build_prompt(transcript, config.speech)
        schema = answer_schema(transcript.instrument)
        fields: dict[str, Any] = {
            "model": config.model,
            "max_tokens": config.max_output_tokens,
            "system": prompt.system,
            "messages": [{"role": "user", "content": prompt.user}],
        }
        output: dict[str, Any] = {} if config.effort is None else {"effort": config.effort}
        if config.structured == "json_schema":
            output["format"] = {"type": "json_schema", "schema": schema}
        elif config.structured == "tool":
            fields["tools"] = [{"name": SCHEMA_NAME, "description": _WANTED, "input_schema": schema}]
            fields["tool_choice"] = {"type": "tool", "name": SCHEMA_NAME}
        if output:
            fields["output_config"] = output
        if config.thinking_tokens is not None:
            fields["thinking"] = {"type": "enabled", "budget_tokens": config.thinking_tokens}
        if config.temperature is not None:
            fields["temperature"] = config.temperature
        return fields

    async def _send(self, fields: dict[str, Any], headers: dict[str, str]) -> Any:
        # The SDK's signature has it no more, the interface does.
        extra = {} if "temperature" not in fields else {"temperature": fields.pop("temperature")}
        return await self._client.messages.create(**fields, extra_headers=headers, extra_body=extra)

    def _read(self, response: Any) -> Reply:
        blocks = getattr(response, "content", None)
        if not isinstance(blocks, list):
            raise TeacherFailure(Failure.UNREADABLE, passing=True, maybe_paid=True)
        usage = _usage(getattr(response, "usage", None))
        reason = getattr(response, "stop_reason", None)
        if reason == "refusal":
            raise RefusedAnswer(Refusal.DECLINED, usage)
        if reason in ("max_tokens", "model_context_window_exceeded"):
            raise RefusedAnswer(Refusal.TRUNCATED, usage)
        for block in blocks:
            if getattr(block, "type", None) == "tool_use" and getattr(block, "name", None) == SCHEMA_NAME:
                handed_in = getattr(block, "input", None)
                if isinstance(handed_in, Mapping):
                    return Reply(handed_in, usage)
        texts = [
            block.text for block in blocks if getattr(block, "type", None) == "text" and isinstance(block.text, str)
        ]
        return read_reply("".join(texts), usage)


def _usage(given: Any) -> Usage | None:
    """Tokens of a server's cache are counted as any other: none is asked for."""
    cached = [getattr(given, f"cache_{what}_input_tokens", None) or 0 for what in ("creation", "read")]
    return usage_of([getattr(given, "input_tokens", None), *cached], getattr(given, "output_tokens", None))
