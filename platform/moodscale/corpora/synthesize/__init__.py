"""Interviews of people who do not exist, written in exactly a corpus' layout: one file a corpus."""

from __future__ import annotations

from moodscale.config.lookup import find_component
from moodscale.corpora.synthesize.base import (
    CorpusSynthesizer,
    PlantedDefect,
    SynthesisSummary,
    SynthesizeConfig,
)

__all__ = ["CorpusSynthesizer", "PlantedDefect", "SynthesisSummary", "SynthesizeConfig", "synthesize"]


def synthesize(corpus: str, config: SynthesizeConfig) -> SynthesisSummary:
    """Write a corpus of synthesised speech, or find that it is there already.

    Args:
        corpus: name of a module of this package, such as ``daic_woz``.
    Raises:
        ConfigError: no such corpus, settings that do not go together, speech synthesis not installed, or a directory
            that holds something else.
    """
    # Only subclasses are made of what comes back, so that the base may be abstract.
    found = find_component(__name__, CorpusSynthesizer, corpus)  # type: ignore[type-abstract]
    return found(kind=corpus).synthesize(config)
