"""The work of extracting on Ray: a pool of actors for models, tasks for files of columns.

Rows are a few names and hashes in either direction: no waveform and no feature ever enters the object store.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from moodscale.features.config import ExtractConfig
from moodscale.features.plan import Group
from moodscale.features.worker import Line, Work, Worker
from moodscale.ray_pool import Batch, Need, configure, num_fitting, run_on_actors
from moodscale.ray_runtime import ray_running
from moodscale.schema import CorpusError

ACTOR_MEMORY_BYTES = 800 * 2**20
"""What an actor may need beside its model: an interpreter with torch, and three groups of windows."""
TASK_MEMORY_BYTES = 400 * 2**20
_CALLS_AN_ACTOR = 8
"""Groups differ in length: several calls an actor keep the last one from being waited for."""
_GROUPS_A_CALL = 4


class RayCluster:
    """Joins the cluster of ``RAY_ADDRESS``, or starts a local one, when there is something to do."""

    def __init__(self, config: ExtractConfig) -> None:
        self.config = config
        self._running = ExitStack()

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    def run(self, work: Work, groups: Sequence[Group], config: ExtractConfig) -> Iterator[Line]:
        """Compute groups on an actor pool.

        Raises:
            ConfigError: the cluster has no room for one actor, or a worker cannot open the extractor.
        """
        self._start()
        num_actors = min(self._num_actors(), len(groups))
        size = max(1, min(_GROUPS_A_CALL, len(groups) // (num_actors * _CALLS_AN_ACTOR)))
        texts = [group.to_json() for group in groups]
        calls = [texts[at : at + size] for at in range(0, len(texts), size)]
        lines = run_on_actors(
            _computing, work, calls, num_actors, config.cpus_per_actor, config.gpus_per_actor, ACTOR_MEMORY_BYTES
        )
        return map(Line.from_json, lines)

    def map_tasks(self, function: Callable[[str], str], texts: Sequence[str]) -> list[str]:
        import ray.data

        self._start()
        numbered = [{"number": number, "text": text} for number, text in enumerate(texts)]
        rows = ray.data.from_items(numbered, override_num_blocks=max(1, len(texts)))
        configure(rows.context)
        results = rows.map_batches(
            _apply,
            fn_kwargs={"function": function},
            batch_size=1,
            batch_format="numpy",
            num_cpus=1,
            memory=TASK_MEMORY_BYTES,
        )
        found = {}
        for row in results.iter_rows():
            if row["error"]:
                raise CorpusError(row["error"])
            found[int(row["number"])] = str(row["text"])
        return [found[number] for number in range(len(texts))]

    def _start(self) -> None:
        # At least what one actor asks for: on a laptop processes share cores rather than wait for ever.
        num_cpus = max(os.cpu_count() or 1, -(-self.config.cpus_per_actor // 1) * (self.config.num_actors or 1))
        self._running.enter_context(ray_running(int(num_cpus)))

    def _num_actors(self) -> int:
        """As many as are asked for, or as fit.

        Raises:
            ConfigError: not one fits.
        """
        fitting = num_fitting(
            [
                Need("CPU", self.config.cpus_per_actor, "features.cpus_per_actor"),
                Need("GPU", self.config.gpus_per_actor, "features.gpus_per_actor"),
            ]
        )
        return min(fitting, self.config.num_actors or fitting)


def _computing(work: Work) -> Callable[[Sequence[str]], Iterator[str]]:
    worker = Worker(work)
    return lambda groups: (line.to_json() for line in worker.run([Group.from_json(text) for text in groups]))


def _apply(batch: Batch, function: Callable[[str], str]) -> dict[str, Any]:
    texts, errors = [], []
    for text in batch["text"]:
        try:
            texts.append(function(str(text)))
            errors.append("")
        except CorpusError as error:
            texts.append("")
            errors.append(str(error))
    return {"number": batch["number"], "text": texts, "error": errors}
