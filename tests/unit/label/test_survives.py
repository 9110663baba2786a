"""A job that labels is killed, and pays for nothing twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from moodscale.label.ask import label_transcripts
from moodscale.label.teachers.openai_compatible import OpenAiCompatibleConfig
from spoken import transcripts
from teacher_server import teacher_server

NUM = 60
_JOB = """
import json, sys
from moodscale.label.ask import label_transcripts
from moodscale.label.teachers.openai_compatible import OpenAiCompatibleConfig
from spoken import transcripts
label_transcripts(OpenAiCompatibleConfig.model_validate(json.loads(sys.argv[1])), transcripts(int(sys.argv[2])), sys.argv[3])
"""  # noqa: E501


def test_after_sigkill_only_what_was_not_stored_is_asked_for(tmp_path: Path) -> None:
    with teacher_server(latency_s=0.2) as server:
        values = {
            "model": "m", "base_url": f"{server.url}/v1", "api_key_env": None, "policy": {"concurrency": 4},
        }  # fmt: skip
        support = str(Path(__file__).parents[2] / "support")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([support, os.environ.get("PYTHONPATH", "")])}
        command = [sys.executable, "-c", _JOB, json.dumps(values), str(NUM), str(tmp_path)]
        job = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 120
        while len(list(tmp_path.rglob("*.answer.json"))) < 12:
            assert job.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        job.send_signal(signal.SIGKILL)
        job.wait(30)
        stored = list(tmp_path.rglob("*.answer.json"))
        assert 12 <= len(stored) < NUM
        for file in stored:
            assert json.loads(file.read_text())["answer"] is not None, "what is there is whole"
        found = label_transcripts(OpenAiCompatibleConfig.model_validate(values), transcripts(NUM), tmp_path)
        by_key = server.by_key
    assert len(found.answers) == NUM
    assert found.summary.num_from_store == len(stored)
    assert found.summary.num_requests == NUM - len(stored)
    assert len(by_key) == NUM
    # Nothing that was stored is asked again; what was on its way when the job died may be, under its own key.
    assert sum(by_key.values()) - NUM <= 4
    assert set(by_key.values()) <= {1, 2}
