"""A split that somebody else decided: a table of person keys."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from moodscale.config import ConfigError
from moodscale.corpora.reading.tables import parse_table, read_bytes
from moodscale.prepare.splits.base import Person, SplitConfig
from moodscale.schema import CorpusError, Split
from moodscale.storage import location


class FileSplitConfig(SplitConfig):
    """A CSV with the columns ``person`` (``daic:300``) and ``split`` (train, validation or test)."""

    kind: Literal["file"] = "file"
    path: str = Field(description="CSV with the columns person and split")

    def assign(self, people: Sequence[Person]) -> Mapping[str, Split]:
        named = self._read()
        missing = sorted(person.key for person in people if person.key not in named)
        if missing:
            raise ConfigError(
                f"splits.path={self.path}: {len(missing)} labelled people are not in it (first: {missing[0]}); "
                "add a row for each"
            )
        return {person.key: named[person.key] for person in people}

    def content(self) -> dict[str, Any]:
        """The rows count, not where they lie nor their order."""
        rows = "\n".join(f"{person},{split}" for person, split in sorted(self._read().items()))
        return {"kind": self.kind, "rows": hashlib.sha256(rows.encode()).hexdigest()}

    def _read(self) -> dict[str, Split]:
        try:
            table = parse_table(read_bytes(location(self.path)), self.path, ("person", "split"))
        except CorpusError as error:
            raise ConfigError(f"splits.path={self.path}: {error}") from None
        named: dict[str, Split] = {}
        for line, row in enumerate(table.rows, start=2):
            person, split = row["person"], row["split"]
            if split not in set(Split):
                raise ConfigError(f"splits.path={self.path}: row {line}: split is not one of {', '.join(Split)}")
            if named.setdefault(person, Split(split)) is not Split(split):
                raise ConfigError(f"splits.path={self.path}: row {line}: {person} is in two splits; keep one row")
        return named
