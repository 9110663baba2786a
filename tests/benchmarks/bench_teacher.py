"""Answers a second from a teacher's server that takes 50 ms for each, with 1, 8 and 32 requests on their way.

The server is a process of its own on this machine. Answers go through everything: the SDK, pace and budget, the checks,
the store on disk. Beside it runs what a script would do, the SDK alone in a loop with eight requests on their way,
which checks and keeps nothing. All take turns in one run, in an order that moves on with each, after one turn to warm
up. Ideal is ``concurrency / latency``; on a machine whose cores are busy the server and the SDK do not reach it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import openai
from common import Ratio, at_least, at_most, report

from moodscale.label.ask import label_transcripts
from moodscale.label.prompt import answer_schema, build_prompt
from moodscale.label.teachers.openai_compatible import OpenAiCompatibleConfig
from moodscale.label.transcript import Transcript
from spoken import transcript
from teacher_server import TeacherServer, teacher_server

CONCURRENCY = (1, 8, 32)
PLAIN = 8
"""Requests of the plain loop."""
EXPECTED_OVER_PLAIN = 0.8


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


def plain_per_s(server: TeacherServer, turn: int, num_answers: int) -> float:
    """One turn of the SDK alone, asking the same questions."""
    config = OpenAiCompatibleConfig.model_validate({"model": "m", "base_url": f"{server.url}/v1", "api_key_env": None})
    asked = [transcript(f"u{at}", f"turn {turn}, {PLAIN} at a time, number {at}") for at in range(num_answers)]

    async def ask_all() -> list[Any]:
        places = asyncio.Semaphore(PLAIN)

        async def ask(one: Transcript) -> Any:
            messages: Any = build_prompt(one).messages()
            schema: Any = {"name": "scores", "schema": answer_schema(one.instrument), "strict": True}
            async with places:
                said = await client.chat.completions.create(
                    model=config.model,
                    messages=messages,
                    response_format={"type": "json_schema", "json_schema": schema},
                )
            return json.loads(said.choices[0].message.content or "")

        async with openai.AsyncOpenAI(api_key="none", base_url=config.base_url) as client:
            return await asyncio.gather(*map(ask, asked))

    begun = time.perf_counter()
    found = asyncio.run(ask_all())
    took_s = time.perf_counter() - begun
    assert [answer["total"] for answer in found] == [10] * num_answers
    return num_answers / took_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="turns of each that count, after one to warm up")
    parser.add_argument("--latency-s", type=float, default=0.05)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a turn if it were ideal")
    parser.add_argument("--quick", action="store_true", help="two short turns: shows that it runs, measures nothing")
    parser.add_argument("--json", action="store_true", help="a summary as the last line")
    options = parser.parse_args()
    repeats, seconds = (2, 0.2) if options.quick else (options.repeats, options.seconds)
    rates: dict[str, list[float]] = {"plain": []} | {str(concurrency): [] for concurrency in CONCURRENCY}
    with teacher_server(options.latency_s) as server:
        for turn in range(repeats + 1):
            names = list(rates)
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                many = PLAIN if name == "plain" else int(name)
                num_answers = max(many, round(many / options.latency_s * seconds))
                if name == "plain":
                    rate = plain_per_s(server, turn, num_answers)
                else:
                    rate = answers_per_s(server, many, turn, num_answers)
                if turn:
                    rates[name].append(rate)
    ratios = [
        at_least(f"concurrency {PLAIN} over the SDK alone", rates[str(PLAIN)], rates["plain"], EXPECTED_OVER_PLAIN)
    ]
    for many in CONCURRENCY:
        ratios.append(
            Ratio(f"concurrency {many} over ideal", [rate * options.latency_s / many for rate in rates[str(many)]])
        )
    for many in CONCURRENCY[1:]:
        ratios.append(at_most(f"concurrency {many} over 1", rates[str(many)], rates["1"]))
    facts = {f"answers/s, {name}": round(statistics.median(measured), 1) for name, measured in rates.items()}
    return report(ratios, facts, options, [])


if __name__ == "__main__":
    sys.exit(main())
