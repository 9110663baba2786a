"""The line that says why workers failed."""

from __future__ import annotations

from moodscale.train.failures import describe


class Wrapped(Exception):
    """As Ray Train wraps what a training function raised: its own text is a whole traceback."""

    def __init__(self, inner: BaseException) -> None:
        super().__init__('Traceback (most recent call last):\n  File "secret.py"')
        self._base_exc = inner


def test_the_cause_comes_before_what_its_neighbours_noticed() -> None:
    lost = RuntimeError("[../gloo/transport/tcp/pair.cc] Connection closed by peer")
    told = describe({0: Wrapped(lost), 1: Wrapped(ValueError("optim.lr is too high\nsecond line"))})
    assert told.startswith("rank 1: ValueError: optim.lr is too high; rank 0: RuntimeError: ")
    assert "second line" not in told
    assert "secret.py" not in told


def test_many_ranks_are_counted_not_listed() -> None:
    told = describe({rank: Wrapped(ValueError("the same")) for rank in range(64)})
    assert told.count("the same") == 3
    assert told.endswith("and 61 more ranks")


def test_a_long_message_is_cut_and_an_empty_one_is_its_kind() -> None:
    assert len(describe({0: ValueError("x" * 10_000)})) < 500
    assert describe({0: KeyError()}) == "rank 0: KeyError"
    assert describe({}) == "no worker said why"
