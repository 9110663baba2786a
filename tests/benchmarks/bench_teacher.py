"""Answers a second from a teacher's server that takes 50 ms for each, with 1, 8 and 32 requests on their way.

The server is a process of its own on this machine; the answers go through everything: the SDK, the checks, the store
on disk. The three take turns in one run, in an order that moves on with each, after a turn of each to warm up. Ideal is
``concurrency / latency``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from common import Ratio, at_least, report

from moodscale.label.ask import label_transcripts
from moodscale.label.teachers.openai_compatible import OpenAiCompatibleConfig
from spoken import transcript
from teacher_server import TeacherServer, teacher_server

CONCURRENCY = (1, 8, 32)
EXPECTED = {1: 0.75, 8: 0.6}
"""Share of the ideal. With 32 the machine that also plays the server is what is measured: reported, not held."""


def answers_per_s(server: TeacherServer, concurrency: int, turn: int, num_answers: int) -> float:
    """One turn, into an empty store."""
    config = OpenAiCompatibleConfig.model_validate(
        {"model": "m", "base_url": f"{server.url}/v1", "api_key_env": None, "policy": {"concurrency": concurrency}}
    )
    asked = [transcript(f"u{at}", f"turn {turn}, {concurrency} at a time, number {at}") for at in range(num_answers)]
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        found = label_transcripts(config, asked, folder)
        took_s = time.perf_counter() - begun
    assert len(found.answers) == num_answers, found.summary
    assert found.summary.num_requests == num_answers
    return num_answers / took_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="turns of each that count, after one to warm up")
    parser.add_argument("--latency-s", type=float, default=0.05)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a turn if it were ideal")
    parser.add_argument("--quick", action="store_true", help="two short turns: shows that it runs, measures nothing")
    parser.add_argument("--json", action="store_true", help="a summary as the last line")
    options = parser.parse_args()
    repeats, seconds = (2, 0.2) if options.quick else (options.repeats, options.seconds)
    rates: dict[int, list[float]] = {concurrency: [] for concurrency in CONCURRENCY}
    with teacher_server(options.latency_s) as server:
        for turn in range(repeats + 1):
            first = turn % len(CONCURRENCY)
            for concurrency in CONCURRENCY[first:] + CONCURRENCY[:first]:
                num_answers = max(concurrency, round(concurrency / options.latency_s * seconds))
                rate = answers_per_s(server, concurrency, turn, num_answers)
                if turn:
                    rates[concurrency].append(rate)
    ratios = []
    for concurrency, measured in rates.items():
        ideal = [concurrency / options.latency_s] * repeats
        name = f"concurrency {concurrency} over ideal"
        expected = EXPECTED.get(concurrency)
        shares = [rate / best for rate, best in zip(measured, ideal, strict=True)]
        ratios.append(Ratio(name, shares) if expected is None else at_least(name, measured, ideal, expected))
    for concurrency in CONCURRENCY[1:]:
        ratios.append(
            Ratio(
                f"concurrency {concurrency} over 1",
                [many / one for many, one in zip(rates[concurrency], rates[1], strict=True)],
            )
        )
    facts = {
        f"answers/s at {concurrency}": round(statistics.median(rates[concurrency]), 1) for concurrency in CONCURRENCY
    }
    return report(ratios, facts, options, [])


if __name__ == "__main__":
    sys.exit(main())
