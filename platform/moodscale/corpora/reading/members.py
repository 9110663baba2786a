"""One way to open an input file: on local disk or object storage, by itself or as a member of an archive.

A member's path is ``archive!member``, e.g. ``data/300_P.tar.gz!300_P/300_AUDIO.wav``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

from moodscale.corpora.base import MANIFEST_ROOT
from moodscale.corpora.reading.archives import SafeZip, is_zip
from moodscale.corpora.reading.paths import AnyPath, check_relative, resolve
from moodscale.corpora.reading.streams import open_file
from moodscale.corpora.reading.tars import SafeTar, TarIndex, TarMember, fingerprint, is_tar
from moodscale.schema import CorpusError
from moodscale.storage import write_bytes

INDEX_DIR = "index"
"""Folder beside the manifest's tables for seek points of archives."""
INDEX_FROM_BYTES = 8 * 2**20
"""A smaller archive is passed over faster than its index is fetched."""
MAX_INDEX_BYTES = 512 * 2**20
NUM_KEPT_OPEN = 4
"""Archives that a process keeps open, with some 10 MiB of seek points each."""

_MEMBER = "!"
_open: OrderedDict[tuple[int, str, int, Any], SafeTar] = OrderedDict()
_lock = threading.Lock()

log = logging.getLogger(__name__)


def member_path(archive: str, member: str) -> str:
    """The path of a member, as of an ``AudioFile``."""
    return f"{archive}{_MEMBER}{member}"


def split_member(path: str) -> tuple[str, str | None]:
    """A path's archive and member; ``None`` where it is a file by itself. A ``!`` elsewhere in a name means nothing."""
    at = path.find(_MEMBER)
    while at >= 0:
        if is_tar(path[:at]) or is_zip(path[:at]):
            return path[:at], path[at + 1 :]
        at = path.find(_MEMBER, at + 1)
    return path, None


@contextmanager
def open_input(roots: Mapping[str, AnyPath], root: str, path: str) -> Iterator[BinaryIO]:
    """Open a file of a corpus or a manifest for reading. Nothing is unpacked to disk.

    Args:
        roots: directory of each root's name (``Corpus.roots``, ``Manifest.roots``). Where the manifest's is among
            them, its index of an archive saves the pass over it.
        path: as of an ``AudioFile`` or ``FeatureFile``.
    Yields:
        A seekable binary stream.
    Raises:
        CorpusError: the path is refused; there is no such file; the archive is damaged or hostile.
        OSError: it cannot be read.
    """
    archive, member = split_member(path)
    where = resolve(roots, root, archive)
    if member is None:
        with open_file(where) as stream:
            yield stream
        return
    check_relative(member)
    if is_zip(archive):
        with SafeZip(where) as packed, packed.open(member) as stream:
            yield stream
        return
    manifest = roots.get(MANIFEST_ROOT)
    with open_tar(where, None if manifest is None else manifest / INDEX_DIR).open(member) as stream:
        yield stream


def open_tar(path: AnyPath, index_dir: AnyPath | None = None) -> SafeTar:
    """An archive, opened once a process and kept while it is among the last few.

    Args:
        index_dir: where its seek points lie; they are written there where they are not yet.
    Raises:
        CorpusError, OSError: see ``SafeTar``.
    """
    status = path.stat()
    # A forked process shares the file's position with its parent, so what that one opened is not for this one.
    key = (os.getpid(), str(path), status.st_size, getattr(status, "st_mtime", None))
    with _lock:
        found = _open.get(key)
        if found is not None:
            _open.move_to_end(key)
    if status.st_size < INDEX_FROM_BYTES:
        index_dir = None
    opened = found or SafeTar(path, None if index_dir is None else _load(path, index_dir))
    if index_dir is not None and not opened.was_known and str(index_dir) not in opened.saved_to:
        opened.saved_to.add(str(index_dir))
        _save(opened.index(), index_dir)
    if found is not None:
        return found
    with _lock:
        _open[key] = opened
        while len(_open) > NUM_KEPT_OPEN:
            # Streams may still be reading from it: it is closed with the last of them.
            _open.popitem(last=False)
    return opened


def _save(index: TarIndex, index_dir: AnyPath) -> None:
    table = {
        "fingerprint": index.fingerprint,
        "sha256": hashlib.sha256(index.points).hexdigest(),
        "members": [[name, member.offset, member.size] for name, member in index.members.items()],
    }
    try:
        write_bytes(index_dir / f"{index.fingerprint}.gzidx", index.points)
        write_bytes(index_dir / f"{index.fingerprint}.json", json.dumps(table).encode())
    except OSError as error:
        # It saves time and nothing else: a manifest that cannot be written to is read all the same.
        log.info("%s: the index of an archive could not be kept (%s)", index_dir, type(error).__name__)


def _load(path: AnyPath, index_dir: AnyPath) -> TarIndex | None:
    """The index of an archive, found by its content; ``None`` where there is none that can be used."""
    with open_file(path) as file:
        name = fingerprint(file)
    try:
        points_file = index_dir / f"{name}.gzidx"
        if points_file.stat().st_size > MAX_INDEX_BYTES:
            raise ValueError
        table = json.loads((index_dir / f"{name}.json").read_bytes())
        points = points_file.read_bytes()
        members = {str(member): TarMember(int(offset), int(size)) for member, offset, size in table["members"]}
        if table["fingerprint"] != name or table["sha256"] != hashlib.sha256(points).hexdigest():
            raise ValueError
        for member, place in members.items():
            check_relative(member)
            if min(place.offset, place.size) < 0:
                raise ValueError
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, CorpusError):
        log.warning("%s: its index in %s cannot be used; the archive is passed over again", path.name, index_dir)
        return None
    return TarIndex(name, members, points)
