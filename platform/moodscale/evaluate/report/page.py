"""What every report is made with: the templates' environment, numbers as text, a file that appears whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_FOLDER = Path(__file__).parent


def write_page(template: str, view: Mapping[str, Any], path: str | Path, **filters: Any) -> Path:
    """Render a template of this folder into one HTML file, by rename, so that a reader never sees half of it.

    Args:
        filters: further filters of the template.
    Returns:
        The file's path.
    """
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, pair=pair, **filters)
    css = Markup((_FOLDER / "report.css").read_text(encoding="utf-8"))
    page = environment.get_template(template).render({"css": css, **view})
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(partial, 0o666 & ~umask)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return path


def fact_groups(facts: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Facts in groups of name and text; nested mappings become dotted names."""
    plain = [(str(name), str(value)) for name, value in facts.items() if not isinstance(value, Mapping)]
    groups = [("Run", plain)] if plain else []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            groups.append((str(name), _flatten(value)))
    return groups


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat += _flatten(value, f"{prefix}{name}.")
        else:
            flat.append((f"{prefix}{name}", "none" if value is None else str(value)))
    return flat


def number(value: float | None, digits: int = 3) -> str:
    """A figure as text, a dash where there is none."""
    return "–" if value is None else _signed(value, digits)


def pair(ends: tuple[float, float], digits: int = 2) -> str:
    """An interval as text."""
    # Word joiners: an interval breaks at no dash on a narrow screen.
    between = " to " if round(ends[0], digits) < 0 else "\u2060–\u2060"
    return f"{_signed(ends[0], digits)}{between}{_signed(ends[1], digits)}"


def _signed(value: float, digits: int) -> str:
    """With a real minus sign, and none before a zero."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")
