"""Unpacking gzip that may be hostile, front to back: checksum, ratio and number of streams are checked on the way."""

from __future__ import annotations

import zlib
from typing import BinaryIO

from moodscale.schema import CorpusError

MAX_RATIO = 200
"""Unpacked over packed size at any place of the pass. Tables of features pack about 4:1, a silent recording 1000:1."""
RATIO_SLACK_BYTES = 64 * 2**20
"""A silent recording is no attack: the ratio counts above this size only."""

_READ_BYTES = 2**16
_PIECE_BYTES = 2**20
_MAX_STREAMS = 64
_BYTES_A_STREAM = 4096
"""Some tools pack in many gzip streams, each of 16 KiB or more; streams of nothing are an attack on time."""


class Gunzip:
    """A forward-only reader in bounded memory.

    Attributes:
        at: unpacked bytes read so far.
    Raises:
        CorpusError: from ``read`` and ``skip``: damaged, cut off, or above the bounds.
        OSError: likewise, where the file cannot be read.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.at = 0
        self._file = file
        self._name = name
        self._inflate = zlib.decompressobj(wbits=31)
        self._num_packed = self._num_unpacked = 0
        self._num_streams = 1
        self._piece = b""

    def read(self, num_bytes: int) -> bytes:
        """Up to ``num_bytes``, fewer at the end only."""
        pieces = []
        while num_bytes > 0 and (self._piece or self._more()):
            piece, self._piece = self._piece[:num_bytes], self._piece[num_bytes:]
            pieces.append(piece)
            num_bytes -= len(piece)
            self.at += len(piece)
        return b"".join(pieces)

    def skip(self, num_bytes: int) -> int:
        """Go over ``num_bytes``, or up to the end; the number gone over."""
        left = num_bytes
        while left > 0 and (self._piece or self._more()):
            taken = min(left, len(self._piece))
            self._piece = self._piece[taken:]
            left -= taken
        self.at += num_bytes - left
        return num_bytes - left

    def _more(self) -> bool:
        """Unpack the next piece; false at the end."""
        while not self._piece:
            if self._inflate.eof:
                if not self._next_stream():
                    return False
                continue
            packed = self._inflate.unconsumed_tail or self._fetch()
            if not packed:
                raise CorpusError(f"{self._name}: is cut off within its gzip stream; fetch it again")
            try:
                self._piece = self._inflate.decompress(packed, _PIECE_BYTES)
            except zlib.error:
                raise CorpusError(f"{self._name}: its gzip stream is damaged; fetch it again") from None
            self._num_unpacked += len(self._piece)
            if self._num_unpacked > RATIO_SLACK_BYTES + MAX_RATIO * self._num_packed:
                raise CorpusError(f"{self._name}: unpacks to more than {MAX_RATIO} times its size: refused")
        return True

    def _next_stream(self) -> bool:
        """Go on to the gzip stream that follows, over zeros between; false where none does."""
        rest = self._inflate.unused_data
        while not (rest := rest.lstrip(b"\0")):
            if not (rest := self._fetch()):
                return False
        self._num_streams += 1
        if self._num_streams > _MAX_STREAMS + self._num_packed // _BYTES_A_STREAM:
            raise CorpusError(f"{self._name}: holds gzip streams of almost nothing without end: refused")
        self._inflate = zlib.decompressobj(wbits=31)
        try:
            self._piece = self._inflate.decompress(rest, _PIECE_BYTES)
        except zlib.error:
            raise CorpusError(f"{self._name}: something else follows its gzip stream; fetch it again") from None
        self._num_unpacked += len(self._piece)
        return True

    def _fetch(self) -> bytes:
        data = self._file.read(_READ_BYTES)
        self._num_packed += len(data)
        return data
