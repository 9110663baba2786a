"""The data report: everything that is found in manifests, as one value that views show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from moodscale.config import ConfigError
from moodscale.inspect.distributions import Distribution, distributions
from moodscale.inspect.findings import Finding, Level, find
from moodscale.inspect.gather import Gathered, gather
from moodscale.inspect.groups import GroupSize, LabelGroup, group_sizes, label_groups
from moodscale.inspect.overlap import Overlap, find_overlap
from moodscale.inspect.plans import SamplingPlan, sampling_plans
from moodscale.prepare.manifest import Manifest
from moodscale.storage import display

MIN_CELL = 5
MAX_CLIPS = 14
"""Clips a person that give the paper's 2,481 of 9,044."""


@dataclass(frozen=True)
class ManifestFacts:
    """Which manifest was read. ``num_test_reads`` is from before this report."""

    name: str
    path: str
    hash: str
    corpus: str
    speech: str
    clip_s: float
    split_kind: str
    num_test_reads: int


@dataclass(frozen=True)
class Modality:
    """A kind of feature in one corpus: interviews that have it, that lack it though others have it, and all."""

    kind: str
    corpus: str
    num_have: int
    num_missing: int
    num_interviews: int


@dataclass(frozen=True)
class LedgerLines:
    """One defect in one corpus."""

    corpus: str
    defect: str
    num_lines: int
    source: str
    interviews: tuple[str, ...]


@dataclass(frozen=True)
class DataReport:
    """What is in the manifests. Nowhere in it is what somebody said, or how a single person scored.

    Attributes:
        min_cell: counts of labels of fewer people are ``None``.
        test_labels: whether the test split's labels are in it.
    """

    manifests: tuple[ManifestFacts, ...]
    findings: tuple[Finding, ...]
    approximations: tuple[str, ...]
    groups: tuple[GroupSize, ...]
    labels: tuple[LabelGroup, ...]
    distributions: tuple[Distribution, ...]
    modalities: tuple[Modality, ...]
    ledger: tuple[LedgerLines, ...]
    quarantine: tuple[tuple[str, str, str, str], ...]
    overlap: Overlap
    plans: tuple[SamplingPlan, ...]
    min_cell: int
    test_labels: bool

    @property
    def num_by_level(self) -> dict[str, int]:
        return {level.value: sum(one.level is level for one in self.findings) for level in Level}

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "overlap": self.overlap.to_json(), "num_findings": self.num_by_level}


def inspect(
    manifests: Sequence[Manifest], min_cell: int = MIN_CELL, test_labels: bool = True, max_clips: int = MAX_CLIPS
) -> DataReport:
    """Look at manifests together.

    Args:
        min_cell: fewest people that a count of labels may be about.
        test_labels: read the test split's labels too, which is counted as a read of it.
        max_clips: ``max_clips_per_speaker`` of the sampling plan that is shown with it.
    Raises:
        ConfigError: one manifest is named twice.
    """
    check_different(manifests)
    data, overlap = gather(manifests, test_labels), find_overlap(manifests)
    labels = label_groups(data, min_cell)
    return DataReport(
        tuple(_facts(one.name, one.manifest, one.num_test_reads) for one in data.sources),
        find(data, labels, overlap, min_cell),
        data.approximations,
        group_sizes(data),
        labels,
        distributions(data),
        tuple(_modalities(data)),
        tuple(_ledger(data.ledger)),
        tuple(_quarantined(row) for row in data.quarantine.to_dict("records")),
        overlap,
        sampling_plans(data, max_clips, min_cell),
        min_cell,
        test_labels,
    )


def _quarantined(row: Mapping[Hashable, Any]) -> tuple[str, str, str, str]:
    return row["corpus"], row["interview_id"], row["where"], row["reason"]


def check_different(manifests: Sequence[Manifest]) -> None:
    """Refuse a manifest that is named twice: everybody in it would look like somebody in two manifests."""
    seen: dict[str, Manifest] = {}
    for manifest in manifests:
        if str(manifest.path) in seen:
            raise ConfigError(f"{display(str(manifest.path))} is named twice; name each manifest once")
        seen[str(manifest.path)] = manifest


def _facts(name: str, manifest: Manifest, num_test_reads: int) -> ManifestFacts:
    prepare, corpus = manifest.facts["settings"]["prepare"], manifest.facts["settings"]["corpus"]
    return ManifestFacts(
        name,
        display(str(manifest.path)),
        manifest.hash,
        str(corpus["kind"]),
        prepare["speech"],
        prepare["clip_s"],
        prepare["splits"]["kind"],
        num_test_reads,
    )


def _modalities(data: Gathered) -> list[Modality]:
    rows = data.interviews
    have = rows["features"].map(lambda features: sorted({feature["kind"] for feature in features}))
    num_have = _count(rows, have)
    num_missing = _count(rows, rows["missing"].map(list))
    recorded = rows["recordings"].map(lambda recordings: ["recording"] if len(recordings) else [])
    with_recordings = set(rows.loc[recorded.map(bool), "corpus"])
    unrecorded = pd.Series(
        [
            ["recording"] if corpus in with_recordings and not kinds else []
            for corpus, kinds in zip(rows["corpus"], recorded, strict=True)
        ],
        rows.index,
        dtype=object,
    )
    num_have, num_missing = {**num_have, **_count(rows, recorded)}, {**num_missing, **_count(rows, unrecorded)}
    kinds = sorted({kind for _, kind in [*num_have, *num_missing]} | {"recording"}, key=lambda k: (k != "recording", k))
    return [
        Modality(kind, corpus, num_have.get((corpus, kind), 0), num_missing.get((corpus, kind), 0), number)
        for kind in kinds
        for corpus, number in sorted(Counter(rows["corpus"]).items())
    ]


def _count(rows: pd.DataFrame, kinds: pd.Series) -> dict[tuple[str, str], int]:
    pairs = rows.assign(kind=kinds).explode("kind").dropna(subset="kind")
    return Counter(pairs[["corpus", "kind"]].itertuples(index=False, name=None))


def _ledger(lines: pd.DataFrame) -> list[LedgerLines]:
    found = [
        LedgerLines(
            str(corpus),
            str(defect),
            len(own),
            "; ".join(sorted(set(own["source"]))),
            tuple(sorted({one for one in own["interview_id"] if one})),
        )
        for (corpus, defect), own in lines.groupby(["corpus", "defect"])
    ]
    return sorted(found, key=lambda one: (one.corpus, -one.num_lines, one.defect))
