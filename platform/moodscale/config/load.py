"""YAML file → its one chain of ``defaults:`` parents → ``a.b=c`` overrides → a validated configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from moodscale.config.base import Config, ConfigError, validate

C = TypeVar("C", bound=Config)


def load_config(cls: type[C], path: str | Path, overrides: Sequence[str] = ()) -> C:
    """Read, merge and validate.

    Args:
        path: a YAML file; its ``defaults:`` names one parent, relative to the file.
        overrides: ``a.b=c`` with ``c`` in YAML syntax; ``a.0.b=c`` reaches into a list.
    Raises:
        ConfigError: naming file, field, value and fix.
    """
    merged = _read_chain(Path(path), seen=())
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {override!r} is not of the form section.field=value")
        try:
            value = OmegaConf.select(OmegaConf.from_dotlist([f"value={override[len(key) + 1 :]}"]), "value")
            merges = not OmegaConf.is_list(value) and not _is_another_kind(OmegaConf.select(merged, key), value)
            OmegaConf.update(merged, key, value, merge=merges)
        except (OmegaConfBaseException, YAMLError, ValueError, TypeError, IndexError) as error:
            raise ConfigError(f"override {override!r} cannot be applied: {str(error).splitlines()[0]}") from None
    try:
        plain = OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from None
    return validate(cls, plain, source=str(path))


def _read_chain(path: Path, seen: tuple[Path, ...]) -> DictConfig:
    path = path.resolve()
    if path in seen:
        raise ConfigError(f"{path}: 'defaults' goes in a circle: {' → '.join(p.name for p in (*seen, path))}")
    if not path.is_file():
        raise ConfigError(f"{path}: no such configuration file")
    try:
        own = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(own, DictConfig):
        raise ConfigError(f"{path}: the top level must be a mapping of sections")
    parent = own.pop("defaults", None)
    if parent is None:
        return own
    if not isinstance(parent, str):
        raise ConfigError(f"{path}: defaults={parent!r} must name one file")
    inherited = _read_chain(path.parent / parent, (*seen, path))
    _drop_other_kinds(inherited, own)
    merged = OmegaConf.merge(inherited, own)
    assert isinstance(merged, DictConfig)
    return merged


def _is_another_kind(before: object, after: object) -> bool:
    """Whether a section names another component than before: its settings are not the other one's."""
    if not (isinstance(before, DictConfig) and isinstance(after, DictConfig)):
        return False
    return "kind" in before and "kind" in after and before["kind"] != after["kind"]


def _drop_other_kinds(inherited: DictConfig, own: DictConfig) -> None:
    for key in own:
        before, after = inherited.get(key), own.get(key)
        if _is_another_kind(before, after):
            inherited.pop(key)
        elif isinstance(before, DictConfig) and isinstance(after, DictConfig):
            _drop_other_kinds(before, after)
