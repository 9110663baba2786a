from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from moodscale.inspect.cells import hidden_cells


def test_small_counts_are_hidden_and_empty_ones_are_not() -> None:
    assert hidden_cells({"a": 9, "b": 4, "c": 1, "d": 0, "e": 5}, [], 5) == {"b", "c"}
    assert hidden_cells({"a": 1, "b": 0}, [], 1) == set()


def test_a_hidden_count_cannot_be_worked_out_from_its_sum() -> None:
    people = {"female": 3, "male": 20, "unknown": 8, "all": 31}
    assert hidden_cells(people, [["female", "male", "unknown", "all"]], 5) == {"female", "unknown"}


def test_what_is_hidden_with_it_is_protected_in_its_other_sums_too() -> None:
    people = {"train 0": 30, "train 1": 2, "test 0": 9, "test 1": 7, "0": 39, "1": 9}
    sums = [["train 0", "train 1"], ["test 0", "test 1"], ["train 0", "test 0", "0"], ["train 1", "test 1", "1"]]
    assert hidden_cells(people, sums, 5) >= {"train 1", "test 1", "train 0", "test 0"}


@given(
    st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=3), min_size=2, max_size=4),
    st.integers(2, 8),
)
def test_no_sum_ever_misses_exactly_one_count(table: list[list[int]], min_cell: int) -> None:
    people = {(row, column): count for row, counts in enumerate(table) for column, count in enumerate(counts)}
    rows = [[(row, column) for column in range(3)] for row in range(len(table))]
    columns = [[(row, column) for row in range(len(table))] for column in range(3)]
    hidden = hidden_cells(people, [*rows, *columns], min_cell)
    assert {cell for cell, count in people.items() if 0 < count < min_cell} <= hidden
    assert all(sum(cell in hidden for cell in line) != 1 for line in (*rows, *columns))
