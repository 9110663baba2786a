"""Scoring in a fresh process, where nothing that is still in memory can help: the model stands by itself, or fails."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from moodscale.prepare.audio import SAMPLE_RATE_HZ

_SCRIPT = Path(__file__).with_name("fresh_process.py")
_USER_ERRORS = {"ValueError", "ConfigError", "CorpusError"}

Array = np.ndarray[Any, Any]


class ReloadError(RuntimeError):
    """A model could not be loaded, or could not score, in a process of its own."""


@dataclass(frozen=True)
class Request:
    """What to load and what to score: files; or waveforms at 16 kHz, messages, or a row with one of each.

    Attributes:
        model_uri: a directory, or ``models:/…``.
        tracking_uri: of the MLflow that holds it.
        messages: JSON text, a row each.
        device: ``auto``, ``cpu``, ``cuda``…
    """

    model_uri: str
    tracking_uri: str
    paths: Sequence[str] | None = None
    waveforms: Sequence[Array] = ()
    messages: Sequence[str] | None = None
    device: str = "auto"

    def __repr__(self) -> str:
        return f"Request({self.model_uri!r})"


class Reloader(Protocol):
    """Loads a model and scores a request; one dictionary a row."""

    def __call__(self, request: Request, timeout_s: float) -> list[dict[str, Any]]: ...


def score_in_fresh_process(request: Request, timeout_s: float) -> list[dict[str, Any]]:
    """Load with ``mlflow.pyfunc.load_model`` in a new interpreter and score with the code packed in the model.

    Raises:
        ValueError: the request was refused (too short, not a recording, …) or the model's package was.
        ReloadError: anything else, by the names of the errors.
    """
    with tempfile.TemporaryDirectory(prefix="moodscale-score-") as folder:
        asked, answered = Path(folder) / "request.json", Path(folder) / "answer.json"
        content = {
            "model_uri": request.model_uri,
            "model_config": {"device": request.device},
            "paths": None if request.paths is None else list(request.paths),
            "sample_rate_hz": SAMPLE_RATE_HZ,
        }
        asked.write_text(json.dumps(content))
        # -P: this file's folder must not be where the new interpreter looks for modules first.
        command = [sys.executable, "-P", str(_SCRIPT), str(asked), str(answered)]
        try:
            done = subprocess.run(
                command,
                input=_packed(request),
                env=_environment(request.tracking_uri),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ReloadError(
                f"{request.model_uri}: loading and scoring took longer than {timeout_s:g} s; raise "
                "reload_timeout_s (of registry, or of ensemble) if the base model is large"
            ) from None
        if done.returncode != 0 or not answered.is_file():
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise ReloadError(f"{request.model_uri}: the scoring process ended with {done.returncode}: {last}")
        answer = json.loads(answered.read_text())
    return _checked(answer, request.model_uri)


def _checked(answer: dict[str, Any], model_uri: str) -> list[dict[str, Any]]:
    for kind, message in answer.get("errors", ()):
        if kind in _USER_ERRORS:
            raise ValueError(message)
    if "errors" in answer:
        named = "; ".join(f"{kind}: {message.splitlines()[0] if message else ''}" for kind, message in answer["errors"])
        raise ReloadError(f"{model_uri}: {named}")
    own = Path(__file__).parent.parent.resolve()
    if Path(answer["code"]).resolve().parent == own:
        raise ReloadError(
            f"{model_uri}: was scored by the code at {own} instead of its own; its 'code' folder is missing"
        )
    rows: list[dict[str, Any]] = answer["rows"]
    return rows


def _environment(tracking_uri: str) -> dict[str, str]:
    return {
        **os.environ,
        "MLFLOW_TRACKING_URI": tracking_uri,
        "MLFLOW_REGISTRY_URI": tracking_uri,
        # Ours are models from code. Whatever else lies under the name must not be unpickled.
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_SCHEMA_DETAILS": "true",
    }


def _packed(request: Request) -> bytes:
    """What was said and recorded goes through a pipe: a command line and a file would outlive it."""
    if request.paths is not None:
        return b""
    columns: dict[str, Array] = {f"waveform_{number}": one for number, one in enumerate(request.waveforms)}
    if request.messages is not None:
        assert len(request.waveforms) in (0, len(request.messages)), "a row has both, or no row has"
        columns["messages"] = np.frombuffer(json.dumps(list(request.messages)).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **columns)
    return buffer.getvalue()
