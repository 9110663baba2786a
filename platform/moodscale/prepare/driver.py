"""Preparing on a Ray cluster: Ray Data works the interviews through, the driver collects small rows."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from upath import UPath

from moodscale.corpora.base import CorpusConfig
from moodscale.prepare.build import build_manifest, prepare_serially
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.interview import PreparedInterview
from moodscale.prepare.summary import ManifestSummary
from moodscale.ray_runtime import keep_quiet, ray_running
from moodscale.schema import CorpusError
from moodscale.storage import location

TASK_MEMORY_BYTES = 300 * 2**20
"""What a task may need beside its CPU: an interpreter with soundfile and Arrow; recordings pass in small pieces."""
DEIDENTIFYING_BYTES = 300 * 2**20
"""What presidio and its patterns need more. A model of names needs what its files are large, and is not counted."""
_BLOCKS_A_CPU = 8
"""Interviews differ in length: several small blocks a CPU keep the last one from being waited for."""

log = logging.getLogger(__name__)


def prepare(corpus: CorpusConfig, config: PrepareConfig, out: str | os.PathLike[str]) -> ManifestSummary:
    """Interviews → a manifest at ``out``, on Ray.

    A running cluster is used (``ray.init`` done, or ``RAY_ADDRESS``); else a local Ray is started and stopped again.
    ``out`` and the corpus must be on storage that every node sees: under the same path, or at the same URI. A second
    run with the same inputs and settings does nothing and says so (``ManifestSummary.reused``), without starting Ray.

    Raises:
        CorpusError: see ``build_manifest``.
        ConfigError: the people cannot be split as asked.
    """
    return build_manifest(corpus, config, location(out), prepare_on_ray)


def prepare_on_ray(
    corpus: CorpusConfig, config: PrepareConfig, interview_ids: Sequence[str], manifest_dir: UPath
) -> Iterator[PreparedInterview]:
    """Work interviews through in parallel; results come in any order."""
    import ray.data

    with ray_running(config.num_cpus):
        num_cpus = int(ray.cluster_resources().get("CPU", 0))
        if num_cpus < 1:
            raise CorpusError("prepare.num_cpus: the Ray cluster has no CPU to prepare on; add a CPU worker group")
        num_tasks = max(1, min(config.num_cpus or num_cpus, num_cpus, len(interview_ids)))
        num_blocks = max(1, min(len(interview_ids), num_tasks * _BLOCKS_A_CPU))
        rows = ray.data.from_items([{"interview_id": one} for one in interview_ids], override_num_blocks=num_blocks)
        keep_quiet(rows.context)
        prepared = rows.map_batches(
            _prepare_block,
            batch_size=None,
            batch_format="numpy",
            compute=ray.data.TaskPoolStrategy(size=num_tasks),
            num_cpus=1,
            memory=TASK_MEMORY_BYTES + (DEIDENTIFYING_BYTES if config.transcripts == "deidentified" else 0),
            fn_kwargs={"corpus": corpus, "config": config, "manifest_dir": str(manifest_dir)},
        )
        for row in prepared.iter_rows():
            yield PreparedInterview.from_json(row["prepared"])


def _prepare_block(
    batch: dict[str, np.ndarray[Any, Any]], corpus: CorpusConfig, config: PrepareConfig, manifest_dir: str
) -> dict[str, list[str]]:
    """A block's interviews, opened once. Rows stay small: windows as JSON, never words or waveforms."""
    ids = [str(one) for one in batch["interview_id"]]
    return {"prepared": [one.to_json() for one in prepare_serially(corpus, config, ids, location(manifest_dir))]}
