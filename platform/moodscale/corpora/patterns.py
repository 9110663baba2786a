"""Where a corpus keeps a kind of file, as a setting: a relative path with placeholders in braces."""

from __future__ import annotations

from string import Formatter

from moodscale.corpora.reading.paths import check_relative
from moodscale.schema import CorpusError


def check_pattern(pattern: str, allowed: tuple[str, ...], needed: tuple[str, ...]) -> str:
    """A pattern as it was given, once it is known to be harmless.

    Args:
        allowed: placeholders that it may hold; each stands for itself alone (no ``{a.b}``, no format).
        needed: placeholders of which it must hold at least one.
    Raises:
        ValueError: anything else in braces, none of ``needed``, or a path that could leave its root.
    """
    shown = ", ".join(f"{{{name}}}" for name in allowed)
    try:
        parts = list(Formatter().parse(pattern))
    except ValueError:
        raise ValueError(f"its braces do not match; write {shown}") from None
    names = [name for _, name, _, _ in parts if name is not None]
    if any(name is not None and (name not in allowed or spec or conversion) for _, name, spec, conversion in parts):
        raise ValueError(f"only {shown} can stand in braces, as they are")
    if not set(names) & set(needed):
        wanted = " or ".join(f"{{{name}}}" for name in needed)
        raise ValueError(f"needs {wanted}: without, it names one file for all")
    try:
        check_relative(pattern.format(**dict.fromkeys(allowed, "x")))
    except CorpusError as error:
        raise ValueError(str(error)) from None
    return pattern
