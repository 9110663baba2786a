"""Somebody else's server: ``transformers serve`` with a model of random weights, which talks nonsense."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from moodscale.label.ask import label_transcripts
from moodscale.label.teachers.openai_compatible import OpenAiCompatibleConfig
from spoken import transcripts
from tiny_chat_model import write_chat_model


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The model's name and the server's address."""
    model = write_chat_model(tmp_path / "model")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = shutil.which("transformers", path=str(Path(sys.executable).parent))
    assert program is not None
    command = [program, "serve", str(model), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 240
            while not _is_up(f"http://127.0.0.1:{port}/health"):
                assert server.poll() is None, (tmp_path / "server.log").read_text()[-2000:]
                assert time.monotonic() < deadline
                time.sleep(0.5)
            yield str(model), f"http://127.0.0.1:{port}/v1"
        finally:
            server.kill()
            server.wait(30)


def _is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


@pytest.mark.slow
def test_nonsense_is_refused_by_reason_and_nothing_crashes(address: tuple[str, str], tmp_path: Path) -> None:
    model, url = address
    config = OpenAiCompatibleConfig.model_validate(
        {"model": model, "base_url": url, "api_key_env": None, "max_output_tokens": 64, "policy": {"concurrency": 2}}
    )
    asked = transcripts(3)
    found = label_transcripts(config, asked, tmp_path / "answers")
    assert found.answers == {}
    assert set(found.refused.values()) <= {"truncated", "not_json", "empty"}, "whatever it wrote, it was no answer"
    assert len(found.refused) == found.summary.num_asked == 3
    assert found.summary.input_tokens > 3 * 1000, "it counts tokens, and here each is a byte"
    for one in asked:
        worst = config.open().worst_usage(one)
        assert found.summary.input_tokens / 3 < worst.input_tokens, "the bound holds where every token is a byte"
    again = label_transcripts(config, asked, tmp_path / "answers")
    assert (again.refused, again.summary.num_requests) == (found.refused, 0)
