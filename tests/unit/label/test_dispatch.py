"""When a teacher is asked, and when nobody asks any more. Time is told by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from moodscale.label.answer import Answer, RefusedAnswer, Usage
from moodscale.label.dispatch import Dispatcher, Outcome, Pace, Question
from moodscale.label.money import Budget, Cost
from moodscale.label.teachers.base import Failure, Policy, Reply, TeacherFailure
from moodscale.label.transcript import Transcript
from spoken import transcript

ANSWER = Answer((1,) * 9, 9.0, 0.5)


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, wait_s: float) -> None:
        self.slept.append(round(wait_s, 6))
        self.now += wait_s
        await asyncio.sleep(0)


class FakeTeacher:
    """Does what it is told for each unit, one thing after another."""

    identity: Mapping[str, Any] = {"kind": "fake"}
    external_host = None

    def __init__(
        self, policy: Policy, plan: dict[str, list[Exception]] | None = None, cost: Cost | None = None
    ) -> None:
        self.policy, self.cost = policy, cost or Cost()
        self.plan = plan or {}
        self.asked: list[str] = []
        self.closed = False

    def worst_usage(self, transcript: Transcript) -> Usage:
        return Usage(1000, 1000)

    async def ask(self, transcript: Transcript, num_refused: int = 0) -> Reply:
        self.asked.append(transcript.unit_id)
        await asyncio.sleep(0)
        if self.plan.get(transcript.unit_id):
            raise self.plan[transcript.unit_id].pop(0)
        return Reply(ANSWER, Usage(10, 10))

    async def close(self) -> None:
        self.closed = True


def run(
    teacher: FakeTeacher, units: int, clock: Clock, on_reply: Callable[[Question, Any], None] = lambda *_: None
) -> tuple[Outcome, Budget]:
    budget = Budget(teacher.cost)

    async def take(question: Question, reply: Any) -> None:
        on_reply(question, reply)

    questions = [Question(f"k{at}", (transcript(f"u{at}"),)) for at in range(units)]
    dispatcher = Dispatcher(teacher, budget, take, sleep=clock.sleep, jitter=lambda: 1.0)
    return asyncio.run(dispatcher.run(questions)), budget


def passing(reason: Failure = Failure.SERVER_ERROR, **more: Any) -> TeacherFailure:
    return TeacherFailure(reason, passing=True, **more)


def test_waits_double_up_to_the_longest_and_then_it_is_given_up() -> None:
    clock = Clock()
    policy = Policy(max_retries=4, backoff_s=1.0, max_backoff_s=5.0)
    teacher = FakeTeacher(policy, {"u0": [passing() for _ in range(9)]})
    outcome, _ = run(teacher, 1, clock)
    assert clock.slept == [1.0, 2.0, 4.0, 5.0]
    assert teacher.asked == ["u0"] * 5
    assert outcome.failures == {"k0": Failure.SERVER_ERROR}
    assert outcome.num_retries == {"server_error": 4}
    assert teacher.closed


def test_what_does_not_pass_is_not_tried_again() -> None:
    teacher = FakeTeacher(Policy(), {"u0": [TeacherFailure(Failure.BAD_REQUEST, passing=False)]})
    outcome, _ = run(teacher, 2, Clock())
    assert sorted(teacher.asked) == ["u0", "u1"]
    assert outcome.failures == {"k0": Failure.BAD_REQUEST}


def test_a_pause_that_a_server_asks_for_holds_everybody_back() -> None:
    async def two() -> list[float]:
        clock = Clock()
        pace = Pace(Policy(), clock, clock.sleep)
        await pace.take(1)
        pace.pause(7.0)
        await pace.take(1)
        return [clock.now]

    assert asyncio.run(two()) == [107.0]


def test_requests_and_tokens_a_minute_are_kept_evenly() -> None:
    async def starts(policy: Policy, tokens: int) -> list[float]:
        clock = Clock()
        pace = Pace(policy, clock, clock.sleep)
        times = []
        for _ in range(4):
            await pace.take(tokens)
            times.append(clock.now - 100.0)
        return times

    assert asyncio.run(starts(Policy(requests_per_minute=30), 9)) == [0, 2, 4, 6]
    assert asyncio.run(starts(Policy(tokens_per_minute=6000), 500)) == [0, 5, 10, 15]
    assert asyncio.run(starts(Policy(requests_per_minute=60, tokens_per_minute=6000), 500)) == [0, 5, 10, 15]


def test_a_reply_is_counted_after_it_was_taken_and_an_error_in_taking_it_ends_the_run() -> None:
    def full(question: Question, reply: Any) -> None:
        if question.key == "k2":
            raise OSError("no space left")

    teacher = FakeTeacher(Policy(concurrency=1))
    with pytest.raises(OSError, match="no space"):
        run(teacher, 10, Clock(), full)
    assert teacher.asked == ["u0", "u1", "u2"]
    assert teacher.closed


def test_others_finish_what_they_have_asked_when_one_finds_that_nothing_will_work() -> None:
    taken = []
    teacher = FakeTeacher(Policy(concurrency=4), {"u1": [ValueError("no key")]})
    with pytest.raises(ValueError, match="no key"):
        run(teacher, 20, Clock(), lambda question, _: taken.append(question.key))
    assert len(teacher.asked) < 8, "nothing new is asked"
    assert {key.replace("k", "u") for key in taken} == set(teacher.asked) - {"u1"}, "what was paid for is kept"


def test_a_row_of_failures_ends_the_run_and_a_reply_breaks_the_row() -> None:
    policy = Policy(concurrency=1, max_retries=0, max_failures_in_a_row=2)
    failing = {f"u{at}": [passing()] for at in (0, 2, 3)}
    outcome, _ = run(FakeTeacher(policy, failing), 10, Clock())
    assert outcome.stopped_by == "max_failures_in_a_row"
    assert list(outcome.failures) == ["k0", "k2", "k3"]


def test_a_refused_answer_is_a_reply() -> None:
    from moodscale.label.answer import Refusal

    taken: list[Any] = []
    teacher = FakeTeacher(Policy(), {"u0": [RefusedAnswer(Refusal.DECLINED, Usage(5, 5))]})  # type: ignore[list-item]
    run(teacher, 1, Clock(), lambda _, reply: taken.append(reply))
    assert [str(reply) for reply in taken] == ["declined"]


PRICES = {"input_per_million": 1000.0, "output_per_million": 1000.0}


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_a_cap_is_never_passed_whatever_is_on_its_way(concurrency: int) -> None:
    # The worst is 2 a request, and what one costs in the end 0.02.
    cost = Cost(**PRICES, max_cost=2.1)
    teacher = FakeTeacher(Policy(concurrency=concurrency), cost=cost)
    outcome, budget = run(teacher, 50, Clock())
    assert outcome.stopped_by == "max_cost"
    assert len(teacher.asked) == 6, "0.02 each, until 2 more could pass 2.1"
    assert budget.spent == pytest.approx(0.12)


def test_what_may_have_been_paid_is_booked_and_what_was_not_is_not() -> None:
    plan: dict[str, list[Exception]] = {"u0": [passing(Failure.TIMEOUT, maybe_paid=True)], "u1": [passing()]}
    _, budget = run(FakeTeacher(Policy(), plan, Cost(**PRICES)), 2, Clock())
    assert budget.spent == pytest.approx(2 + 0.02 + 0.02)


def test_a_teacher_that_never_answers_is_given_up() -> None:
    class Silent(FakeTeacher):
        async def ask(self, transcript: Transcript, num_refused: int = 0) -> Reply:
            await asyncio.Event().wait()
            raise AssertionError

    outcome, _ = run(Silent(Policy(timeout_s=0.01, max_retries=0)), 2, Clock())
    assert outcome.failures == {"k0": Failure.TIMEOUT, "k1": Failure.TIMEOUT}
