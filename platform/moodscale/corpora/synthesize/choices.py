"""Settings that mean something to some corpora only: resolved, or refused by name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from moodscale.config import ConfigError
from moodscale.corpora.synthesize.base import SynthesizeConfig


def choose_feature_kinds(
    config: SynthesizeConfig, known: Collection[str], default: Sequence[str], by_habit: bool
) -> tuple[str, ...]:
    """The feature files to write, none if features are off.

    Args:
        known: all kinds of the corpus.
        default: those written where none are named.
        by_habit: whether features are written where the settings do not say.
    Raises:
        ConfigError: an unknown kind, or kinds of features that are off.
    """
    named = config.feature_kinds
    unknown = sorted(set(named) - set(known) - {"all"})
    if unknown:
        raise ConfigError(f"feature_kinds={','.join(unknown)}: no such features; known are all, {', '.join(known)}")
    if named and config.features is False:
        raise ConfigError(f"feature_kinds={','.join(named)} with features off; leave one of the two out")
    if not (by_habit or named if config.features is None else config.features):
        return ()
    wanted = set(known) if "all" in named else set(named or default)
    return tuple(kind for kind in known if kind in wanted)


def choose_defects(
    defects: Literal["none", "all"] | tuple[str, ...], known: Collection[str], extra: Collection[str] = (),
    impossible: Collection[str] = (), why: str = "",
) -> frozenset[str]:  # fmt: skip
    """The defects that a setting names.

    Args:
        extra: those that ``all`` leaves out.
        impossible: those that other settings leave no room for: refused by name, left out of ``all``.
        why: what leaves no room.
    Raises:
        ConfigError: an unknown or an impossible name.
    """
    names = {defects} if isinstance(defects, str) else set(defects)
    unknown = sorted(names - set(known) - {"all", "none"})
    if unknown:
        raise ConfigError(f"defects={','.join(unknown)}: no such defect; known are none, all, {', '.join(known)}")
    refused = sorted(names & set(impossible))
    if refused:
        raise ConfigError(f"defects={','.join(refused)}: not possible with {why}")
    if "all" in names:
        names |= set(known) - set(extra) - set(impossible)
    return frozenset(names - {"all", "none"})


def refuse_settings(config: SynthesizeConfig, corpus: str, *names: str) -> None:
    """Refuse settings that a corpus has no use for, where they are set.

    Raises:
        ConfigError: naming the first of them.
    """
    default = SynthesizeConfig(out=config.out)
    for name in names:
        if getattr(config, name) != getattr(default, name):
            raise ConfigError(f"{name}={getattr(config, name)} means nothing to {corpus}; leave it out")
