"""Typed configuration: frozen pydantic models, a YAML chain, ``a.b=c`` overrides, lookup of components by kind."""

from moodscale.config.base import Component, Config, ConfigError, validate
from moodscale.config.load import load_config
from moodscale.config.lookup import by_kind

__all__ = ["Component", "Config", "ConfigError", "by_kind", "load_config", "validate"]
