"""Collecting what was repaired in one session."""

from __future__ import annotations

from moodscale.corpora.reading.tables import Table
from moodscale.schema import Repair


class Ledger:
    """Lines of one interview, in the order of reading."""

    def __init__(self, corpus: str, interview_id: str) -> None:
        self.repairs: list[Repair] = []
        self._corpus = corpus
        self._id = interview_id

    def note(self, defect: str, where: str, before: str, after: str, source: str = "checked on reading") -> None:
        """Add a line; numbers, times and counts only, never words."""
        self.repairs.append(Repair(self._corpus, self._id, defect, where, before, after, source))


def note_cells(table: Table, ledger: Ledger) -> None:
    """Lines for what a table of speech lost on parsing."""
    if table.num_undecodable:
        ledger.note("undecodable", table.name, f"{table.num_undecodable} character(s) not UTF-8", "replaced by U+FFFD")
    if table.num_overlong:
        ledger.note("extra_cells", table.name, f"{table.num_overlong} row(s) longer than the header", "rest left out")
