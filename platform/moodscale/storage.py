"""Where files lie: a path on local disk or a URI of object storage, behind one interface (``UPath``, pathlib's own).

Credentials, endpoint and region come from the environment of each process (``AWS_ACCESS_KEY_ID``,
``AWS_ENDPOINT_URL``, …): they are refused in a URI, so that none can reach a manifest, a config or a log. Nothing here
hands them on: every node of a cluster must have them in its own environment (or a role that its machine has). Not in
``ray job submit``'s ``runtime_env``, which Ray stores and shows. How often a request is tried again is botocore's to
say (``AWS_RETRY_MODE``, ``AWS_MAX_ATTEMPTS``).
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from moodscale.config import ConfigError

Place = Path | UPath

_LOCAL = ("", "file", "local")
_SCRATCH = "moodscale-scratch-"
_ABANDONED_S = 600.0
_OPTIONS: dict[str, Any] = {"use_listings_cache": False}
"""A cached listing would hide what another process has written since."""


def location(where: str | os.PathLike[str] | UPath) -> UPath:
    """The place that a setting names: absolute, ``~`` expanded; a URI where it has a scheme.

    Raises:
        ConfigError: credentials or options in the URI, or a scheme that no installed package serves.
    """
    if isinstance(where, UPath) and not is_local(where):
        return where
    text = os.fspath(cast("str | os.PathLike[str]", where))
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
        found = cast("UPath", UPath(text.rstrip("/"), **_OPTIONS))
        found.fs  # noqa: B018 - the package that serves the scheme is imported here, and not in the first read
    except ImportError:
        raise ConfigError(f"{shown}: no package for {scheme}:// is installed; pip install 'moodscale[s3]'") from None
    except ValueError:
        raise ConfigError(f"{shown}: {scheme}:// is no storage that is known; use a path, file:// or s3://") from None
    return found


def is_local(path: os.PathLike[str] | UPath) -> bool:
    """Whether a path lies on a file system of this machine, where renames are atomic and locks hold."""
    return not isinstance(path, UPath) or path.protocol in _LOCAL


def local_path(path: Place) -> Path:
    """A local place as the plain path it is."""
    assert is_local(path), f"{display(path)} is not on a local disk"
    return Path(cast("os.PathLike[str]", path))


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
    if not is_local(path):
        # No folder is made: object storage has none, and making one would make a mistyped bucket.
        stream = path.open("wb")
        try:
            yield stream
        except BaseException:
            # Closing would finish the upload: what is not whole must not appear.
            discard = getattr(stream, "discard", None)
            if discard is not None:
                discard()
            stream.closed = True  # type: ignore[misc]
            raise
        stream.close()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
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


def read_bytes(path: Path | UPath) -> bytes:
    """A small file that others may be writing anew, as it is now: in one request.

    Opening an object asks for its version first, and fails where there is another one when its content is read.

    Raises:
        FileNotFoundError: there is none.
    """
    if is_local(path):
        return path.read_bytes()
    data: bytes = path.fs.cat_file(path.path)  # type: ignore[union-attr]
    return data


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
        return read_parquet(stream, columns)


def read_parquet(stream: IO[bytes], columns: list[str] | None = None) -> pa.Table:
    """Read Parquet from a Python file, on this thread.

    On Arrow's threads the last of them may still hold the file when the interpreter ends, and aborts the process after
    all its work is done (apache/arrow issues 33975 and 50482; seen in 3 of 10 short processes with Arrow 25).
    """
    return pq.read_table(stream, columns=columns, use_threads=False, pre_buffer=False)


def remove_tree(path: Path | UPath) -> None:
    """Remove a folder and everything in it; none there is no error."""
    if is_local(path):
        shutil.rmtree(local_path(path), ignore_errors=True)
    elif path.exists():
        path.fs.rm(path.path, recursive=True)  # type: ignore[union-attr]


def check_reachable(path: Place) -> None:
    """Ask object storage for one answer before a job builds on it; nothing to ask of a local path.

    Raises:
        ConfigError: no such bucket, no access, no credentials, no endpoint that answers; says which variables to set.
    """
    if is_local(path):
        return
    assert isinstance(path, UPath)
    shown, bucket = display(path), path.path.split("/", 1)[0]
    try:
        # Not exists(), which takes no answer for a no. Below an empty prefix find() finds nothing.
        with contextlib.suppress(FileNotFoundError):
            path.fs.ls(path.path, detail=False)
            return
        path.fs.find(path.path)
    except FileNotFoundError:
        raise ConfigError(f"{shown}: there is no bucket {bucket}; make it, or correct the URI") from None
    except PermissionError:
        raise ConfigError(
            f"{shown}: access denied; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in this process' environment, "
            "and the bucket's policy"
        ) from None
    except Exception as error:
        # botocore's own errors, which s3fs does not translate, quote requests. Their names say enough.
        endpoint = display(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS")
        raise ConfigError(
            f"{shown}: no answer from {endpoint} ({type(error).__name__}); check AWS_ENDPOINT_URL, the network and the "
            "credentials in the environment"
        ) from None


def upload(files: Mapping[Path, Place]) -> None:
    """Copy local files to object storage, several at a time; each appears whole or not at all."""
    if files:
        targets = list(files.values())
        targets[0].fs.put([str(source) for source in files], [_key(target) for target in targets])  # type: ignore[union-attr]


def download(files: Mapping[Place, Path]) -> None:
    """Copy objects to local files, several at a time.

    Raises:
        FileNotFoundError: an object is missing.
    """
    if files:
        sources = list(files)
        for target in files.values():
            target.parent.mkdir(parents=True, exist_ok=True)
        sources[0].fs.get([_key(source) for source in sources], [str(target) for target in files.values()])  # type: ignore[union-attr]


def _key(path: Place) -> str:
    assert isinstance(path, UPath)
    return path.path


@contextmanager
def local_copy(path: Place) -> Iterator[Path]:
    """A file to read as a local one, under its own name: the file itself, or a copy while the block lasts."""
    if is_local(path):
        yield local_path(path)
        return
    with tempfile.TemporaryDirectory(dir=scratch_directory()) as folder:
        copy = Path(folder) / path.name
        download({path: copy})
        yield copy


@contextmanager
def local_output(path: Place) -> Iterator[Path]:
    """A local name to write a file under that belongs at ``path``; it is uploaded when the block ends well."""
    if is_local(path):
        yield local_path(path)
        return
    with tempfile.TemporaryDirectory(dir=scratch_directory()) as folder:
        copy = Path(folder) / path.name
        yield copy
        upload({copy: path})


def scratch_directory() -> Path:
    """This process' own folder for copies, under ``TMPDIR``; what killed processes left behind is removed.

    A process holds a lock as long as it lives, so a folder whose lock is free has no owner.
    """
    return _scratch_of(os.getpid())


@cache
def _scratch_of(pid: int) -> Path:
    root = Path(tempfile.gettempdir())
    for left in root.glob(f"{_SCRATCH}*"):
        with contextlib.suppress(OSError):
            _remove_abandoned(left)
    directory = Path(tempfile.mkdtemp(prefix=_SCRATCH))
    _hold(directory)
    atexit.register(_leave, pid, directory)
    return directory


def _leave(pid: int, directory: Path) -> None:
    if os.getpid() == pid:  # a forked child has its parent's exit handlers
        shutil.rmtree(directory, ignore_errors=True)


_held: list[IO[bytes]] = []


def _hold(directory: Path) -> None:
    lock = (directory / "lock").open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    _held.append(lock)


def _remove_abandoned(directory: Path) -> None:
    facts = directory.lstat()
    if facts.st_uid != os.getuid() or time.time() - facts.st_mtime < _ABANDONED_S:
        return  # somebody else's, or so new that its owner may not have locked it yet
    with (directory / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
