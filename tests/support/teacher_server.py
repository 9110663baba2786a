"""A teacher's server in a process of its own: chat completions and messages, and every way in which they go wrong.

A transcript says what it wants to see by a word in one of its turns (``script:NAME``); without one it gets a good
answer. The server counts requests by their ``Idempotency-Key`` and keeps what it was sent, for tests to look at.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

SECRET = "CANARY-violet-otter-7731"
"""Stands in everything that this server says when something goes wrong."""
_SCRIPT = re.compile(r"script:([a-z0-9_]+)")
_FAILS_ONCE = {"rate_limited", "rate_limited_date", "server_error", "hangs_up", "slow_once"}


def good_answer(items: tuple[int, ...] = (1, 2, 0, 3, 1, 0, 2, 1, 0), quote: str = "") -> dict[str, Any]:
    """An answer of the form that is asked for."""
    entries = {
        f"item_{number}": {"quotes": [quote] if quote and number == 1 else [], "score": score}
        for number, score in enumerate(items, start=1)
    }
    return {"items": entries, "total": sum(items), "confidence": 0.75}


def _bad(script: str) -> str:
    answer = good_answer()
    if script == "out_of_range":
        answer["items"]["item_2"]["score"] = 7
    elif script == "does_not_add_up":
        answer["total"] = 26
    elif script == "too_few_items":
        del answer["items"]["item_9"]
    elif script == "malformed":
        return json.dumps(answer)[:-9] + SECRET
    elif script == "no_json":
        return f"The person said {SECRET}."
    return json.dumps(answer)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave together: apart, the second waits 40 ms for the first one's receipt.
    wbufsize = -1
    disable_nagle_algorithm = True
    latency_s = 0.0
    lock = threading.Lock()
    seen: ClassVar[Counter[str]] = Counter()
    requests: ClassVar[list[dict[str, Any]]] = []
    most_at_once = 0
    now = 0

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        with self.lock:
            facts = {"by_key": dict(self.seen), "requests": self.requests, "most_at_once": _Handler.most_at_once}
        self._send(200, facts)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fields = json.loads(body)
        key = self.headers.get("Idempotency-Key", "")
        with self.lock:
            self.seen[key] += 1
            time_seen = self.seen[key]
            _Handler.now += 1
            _Handler.most_at_once = max(_Handler.most_at_once, _Handler.now)
            self.requests.append({
                "path": self.path, "key": key, "fields": fields, "at": time.monotonic(),
                "headers": {name.lower(): value for name, value in self.headers.items()},
            })  # fmt: skip
        try:
            found = _SCRIPT.search(json.dumps(fields["messages"]))
            self._play(found.group(1) if found else "good", time_seen, fields)
        finally:
            with self.lock:
                _Handler.now -= 1

    def _play(self, script: str, time_seen: int, fields: dict[str, Any]) -> None:
        time.sleep(self.latency_s)
        if script in _FAILS_ONCE and time_seen > 1:
            script = "good"
        error = {"error": {"message": f"about {SECRET}", "type": "x", "code": "y"}}
        if script == "rate_limited":
            self._send(429, error, {"Retry-After": "1"})
        elif script == "server_error":
            self._send(500, error)
        elif script == "always_500":
            self._send(503, error)
        elif script == "unauthorised":
            self._send(401, error)
        elif script == "no_model":
            self._send(404, error)
        elif script == "bad_request":
            self._send(400, error)
        elif script == "too_long":
            error["error"]["code"] = "context_length_exceeded"
            self._send(400, error)
        elif script == "redirect":
            self._send(307, error, {"Location": f"http://{self.headers['Host']}/elsewhere"})
        elif script == "hangs_up":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif script in ("slow_once", "slow"):
            self._drip(5.0)
        elif script == "not_json":
            self._send(200, f"<html>{SECRET}</html>")
        else:
            self._answer(script, fields)

    def _drip(self, during_s: float) -> None:
        """A byte now and then, so that no timeout between two reads is ever reached."""
        try:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(int(during_s / 0.1)):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.1)
        except OSError:
            pass
        self.close_connection = True

    def _answer(self, script: str, fields: dict[str, Any]) -> None:
        text = "" if script == "empty" else json.dumps(good_answer()) if script == "good" else _bad(script)
        if script == "quotes":
            text = json.dumps(good_answer(quote="I LIE  awake")).replace("[]", f'["{SECRET}"]', 1)
        if script == "fenced":
            text = f"<think>is it {{this}}?</think>Here:\n```json\n{json.dumps(good_answer())}\n```"
        tokens = {"input": 1000, "output": 100}
        if self.path.endswith("/messages"):
            stop = {"refusal": "refusal", "truncated": "max_tokens"}.get(script, "end_turn")
            block: dict[str, Any] = {"type": "text", "text": text}
            if "tools" in fields and script != "no_json":
                block = {"type": "tool_use", "id": "t", "name": fields["tools"][0]["name"], "input": json.loads(text)}
            self._send(200, {
                "id": "m", "type": "message", "role": "assistant", "model": fields["model"], "content": [block],
                "stop_reason": stop, "stop_sequence": None,
                "usage": {"input_tokens": tokens["input"], "output_tokens": tokens["output"]},
            })  # fmt: skip
            return
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if script == "refusal":
            message = {"role": "assistant", "content": None, "refusal": f"I will not, {SECRET}"}
        ended = "length" if script == "truncated" else "stop"
        reply: dict[str, Any] = {
            "id": "c", "object": "chat.completion", "created": 1, "model": fields["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": ended}],
            "usage": {"prompt_tokens": tokens["input"], "completion_tokens": tokens["output"], "total_tokens": 1100},
        }  # fmt: skip
        if script == "no_usage":
            del reply["usage"]
        self._send(200, reply)

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


@dataclass(frozen=True)
class TeacherServer:
    """A running server."""

    url: str

    def facts(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/facts", timeout=30) as reply:
            found: dict[str, Any] = json.load(reply)
        return found

    @property
    def by_key(self) -> dict[str, int]:
        return dict(self.facts()["by_key"])

    @property
    def requests(self) -> list[dict[str, Any]]:
        return list(self.facts()["requests"])


@contextmanager
def teacher_server(latency_s: float = 0.0) -> Iterator[TeacherServer]:
    """A server on loopback as long as the block lasts."""
    command = [sys.executable, __file__, str(latency_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield TeacherServer(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.kill()
        process.wait(30)


def main() -> None:
    _Handler.latency_s = float(sys.argv[1])
    server = _Server(("127.0.0.1", 0), _Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
