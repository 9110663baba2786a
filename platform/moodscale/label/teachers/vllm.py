"""A language model on this cluster's own GPUs: vLLM, fed by Ray Data, so that no transcript leaves the cluster.

Ray's processor applies the chat template, runs engines side by side and replaces one that dies. Rows hold prompts while
they are on their way, in memory; what comes back to the driver is text and counts, and only the checked answer is kept.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from moodscale.config import ConfigError
from moodscale.label.answer import Refusal, RefusedAnswer, Usage
from moodscale.label.prompt import answer_schema, build_prompt
from moodscale.label.teachers.base import Failure, Outcome, TeacherConfig, TeacherFailure, read_reply
from moodscale.label.transcript import Transcript
from moodscale.ray_runtime import keep_quiet, ray_running

ERROR = "__inference_error__"
"""Ray's column for a row whose inference failed; empty where it did not."""
_OURS = frozenset(
    {"tensor_parallel_size", "pipeline_parallel_size", "dtype", "max_model_len", "seed", "model", "tokenizer"}
)
_RUNS_CODE = frozenset({"trust_remote_code", "code_revision", "hf_overrides", "middleware", "logits_processors"})
_TOO_LONG = ("max_model_len", "maximum model length", "maximum context length", "longer than the maximum")
_BUCKETS = ("s3://", "gs://", "abfss://", "azure://")


class VllmConfig(TeacherConfig):
    """The model, and how many GPUs an engine has."""

    kind: Literal["vllm"] = "vllm"
    model: str = Field(
        description="folder of the weights, the same on every node, or a URI that Ray loads them from (s3://…); a hub "
        "id is refused: what it names may change, and asking for it is a connection to the outside"
    )
    speech: Literal["everything", "participant"] = Field(default="everything", description="whose turns are read")
    num_replicas: int = Field(default=1, ge=1, description="engines side by side")
    tensor_parallel: int = Field(default=1, ge=1, description="GPUs that share a layer of one engine")
    pipeline_parallel: int = Field(default=1, ge=1, description="groups of GPUs that share the layers of one engine")
    accelerator_type: str | None = Field(default=None, description="kind of GPU to wait for, e.g. H100")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_model_len: int | None = Field(
        default=None, ge=512, description="longest prompt and answer together; the model's own if unset"
    )
    batch_size: int = Field(default=16, ge=1, description="transcripts that an engine is handed at a time")
    max_output_tokens: int = Field(default=2048, ge=64, description="longest answer, a model's thinking included")
    temperature: float = Field(default=0.0, ge=0, le=2)
    seed: int = 0
    structured: Literal["json_schema", "none"] = Field(
        default="json_schema", description="whether decoding is held to the answer's form"
    )
    chat_template: dict[str, Any] = Field(
        default={}, description="arguments of the model's chat template, e.g. {enable_thinking: false}"
    )
    engine: dict[str, Any] = Field(default={}, description="further arguments of the engine, as vLLM names them")

    @field_validator("model")
    @classmethod
    def _is_a_place(cls, value: str) -> str:
        if not value.startswith(("/", "./", "../", "~", *_BUCKETS)):
            raise ValueError("name a folder (/models/…) or a URI (s3://…); a hub id is refused, copy the weights first")
        return value

    @field_validator("engine")
    @classmethod
    def _is_allowed(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name in _RUNS_CODE:
                raise ValueError(f"{name} is refused: no code that comes with weights is run")
            if name in _OURS:
                raise ValueError(f"{name} has a setting of its own here, or is told by 'model'; leave it out")
        return value

    @property
    def source(self) -> str:
        """What the engine loads."""
        return self.model if self.model.startswith(_BUCKETS) else os.path.abspath(os.path.expanduser(self.model))

    def open(self) -> VllmTeacher:
        if importlib.util.find_spec("vllm") is None:
            raise ConfigError(
                "label.teacher.kind=vllm: vLLM is not installed; pip install 'moodscale[vllm]' on every node"
            )
        if not self.model.startswith(_BUCKETS) and not Path(self.source, "config.json").is_file():
            raise ConfigError(f"label.teacher.model={self.model}: holds no config.json; name the folder of the weights")
        return VllmTeacher(self, build_processor)

    def engine_arguments(self) -> dict[str, Any]:
        given = {
            "tensor_parallel_size": self.tensor_parallel,
            "pipeline_parallel_size": self.pipeline_parallel,
            "dtype": self.dtype,
            "seed": self.seed,
            "max_model_len": self.max_model_len,
        }
        return {name: value for name, value in given.items() if value is not None} | self.engine


Processor = Callable[[Any], Any]
"""A dataset of rows as ``rows_of`` makes them → one with ``generated_text`` and counts of tokens, lazily."""


def processor_config(config: VllmConfig) -> Any:
    """Ray's configuration of the engine stage. A row that fails is one row, never the run."""
    from ray.data.llm import vLLMEngineProcessorConfig

    return vLLMEngineProcessorConfig(
        model_source=config.source,
        engine_kwargs=config.engine_arguments(),
        batch_size=config.batch_size,
        concurrency=config.num_replicas,
        accelerator_type=config.accelerator_type,
        should_continue_on_error=True,
        log_engine_metrics=False,
    )


def build_processor(config: VllmConfig) -> Processor:
    """The processor itself; takes vLLM."""
    from ray.data.llm import build_processor as build

    template = {"chat_template_kwargs": config.chat_template} if config.chat_template else None
    processor: Processor = build(processor_config(config), preprocess=to_request, postprocess=from_engine,
                                 builder_kwargs=template)  # fmt: skip
    return processor


def rows_of(config: VllmConfig, transcripts: Sequence[Transcript]) -> list[dict[str, Any]]:
    """A flat row a transcript: nested values would have to agree between rows."""
    rows = []
    for at, transcript in enumerate(transcripts):
        prompt = build_prompt(transcript, config.speech)
        schema = json.dumps(answer_schema(transcript.instrument)) if config.structured == "json_schema" else ""
        rows.append({
            "at": at, "system": prompt.system, "user": prompt.user, "schema": schema, "seed": config.seed,
            "temperature": config.temperature, "max_tokens": config.max_output_tokens,
        })  # fmt: skip
    return rows


def to_request(row: dict[str, Any]) -> dict[str, Any]:
    """What Ray's stages read: messages, and parameters of sampling."""
    sampling: dict[str, Any] = {name: row[name] for name in ("temperature", "max_tokens", "seed")}
    if row["schema"]:
        sampling["structured_outputs"] = {"json": row["schema"]}
    messages = [{"role": role, "content": row[role]} for role in ("system", "user")]
    return {"messages": messages, "sampling_params": sampling}


def from_engine(row: dict[str, Any]) -> dict[str, Any]:
    """What is taken along from a row that went well."""
    wanted = ("at", "generated_text", "num_input_tokens", "num_generated_tokens")
    return {name: row[name] for name in wanted}


def only_ours(row: dict[str, Any]) -> dict[str, Any]:
    """One form for all rows. A failed one comes with its prompt and an error that may quote it: neither goes on."""
    error = str(row.get(ERROR) or "")
    too_long = any(part in error.lower() for part in _TOO_LONG)
    return {
        "at": int(row["at"]),
        "text": "" if error else str(row["generated_text"]),
        "num_input_tokens": int(row.get("num_input_tokens") or 0),
        "num_output_tokens": int(row.get("num_generated_tokens") or 0),
        "failed": "too_long" if too_long else "engine" if error else "",
    }


class VllmTeacher:
    """Labels a dataset; replies arrive as engines finish them."""

    external_host = None

    def __init__(self, config: VllmConfig, build: Callable[[VllmConfig], Processor]) -> None:
        self._config = config
        self._build = build

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """With a fingerprint of the weights where they can be seen from here; replicas and batches change no answer."""
        config = self._config
        return {
            "kind": config.kind, "model": config.source, "weights": weights_fingerprint(config.source),
            "speech": config.speech, "dtype": config.dtype, "max_model_len": config.max_model_len,
            "max_output_tokens": config.max_output_tokens, "temperature": config.temperature, "seed": config.seed,
            "structured": config.structured, "chat_template": config.chat_template, "engine": config.engine,
        }  # fmt: skip

    def ask_all(self, transcripts: Sequence[Transcript]) -> Iterator[tuple[int, Outcome]]:
        import ray

        with ray_running():
            keep_quiet(ray.data.DataContext.get_current())
            rows = iter(self._dataset(transcripts).iter_rows() if transcripts else ())
            while (row := _next(rows)) is not None:
                yield row["at"], self._reply(row)

    def _dataset(self, transcripts: Sequence[Transcript]) -> Any:
        import ray

        rows = rows_of(self._config, transcripts)
        # A block a batch, so that the engines' replies arrive while others are still being worked on.
        num_blocks = -(-len(rows) // self._config.batch_size)
        return self._build(self._config)(ray.data.from_items(rows, override_num_blocks=num_blocks)).map(only_ours)

    def _reply(self, row: Mapping[str, Any]) -> Outcome:
        usage = Usage(row["num_input_tokens"], row["num_output_tokens"])
        if row["failed"] == "too_long":
            return RefusedAnswer(Refusal.TOO_LONG, usage)
        if row["failed"]:
            return TeacherFailure(Failure.SERVER_ERROR, passing=True)
        if row["num_output_tokens"] >= self._config.max_output_tokens:
            return RefusedAnswer(Refusal.TRUNCATED, usage)
        try:
            return read_reply(row["text"], usage)
        except RefusedAnswer as refused:
            return refused


def _next(rows: Iterator[Any]) -> Any | None:
    """The next row.

    Raises:
        RuntimeError: Ray gave up; by the kind of its error alone, whose text has rows in it.
    """
    try:
        return next(rows, None)
    except Exception as error:
        kind = type(error).__name__
    raise RuntimeError(
        f"label.teacher.kind=vllm: the engines stopped ({kind}); Ray's worker logs on that node say more"
    )


def weights_fingerprint(source: str) -> str | None:
    """Hash of the configuration and of every file's name and size; ``None`` where the folder is elsewhere."""
    folder = Path(source)
    if not folder.is_dir():
        return None
    sizes = sorted((entry.name, entry.stat().st_size) for entry in folder.iterdir() if entry.is_file())
    config = folder / "config.json"
    content = config.read_bytes() if config.is_file() else b""
    return hashlib.sha256(json.dumps(sizes).encode() + content).hexdigest()
