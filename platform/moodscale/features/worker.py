"""What runs in a worker process: groups in, stored parts and a line about each out. Knows no Ray.

One thread reads the next group and one writes the last group's parts, while the engine computes: a worker holds three
groups at most, and none of it leaves the process but through the store.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from moodscale import storage
from moodscale.features.extractors.base import Extractor
from moodscale.features.plan import Group
from moodscale.features.store import FeatureStore, Part, PartFacts
from moodscale.schema import CorpusError


@dataclass(frozen=True)
class Line:
    """What became of a part, or (without ``facts``) of a group.

    Attributes:
        name: of the part; of the group's first one where it failed.
        error: why the group could not be computed; names files, never what is in them.
    """

    name: str
    facts: PartFacts | None = None
    error: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Line:
        values = json.loads(text)
        facts = None if values["facts"] is None else PartFacts(**values["facts"])
        return cls(values["name"], facts, values["error"])


@dataclass(frozen=True)
class Work:
    """Everything that a worker needs to know. Picklable.

    Attributes:
        store, roots: places as text, opened with the worker's own credentials.
    """

    extractor: Extractor
    store: str
    roots: Mapping[str, str]
    device: str
    num_threads: int


class Worker:
    """An extractor with its model in memory."""

    def __init__(self, work: Work) -> None:
        self._facts = work.extractor.facts()
        self._store = FeatureStore(work.store, work.extractor.key())
        roots = {name: storage.location(root) for name, root in work.roots.items()}
        self._engine = work.extractor.open(roots, work.device, work.num_threads)

    def run(self, groups: Sequence[Group]) -> Iterator[Line]:
        """Compute groups and store what is wanted of them. An input that cannot be read costs its group only."""
        with ThreadPoolExecutor(1, "fetch") as reader, ThreadPoolExecutor(1, "store") as writer:
            fetched: Future[Any] | None = None
            writing: list[Future[Line]] = []
            for index, group in enumerate(groups):
                own = fetched or reader.submit(self._engine.fetch, group)
                following = groups[index + 1 : index + 2]
                fetched = reader.submit(self._engine.fetch, following[0]) if following else None
                try:
                    parts = self._engine.compute(group, own.result())
                    submitted: list[Future[Line]] = []
                    for name, part in parts:
                        if name in group.wanted:
                            submitted.append(writer.submit(self._write, name, part, group.stamp))
                        if len(submitted) > 1:
                            submitted[-2].result()  # no more than two parts wait to be written
                    yield from (one.result() for one in writing)
                    writing = submitted
                except CorpusError as error:
                    yield Line(group.names[0], error=str(error))
            yield from (one.result() for one in writing)

    def _write(self, name: str, part: Part, stamp: str) -> Line:
        return Line(name, self._store.write(name, part, self._facts, stamp))
