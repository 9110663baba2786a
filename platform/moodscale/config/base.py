"""The base of every configuration section."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError


class ConfigError(ValueError):
    """A configuration that cannot be used. The message names the file, the field, the value and the fix."""


class Config(BaseModel):
    """A frozen section. Unknown keys are refused; defaults live on the fields and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def to_json(self) -> dict[str, Any]:
        """The section as JSON values, polymorphic fields complete."""
        return self.model_dump(mode="json")

    def fingerprint(self) -> str:
        """Hash of the content, equal in every process and on every machine."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]


class Component(Config):
    """A section that names an implementation: ``kind: daic_woz`` is ``corpora/daic_woz.py``."""

    kind: str


C = TypeVar("C", bound=Config)


def validate(cls: type[C], values: Any, source: str = "configuration") -> C:
    """Validate plain values, with every problem named on a line of its own."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False):
            field = ".".join(str(part) for part in problem["loc"]) or "(top level)"
            given = problem.get("input")
            shown = f" (got {given!r})" if isinstance(given, str | int | float | bool | None) else ""
            fix = (
                "unknown key: remove it or check its spelling"
                if problem["type"] == "extra_forbidden"
                else problem["msg"]
            )
            lines.append(f"  {field}{shown}: {fix}")
        raise ConfigError(f"{source}: {len(lines)} problem(s)\n" + "\n".join(lines)) from None
