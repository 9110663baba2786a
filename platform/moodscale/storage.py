"""Where files lie: a path on local disk or a URI of object storage, behind one interface (``UPath``, pathlib's own).

Credentials, endpoint and region come from the environment of each process (``AWS_ACCESS_KEY_ID``,
``AWS_ENDPOINT_URL``, …): they are refused in a URI, so that none can reach a manifest, a config or a log.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from moodscale.config import ConfigError

_LOCAL = ("", "file", "local")
_OPTIONS = {"use_listings_cache": False}
"""A cached listing would hide what another process has written since."""


def location(where: str | os.PathLike[str]) -> UPath:
    """The place that a setting names: absolute, ``~`` expanded; a URI where it has a scheme.

    Raises:
        ConfigError: credentials or options in the URI, or a scheme that no installed package serves.
    """
    if isinstance(where, UPath) and not is_local(where):
        return where
    text = os.fspath(where)
    scheme = urlsplit(text).scheme if "://" in text else ""
    if scheme in _LOCAL:
        return UPath(Path(text.removeprefix(f"{scheme}://") if scheme else text).expanduser().absolute())
    shown = display(text)
    parts = urlsplit(text)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"{shown}: a URI may not hold credentials or options; set them in the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)"
        )
    if not parts.netloc:
        raise ConfigError(f"{shown}: names no bucket; write {scheme}://bucket/folder")
    try:
        found = UPath(text.rstrip("/"), **_OPTIONS)
        found.fs  # noqa: B018 - the package that serves the scheme is imported here, and not in the first read
    except ImportError:
        raise ConfigError(f"{shown}: no package for {scheme}:// is installed; pip install 'moodscale[s3]'") from None
    except ValueError:
        raise ConfigError(f"{shown}: {scheme}:// is no storage that is known; use a path, file:// or s3://") from None
    return found


def is_local(path: os.PathLike[str] | UPath) -> bool:
    """Whether a path lies on a file system of this machine, where renames are atomic and locks hold."""
    return not isinstance(path, UPath) or path.protocol in _LOCAL


def display(where: str | os.PathLike[str] | UPath) -> str:
    """A path or URI as it may be shown: without user, password, query and fragment."""
    text = str(where)
    if "://" not in text:
        return text
    parts = urlsplit(text)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@contextmanager
def writing(path: Path | UPath) -> Iterator[IO[bytes]]:
    """A file that appears under its name only when the block ends well: by rename locally, by one upload elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not is_local(path):
        stream = path.open("wb")
        try:
            yield stream
        except BaseException:
            # Closing would finish the upload: what is not whole must not appear.
            discard = getattr(stream, "discard", None)
            if discard is not None:
                discard()
            stream.closed = True
            raise
        stream.close()
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)  # type: ignore[arg-type]
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path | UPath, data: bytes) -> None:
    """Write a small file whole, or not at all."""
    with writing(path) as stream:
        stream.write(data)


def write_table(path: Path | UPath, table: pa.Table) -> None:
    """Write Parquet, whole or not at all."""
    with writing(path) as stream:
        pq.write_table(table, stream, compression="zstd")


def read_table(path: Path | UPath, columns: list[str] | None = None) -> pa.Table:
    """Read Parquet.

    Raises:
        OSError: there is no such file, or it cannot be read.
        pyarrow.ArrowException: it is not Parquet.
    """
    with path.open("rb") as stream:
        return pq.read_table(stream, columns=columns)


def remove_tree(path: Path | UPath) -> None:
    """Remove a folder and everything in it; none there is no error."""
    if is_local(path):
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists():
        path.fs.rm(path.path, recursive=True)  # type: ignore[union-attr]
