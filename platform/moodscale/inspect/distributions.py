"""How long, how loud, how clean: one distribution a quantity and corpus, without labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from moodscale.inspect.gather import Gathered
from moodscale.schema import Speaker

NUM_BINS = 24
_QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)


@dataclass(frozen=True)
class Distribution:
    """Of one quantity in one corpus.

    Attributes:
        num: values; ``num_unknown`` more have none.
        quantiles: least, 5 %, median, 95 %, most.
        edges, counts: a histogram; values beyond the last edge are in the last bin. All corpora share the edges.
    """

    quantity: str
    unit: str
    corpus: str
    num: int
    num_unknown: int
    quantiles: tuple[float, ...]
    edges: tuple[float, ...]
    counts: tuple[int, ...]


def distributions(data: Gathered) -> tuple[Distribution, ...]:
    """By quantity, then by corpus; nothing of what a corpus does not have."""
    recorded = data.interviews[data.interviews["duration_s"] > 0]
    share = (recorded["participant_s"] + recorded["other_s"]) / recorded["duration_s"]
    turns = data.turns[data.turns["speaker"] != Speaker.INTERVIEWER.value]
    timed = turns[turns["length_s"] > 0]
    written = turns[turns["num_characters"] > 0]
    recordings = data.recordings
    return (
        *_by_corpus("interview length", "min", recorded["corpus"], recorded["duration_s"] / 60),
        *_by_corpus("speech share", "%", recorded["corpus"], 100 * share),
        *_by_corpus("participant's turn", "s", timed["corpus"], timed["length_s"]),
        *_by_corpus("turn in writing", "characters", written["corpus"], written["num_characters"]),
        *_by_corpus("clip length", "s", data.clips["corpus"], data.clips["duration_s"]),
        *_by_corpus("signal to noise", "dB", recordings["corpus"], recordings["snr_db"]),
        *_by_corpus("full-scale samples", "%", recordings["corpus"], 100 * recordings["clipped_fraction"]),
    )


def _by_corpus(quantity: str, unit: str, corpora: pd.Series[str], values: pd.Series[float]) -> list[Distribution]:
    known = values.dropna().astype(float)
    if known.empty:
        return []
    edges = _edges(known.to_numpy())
    found = []
    for corpus in sorted(corpora.unique()):
        own = known[corpora.loc[known.index] == corpus].to_numpy()
        if len(own):
            counts, _ = np.histogram(np.clip(own, edges[0], edges[-1]), edges)
            quantiles = tuple(float(value) for value in np.quantile(own, _QUANTILES))
            unknown = int((corpora == corpus).sum()) - len(own)
            found.append(
                Distribution(
                    quantity, unit, corpus, len(own), unknown, quantiles, tuple(edges.tolist()), tuple(counts.tolist())
                )
            )
    return found


def _edges(values: np.ndarray) -> np.ndarray:
    """Equal bins up to the 99 % quantile or, where little lies beyond it, to the end."""
    low, high, most = (float(np.quantile(values, share)) for share in (0.0, 0.99, 1.0))
    if most - low <= 2 * (high - low):
        high = most
    if high <= low:
        low, high = low - 0.5, low + 0.5
    return np.linspace(low, high, NUM_BINS + 1)
