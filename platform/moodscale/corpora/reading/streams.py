"""Seekable streams over something that can be read at an offset.

Decoders written in C call back into these, where an exception would be printed and forgotten: so a stream keeps its
failure, gives an early end instead, and whoever opened it raises the failure on closing.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from moodscale.corpora.reading.paths import AnyPath
from moodscale.schema import CorpusError
from moodscale.storage import is_local

FIRST_BLOCK_BYTES = 2**18
LARGEST_BLOCK_BYTES = 2**22
"""A block is fetched at once. It grows fourfold while reading goes on where it stopped, and is small again after a
jump: a clip costs little, and a whole pass few fetches."""


class BlockStream(io.RawIOBase):
    """A read-only stream of ``size`` bytes.

    Attributes:
        failure: what went wrong in reading, ``None`` where nothing did.
    """

    def __init__(self, read_at: Callable[[int, int], bytes], size: int) -> None:
        self.failure: Exception | None = None
        self._read_at = read_at
        self._size = size
        self._at = 0
        self._block = b""
        self._block_at = 0
        self._block_bytes = FIRST_BLOCK_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"seek to {start + offset}, before the start")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer as far as the file goes: a decoder takes less than it asked for as the file's end."""
        filled = 0
        while filled < len(buffer):
            if not self._block_at <= self._at < self._block_at + len(self._block):
                self._fetch()
                if not self._block:
                    break
            start = self._at - self._block_at
            piece = self._block[start : start + len(buffer) - filled]
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
            self._at += len(piece)
        return filled

    def _fetch(self) -> None:
        goes_on = self._block and self._at == self._block_at + len(self._block)
        self._block_bytes = min(4 * self._block_bytes, LARGEST_BLOCK_BYTES) if goes_on else FIRST_BLOCK_BYTES
        wanted = min(self._block_bytes, self._size - self._at)
        self._block, self._block_at = b"", self._at
        if wanted <= 0 or self.failure is not None:
            return
        try:
            self._block = self._read_at(self._at, wanted)
            if not self._block:
                raise EOFError("the file ends early")
        except Exception as error:  # whatever it is, it is raised on closing
            self.failure = error


@contextmanager
def raising_late(stream: BlockStream) -> Iterator[BinaryIO]:
    """The stream for a block of code; its failure is raised at the end, before what the code made of an early end."""
    try:
        yield cast(BinaryIO, stream)
    finally:
        stream.close()
        if stream.failure is not None:
            raise stream.failure from None


def _open_regular(path: str, flags: int) -> int:
    """Open without waiting: a pipe that nobody writes to would never open, and a device never end."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CorpusError(f"{os.path.basename(path)}: is not a regular file")
    return descriptor


@contextmanager
def open_file(path: AnyPath) -> Iterator[BinaryIO]:
    """A seekable binary stream of a file anywhere.

    Raises:
        CorpusError: it is a folder, a pipe or a device.
        OSError: it cannot be read.
    """
    if is_local(path):
        with open(str(path), "rb", opener=_open_regular) as file:
            yield cast(BinaryIO, file)
        return
    opener: Callable[..., Any] = path.open
    # Blocks are this stream's business: the library would fetch 50 MiB for a header.
    with opener("rb", block_size=FIRST_BLOCK_BYTES, cache_type="none") as file:

        def read_at(at: int, num_bytes: int) -> bytes:
            file.seek(at)
            return bytes(file.read(num_bytes))

        with raising_late(BlockStream(read_at, file.size)) as stream:
            yield stream
