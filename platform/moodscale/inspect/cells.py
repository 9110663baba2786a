"""Small cells: counts that would say how a single person scored are not shown."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def hidden_cells(
    num_people: Mapping[K, int], sums: Iterable[Sequence[K]], min_cell: int, hidden: Iterable[K] = ()
) -> set[K]:
    """Cells of a table that must not be shown.

    A cell of 1 to ``min_cell - 1`` people is hidden; an empty one is not. Where all but one cell of a sum are known,
    the last can be worked out: the next smallest is hidden with it.

    Args:
        num_people: different people in each cell.
        sums: cells of which one is the sum of the others, or whose sum is shown.
        hidden: cells that are hidden whatever they hold.
    """
    found = {cell for cell, number in num_people.items() if 0 < number < min_cell} | set(hidden)
    lines = [tuple(line) for line in sums]
    changed = True
    while changed:
        changed = False
        for line in lines:
            shown = [cell for cell in line if cell not in found]
            if len(line) - len(shown) == 1 and shown:
                found.add(min(shown, key=lambda cell: (num_people[cell] == 0, num_people[cell])))
                changed = True
    return found
