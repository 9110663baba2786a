"""One driver a run, on a file system and on a real S3 endpoint."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from upath import UPath

from moodscale.config import ConfigError
from moodscale.train.lock import LEASE, Lease, alone
from object_storage import ObjectStorage
from tiny_experiment import wait_for

HEARTBEAT_S, EXPIRY_S = 0.2, 2.0
NEVER_S = 300.0
"""An expiry that no test sits out: whoever takes less did not wait for it."""


@pytest.fixture
def leases(bucket: UPath) -> Iterator[list[Lease]]:
    """Whatever a test made is given back, so that no heart beats on."""
    made: list[Lease] = []
    yield made
    for lease in made:
        lease._stopping.set()


def lease(
    leases: list[Lease],
    directory: UPath,
    holder: str,
    lost: threading.Event | None = None,
    expiry_s: float = EXPIRY_S,
) -> Lease:
    made = Lease(directory, holder, HEARTBEAT_S, expiry_s, (lost or threading.Event()).set)
    leases.append(made)
    return made


def die(held: Lease) -> None:
    """As a killed process does: no more beats, nothing given back."""
    held._stopping.set()
    held._thread.join()


def test_a_second_driver_on_a_file_system_is_refused_with_the_first_ones_id(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = rf"already \(process {os.getpid()}, job local\)"
    with alone(run), pytest.raises(ConfigError, match=first), alone(run):
        pass
    with alone(run):
        pass


def test_a_second_driver_on_object_storage_is_refused_with_the_first_ones_id(
    bucket: UPath, leases: list[Lease]
) -> None:
    lease(leases, bucket / "run", "process 17, job raysubmit_1").acquire()
    started = time.monotonic()
    with pytest.raises(ConfigError, match=r"s3://.*/run is being trained already \(process 17, job raysubmit_1\)"):
        lease(leases, bucket / "run", "process 18", expiry_s=NEVER_S).acquire()
    assert time.monotonic() - started < NEVER_S, "a living driver is told by its next beat"


def test_a_lease_that_was_given_back_is_taken_at_once_and_numbers_never_begin_anew(
    bucket: UPath,
    leases: list[Lease],
) -> None:
    for expected in (1, 2, 3):
        one = lease(leases, bucket / "run", f"process {expected}", expiry_s=NEVER_S)
        started = time.monotonic()
        one.acquire()
        assert time.monotonic() - started < NEVER_S
        one.release()
        assert one._generations() == [expected]


def test_a_dead_drivers_lease_is_taken_over_once_it_stood_still_for_its_time(
    bucket: UPath,
    leases: list[Lease],
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = lease(leases, bucket / "run", "process 17")
    first.acquire()
    die(first)
    started = time.monotonic()
    with caplog.at_level(logging.WARNING, logger="moodscale"):
        lease(leases, bucket / "run", "process 18").acquire()
    assert time.monotonic() - started >= EXPIRY_S
    assert "(process 17) is gone: taking over" in caplog.text


def test_a_driver_that_was_cut_off_and_taken_over_is_told(bucket: UPath, leases: list[Lease]) -> None:
    lost, kept = threading.Event(), threading.Event()
    first = lease(leases, bucket / "run", "process 17", lost)
    first.acquire()
    first._generation -= 1  # what a takeover looks like from its side: a number higher than its own
    assert lost.wait(60)
    second = lease(leases, bucket / "run", "process 18", kept)
    first._thread.join()
    second.acquire()
    assert not kept.wait(3 * HEARTBEAT_S)


def test_of_many_that_take_over_at_once_one_holds(bucket: UPath, leases: list[Lease]) -> None:
    first = lease(leases, bucket / "run", "process 0")
    first.acquire()
    die(first)
    held, refused = [], []

    def take(number: int) -> None:
        one = lease(leases, bucket / "run", f"process {number}")
        try:
            one.acquire()
            held.append(number)
        except ConfigError:
            refused.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1
    assert len(refused) == 4


def test_a_late_taker_of_a_number_that_was_removed_does_not_hold(bucket: UPath, leases: list[Lease]) -> None:
    for number in (1, 2):
        one = lease(leases, bucket / "run", f"process {number}")
        one.acquire()
        one.release()
    late = lease(leases, bucket / "run", "process 3")
    assert late._take_next(0) is False, "it had looked before the others came, and number 1 is free again"
    assert late._generations() == [2]


def test_storage_that_is_away_for_a_while_does_not_end_the_holder(
    bucket: UPath,
    leases: list[Lease],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lost = threading.Event()
    one = lease(leases, bucket / "run", "process 17", lost)
    one.acquire()
    before = one._read()
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, logger="moodscale"):
        patch.setattr(bucket.fs, "find", _away)
        wait_for(lambda: "could not be renewed (ConnectionError)" in caplog.text, 60)
    wait_for(lambda: one._read() != before, 60)  # it beats on
    assert not lost.is_set()


def _away(*_: object, **__: object) -> None:
    raise ConnectionError("no route")


def test_a_lease_that_somebody_damaged_expires_like_a_dead_ones(bucket: UPath, leases: list[Lease]) -> None:
    (bucket / "run" / LEASE / "00000004.json").write_bytes(b"{")
    one = lease(leases, bucket / "run", "process 18")
    one.acquire()
    assert one._generations() == [5]


def test_a_driver_that_loses_its_lease_is_interrupted(object_storage: ObjectStorage, bucket: UPath) -> None:
    script = (
        "import sys, time\n"
        "from moodscale.storage import location\n"
        "from moodscale.train import lock\n"
        "lock.HEARTBEAT_S = 0.1\n"
        "lease = lock.Lease(location(sys.argv[1]), 'process 17', heartbeat_s=0.1)\n"
        "lease.acquire()\n"
        "lease._generation = 0\n"
        "try:\n"
        "    time.sleep(30)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(7)\n"
    )
    environment = {**os.environ, **object_storage.environment}
    done = subprocess.run([sys.executable, "-c", script, str(bucket / "run")], env=environment, timeout=60, check=False)
    assert done.returncode == 7
