"""A pool of actors on Ray Data that works through calls and answers in lines of text.

Calls and lines are names, counts and hashes: what was said and recorded is read and stored by the actors themselves,
and never enters the object store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from moodscale.config import ConfigError
from moodscale.ray_runtime import keep_quiet

Worker = Callable[[Sequence[str]], Iterable[str]]
"""Works through one call: lines in, lines out."""

WorkT = TypeVar("WorkT")
Batch = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Need:
    """What one worker asks of the cluster, and the setting that says so."""

    resource: str
    amount: float
    setting: str


def num_fitting(needs: Sequence[Need]) -> int:
    """How many workers the running cluster has room for; 1 where they ask for nothing.

    Raises:
        ConfigError: not for one.
    """
    import ray

    present = ray.cluster_resources()
    fitting = []
    for need in needs:
        if need.amount:
            there = present.get(need.resource, 0.0)
            fitting.append(int(there / need.amount + 1e-9))
            if not fitting[-1]:
                raise ConfigError(
                    f"{need.setting}={need.amount:g}: the cluster has {there:g} {need.resource}; lower it or add nodes"
                )
    return min(fitting, default=1)


def run_on_actors(
    build: Callable[[WorkT], Worker],
    work: WorkT,
    calls: Sequence[Sequence[str]],
    num_actors: int,
    cpus: float,
    gpus: float,
    memory: int | None = None,
) -> Iterator[str]:
    """Work through calls on a running cluster; lines come as they are ready, in any order.

    Args:
        build: a module's function, called once an actor; what it raises as ``ValueError`` ends the run in its words.
        memory: bytes that an actor needs; unset where Ray's scheduler should not look at it.
    Raises:
        ConfigError: an actor could not be built.
    """
    import ray.data

    rows = ray.data.from_items([{"call": json.dumps(list(call))} for call in calls], override_num_blocks=len(calls))
    configure(rows.context)
    lines = rows.map_batches(
        _Actor,
        fn_constructor_args=(build, work),
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=min(num_actors, len(calls))),
        num_cpus=cpus,
        num_gpus=gpus or None,
        memory=memory,
    )
    for row in lines.iter_rows():
        if row["refused"]:
            raise ConfigError(row["refused"])
        yield row["line"]


def configure(context: Any) -> None:
    """A data context as stages with long calls want it."""
    keep_quiet(context)
    context.issue_detectors_config.detectors = []  # an actor that computes for minutes does not hang


class _Actor:
    """A worker as Ray Data calls it. What a user can put right comes back as a row: an exception would be wrapped in
    Ray's account of where it happened, and would end an actor that others wait for."""

    def __init__(self, build: Callable[[Any], Worker], work: Any) -> None:
        self._refused = ""
        try:
            self._worker = build(work)
        except ValueError as error:
            self._refused = str(error)

    def __call__(self, batch: Batch) -> dict[str, list[str]]:
        if self._refused:
            return {"line": [""], "refused": [self._refused]}
        lines = [line for call in batch["call"] for line in self._worker(json.loads(str(call)))]
        return {"line": lines, "refused": [""] * len(lines)}
