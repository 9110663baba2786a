"""Paths that come from a table or an archive are input: they must stay under their root."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from upath import UPath

from moodscale.schema import CorpusError
from moodscale.storage import is_local

AnyPath = Path | UPath


def resolve(root_dirs: Mapping[str, AnyPath], root: str, path: str) -> AnyPath:
    """Where ``path`` under the named ``root`` lies. The file itself is never opened.

    Only what is below the root is checked for links: the root is the user's own choice. Object storage has none.

    Args:
        root_dirs: directory of each root's name, e.g. ``{"corpus": …, "manifest": …}``.
        path: relative, with forward slashes.
    Raises:
        CorpusError: an unknown root; an absolute path; ``..``, a NUL or a backslash in it; a link on the way; no
            such file.
    """
    if root not in root_dirs:
        raise CorpusError(f"root={root!r} is not one of {sorted(root_dirs)}: the table is not from this manifest")
    check_relative(path)
    current = root_dirs[root]
    if not is_local(current):
        return _resolve_remote(current, root, path)
    for part in PurePosixPath(path).parts:
        current = current / part
        try:
            mode = current.lstat().st_mode
        except OSError as error:
            raise CorpusError(f"path={path!r} under root {root!r}: {why(error)}; is the corpus in place?") from None
        if stat.S_ISLNK(mode):
            raise CorpusError(
                f"path={path!r} under root {root!r} goes through a link ({part!r}); copy the file instead"
            )
    return current


def _resolve_remote(directory: AnyPath, root: str, path: str) -> AnyPath:
    found = directory.joinpath(*PurePosixPath(path).parts)
    try:
        there = found.exists()
    except OSError as error:
        raise CorpusError(f"path={path!r} under root {root!r}: {why(error)}; is the storage reachable?") from None
    if not there:
        raise CorpusError(f"path={path!r} under root {root!r}: No such file; is the corpus in place?")
    return found


def why(error: OSError) -> str:
    """What an error of the file system says, without the path: object storage's errors have no ``strerror``."""
    return error.strerror or type(error).__name__


def check_relative(path: str) -> None:
    """Refuse a path that could point outside of the folder it is meant for.

    Raises:
        CorpusError: naming the path and what is wrong with it.
    """
    pure = PurePosixPath(path)
    if not path or not pure.parts:
        problem = "is empty"
    elif "\0" in path:
        problem = "holds a NUL"
    elif pure.is_absolute() or path[1:2] == ":":
        problem = "is absolute"
    elif ".." in pure.parts:
        problem = "holds '..'"
    elif "\\" in path:
        problem = "holds a backslash"
    else:
        return
    raise CorpusError(f"path={path!r} {problem}: refused; paths must be relative and stay under their root")
