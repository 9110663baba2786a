"""One driver a run: the same job submitted twice would write one directory from two sides."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from upath import UPath

from moodscale.config import ConfigError
from moodscale.storage import Place, display, is_local, local_path, read_bytes, write_bytes

logger = logging.getLogger(__name__)

LOCK = ".driver.lock"
LEASE = "driver-lease"
HEARTBEAT_S = 5.0
EXPIRY_S = 30.0


@contextmanager
def alone(directory: Place) -> Iterator[None]:
    """Hold a run's directory while the block lasts.

    On a file system by a lock that is the process' own, so a killed driver leaves none behind; on object storage by a
    :class:`Lease`.

    Raises:
        ConfigError: another driver holds it; names that one.
    """
    if is_local(directory):
        with _locked(local_path(directory)):
            yield
        return
    assert isinstance(directory, UPath)
    lease = Lease(directory, _who())
    lease.acquire()
    try:
        yield
    finally:
        lease.release()


def _who() -> str:
    return f"process {os.getpid()}, job {os.environ.get('RAY_JOB_ID') or 'local'}"


def _refusal(directory: Place, holder: str) -> ConfigError:
    return ConfigError(
        f"{display(directory)} is being trained already ({holder or 'by another process'}); "
        "wait for that job, stop it, or choose another name"
    )


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise _refusal(directory, file.read().strip()) from None
        file.truncate(0)
        file.write(f"{_who()}\n")
        file.flush()
        yield


@dataclass(frozen=True)
class _Held:
    """What a lease object says."""

    generation: int
    holder: str
    beat: str
    """Another one with every heartbeat."""
    released: bool


class Lease:
    """A lock on object storage: numbered objects, of which the highest number is the holder's.

    A number is taken by a put that fails where the object exists (``If-None-Match: *``), so two takers cannot both
    have it. The holder writes a new beat every ``heartbeat_s`` (5 s). Whoever finds a lease watches it: a beat that
    changes refuses him, after 5 s or so; one that stands still for ``expiry_s`` (30 s) is a dead driver's, and the next
    number may be taken. So a job that is submitted again after its driver was killed begins up to 30 s later. Only the
    watcher's own clock counts: clocks of different machines are never compared.

    A holder that was cut off from the storage for so long that another one took over learns it with its next beat and
    calls ``on_lost``: in the driver that is an interrupt, as of Ctrl-C.

    Args:
        directory: the run's.
        holder: shown to those who are refused.
    """

    def __init__(
        self,
        directory: UPath,
        holder: str,
        heartbeat_s: float = HEARTBEAT_S,
        expiry_s: float = EXPIRY_S,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        self.directory = directory
        self.holder = holder
        self._folder: UPath = directory / LEASE
        self._heartbeat_s, self._expiry_s = heartbeat_s, expiry_s
        self._on_lost = on_lost or _interrupt
        self._generation = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="driver-lease", daemon=True)

    def acquire(self) -> None:
        """Take the lease, waiting for a dead holder's to expire.

        Raises:
            ConfigError: its holder lives.
        """
        while not self._take_next(self._wait_until_free()):
            pass
        self._thread.start()

    def release(self) -> None:
        """Let the next one in at once. The number stays: numbers must never begin anew."""
        self._stopping.set()
        self._thread.join()
        try:
            if self._newest_generation() == self._generation:
                self._write(released=True)
        except Exception as error:
            logger.warning("the lease of %s was not given back (%s): it expires", self._shown, type(error).__name__)

    @property
    def _shown(self) -> str:
        return display(self.directory)

    def _wait_until_free(self) -> int:
        """The newest generation, once nobody holds it; 0 where there is none."""
        first: _Held | None = None
        deadline = time.monotonic() + self._expiry_s
        while (held := self._read()) is not None and not held.released:
            if first is None:
                first = held
                logger.info("%s is held (%s): looking whether that driver still lives", self._shown, held.holder)
            if held != first:
                raise _refusal(self.directory, held.holder)
            if time.monotonic() > deadline:
                logger.warning("the driver that held %s (%s) is gone: taking over", self._shown, held.holder)
                break
            time.sleep(min(1.0, self._heartbeat_s / 2))
        return held.generation if held is not None else 0

    def _take_next(self, generation: int) -> bool:
        """Take the next number; False where somebody else was faster."""
        self._generation = generation + 1
        try:
            self._folder.fs.pipe_file(self._path(self._generation).path, self._content(released=False), mode="create")
        except FileExistsError:
            return False
        if self._newest_generation() != self._generation:
            # Numbers below the newest are removed: this one was free again, and too low to count.
            self._remove([self._generation])
            return False
        self._remove([number for number in self._generations() if number < self._generation])
        return True

    def _beat_on(self) -> None:
        while not self._stopping.wait(self._heartbeat_s):
            try:
                if self._newest_generation() > self._generation:
                    logger.error("%s was taken over by another driver while this one was cut off", self._shown)
                    self._on_lost()
                    return
                self._write(released=False)
            except Exception as error:
                logger.warning("the lease of %s could not be renewed (%s)", self._shown, type(error).__name__)

    def _read(self) -> _Held | None:
        generation = self._newest_generation()
        if generation == 0:
            return None
        try:
            content = json.loads(read_bytes(self._path(generation)))
        except FileNotFoundError:  # removed by whoever has just taken the next number
            return self._read()
        except ValueError:
            content = {}
        return _Held(
            generation, str(content.get("holder", "")), str(content.get("beat")), content.get("released") is True
        )

    def _write(self, released: bool) -> None:
        write_bytes(self._path(self._generation), self._content(released))

    def _content(self, released: bool) -> bytes:
        return json.dumps({"holder": self.holder, "beat": uuid.uuid4().hex, "released": released}).encode()

    def _path(self, generation: int) -> UPath:
        return self._folder / f"{generation:08d}.json"

    def _generations(self) -> list[int]:
        names = [key.rsplit("/", 1)[-1].removesuffix(".json") for key in self._folder.fs.find(self._folder.path)]
        return sorted(int(name) for name in names if name.isdecimal())

    def _newest_generation(self) -> int:
        return max(self._generations(), default=0)

    def _remove(self, generations: list[int]) -> None:
        if generations:
            self._folder.fs.rm([self._path(number).path for number in generations])


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
