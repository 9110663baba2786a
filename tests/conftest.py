"""Fixtures that all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from object_storage import bucket, object_storage
from synthesised import _runners, new_runner, ray_dir, speech_corpus, whole_run

__all__ = ["_runners", "bucket", "new_runner", "object_storage", "ray_dir", "speech_corpus", "whole_run"]

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers that share the cores: more threads than cores wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Packed bytes hold the time of packing, and every worker must give a test the same name."""
    return f"{len(val)}_bytes" if isinstance(val, bytes) and not val.isascii() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests that start a Ray come first: to several workers, the many quick ones even out what is left to do."""
    items.sort(key=lambda item: "unit" in item.path.parts)


@pytest.fixture(scope="session", autouse=True)
def _close_process_groups() -> Iterator[None]:
    yield
    from tiny import close_groups

    close_groups()
