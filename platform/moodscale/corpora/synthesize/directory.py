"""The output directory: written once, recognised when it is there, never mixed with anything else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from moodscale.config import ConfigError
from moodscale.corpora.synthesize.base import PlantedDefect, SynthesisSummary, SynthesizeConfig

RECORD = ".synthesis.json"
"""Written last. Its presence says that the corpus is complete; readers of the corpus pass it over."""
_UNFINISHED = ".synthesis-unfinished.json"
_VERSION = 1
"""Raised when the same settings give other bytes."""


def claim(config: SynthesizeConfig, corpus: str) -> SynthesisSummary | None:
    """Make the directory ours.

    Returns:
        The earlier summary where the same synthesis is complete there; ``None`` where it is to be written.
    Raises:
        ConfigError: the directory holds something else, another synthesis, or a damaged one.
    """
    out, identity = config.out, _identity(config, corpus)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out={out} is a file; name a directory")
    record = _read(out / RECORD)
    if record is not None:
        _refuse_other(out, record["identity"], identity, "a synthesis")
        _refuse_damaged(out, record["files"])
        return _summary(out, record)
    unfinished = _read(out / _UNFINISHED)
    if unfinished is not None:
        _refuse_other(out, unfinished, identity, "an unfinished synthesis")
        return None
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise ConfigError(f"out={out} is not empty and was not written by a synthesis; name a new directory")
    _write(out / _UNFINISHED, identity)
    return None


def finish(config: SynthesizeConfig, corpus: str, summary: SynthesisSummary) -> None:
    """Record that everything is there, with the size of every file."""
    out = config.out
    files = {
        str(path.relative_to(out)): path.stat().st_size
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != _UNFINISHED
    }
    record = summary.to_json() | {"identity": _identity(config, corpus), "files": files}
    del record["out"], record["already_there"], record["real_time_factor"]
    _write(out / RECORD, record)
    (out / _UNFINISHED).unlink(missing_ok=True)


def _identity(config: SynthesizeConfig, corpus: str) -> dict[str, Any]:
    return {"version": _VERSION, "corpus": corpus, **config.content()}


def _refuse_other(out: Path, found: dict[str, Any], wanted: dict[str, Any], what: str) -> None:
    differing = [name for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name)]
    if differing:
        shown = ", ".join(f"{name}={found.get(name)} there, {wanted.get(name)} asked for" for name in differing)
        raise ConfigError(f"out={out} holds {what} with other settings ({shown}); remove it or name another directory")


def _refuse_damaged(out: Path, files: dict[str, int]) -> None:
    for name, size in files.items():
        path = out / name
        if not path.is_file() or path.stat().st_size != size:
            raise ConfigError(
                f"out={out}: {name} is missing or changed since it was written; remove {out} and run again"
            )


def _summary(out: Path, record: dict[str, Any]) -> SynthesisSummary:
    fields = {name: value for name, value in record.items() if name not in ("identity", "files", "planted")}
    planted = tuple(PlantedDefect(**one) for one in record["planted"])
    return SynthesisSummary(out=out, planted=planted, already_there=True, **fields)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        raise ConfigError(f"{path} is damaged; remove the directory and run again") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is damaged; remove the directory and run again")
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=1))
    os.replace(temporary, path)
