"""``kind: NAME`` → the one configuration class in ``<package>/NAME.py``, imported alone.

Adding a component is adding a file: no list is kept. A dotted kind (``kind: their_package.module``) names an
outside plug-in.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any, TypeVar

from pydantic import BeforeValidator

from moodscale.config.base import Component, ConfigError, validate

_KIND = re.compile(r"[a-z][a-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")

C = TypeVar("C", bound=Component)


def find_component(package: str, base: type[C], kind: str) -> type[C]:
    """The configuration class of ``kind``.

    Raises:
        ConfigError: no such module, or the module has not exactly one subclass of ``base``.
    """
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise ConfigError(f"kind={kind!r} is not a name; write one like 'daic_woz' or 'their_package.module'")
    name = kind if "." in kind else f"{package}.{kind}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name):
            raise ConfigError(f"kind={kind!r}: there is no module {name}; check the spelling") from None
        raise
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise ConfigError(f"kind={kind!r}: {name} defines {len(found)} subclasses of {base.__name__}, expected one")
    return found[0]


def by_kind(package: str, base: type[Component]) -> BeforeValidator:
    """For a polymorphic field: turns a mapping with ``kind`` into that kind's own class.

    Write ``Annotated[SerializeAsAny[Base], by_kind("moodscale.package", Base)]``: ``SerializeAsAny`` keeps the
    subclass' fields when the configuration is dumped; without it a run's record would silently lose them.
    """

    def resolve(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if "kind" not in value:
            raise ValueError(f"has no 'kind'; name a module of {package}")
        kind = value["kind"]
        return validate(find_component(package, base, kind), value, source=f"kind {kind}")

    return BeforeValidator(resolve)
