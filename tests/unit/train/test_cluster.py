"""Whether a job fits its cluster is known before anything starts; a fake stands for the cluster."""

from __future__ import annotations

from typing import Any

import pytest
import ray

from moodscale.config import ConfigError
from moodscale.train.cluster import connect
from moodscale.train.config import TrainConfig


class FakeCluster:
    """What ``connect`` asks of Ray."""

    def __init__(self, resources: dict[str, float], joined: bool = True) -> None:
        self.resources = resources
        self.joined = joined
        self.init_calls: list[dict[str, Any]] = []

    def is_initialized(self) -> bool:
        return self.joined

    def init(self, **arguments: Any) -> None:
        self.init_calls.append(arguments)
        self.joined = True

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def install(self, patch: pytest.MonkeyPatch) -> FakeCluster:
        for name in ("is_initialized", "init", "cluster_resources"):
            patch.setattr(ray, name, getattr(self, name))
        return self


def job(**changes: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {"num_workers": 2, "cpus_per_worker": 3, "data_cpus": 2, "use_gpu": False, **changes}
    )


def test_too_few_cpus_for_workers_and_data_together_are_refused_with_the_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    FakeCluster({"CPU": 6.0}).install(monkeypatch)
    with pytest.raises(ConfigError) as caught:
        connect(job())
    message = str(caught.value)
    assert "needs 8 CPU" in message
    assert "train.num_workers × train.cpus_per_worker + train.data_cpus" in message
    assert "the cluster has 6" in message
    assert "lower the setting or add nodes" in message


def test_too_few_gpus_are_refused_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCluster({"CPU": 100.0, "GPU": 1.0}).install(monkeypatch)
    with pytest.raises(ConfigError, match=r"needs 2 GPU \(train\.num_workers\), the cluster has 1;"):
        connect(job(use_gpu=True))


def test_a_cluster_without_gpus_says_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCluster({"CPU": 100.0}).install(monkeypatch)
    with pytest.raises(ConfigError, match="the cluster has 0"):
        connect(job(use_gpu=True))


def test_a_cluster_that_just_fits_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster({"CPU": 8.0, "GPU": 2.0}).install(monkeypatch)
    connect(job(use_gpu=True))
    assert cluster.init_calls == [], "a process that has joined a cluster does not start another"


def test_without_an_address_a_local_cluster_counts_the_jobs_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster = FakeCluster({"CPU": 1000.0}, joined=False).install(monkeypatch)
    connect(job(num_workers=8, cpus_per_worker=100))
    [arguments] = cluster.init_calls
    assert arguments["address"] == "local"
    assert arguments["num_cpus"] >= 802
    assert arguments["dashboard_host"] == "127.0.0.1", "nobody outside this machine is served"


def test_with_an_address_that_cluster_is_joined_and_none_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    cluster = FakeCluster({"CPU": 8.0}, joined=False).install(monkeypatch)
    connect(job())
    [arguments] = cluster.init_calls
    assert "num_cpus" not in arguments
    assert arguments.get("address") in (None, "10.0.0.1:6379")
