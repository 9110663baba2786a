"""A session's files, alike whether they lie in a folder, a zip or a tar."""

from __future__ import annotations

import abc
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from upath import UPath

from moodscale.corpora.base import CORPUS_ROOT, MANIFEST_ROOT
from moodscale.corpora.reading.archives import SafeZip, find_member, is_zip
from moodscale.corpora.reading.members import member_path, open_tar
from moodscale.corpora.reading.paths import AnyPath, resolve
from moodscale.corpora.reading.tables import MAX_TABLE_BYTES, read_bytes
from moodscale.corpora.reading.tars import SafeTar, is_tar
from moodscale.schema import CorpusError
from moodscale.storage import is_local

Place = tuple[str, str]
"""Root and path of a file, as an ``AudioFile`` has them."""

_SESSION = re.compile(r"^(\d+)_P(\.zip|\.tar|\.tar\.gz|\.tgz)?$")


def find_sessions(root: UPath, folders: Sequence[str] = ("",)) -> dict[str, str]:
    """Session number → path under the root of its folder or archive, by number; a folder goes before an archive."""
    found: dict[str, str] = {}
    for folder in folders:
        place = root / folder if folder else root
        if not place.is_dir():
            continue
        for path in sorted(place.iterdir(), key=lambda entry: entry.name, reverse=True):
            match = _SESSION.match(path.name)
            if match and (match[2] is not None or not is_local(path) or path.is_dir()):
                found[match[1]] = f"{folder}/{path.name}" if folder else path.name
    return dict(sorted(found.items(), key=lambda pair: (int(pair[0]), pair[0])))


def is_archive(path: str) -> bool:
    """Whether what ``find_sessions`` found is an archive."""
    return is_zip(path) or is_tar(path)


class SessionFiles(abc.ABC):
    """The files of one session.

    Attributes:
        name: of the folder or archive, for messages.
        names: every file in it, with its folder.
    """

    name: str
    names: Sequence[str]

    def find(self, *basenames: str) -> str | None:
        """The first of several file names that there is.

        Raises:
            CorpusError: one is there more than once.
        """
        found = (find_member(self.names, basename, self.name) for basename in basenames)
        return next((name for name in found if name is not None), None)

    def require(self, *basenames: str) -> str:
        """As ``find``.

        Raises:
            CorpusError: there is none.
        """
        found = self.find(*basenames)
        if found is None:
            raise CorpusError(f"{self.name}: {basenames[0]} is missing in it")
        return found

    @abc.abstractmethod
    def read(self, name: str) -> bytes:
        """A small file whole."""

    @abc.abstractmethod
    def place(self, name: str) -> Place:
        """Where a file can be read from front to back."""

    def recording(self, name: str) -> Place:
        """Where a recording can be read at any time in it."""
        return self.place(name)

    @property
    def is_flat_tar(self) -> bool:
        """Whether it is a tar whose members do not lie in the session's own folder."""
        return False


class _Folder(SessionFiles):
    def __init__(self, roots: Mapping[str, AnyPath], path: str) -> None:
        self._roots, self._path = roots, path
        folder = resolve(roots, CORPUS_ROOT, path)
        names = _list(folder)
        if "features" in names:
            below = resolve(roots, CORPUS_ROOT, f"{path}/features")
            names.remove("features")
            names += [f"features/{name}" for name in _list(below)]
        self.name, self.names = folder.name, names

    def read(self, name: str) -> bytes:
        return read_bytes(resolve(self._roots, *self.place(name)))

    def place(self, name: str) -> Place:
        return CORPUS_ROOT, f"{self._path}/{name}"


def _list(folder: AnyPath) -> list[str]:
    entries: Iterator[AnyPath] = folder.iterdir()
    return sorted(entry.name for entry in entries)


class _Tar(SessionFiles):
    def __init__(self, path: str, archive: SafeTar) -> None:
        self.name, self.names = archive.path.name, archive.names()
        self._path, self._archive = path, archive

    def read(self, name: str) -> bytes:
        return self._archive.read(name, MAX_TABLE_BYTES)

    def place(self, name: str) -> Place:
        return CORPUS_ROOT, member_path(self._path, name)

    @property
    def is_flat_tar(self) -> bool:
        return not any(name.startswith(f"{self.name.partition('.')[0]}/") for name in self.names)


class _Zip(SessionFiles):
    def __init__(self, path: str, archive: SafeZip, unpack_to: AnyPath | None, max_audio_bytes: int) -> None:
        self.name, self.names = archive.path.name, archive.names()
        self._path, self._archive = path, archive
        self._unpack_to, self._max_audio_bytes = unpack_to, max_audio_bytes

    def read(self, name: str) -> bytes:
        return self._archive.read(name, MAX_TABLE_BYTES)

    def place(self, name: str) -> Place:
        return CORPUS_ROOT, member_path(self._path, name)

    def recording(self, name: str) -> Place:
        if self._unpack_to is None:
            raise CorpusError(f"{self.name}: recordings in archives need a folder to be unpacked to")
        target = self._unpack_to / name.rpartition("/")[2]
        if not target.is_file() or target.stat().st_size != self._archive.size(name):
            self._archive.unpack(name, target, self._max_audio_bytes)
        return MANIFEST_ROOT, f"{self._unpack_to.name}/{target.name}"


@contextmanager
def open_session(
    roots: Mapping[str, AnyPath], path: str, unpack_to: AnyPath | None, max_audio_bytes: int
) -> Iterator[SessionFiles]:
    """Open what ``find_sessions`` found.

    Raises:
        CorpusError: the path is refused, or the archive damaged or hostile.
        OSError: it cannot be read.
    """
    if is_zip(path):
        with SafeZip(resolve(roots, CORPUS_ROOT, path)) as archive:
            yield _Zip(path, archive, unpack_to, max_audio_bytes)
    elif is_tar(path):
        yield _Tar(path, open_tar(resolve(roots, CORPUS_ROOT, path)))
    else:
        yield _Folder(roots, path)
