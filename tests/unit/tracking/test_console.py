import logging

import pytest

from moodscale.tracking.console import Progress, format_duration


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="moodscale.tracking.console")
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_line_every_few_seconds_and_at_the_first_and_last_step(lines):
    clock = Clock()
    progress = Progress(every_s=5.0, clock=clock)
    for step in range(1, 41):
        progress(step, 40, {"train/loss": 1.0 / step, "train/lr": 1e-4})
        clock.now += 1.0
    shown = [line.split()[1] for line in lines()]
    assert shown == ["1/40", "6/40", "11/40", "16/40", "21/40", "26/40", "31/40", "36/40", "40/40"]
    assert "1.00 steps/s" in lines()[2]
    assert "29 s left" in lines()[2]
    assert "train/loss 0.09091" in lines()[2]
    assert "lr" not in lines()[2]
    assert "left" not in lines()[-1]


def test_validation_metrics_show_at_once_and_stay(lines):
    clock = Clock()
    progress = Progress(every_s=5.0, clock=clock)
    progress(1, 100, {"train/loss": 0.7})
    clock.now = 1.0
    progress(2, 100, {"val/auc": 0.81})
    clock.now = 9.0
    progress(3, 100, {"train/loss": 0.6})
    assert len(lines()) == 3
    assert "val/auc 0.81" in lines()[1]
    assert lines()[2].endswith("train/loss 0.6 · val/auc 0.81")


def test_a_resumed_run_counts_only_its_own_steps_in_the_rate(lines):
    clock = Clock()
    progress = Progress(every_s=0.0, clock=clock)
    progress(900, 1000, {})
    clock.now = 10.0
    progress(905, 1000, {})
    assert "0.50 steps/s" in lines()[-1]
    assert "3 min 10 s left" in lines()[-1]


def test_slow_steps_read_as_seconds_a_step_and_every_steps_counts_steps(lines):
    clock = Clock()
    progress = Progress(every_s=1e9, every_steps=2, clock=clock)
    for step in range(1, 6):
        progress(step, 10, {})
        clock.now += 40.0
    assert [line.split()[1] for line in lines()] == ["1/10", "3/10", "5/10"]
    assert "40.0 s/step" in lines()[-1]


@pytest.mark.parametrize(("seconds", "text"), [(9.4, "9 s"), (245, "4 min 05 s"), (7620, "2 h 07 min")])
def test_durations_read_naturally(seconds, text):
    assert format_duration(seconds) == text
