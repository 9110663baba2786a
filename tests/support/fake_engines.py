"""Engines that are none, for the vLLM teacher: rows of the forms that Ray's stages give."""

from __future__ import annotations

import json
import re
from typing import Any

from moodscale.label.teachers.vllm import ERROR, VllmConfig, VllmTeacher, from_engine, to_request
from teacher_server import good_answer

GOOD = json.dumps(good_answer())


def fake_engine(row: dict[str, Any]) -> dict[str, Any]:
    """What an engine may do, by what the transcript asks for; rows of the forms that Ray's stages give."""
    request = to_request(row)
    assert [message["role"] for message in request["messages"]] == ["system", "user"]
    found = re.search(r"script:(\w+)", row["user"])
    script = found.group(1) if found else "good"
    if script == "too_long":
        return {"at": row["at"], "prompt": row["user"], ERROR: "ValueError: longer than the maximum model length"}
    if script == "dead":
        return {"at": row["at"], "prompt": row["user"], ERROR: f"RuntimeError: {row['user']}"}
    text = {"good": GOOD, "no_json": "I am sorry", "cut": GOOD[:30]}[script]
    num_generated = row["max_tokens"] if script == "cut" else 40
    done = {"at": row["at"], "generated_text": text, "num_input_tokens": 900, "num_generated_tokens": num_generated}
    return from_engine(done) | {ERROR: ""}


def fake_build(config: VllmConfig) -> Any:
    return lambda dataset: dataset.map(fake_engine)


class FakeEngines(VllmConfig):
    """The teacher with engines that are none; everything around them is as it is."""

    def open(self) -> VllmTeacher:
        return VllmTeacher(self, fake_build)
