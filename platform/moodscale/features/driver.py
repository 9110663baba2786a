"""Extracting on a Ray cluster: actors hold a model each and write to the store, the driver sees names and hashes."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, Protocol

from moodscale import storage
from moodscale.config import ConfigError
from moodscale.features.config import ExtractConfig
from moodscale.features.extractors.base import Context, Extractor
from moodscale.features.plan import Group, Windowing
from moodscale.features.record import Record, hash_parts
from moodscale.features.sources import ManifestTables, Sources, read_sources
from moodscale.features.store import DamagedPartError, FeatureStore, PartFacts
from moodscale.features.worker import Line, Work
from moodscale.schema import CorpusError, Split

_PROGRESS_S = 10.0
_SHOWN_ERRORS = 5
_CHECKING_THREADS = 4

log = logging.getLogger(__name__)


class Cluster(Protocol):
    """Where the work is done."""

    def run(self, work: Work, groups: Sequence[Group], config: ExtractConfig) -> Iterator[Line]:
        """Compute and store groups; lines come in any order."""
        ...

    def map_tasks(self, function: Callable[[str], str], texts: Sequence[str]) -> list[str]:
        """A function of each text, in the texts' order."""
        ...


@dataclass(frozen=True)
class Extracted:
    """What one extractor's run came to.

    Attributes:
        content_hash: of all values of the manifest's parts.
        missing: interviews that it has nothing of, by kind of feature.
    """

    kind: str
    model: str
    key: str
    num_parts: int
    num_computed: int
    num_present: int
    num_damaged: int
    missing: Mapping[str, tuple[str, ...]]
    content_hash: str
    seconds: float


@dataclass(frozen=True)
class ExtractSummary:
    """What a run came to, over its extractors in their order."""

    store: str
    manifest_hash: str
    extractors: tuple[Extracted, ...]

    @property
    def content_hash(self) -> str:
        return hash_parts({one.key: one.content_hash for one in self.extractors})

    @property
    def num_computed(self) -> int:
        return sum(one.num_computed for one in self.extractors)

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {**values, "content_hash": self.content_hash, "num_computed": self.num_computed}

    def lines(self) -> list[str]:
        """For a person to read."""
        shown = []
        for one in self.extractors:
            missing = "".join(f", {len(ids)} interviews without {kind}" for kind, ids in one.missing.items())
            shown.append(
                f"{one.kind} {one.model}: {one.num_computed:,} windows computed, {one.num_present:,} there already"
                f"{missing}; {one.seconds:.1f} s: {self.store}/{one.key}"
            )
        return shown


def extract(
    manifest: ManifestTables, config: ExtractConfig, store: str, cluster: Cluster | None = None
) -> ExtractSummary:
    """Features of a manifest → the store.

    Only what is missing is computed. Where nothing is, no Ray is started and no model built. A killed run loses no
    finished part, and one that resumes it ends with the same content hash as one that was never interrupted.

    Args:
        cluster: where the work is done; by default the Ray cluster of ``RAY_ADDRESS``, or a local one.
    Raises:
        ConfigError: no extractors, or a model, a layer or resources that are not there.
        CorpusError: inputs that cannot be read. Everything that could be computed is in the store.
    """
    if not config.extractors:
        raise ConfigError("features.extractors: names none; write for instance [{kind: log_mel}]")
    if cluster is None:
        from moodscale.features.ray_cluster import RayCluster

        with RayCluster(config) as started:
            return extract(manifest, config, store, started)
    sources = read_sources(manifest, config.splits)
    context = Context(
        windowing=Windowing.of(config.window_s, config.context_s),
        batch_windows=config.batch_windows,
        sources=sources,
        training=cache(lambda: read_sources(manifest, [Split.TRAIN])),
        store=storage.location(store),
        manifest_hash=manifest.hash,
        map_tasks=cluster.map_tasks,
    )
    done = []
    for settings in config.extractors:
        begun = time.monotonic()
        one = _Run(settings.resolve(context), context, config, cluster).run(settings.kind)
        done.append(replace(one, seconds=round(time.monotonic() - begun, 3)))
    return ExtractSummary(storage.display(context.store), manifest.hash, tuple(done))


class _Run:
    """One extractor over one manifest."""

    def __init__(self, extractor: Extractor, context: Context, config: ExtractConfig, cluster: Cluster) -> None:
        self.extractor = extractor
        self.sources: Sources = context.sources
        self.manifest_hash = context.manifest_hash
        self.config = config
        self.cluster = cluster
        self.root = context.store
        self.store = FeatureStore(context.store, extractor.key())

    def run(self, kind: str) -> Extracted:
        groups = self.extractor.groups(self.sources)
        there, damaged = self._there(groups)
        wanted = [self._wanting(group, there) for group in groups]
        todo = [group for group in wanted if group.wanted]
        facts = self.extractor.facts()
        self.store.describe(facts)
        computed = self._compute(kind, todo) if todo else {}
        parts = {name: (computed.get(name) or there[name]) for group in groups for name in group.names}
        record = Record(
            self.manifest_hash,
            tuple(str(split) for split in self.config.splits),
            parts,
            dict(self.extractor.missing(self.sources)),
        )
        record.write(self.store)
        return Extracted(
            kind=kind,
            model=str(facts.get("model", "")),
            key=self.extractor.key(),
            num_parts=len(parts),
            num_computed=len(computed),
            num_present=len(parts) - len(computed),
            num_damaged=damaged,
            missing=record.missing,
            content_hash=record.content_hash(),
            seconds=0.0,
        )

    def _there(self, groups: Sequence[Group]) -> tuple[dict[str, PartFacts], int]:
        """Parts that need not be computed, and how many are damaged.

        A part that a finished run recorded is taken by its size; any other is read and compared with its hash.
        """
        stamps = {name: group.stamp for group in groups for name in group.names}
        sizes = {name: size for name, size in self.store.sizes().items() if name in stamps}
        record = None if self.config.verify else Record.read(self.store, self.manifest_hash, self.config.splits)
        recorded = {} if record is None else record.parts
        there = {
            name: facts
            for name, size in sizes.items()
            if (facts := recorded.get(name)) is not None and facts.num_bytes == size
        }
        unsure = sorted(sizes.keys() - there.keys())
        damaged = 0
        if unsure:
            log.info("extract: checking %d stored windows", len(unsure))
        with ThreadPoolExecutor(_CHECKING_THREADS, "check") as pool:
            for name, facts in zip(unsure, pool.map(self._checked, unsure), strict=True):
                damaged += facts is None
                if facts is not None:
                    there[name] = facts
        return {name: facts for name, facts in there.items() if facts.stamp == stamps[name]}, damaged

    def _checked(self, name: str) -> PartFacts | None:
        try:
            return self.store.check(name)
        except DamagedPartError as error:
            log.warning("%s; it is computed again now", str(error).partition(";")[0])
            return None

    def _wanting(self, group: Group, there: Mapping[str, PartFacts]) -> Group:
        return replace(group, wanted=tuple(name for name in group.names if name not in there))

    def _compute(self, kind: str, groups: Sequence[Group]) -> dict[str, PartFacts]:
        work = Work(
            extractor=self.extractor,
            store=str(self.root),
            roots={name: str(root) for name, root in self.sources.roots.items()},
            device=self.config.device,
            num_threads=self.config.num_threads,
        )
        num_wanted = sum(len(group.wanted) for group in groups)
        computed: dict[str, PartFacts] = {}
        errors: list[str] = []
        for line in _with_progress(self.cluster.run(work, groups, self.config), kind, num_wanted):
            if line.facts is None:
                errors.append(line.error)
            else:
                computed[line.name] = line.facts
        if errors:
            first = "\n  ".join(sorted(set(errors))[:_SHOWN_ERRORS])
            raise CorpusError(
                f"extract {kind}: {len(errors)} of {len(groups)} groups of windows could not be read; the other "
                f"{len(computed):,} windows are stored, and the next run begins with what is missing:\n  {first}"
            )
        lost = num_wanted - len(computed)
        assert not lost, f"{lost} windows came back neither stored nor refused"
        return computed


def _with_progress(lines: Iterable[Line], kind: str, num_wanted: int) -> Iterator[Line]:
    """Counts only: what the windows are of is nobody's business in a log."""
    begun = last = time.monotonic()
    num_done = 0
    log.info("extract %s: %d windows to compute", kind, num_wanted)
    for line in lines:
        num_done += line.facts is not None
        now = time.monotonic()
        if now - last >= _PROGRESS_S:
            last = now
            log.info("extract %s: %d/%d windows, %.1f a second", kind, num_done, num_wanted, num_done / (now - begun))
        yield line
    log.info("extract %s: %d/%d windows in %.1f s", kind, num_done, num_wanted, time.monotonic() - begun)
