"""One way to open an input file: on local disk or object storage, by itself or as a member of an archive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO, cast

from moodscale.corpora.reading.paths import AnyPath, resolve
from moodscale.storage import is_local

REMOTE_BLOCK_BYTES = 2**20
"""Fetched at once from object storage: about what a clip needs. The library's own 50 MiB is for whole files."""


@contextmanager
def open_input(roots: Mapping[str, AnyPath], root: str, path: str) -> Iterator[BinaryIO]:
    """Open a file of a corpus or a manifest for reading.

    Args:
        roots: directory of each root's name (``Corpus.roots``, ``Manifest.roots``).
        path: as of an ``AudioFile`` or ``FeatureFile``.
    Yields:
        A seekable binary stream.
    Raises:
        CorpusError: the path is refused, or there is no such file.
        OSError: it cannot be read.
    """
    with open_file(resolve(roots, root, path)) as stream:
        yield stream


@contextmanager
def open_file(path: AnyPath) -> Iterator[BinaryIO]:
    """A seekable binary stream of a file anywhere.

    Raises:
        OSError: it cannot be read.
    """
    opened = path.open("rb") if is_local(path) else path.open("rb", block_size=REMOTE_BLOCK_BYTES)  # type: ignore[call-overload]
    with opened as stream:
        yield cast(BinaryIO, stream)
