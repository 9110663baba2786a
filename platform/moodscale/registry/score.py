"""Scoring interviews of a manifest with a registered model: a Ray Data batch job that can be killed and resubmitted.

Actors hold the model, read what they score themselves and store parts themselves: neither words nor recordings nor
scores pass through the object store, the driver or a log. Reading for scoring is no read of the test split, see
:mod:`moodscale.registry.sessions`.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pyarrow as pa
from upath import UPath

from moodscale.config import ConfigError
from moodscale.prepare.manifest import Manifest
from moodscale.ray_pool import Need, num_fitting, run_on_actors
from moodscale.ray_runtime import ray_running
from moodscale.recipes.transcript_severity.examples import unit_id
from moodscale.registry.score_parts import FORMAT, SUMMARY_FILE, Part, PartFacts, Plan, claim, plan_parts, read_part
from moodscale.registry.score_worker import Line, Package, Work, Worker, fetch_package
from moodscale.registry.serving.base import ServedModel
from moodscale.registry.sessions import select_interviews, sessions_of
from moodscale.schema import CorpusError
from moodscale.storage import check_reachable, display, location, write_bytes

logger = logging.getLogger(__name__)

Run = Callable[[Work, Sequence[Part]], Iterator[Line]]
"""Scores parts somewhere; lines come in any order."""

_PROGRESS_S = 10.0
_SHOWN_ERRORS = 5


@dataclass(frozen=True)
class ScoreSummary:
    """What a run came to.

    Attributes:
        not_scored: interviews without a score, by reason.
        num_computed: parts that this run scored; the others were there.
        already_finished: nothing was left to do, nothing was changed.
    """

    out: str
    model: str
    model_version: str
    manifest_hash: str
    selection: str
    num_interviews: int
    num_scored: int
    not_scored: Mapping[str, int]
    num_parts: int
    num_computed: int
    already_finished: bool

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    def lines(self) -> list[str]:
        """For a person to read."""
        shown = [
            f"{self.num_scored:,} of {self.num_interviews:,} interviews scored with {self.model} "
            f"({self.num_computed} of {self.num_parts} parts now): {self.out}"
        ]
        shown += [f"not scored: {count:,}: {reason}" for reason, count in self.not_scored.items()]
        return shown


def score(
    model: str,
    tracking_uri: str,
    manifest_dir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    split: str = "all",
    num_workers: int = 1,
    batch: int = 16,
    cpus_per_worker: float = 1.0,
    gpus_per_worker: float = 0.0,
    settings: Mapping[str, Any] | None = None,
    run: Run | None = None,
) -> ScoreSummary:
    """Score interviews; a part that is there is never scored again, a finished folder never changed.

    Args:
        model: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, or the folder of a package that every node sees.
        out: folder of the scores (:mod:`moodscale.registry.score_parts`), a disk that every node sees or a URI.
        split: ``all``, ``train``, ``validation``, ``test``, or ``unlabelled`` (people in no split).
        num_workers: copies of the model; fewer where the cluster has no room for them.
        batch: interviews a part.
        settings: of the model's ``model_config``, such as ``device`` and the units it computes at a time.
        run: where the work is done; by default the Ray cluster of ``RAY_ADDRESS``, or a local one.
    Raises:
        ConfigError: no such model, selection or resources, or a folder with other scores.
        CorpusError: recordings that cannot be read; everything else is stored, and the next run begins with the rest.
        ValueError: the model's package is not whole.
    """
    if num_workers < 1 or batch < 1:
        raise ConfigError(f"num_workers={num_workers}, batch={batch}: both must be 1 or more")
    place = location(out)
    check_reachable(place)
    manifest = Manifest.open(manifest_dir)
    interviews = select_interviews(manifest, split)
    package = fetch_package(model, tracking_uri)
    plan = claim(place, _plan(package, manifest, split, len(interviews), batch))
    parts = plan_parts(interviews, plan.batch)
    there = {part.name: facts for part in parts if (facts := read_part(place, part, plan.digest())) is not None}
    todo = [part for part in parts if part.name not in there]
    if todo:
        work = Work(
            model=package.model,
            tracking_uri=tracking_uri,
            package_sha256=package.sha256,
            manifest=str(manifest.path),
            manifest_hash=manifest.hash,
            selection=split,
            out=str(place),
            plan=plan.digest(),
            settings=dict(settings or {}),
            num_threads=int(cpus_per_worker),
        )
        run = run or partial(_run_on_ray, num_workers=num_workers, cpus=cpus_per_worker, gpus=gpus_per_worker)
        there |= _collect(run(work, todo), len(todo))
    finished = _finish(place, plan, package, parts, there)
    summary = _summary(place, plan, there, num_computed=len(todo), finished=finished and not todo)
    if summary.already_finished:
        logger.info("%s holds the scores of all %d interviews already; nothing changed", summary.out, len(interviews))
    else:
        logger.info("scored %d of %d interviews into %s", summary.num_scored, summary.num_interviews, summary.out)
    return summary


def predict_units(
    model: str | ServedModel,
    manifest: Manifest,
    interviews: pa.Table,
    tracking_uri: str = "",
    settings: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """What a model says of labelled interviews, as rows of the Prediction table: a row an interview, in this process.

    ``score`` is the raw one, of a model of clips the mean over the interview's. Interviews that the model cannot score
    have no row, and are counted in the log.

    Args:
        model: as of :func:`score`, or a model in memory.
        interviews: labelled rows of the manifest's table of interviews (``Manifest.interviews``, which counts reads
            of the test split).
    Raises:
        ValueError: an interview without a label, or one that is not in the manifest.
        CorpusError: a recording that cannot be read.
    """
    served = model if isinstance(model, ServedModel) else fetch_package(model, tracking_uri).open(settings)
    is_total = served.facts.target == "total"
    rows = interviews.to_pylist()
    unlabelled = [row for row in rows if row["total"] is None]
    if unlabelled:
        raise ValueError(f"{len(unlabelled)} of {len(rows)} interviews have no label to predict beside")
    sessions = list(sessions_of(manifest, interviews))
    usable = [number for number, session in enumerate(sessions) if not served.refusal(session)]
    if len(usable) < len(rows):
        logger.warning(
            "%s cannot score %d of %d interviews", served.facts.model_version, len(rows) - len(usable), len(rows)
        )
    answers = served.score([sessions[number] for number in usable])
    return [
        {
            "person": rows[number]["person"],
            "unit": "interview",
            "unit_id": unit_id(rows[number]["corpus"], rows[number]["interview_id"]),
            "target": served.facts.target,
            "label": float(rows[number]["total" if is_total else "depressed"]),
            "score": answer.raw_score,
            "split": rows[number]["split"],
            "model_version": served.facts.model_version,
            "corpus": rows[number]["corpus"],
            "gender": rows[number]["gender"],
            "instrument": rows[number]["instrument"],
        }
        for number, answer in zip(usable, answers, strict=True)
    ]


def _plan(package: Package, manifest: Manifest, split: str, num_interviews: int, batch: int) -> Plan:
    return Plan(
        model=package.model,
        model_version=package.model_version,
        package_sha256=package.sha256,
        manifest_hash=manifest.hash,
        selection=split,
        num_interviews=num_interviews,
        batch=batch,
    )


def _run_on_ray(work: Work, parts: Sequence[Part], num_workers: int, cpus: float, gpus: float) -> Iterator[Line]:
    """Score parts on a pool of actors; lines come in any order."""
    # At least what the workers ask for: on a laptop processes share cores rather than wait for ever.
    num_cpus = max(os.cpu_count() or 1, int(-(-cpus * num_workers // 1)))
    with ray_running(num_cpus):
        fitting = num_fitting([Need("CPU", cpus, "cpus_per_worker"), Need("GPU", gpus, "gpus_per_worker")])
        calls = [[part.to_json()] for part in parts]
        for line in run_on_actors(_scoring, work, calls, min(num_workers, fitting), cpus, gpus):
            yield Line.from_json(line)


def _scoring(work: Work) -> Callable[[Sequence[str]], Iterator[str]]:
    worker = Worker(work)
    return lambda parts: (worker.run(Part.from_json(text)).to_json() for text in parts)


def _collect(lines: Iterator[Line], num_parts: int) -> dict[str, PartFacts]:
    """Stored parts. Counts only in the log: whom they are of is nobody's business there."""
    begun = last = time.monotonic()
    done: dict[str, PartFacts] = {}
    errors: list[str] = []
    logger.info("score: %d parts to score", num_parts)
    for line in lines:
        if line.facts is None:
            errors.append(line.error)
        else:
            done[line.name] = line.facts
        now = time.monotonic()
        if now - last >= _PROGRESS_S:
            last = now
            logger.info("score: %d/%d parts in %.0f s", len(done), num_parts, now - begun)
    if errors:
        first = "\n  ".join(sorted(set(errors))[:_SHOWN_ERRORS])
        raise CorpusError(
            f"score: {len(errors)} of {num_parts} parts could not be read; the other {len(done)} are stored, and the "
            f"next run begins with what is missing:\n  {first}"
        )
    assert len(done) == num_parts, f"{num_parts - len(done)} parts came back neither stored nor refused"
    return done


def _finish(out: UPath, plan: Plan, package: Package, parts: Sequence[Part], there: Mapping[str, PartFacts]) -> bool:
    """Write ``score.json``; true where it said this already."""
    content = {
        "format": FORMAT,
        "model": plan.model,
        "model_version": plan.model_version,
        "package_sha256": plan.package_sha256,
        "serving": package.serving,
        "target": package.target,
        "manifest_hash": plan.manifest_hash,
        "selection": plan.selection,
        "num_interviews": plan.num_interviews,
        "num_scored": sum(facts.num_scored for facts in there.values()),
        "not_scored": _not_scored(there),
        "parts": {part.name: there[part.name].sha256 for part in parts},
    }
    data = json.dumps(content, indent=1).encode()
    path = out / SUMMARY_FILE
    try:
        if path.read_bytes() == data:
            return True
    except FileNotFoundError:
        pass
    write_bytes(path, data)
    return False


def _not_scored(there: Mapping[str, PartFacts]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for facts in there.values():
        counts.update(facts.not_scored)
    return dict(sorted(counts.items()))


def _summary(out: UPath, plan: Plan, there: Mapping[str, PartFacts], num_computed: int, finished: bool) -> ScoreSummary:
    return ScoreSummary(
        out=display(out),
        model=plan.model,
        model_version=plan.model_version,
        manifest_hash=plan.manifest_hash,
        selection=plan.selection,
        num_interviews=plan.num_interviews,
        num_scored=sum(facts.num_scored for facts in there.values()),
        not_scored=_not_scored(there),
        num_parts=len(there),
        num_computed=num_computed,
        already_finished=finished,
    )
