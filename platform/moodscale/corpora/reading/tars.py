"""Reading a tar that may be hostile and large, without unpacking it.

One pass checks every member (names, links, sizes, ratio, checksum). Seek points some MiB apart are made by a second
one when a member is first opened, or come from a file beside the manifest: any place in the archive then costs a
bounded seek and not a pass. Memory is bounded by the seek points, 32 KiB each.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import indexed_gzip

from moodscale.corpora.reading.archives import find_member
from moodscale.corpora.reading.gunzip import Gunzip
from moodscale.corpora.reading.paths import AnyPath, check_relative
from moodscale.corpora.reading.streams import BlockStream, open_file, raising_late
from moodscale.schema import CorpusError

SUFFIXES = (".tar", ".tar.gz", ".tgz")
MAX_UNPACKED_BYTES = 16 * 2**30
"""A session with every published feature is about 3 GiB."""
MAX_MEMBERS = 10_000
SPACING_BYTES = 4 * 2**20
"""Unpacked distance of the seek points; a quarter of it in an archive below ``SMALL_BYTES``, where they are few."""
SMALL_BYTES = 64 * 2**20

_BLOCK = tarfile.BLOCKSIZE
_MAX_HEADER_BYTES = 2**16
"""Of one extended header: a long name, or a few facts."""
_MAX_TRAILING_BYTES = 2**20
_END_BYTES = 2**16
_PASSED_OVER = frozenset({tarfile.DIRTYPE, tarfile.XGLTYPE})


def is_tar(name: str) -> bool:
    """Whether a file is a tar by its name."""
    return name.lower().endswith(SUFFIXES)


@dataclass(frozen=True)
class TarMember:
    """Where a file lies in the unpacked archive, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class TarIndex:
    """What the passes over an archive found.

    Attributes:
        fingerprint: of the archive that it belongs to.
        points: seek points as ``indexed_gzip`` writes them; empty where the tar is not packed.
    """

    fingerprint: str
    members: dict[str, TarMember]
    points: bytes = field(repr=False, default=b"")


class SafeTar:
    """A tar, packed or not, whose every member passed the checks. Threads may share it.

    Raises:
        CorpusError: not a tar, damaged or cut off; a member with an absolute path, ``..``, a NUL, or that is a link
            or a device; one name twice; too many members; more than ``MAX_UNPACKED_BYTES`` or a ratio above
            ``gunzip.MAX_RATIO``.
        OSError: it cannot be read.
    """

    def __init__(self, path: AnyPath, known: TarIndex | None = None) -> None:
        self.path = path
        self._lock = threading.Lock()
        with ExitStack() as opened:
            self._file = opened.enter_context(open_file(path))
            self.fingerprint = fingerprint(self._file)
            self._file.seek(0)
            self.packed = self._file.read(2) == b"\x1f\x8b"
            self._file.seek(0)
            if known is not None and known.fingerprint != self.fingerprint:
                raise CorpusError(f"{path.name}: is another archive than its index was made of; prepare it again")
            if known is not None:
                self.members = dict(known.members)
            else:
                self.members = _Pass(
                    Gunzip(self._file, path.name) if self.packed else _Plain(self._file), path.name
                ).run()
            self._points = None if known is None else known.points
            self._bytes: Any = None
            self.was_known = known is not None
            self.saved_to: set[str] = set()
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close the archive; streams of its members end."""
        with self._lock:
            self._opened.close()

    def names(self) -> list[str]:
        """The files in it, folders left out."""
        return list(self.members)

    def find(self, basename: str) -> str | None:
        """The member of that file name; see ``SafeZip.find``."""
        return find_member(self.members, basename, self.path.name)

    def size(self, name: str) -> int:
        """Unpacked size in bytes."""
        return self.members[name].size

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """A seekable stream of a member.

        Raises:
            CorpusError: there is none of that name, or it is damaged (on closing).
        """
        member = self.members.get(name)
        if member is None:
            raise CorpusError(f"{self.path.name}: no {name!r} in it; is it the archive that the table was made from?")

        def read_at(at: int, num_bytes: int) -> bytes:
            try:
                with self._lock:
                    unpacked = self._unpacked()
                    unpacked.seek(member.offset + at)
                    return bytes(unpacked.read(num_bytes))
            except (indexed_gzip.ZranError, EOFError, ValueError):
                raise CorpusError(f"{self.path.name}: {name} is damaged; fetch it again") from None

        with raising_late(BlockStream(read_at, member.size)) as stream:
            yield stream

    def read(self, name: str, max_bytes: int) -> bytes:
        """A small member whole.

        Raises:
            CorpusError: larger than ``max_bytes``, or damaged.
        """
        if self.size(name) > max_bytes:
            raise CorpusError(f"{self.path.name}: {name} is {self.size(name):,} bytes, above the {max_bytes:,} allowed")
        with self.open(name) as stream:
            return stream.read()

    def index(self) -> TarIndex:
        """What another process needs to open it without a pass."""
        points = b""
        if self.packed:
            buffer = io.BytesIO()
            with self._lock:
                self._unpacked().export_index(fileobj=buffer)
            points = buffer.getvalue()
        return TarIndex(self.fingerprint, dict(self.members), points)

    def _unpacked(self) -> Any:
        """The unpacked archive at any offset."""
        if self._bytes is None:
            self._bytes = self._file
            if self.packed:
                size = self._file.seek(0, io.SEEK_END)
                self._file.seek(0)
                spacing = SPACING_BYTES if size >= SMALL_BYTES else SPACING_BYTES // 4
                unpacked = indexed_gzip.IndexedGzipFile(
                    fileobj=self._file, spacing=spacing, buffer_size=2**16, readbuf_size=2**16
                )
                if self._points:
                    unpacked.import_index(fileobj=io.BytesIO(self._points))
                else:
                    unpacked.build_full_index()
                self._bytes, self._points = unpacked, None
        return self._bytes


class _Pass:
    """The first pass: reads headers, steps over what lies between."""

    def __init__(self, unpacked: Gunzip | _Plain, name: str) -> None:
        self.unpacked = unpacked
        self.name = name
        self.members: dict[str, TarMember] = {}
        self.num_headers = 0

    def run(self) -> dict[str, TarMember]:
        facts: dict[str, str] = {}
        while (header := self._header()) is not None:
            at = self.unpacked.at
            if header.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
                facts |= self._extended(header)
            else:
                self._size(header, facts)
                if header.type not in _PASSED_OVER:
                    self._add(header, facts.get("path", header.name), at)
                facts = facts if header.type == tarfile.XGLTYPE else {}
            end = at + -(-header.size // _BLOCK) * _BLOCK
            self.unpacked.skip(end - self.unpacked.at)
            if self.unpacked.at < end:
                raise CorpusError(f"{self.name}: is cut off: a member ends at byte {end:,}; fetch it again")
        if not self.members:
            raise self._refuse("holds no file")
        if self.unpacked.skip(_MAX_TRAILING_BYTES) == _MAX_TRAILING_BYTES:
            raise self._refuse("goes on after its end")
        return self.members

    def _header(self) -> tarfile.TarInfo | None:
        at = self.unpacked.at
        self.num_headers += 1
        if self.num_headers > 3 * MAX_MEMBERS:
            raise self._refuse(f"holds more than {MAX_MEMBERS:,} files")
        block = self.unpacked.read(_BLOCK)
        if len(block) == _BLOCK and not block.strip(b"\0"):
            return None
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError):
            problem = "is cut off" if len(block) < _BLOCK else "is not a tar, or damaged"
            raise CorpusError(f"{self.name}: {problem} at byte {at:,}; fetch it again") from None

    def _extended(self, header: tarfile.TarInfo) -> dict[str, str]:
        """The facts of a header that goes before a member's own."""
        if not 0 <= header.size <= _MAX_HEADER_BYTES:
            raise self._refuse("has an extended header of an impossible size")
        data = self.unpacked.read(header.size)
        if header.type == tarfile.GNUTYPE_LONGNAME:
            return {"path": data.rstrip(b"\0").decode("utf-8", "surrogateescape")}
        facts = {}
        while data:
            length_text, _, rest = data.partition(b" ")
            length = int(length_text) if length_text.isdigit() and len(length_text) < 7 else 0
            key, equals, value = rest[: length - len(length_text) - 1].partition(b"=")
            if not length or length > len(data) or not equals:
                raise self._refuse("has a damaged extended header")
            facts[key.decode("utf-8", "replace")] = value.removesuffix(b"\n").decode("utf-8", "surrogateescape")
            data = data[length:]
        return facts

    def _size(self, header: tarfile.TarInfo, facts: dict[str, str]) -> None:
        if "size" in facts:
            stated = facts["size"]
            header.size = int(stated) if stated.isascii() and stated.isdigit() and len(stated) < 19 else -1
        if header.size < 0:
            raise self._refuse("states an impossible size")
        if any(fact.startswith("GNU.sparse") for fact in facts):
            raise self._refuse("holds a sparse file")

    def _add(self, header: tarfile.TarInfo, name: str, at: int) -> None:
        shown = ascii(name[:200])
        if header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
            raise self._refuse(f"member {shown} is a link or a device")
        name = name.removeprefix("./")
        try:
            check_relative(name)
        except CorpusError as error:
            raise CorpusError(f"{self.name}: {error}") from None
        if name in self.members:
            raise self._refuse(f"member {shown} is in it twice")
        if len(self.members) >= MAX_MEMBERS:
            raise self._refuse(f"holds more than {MAX_MEMBERS:,} files")
        if at + header.size > MAX_UNPACKED_BYTES:
            raise self._refuse(f"unpacks to more than {MAX_UNPACKED_BYTES:,} bytes")
        self.members[name] = TarMember(at, header.size)

    def _refuse(self, reason: str) -> CorpusError:
        return CorpusError(f"{self.name}: {reason}: the archive is refused")


class _Plain:
    """A tar that is not packed, with the methods of :class:`Gunzip`."""

    def __init__(self, file: BinaryIO) -> None:
        self.at = 0
        self._file = file
        self._size = file.seek(0, io.SEEK_END)

    def read(self, num_bytes: int) -> bytes:
        self._file.seek(self.at)
        data = self._file.read(num_bytes)
        self.at += len(data)
        return data

    def skip(self, num_bytes: int) -> int:
        skipped = min(num_bytes, self._size - self.at)
        self.at += skipped
        return skipped


def fingerprint(file: BinaryIO) -> str:
    """Of size, start and end, where gzip has its checksum: enough to tell that an index is of this archive."""
    size = file.seek(0, io.SEEK_END)
    digest = hashlib.sha256(str(size).encode())
    for at in (0, max(size - _END_BYTES, 0)):
        file.seek(at)
        digest.update(file.read(_END_BYTES))
    return digest.hexdigest()[:32]
