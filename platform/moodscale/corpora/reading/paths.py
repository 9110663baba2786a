"""Paths that come from a table or an archive are input: they must stay under their root."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from moodscale.schema import CorpusError


def resolve(root_dirs: Mapping[str, Path], root: str, path: str) -> Path:
    """Where ``path`` under the named ``root`` lies. The file itself is never opened.

    Only what is below the root is checked for links: the root is the user's own choice.

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
    current = Path(root_dirs[root])
    for part in PurePosixPath(path).parts:
        current = current / part
        try:
            mode = current.lstat().st_mode
        except OSError as error:
            raise CorpusError(f"path={path!r} under root {root!r}: {error.strerror}; is the corpus in place?") from None
        if stat.S_ISLNK(mode):
            raise CorpusError(
                f"path={path!r} under root {root!r} goes through a link ({part!r}); copy the file instead"
            )
    return current


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
