"""Reading a zip that may be hostile: names, links, sizes and ratios are checked before a byte is unpacked.

Memory is bounded by ``CHUNK_BYTES`` plus a central directory of at most ``MAX_DIRECTORY_BYTES``.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import BinaryIO, cast

from moodscale.corpora.reading.paths import AnyPath, check_relative, why
from moodscale.corpora.reading.streams import open_file
from moodscale.schema import CorpusError
from moodscale.storage import writing

MAX_RATIO = 200
"""Unpacked over packed size. Speech packs about 1.2:1, a transcript about 4:1, a table of zeros below 100:1."""
MAX_DIRECTORY_BYTES = 4 * 2**20
CHUNK_BYTES = 2**20

_END = struct.Struct("<4s4H2LH")
_ZIP64_LOCATOR_BYTES = 20
_RATIO_SLACK_BYTES = 2**16
"""A small file may pack well without harm: the ratio counts above this size only."""


class SafeZip:
    """A zip whose every member passed the checks.

    Raises:
        CorpusError: not a zip; a directory above ``MAX_DIRECTORY_BYTES``; a member with an absolute path, ``..``, a
            NUL, a link, a password or a ratio above ``MAX_RATIO``; one name twice.
    """

    def __init__(self, path: AnyPath) -> None:
        self.path = path
        self._members: dict[str, zipfile.ZipInfo] = {}
        with ExitStack() as opened:
            try:
                file = opened.enter_context(open_file(path))
                _check_directory_size(file, path)
                self._zip = opened.enter_context(zipfile.ZipFile(file))
            except OSError as error:
                raise CorpusError(f"{path.name}: cannot be read ({why(error)})") from None
            except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
                if isinstance(error, CorpusError):
                    raise
                raise CorpusError(f"{path.name}: not a readable zip; fetch it again") from None
            for info in self._zip.infolist():
                self._check(info)
            self._opened = opened.pop_all()

    def __enter__(self) -> SafeZip:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def names(self) -> list[str]:
        """The files in it, folders left out."""
        return list(self._members)

    def size(self, name: str) -> int:
        """Unpacked size as the directory states it, in bytes."""
        return self._members[name].file_size

    def find(self, basename: str) -> str | None:
        """The member of that file name, at the top or in a folder; ``__MACOSX`` does not count.

        Raises:
            CorpusError: there are several.
        """
        return find_member(self._members, basename, self.path.name)

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """A seekable stream of a member; going back reads it again from its start.

        Raises:
            CorpusError: there is none of that name, or it is damaged.
        """
        if name not in self._members:
            raise CorpusError(f"{self.path.name}: no {name!r} in it; is it the archive that the table was made from?")
        try:
            with self._zip.open(self._members[name]) as member:
                yield cast(BinaryIO, member)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            raise CorpusError(f"{self.path.name}: {name} is damaged; fetch it again") from None

    def read(self, name: str, max_bytes: int) -> bytes:
        """A small member whole.

        Raises:
            CorpusError: larger than ``max_bytes``, or damaged.
        """
        return b"".join(self._chunks(name, max_bytes))

    def unpack(self, name: str, target: AnyPath, max_bytes: int) -> None:
        """Stream a member into a file, which appears under its name only when it is complete.

        Raises:
            CorpusError: larger than ``max_bytes``, or damaged; nothing is left behind.
        """
        with writing(target) as file:
            for chunk in self._chunks(name, max_bytes):
                file.write(chunk)

    def _chunks(self, name: str, max_bytes: int) -> Iterator[bytes]:
        info = self._members[name]
        if info.file_size > max_bytes:
            raise CorpusError(
                f"{self.path.name}: {name} would unpack to {info.file_size:,} bytes, above the {max_bytes:,} allowed"
            )
        try:
            with self._zip.open(info) as member:
                # ZipExtFile stops at the stated size and checks the checksum there, so a directory that lies about
                # the size ends as damage and not as an endless stream.
                while chunk := member.read(CHUNK_BYTES):
                    yield chunk
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError):
            raise CorpusError(
                f"{self.path.name}: {name} is damaged or packed in an unknown way; fetch it again"
            ) from None

    def _check(self, info: zipfile.ZipInfo) -> None:
        def refuse(reason: str) -> CorpusError:
            return CorpusError(f"{self.path.name}: member {info.orig_filename!r} {reason}: the archive is refused")

        try:
            check_relative(info.orig_filename.rstrip("/"))
        except CorpusError as error:
            raise CorpusError(f"{self.path.name}: {error}") from None
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise refuse("is a link or a device")
        if info.flag_bits & 0x1:
            raise refuse("needs a password")
        if info.file_size > _RATIO_SLACK_BYTES and info.file_size > MAX_RATIO * max(info.compress_size, 1):
            raise refuse(f"unpacks to more than {MAX_RATIO} times its size")
        if info.is_dir():
            return
        if info.filename in self._members:
            raise refuse("is in it twice")
        self._members[info.filename] = info


def is_zip(name: str) -> bool:
    """Whether a file is a zip by its name."""
    return name.lower().endswith(".zip")


def find_member(names: Iterable[str], basename: str, archive: str) -> str | None:
    """The member of that file name, at the top or in a folder; ``__MACOSX`` does not count.

    Raises:
        CorpusError: there are several.
    """
    found = [name for name in names if name.rpartition("/")[2] == basename and not name.startswith("__MACOSX/")]
    if len(found) > 1:
        raise CorpusError(f"{archive}: {basename} is in it {len(found)} times; keep one")
    return found[0] if found else None


def _check_directory_size(file: BinaryIO, path: AnyPath) -> None:
    """``zipfile`` reads the whole directory at once, so its size is looked at before."""
    size = file.seek(0, 2)
    file.seek(max(size - _END.size - _ZIP64_LOCATOR_BYTES - 0xFFFF, 0))
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise CorpusError(f"{path.name}: not a readable zip (no directory at its end); fetch it again")
    directory_bytes = _END.unpack_from(tail, at)[5]
    if tail[max(at - _ZIP64_LOCATOR_BYTES, 0) : at].startswith(b"PK\x06\x07"):
        raise CorpusError(
            f"{path.name}: a zip64 archive (above 4 GiB or 65,534 files) is refused; unpack it to a folder"
        )
    if directory_bytes > MAX_DIRECTORY_BYTES:
        raise CorpusError(
            f"{path.name}: its directory of {directory_bytes:,} bytes is above {MAX_DIRECTORY_BYTES:,}: refused"
        )
