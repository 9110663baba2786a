from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodscale.corpora.joining import DAY_US, Window, first_window, parse_time

times = st.integers(-(10**15), 10**15)
near = st.integers(-20 * DAY_US, 20 * DAY_US)


@given(st.lists(near), near, st.floats(0.001, 30))
def test_a_window_holds_exactly_what_lies_between_its_edges(began: list[int], administered: int, days: float) -> None:
    began = sorted(began)
    window = Window.before(administered, days)
    within = [us for us in began if 0 <= administered - us <= round(days * DAY_US)]
    assert [began[place] for place in window.of(began)] == within
    assert [us for us in began if us in window] == within


@given(times, st.floats(0.001, 3650))
def test_both_edges_belong_to_a_window_and_nothing_beyond_them_does(administered: int, days: float) -> None:
    window = Window.before(administered, days)
    assert administered in window
    assert window.start_us in window
    assert administered + 1 not in window
    assert window.start_us - 1 not in window


@given(near, st.lists(near, max_size=5))
def test_a_time_in_several_windows_belongs_to_one_of_them(us: int, administered: list[int]) -> None:
    windows = [Window.before(one, 14) for one in sorted(administered)]
    owner = first_window(us, windows)
    holding = [place for place, window in enumerate(windows) if us in window]
    assert owner == (holding[0] if holding else None)


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
)
def test_a_time_is_the_same_instant_in_every_zone(moment: datetime, offset_minutes: int) -> None:
    there = moment.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=offset_minutes)))
    first, second = parse_time(moment.replace(tzinfo=UTC).isoformat()), parse_time(there.isoformat())
    assert first is not None
    assert first == second
    assert not first.naive
    naive = parse_time(moment.isoformat())
    assert naive is not None
    assert (naive.us, naive.naive) == (first.us, True)
    assert datetime.fromisoformat(first.iso) == moment.replace(tzinfo=UTC)


@given(st.one_of(st.text(), st.integers(), st.none(), st.floats(), st.lists(st.text()), st.booleans()))
def test_whatever_stands_for_a_time_is_a_time_or_none(value: object) -> None:
    moment = parse_time(value)
    assert moment is None or isinstance(moment.us, int)


@pytest.mark.parametrize("value", [
    "", "2025-13-41T25:61:00+00:00", "yesterday", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00",
    17, "2" * 999,
])  # fmt: skip
def test_what_is_no_time_is_none(value: object) -> None:
    assert parse_time(value) is None


def test_a_questionnaires_day_without_an_hour_is_its_end_so_that_the_day_itself_is_within() -> None:
    day = parse_time("2025-03-01", end_of_day=True)
    evening = parse_time("2025-03-01T22:00:00Z")
    assert day is not None
    assert evening is not None
    assert evening.us in Window.before(day.us, 14)
    midnight = parse_time("2025-03-01")
    assert midnight is not None
    assert evening.us not in Window.before(midnight.us, 14)
