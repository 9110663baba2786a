"""One thing that goes: it is shown, or shown and done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from upath import UPath

from moodscale.storage import Place, display, remove_tree


@dataclass(frozen=True)
class Action:
    """Something to remove.

    Attributes:
        kind: of what, e.g. ``features`` or ``predictions``.
        number: of rows, files or parts.
        do: removes it; done twice it changes nothing more.
    """

    kind: str
    place: Place
    what: str
    number: int
    do: Callable[[], None] = field(repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "place": display(self.place), "what": self.what, "number": self.number}


def removing_files(places: Sequence[UPath]) -> Callable[[], None]:
    """Removes files; one that is gone is no error."""

    def run() -> None:
        for place in places:
            place.unlink(missing_ok=True)

    return run


def removing_trees(places: Sequence[UPath]) -> Callable[[], None]:
    """Removes folders with what is in them, and files."""

    def run() -> None:
        for place in places:
            if place.is_file():
                place.unlink(missing_ok=True)
            else:
                remove_tree(place)

    return run
