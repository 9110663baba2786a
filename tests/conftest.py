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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For several workers: a file stays on one of them, and so does every test of the one whole run that they share.

    The tests that start a Ray come first: the many quick ones even out what is left to do at the end.
    """

    def group(item: pytest.Item) -> str:
        return "whole_run" if "whole_run" in getattr(item, "fixturenames", ()) else item.location[0]

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: (group(item) != "whole_run", "unit" in item.path.parts))


@pytest.fixture(scope="session", autouse=True)
def _close_process_groups() -> Iterator[None]:
    yield
    from tiny import close_groups

    close_groups()
