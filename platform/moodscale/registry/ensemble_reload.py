"""Scoring an ensemble in a fresh process, whatever its members read."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from moodscale.prepare.audio import SAMPLE_RATE_HZ
from moodscale.registry.reload import ReloadError, Request, _checked, _environment, score_in_fresh_process

_SCRIPT = Path(__file__).with_name("ensemble_process.py")


def score_ensemble_in_fresh_process(request: Request, timeout_s: float) -> list[dict[str, Any]]:
    """As :func:`score_in_fresh_process`; a request may have waveforms and messages, one of each a row.

    Raises:
        ValueError: the request was refused, or the model's package was.
        ReloadError: anything else, by the names of the errors.
    """
    if request.messages is None or not request.waveforms:
        return score_in_fresh_process(request, timeout_s)
    assert len(request.messages) == len(request.waveforms), "a row has both"
    with tempfile.TemporaryDirectory(prefix="moodscale-score-") as folder:
        asked, answered = Path(folder) / "request.json", Path(folder) / "answer.json"
        content = {
            "model_uri": request.model_uri,
            "model_config": {"device": request.device},
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
                "ensemble.reload_timeout_s if the base models are large"
            ) from None
        if done.returncode != 0 or not answered.is_file():
            raise ReloadError(f"{request.model_uri}: the scoring process ended with {done.returncode}")
        answer = json.loads(answered.read_text())
    return _checked(answer, request.model_uri)


def _packed(request: Request) -> bytes:
    assert request.messages is not None
    buffer = io.BytesIO()
    messages = np.frombuffer(json.dumps(list(request.messages)).encode(), dtype=np.uint8)
    waveforms = {f"waveform_{number}": one for number, one in enumerate(request.waveforms)}
    np.savez(buffer, allow_pickle=False, messages=messages, **waveforms)
    return buffer.getvalue()
