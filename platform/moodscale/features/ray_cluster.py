"""The work of extracting on Ray: a pool of actors for models, tasks for files of columns.

Rows are a few names and hashes in either direction: no waveform and no feature ever enters the object store.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np

from moodscale.config import ConfigError
from moodscale.features.config import ExtractConfig
from moodscale.features.plan import Group
from moodscale.features.worker import Line, Work, Worker
from moodscale.ray_runtime import keep_quiet, ray_running
from moodscale.schema import CorpusError

ACTOR_MEMORY_BYTES = 800 * 2**20
"""What an actor may need beside its model: an interpreter with torch, and three groups of windows."""
TASK_MEMORY_BYTES = 400 * 2**20
_CALLS_AN_ACTOR = 8
"""Groups differ in length: several calls an actor keep the last one from being waited for."""
_GROUPS_A_CALL = 4

Batch = dict[str, np.ndarray[Any, Any]]


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
        import ray.data

        self._start()
        num_actors = min(self._num_actors(), len(groups))
        size = max(1, min(_GROUPS_A_CALL, len(groups) // (num_actors * _CALLS_AN_ACTOR)))
        calls = [groups[at : at + size] for at in range(0, len(groups), size)]
        rows = ray.data.from_items(
            [{"groups": _joined([group.to_json() for group in call])} for call in calls],
            override_num_blocks=len(calls),
        )
        _keep_quiet(rows.context)
        lines = rows.map_batches(
            _Actor,
            fn_constructor_args=(work,),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=num_actors),
            num_cpus=config.cpus_per_actor,
            num_gpus=config.gpus_per_actor or None,
            memory=ACTOR_MEMORY_BYTES,
        )
        for row in lines.iter_rows():
            if row["refused"]:
                raise ConfigError(row["refused"])
            yield Line.from_json(row["line"])

    def map_tasks(self, function: Callable[[str], str], texts: Sequence[str]) -> list[str]:
        import ray.data

        self._start()
        numbered = [{"number": number, "text": text} for number, text in enumerate(texts)]
        rows = ray.data.from_items(numbered, override_num_blocks=max(1, len(texts)))
        _keep_quiet(rows.context)
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
        import ray

        present = ray.cluster_resources()
        fitting = []
        for resource, needed, field in (
            ("CPU", self.config.cpus_per_actor, "cpus_per_actor"),
            ("GPU", self.config.gpus_per_actor, "gpus_per_actor"),
        ):
            if needed:
                fitting.append(int(present.get(resource, 0.0) / needed + 1e-9))
                if not fitting[-1]:
                    raise ConfigError(
                        f"features.{field}={needed:g}: the cluster has {present.get(resource, 0.0):g} {resource}; "
                        "lower the setting or add nodes"
                    )
        return min([*fitting, self.config.num_actors or min(fitting)])


class _Actor:
    """A worker as Ray Data calls it. What a user can put right comes back as a row: an exception would be wrapped in
    Ray's account of where it happened, and would end an actor that others wait for."""

    def __init__(self, work: Work) -> None:
        self._refused = ""
        try:
            self._worker = Worker(work)
        except ConfigError as error:
            self._refused = str(error)

    def __call__(self, batch: Batch) -> dict[str, list[str]]:
        if self._refused:
            return {"line": [""], "refused": [self._refused]}
        groups = [Group.from_json(text) for joined in batch["groups"] for text in str(joined).split("\n")]
        lines = [line.to_json() for line in self._worker.run(groups)]
        return {"line": lines, "refused": [""] * len(lines)}


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


def _joined(texts: Sequence[str]) -> str:
    """JSON holds no line break outside of its strings, and none unescaped in them."""
    return "\n".join(texts)


def _keep_quiet(context: Any) -> None:
    keep_quiet(context)
    context.issue_detectors_config.detectors = []  # an actor that computes for minutes does not hang
