"""Joining a cluster, and checking that a job fits it before anything starts."""

from __future__ import annotations

import logging
import os
import socket

from moodscale.config import ConfigError
from moodscale.ray_runtime import join_or_start
from moodscale.train.config import TrainConfig

logger = logging.getLogger(__name__)


def connect(train: TrainConfig | None = None) -> None:
    """Join the cluster of ``RAY_ADDRESS`` (or of the job this process is), or start a local one.

    A local one counts as many CPUs as the job asks for: on a laptop workers share cores rather than wait for ever.

    Raises:
        ConfigError: the cluster lacks CPUs or GPUs for workers and data stage together.
    """
    import ray

    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    needed_cpus = needed_gpus = 0.0
    if train is not None:
        needed_cpus = train.num_workers * train.cpus_per_worker + train.data_cpus
        needed_gpus = float(train.num_workers) if train.use_gpu else 0.0
    if not ray.is_initialized():
        # A local one with its dashboard (on loopback): Ray Train asks the state API behind it whether a driver still
        # lives, and has to be told where it is on a machine that runs more than one Ray.
        port = _free_port()
        join_or_start(
            max(os.cpu_count() or 1, int(needed_cpus + 0.999), 2),
            log_to_driver=True,
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            dashboard_port=port,
            runtime_env={"env_vars": {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{port}"}},
        )
    if train is None:
        return
    present = ray.cluster_resources()
    for resource, needed, fields in (
        ("CPU", needed_cpus, "train.num_workers × train.cpus_per_worker + train.data_cpus"),
        ("GPU", needed_gpus, "train.num_workers"),
    ):
        if present.get(resource, 0.0) < needed:
            raise ConfigError(
                f"the job needs {needed:g} {resource} ({fields}), the cluster has {present.get(resource, 0.0):g}; "
                "lower the setting or add nodes"
            )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])
