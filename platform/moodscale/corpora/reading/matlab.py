"""One numeric matrix out of a MATLAB 5 file (versions 5 to 7), in memory that the matrix itself needs.

The file is taken at its word nowhere: sizes are compared with each other before anything is allocated, and only numeric
arrays are looked into. MATLAB 7.3 files are HDF5 and not read.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from moodscale.schema import CorpusError

MAX_VALUES = 2**28
"""20 minutes at 30 frames a second with 4,096 features are 147 million."""

_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC_CLASSES = range(6, 16)
_COMPLEX, _LOGICAL = 0x0800, 0x0200
_MAX_ELEMENTS = 100
_TRUSTED_BYTES, _MAX_RATIO = 2**26, 100
"""A matrix larger than the first, and packed into less than a hundredth, is no features: they hardly pack at all. A
small one may be all zeros."""
_MAX_NAME_BYTES = 64
_PIECE_BYTES = 2**16


@dataclass(frozen=True)
class MatrixHead:
    """Where a matrix is and what it holds."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]


def read_matrix(stream: BinaryIO, key: str, name: str) -> np.ndarray[Any, Any]:
    """The matrix called ``key``, as ``[rows, columns]`` in the file's own number type.

    Raises:
        CorpusError: not a MATLAB 5 file, no such matrix, one that is not of real numbers, or larger than
            ``MAX_VALUES``, or cut off.
    """
    head, source = _find(stream, key, name)
    data = np.empty(head.shape[0] * head.shape[1], head.dtype)
    view = memoryview(data.view(np.uint8))  # type: ignore[arg-type]
    at = 0
    while at < len(view):
        piece = source.take(min(_PIECE_BYTES, len(view) - at))
        view[at : at + len(piece)] = piece
        at += len(piece)
    source.finish()
    return data.reshape(head.shape, order="F")


def read_head(stream: BinaryIO, key: str, name: str) -> MatrixHead:
    """Shape and type of the matrix alone; raises as ``read_matrix`` does."""
    return _find(stream, key, name)[0]


class _Source:
    """Bytes of an element, unpacked where it is packed."""

    def __init__(self, stream: BinaryIO, num_bytes: int, packed: bool, name: str) -> None:
        self._stream = stream
        self._left = num_bytes
        self._inflate = zlib.decompressobj() if packed else None
        self._name = name

    def take(self, num_bytes: int) -> bytes:
        pieces: list[bytes] = []
        while num_bytes > 0:
            piece = self._some(num_bytes)
            pieces.append(piece)
            num_bytes -= len(piece)
        return b"".join(pieces)

    def _some(self, most: int) -> bytes:
        if self._inflate is None:
            return self._fetch(most)
        packed = self._inflate.unconsumed_tail or self._fetch(_PIECE_BYTES)
        try:
            return self._inflate.decompress(packed, most)
        except zlib.error:
            raise CorpusError(f"{self._name}: its packed matrix is damaged; fetch it again") from None

    def finish(self) -> None:
        """Go to the end of what is packed, where its checksum is."""
        padding = 0
        while self._inflate is not None and not self._inflate.eof:
            padding += len(self._some(8))
            if padding > 8:
                raise CorpusError(f"{self._name}: something follows its matrix within the packed element: refused")

    def _fetch(self, most: int) -> bytes:
        data = self._stream.read(min(most, self._left))
        if not data:
            raise CorpusError(f"{self._name}: is cut off within its matrix; fetch it again")
        self._left -= len(data)
        return data

    def element(self) -> tuple[int, bytes]:
        """A small element within a matrix: its type and content."""
        kind, num_bytes, inline = self.tag()
        if inline is not None:
            return kind, inline
        if num_bytes > _MAX_NAME_BYTES:
            raise CorpusError(f"{self._name}: a part of its matrix' head claims {num_bytes:,} bytes: refused")
        return kind, self.take(-(-num_bytes // 8) * 8)[:num_bytes]

    def tag(self) -> tuple[int, int, bytes | None]:
        """Type and size of what follows; the content itself where it is so small that it stands in the tag."""
        raw = self.take(8)
        kind, num_bytes = struct.unpack("<II", raw)
        small = kind >> 16
        if small:
            return kind & 0xFFFF, small, raw[4 : 4 + min(small, 4)]
        return kind, num_bytes, None


def _find(stream: BinaryIO, key: str, name: str) -> tuple[MatrixHead, _Source]:
    stream.seek(0)
    header = stream.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or header[126:128] != b"IM" or header[125] != 1:
        raise CorpusError(f"{name}: is not a MATLAB 5 file; save it with MATLAB's '-v7' or scipy.io.savemat")
    at = _HEADER_BYTES
    for _ in range(_MAX_ELEMENTS):
        stream.seek(at)
        tag = stream.read(8)
        if len(tag) < 8:
            break
        kind, num_bytes = struct.unpack("<II", tag)
        if kind not in (_MATRIX, _COMPRESSED):
            raise CorpusError(f"{name}: element of type {kind} at byte {at:,}: not a file that can be read here")
        source = _Source(stream, num_bytes, kind == _COMPRESSED, name)
        if kind == _COMPRESSED and source.tag()[0] != _MATRIX:
            raise CorpusError(f"{name}: a packed element at byte {at:,} is no matrix: refused")
        head = _head(source, key, name)
        if head is not None:
            unpacked = head.shape[0] * head.shape[1] * head.dtype.itemsize
            if kind == _COMPRESSED and unpacked > max(_TRUSTED_BYTES, _MAX_RATIO * num_bytes):
                raise CorpusError(f"{name}: {key!r} unpacks from {num_bytes:,} bytes to {unpacked:,}: refused")
            return head, source
        at += 8 + num_bytes
    raise CorpusError(f"{name}: holds no matrix called {key!r}")


def _head(source: _Source, key: str, name: str) -> MatrixHead | None:
    """The head of a matrix; ``None`` where it is another one than wanted."""
    _, flags = source.element()
    _, dims = source.element()
    _, found = source.element()
    if found.decode("ascii", "replace") != key:
        return None
    shape = struct.unpack(f"<{len(dims) // 4}i", dims[: len(dims) // 4 * 4])
    bits = struct.unpack("<I", flags[:4])[0] if len(flags) >= 4 else 0
    if bits & 0xFF not in _NUMERIC_CLASSES or bits & _COMPLEX:
        raise CorpusError(f"{name}: {key!r} is not a matrix of real numbers")
    if len(shape) != 2 or min(shape) <= 0 or shape[0] * shape[1] > MAX_VALUES:
        raise CorpusError(f"{name}: {key!r} has the shape {shape}; rows by columns, at most {MAX_VALUES:,} values")
    kind, num_bytes, inline = source.tag()
    if kind not in _DTYPES:
        raise CorpusError(f"{name}: {key!r} holds numbers of an unknown type {kind}")
    dtype = np.dtype(f"<{_DTYPES[kind]}")
    if num_bytes != shape[0] * shape[1] * dtype.itemsize or inline is not None:
        raise CorpusError(f"{name}: {key!r} of shape {shape} claims {num_bytes:,} bytes: it contradicts itself")
    return MatrixHead((shape[0], shape[1]), dtype)
