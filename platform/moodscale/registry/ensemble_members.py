"""Who is in an ensemble: registered versions and runs, what each says of every interview, and whom it has learned from.

A member's own unit may be a clip; the ensemble's is the interview, named ``corpus:interview`` as everywhere.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from moodscale.config import ConfigError, validate
from moodscale.evaluate.table import Predictions, read_predictions
from moodscale.prepare.manifest import Manifest
from moodscale.recipes.transcript_severity.examples import unit_id
from moodscale.registry.config import RegistryConfig
from moodscale.registry.facts import PackageFacts, TrainedFacts, digests_of
from moodscale.registry.judgement import Judgement
from moodscale.registry.package import open_package
from moodscale.registry.register import pack_job, trained_people
from moodscale.registry.score_worker import Package, fetch_package
from moodscale.registry.serving.base import serving_for
from moodscale.registry.sessions import sessions_of
from moodscale.schema import CorpusError, Instrument, Split
from moodscale.storage import display, local_copy, read_table, write_table
from moodscale.train.driver import JOB_FILE, LABELS, TrainJob
from moodscale.train.labels import open_labels
from moodscale.train.predict_job import PREDICTIONS, best_checkpoint, model_version

logger = logging.getLogger(__name__)

EVALUATION = "evaluation.json"
RUN = "runs:/"
HELD_OUT = (Split.VALIDATION, Split.TEST)

_SCORES = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("person", "unit_id", "split")]
    + [pa.field("score", pa.float64(), nullable=False)]
)
_METADATA = b"moodscale"


@dataclass(frozen=True)
class Member:
    """A model of an ensemble.

    Attributes:
        name: ``models:/NAME/VERSION`` (an alias is resolved to the version it points to) or ``runs:/EXPERIMENT``.
        recipe: kind of the recipe that trained it; ``ensemble`` where it is one itself.
        target, instrument: what its scores are; the instrument of ``total`` alone.
        precision: that it computes in.
        trained_people: digests of everyone it has learned from, see :class:`PackageFacts`.
        scores: one row an interview of the validation and test split: ``person``, ``unit_id``, ``split``, ``score``,
            and ``label`` where the member's own table says one.
        write_package: writes its package into an empty directory.
    """

    name: str
    model_version: str
    recipe: str
    serving: str
    target: str
    instrument: Instrument | None
    precision: str
    manifest_hash: str
    trained_people: frozenset[str]
    scores: pd.DataFrame = field(repr=False)
    write_package: Callable[[Path], PackageFacts] = field(repr=False)


def open_members(
    names: Sequence[str], manifest: Manifest, storage: UPath, tracking_uri: str, kept: UPath, device: str = "auto"
) -> tuple[Member, ...]:
    """Every member with its scores of the manifest's held-out interviews; no label of the manifest is read.

    Args:
        storage: where the runs are, a directory of its name each.
        tracking_uri: of the MLflow that holds registered members.
        kept: where scores of registered members are kept, so that asking again costs nothing.
    Raises:
        ConfigError: no such run or version, or a run that was not evaluated.
        ValueError: a member twice (by two names), one with rows of somebody else's split, or one that has learned from
            people whom it is to be judged on.
    """
    members: dict[str, Member] = {}
    for name in names:
        if name.startswith(RUN):
            member = _run(name, storage / name.removeprefix(RUN), manifest)
        else:
            member = _registered(name, manifest, tracking_uri, kept, device)
        if member.model_version in members:
            raise ValueError(
                f"ensemble.members: {members[member.model_version].name} and {name} are the same model "
                f"({member.model_version}); each member counts once"
            )
        members[member.model_version] = member
    return tuple(members.values())


def check_not_learned_from(name: str, trained_people: Collection[str], manifest: Manifest) -> None:
    """Refuse a member that has learned from a person of the test split.

    Args:
        trained_people: digests, see :class:`PackageFacts`.
    Raises:
        CorpusError: naming the member and a person.
    """
    seen = [person for person in manifest.people(Split.TEST) if digests_of([person])[0] in trained_people]
    if seen:
        raise CorpusError(
            f"{name} has learned from {seen[0]}, who is in the test split of the manifest {manifest.hash} "
            f"({len(seen)} such people): an ensemble holds only models that never saw them; use members of one split"
        )


def _run(name: str, directory: UPath, manifest: Manifest) -> Member:
    job, own = _job_of(directory, manifest)
    best = best_checkpoint(job)
    label = model_version(job.name, best.path)
    recipe = job.recipe.build()
    serving_name, serving = serving_for(recipe)
    table = _own_table(directory, label)
    judgement = _judgement(directory)
    judgement.check_is_of(label)
    rows = table.frame[(table.frame["unit"] == recipe.unit) & (table.frame["target"] == recipe.target)]
    instrument = _instrument(rows, name) if recipe.target == "total" else None
    trained = frozenset(trained_people(job, own))
    check_not_learned_from(name, trained, manifest)
    _check_validation_is_unseen(name, trained, own, manifest)
    point = serving.operating_point(judgement, table, RegistryConfig())

    def write_package(target: Path) -> PackageFacts:
        return pack_job(job, recipe, best, own, judgement, label, serving_name, serving, point, target)

    return Member(
        name=name,
        model_version=label,
        recipe=job.recipe.kind,
        serving=serving_name,
        target=recipe.target,
        instrument=instrument,
        precision=job.train.engine.precision,
        manifest_hash=own.hash,
        trained_people=trained,
        scores=by_interview(rows, recipe.unit, own, name),
        write_package=write_package,
    )


def _job_of(directory: UPath, manifest: Manifest) -> tuple[TrainJob, Manifest]:
    """The job that a run directory holds, and the manifest that it was trained on."""
    try:
        content = json.loads((directory / JOB_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"{display(directory)}: no run ({JOB_FILE} is missing); name an experiment of the same storage_path"
        ) from None
    trained_on = str(content["manifest"])
    own = manifest
    if trained_on != manifest.hash:
        own = Manifest.open(str(directory / "manifest"))
        if own.hash != trained_on:
            raise ConfigError(
                f"{display(own.path)}: has the hash {own.hash}, the run was trained on {trained_on}; put the manifest "
                "there that it was trained on, or register the run and name it models:/NAME/VERSION"
            )
        _check_one_key(own, manifest)
    values = {**content["job"], "run_dir": str(directory), "manifest": str(own.path)}
    if content.get("labels") is not None:
        # Whom it has learned from stands in the table, which stays with the run.
        if open_labels(directory / LABELS, own).hash != content["labels"]:
            raise ConfigError(f"{display(directory / LABELS)}: is not the table that the run has learned from")
        values["labels"] = str(directory / LABELS)
    return validate(TrainJob, values, source=str(directory / JOB_FILE)), own


def _check_one_key(own: Manifest, manifest: Manifest) -> None:
    if own.pseudonym_key_id != manifest.pseudonym_key_id:
        raise CorpusError(
            f"{own.path.name} and {manifest.path.name} name people by different keys, so nobody can be found in both; "
            "prepare them with one pseudonym key"
        )


def _check_validation_is_unseen(name: str, trained: frozenset[str], own: Manifest, manifest: Manifest) -> None:
    """Validation people of the ensemble whose labels a member was trained on would make its weight too great."""
    known = {*own.people(Split.VALIDATION)}  # it was chosen on these, and not trained
    both = [
        person
        for person in manifest.people(Split.VALIDATION)
        if person not in known and digests_of([person])[0] in trained
    ]
    if both:
        raise CorpusError(
            f"{name} was trained on {both[0]}, who is in the validation split of the manifest {manifest.hash} "
            f"({len(both)} such people), on which the ensemble is fitted; use members of one split"
        )


def _own_table(directory: UPath, label: str) -> Predictions:
    path = directory / PREDICTIONS
    if not path.is_file():
        raise ConfigError(f"{display(path)} is missing: run `moodscale evaluate` for this member first")
    with local_copy(path) as file:
        table = read_predictions(file)
    found = sorted(table.frame["model_version"].unique())
    if found != [label]:
        raise ValueError(
            f"{display(path)}: column model_version has {', '.join(map(str, found))}, the best checkpoint is {label}; "
            "run `moodscale evaluate` again"
        )
    return table


def _judgement(directory: UPath) -> Judgement:
    path = directory / EVALUATION
    try:
        return Judgement.from_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise ConfigError(f"{display(path)} is missing: run `moodscale evaluate` for this member first") from None


def _instrument(rows: pd.DataFrame, name: str) -> Instrument:
    found = sorted(set(rows["instrument"])) if "instrument" in rows.columns else []
    if len(found) != 1 or not found[0]:
        raise ValueError(
            f"{name}: its totals are of {', '.join(found) or 'no instrument'}; points of one are not points of the "
            "other, and every row must say which"
        )
    return Instrument(found[0])


def by_interview(rows: pd.DataFrame, unit: str, manifest: Manifest, name: str) -> pd.DataFrame:
    """Rows of the Prediction table as one a held-out interview; over whole clips the mean score.

    Args:
        manifest: the member's own, which says whose interview a clip is of.
    Raises:
        ValueError: a unit that is neither clip nor interview, or a clip that is not in the manifest.
    """
    columns = ["person", "unit_id", "split", "label", "score"]
    rows = rows[rows["split"].isin([str(split) for split in HELD_OUT])]
    if unit == "interview":
        return rows[columns].reset_index(drop=True)
    if unit != "clip":
        raise ValueError(f"{name}: scores units of {unit!r}; members of an ensemble score clips or interviews")
    frame = _whole_clips(rows, manifest, name)[columns].copy()
    clips = manifest.without_labels("clips").select(["clip_id", "corpus", "interview_id"]).to_pylist()
    interview = {row["clip_id"]: unit_id(row["corpus"], row["interview_id"]) for row in clips}
    unknown = [clip for clip in frame["unit_id"] if clip not in interview]
    if unknown:
        raise ValueError(
            f"{name}: {len(unknown)} scored clips are not in its manifest, such as {unknown[0]}; run `moodscale "
            "evaluate` for it again"
        )
    frame["unit_id"] = frame["unit_id"].map(interview)
    grouped = frame.groupby("unit_id", sort=True).agg(
        person=("person", "first"), split=("split", "first"), label=("label", "first"), score=("score", "mean")
    )
    return grouped.reset_index()


def _whole_clips(rows: pd.DataFrame, manifest: Manifest, name: str) -> pd.DataFrame:
    """Without clips that are kept shorter (prepare.tail: pad): what is served reads whole ones alone."""
    clip_s = float(manifest.facts["settings"]["prepare"]["clip_s"])
    is_whole = np.isclose(rows["duration_s"].to_numpy(dtype=float), clip_s, atol=1e-3)
    if not is_whole.all():
        logger.info("%d shorter clips of %s do not count in the ensemble", int((~is_whole).sum()), name)
    whole: pd.DataFrame = rows[is_whole]
    return whole


def _registered(asked: str, manifest: Manifest, tracking_uri: str, kept: UPath, device: str) -> Member:
    fetched = fetch_package(asked, tracking_uri)
    name, package = fetched.model, fetched.directory
    facts = open_package(package)
    check_not_learned_from(name, facts.trained_people, manifest)
    if facts.manifest_hash != manifest.hash:
        _say_what_cannot_be_told(name, facts, manifest)

    def write_package(target: Path) -> PackageFacts:
        shutil.copytree(package, target, dirs_exist_ok=True)
        return open_package(target)

    return Member(
        name=name,
        model_version=facts.model_version,
        recipe=facts.recipe.kind if isinstance(facts, TrainedFacts) else facts.serving,
        serving=facts.serving,
        target=facts.target,
        instrument=Instrument(facts.operating_point["instrument"]) if facts.target == "total" else None,
        precision=str(getattr(facts, "precision", "fp32")),
        manifest_hash=facts.manifest_hash,
        trained_people=frozenset(facts.trained_people),
        scores=_scored(fetched, facts, manifest, kept, device),
        write_package=write_package,
    )


def _say_what_cannot_be_told(name: str, facts: PackageFacts, manifest: Manifest) -> None:
    """A package of another manifest does not tell the people whom its model was trained on from those it was chosen on,
    nor whether it knows them by other names."""
    known = {split: len({*digests_of(manifest.people(split))} & {*facts.trained_people}) for split in Split}
    if not any(known.values()):
        logger.warning(
            "%s comes from another manifest and knows nobody of %s by name: right for another corpus, but people with "
            "pseudonyms of another key cannot be found in both",
            name,
            manifest.hash,
        )
    elif known[Split.VALIDATION]:
        logger.warning(
            "%s comes from another manifest and knows %d validation people of %s: unless it was only chosen on them, "
            "fitted weights favour it",
            name,
            known[Split.VALIDATION],
            manifest.hash,
        )


def _scored(fetched: Package, facts: PackageFacts, manifest: Manifest, kept: UPath, device: str) -> pd.DataFrame:
    """Score the held-out interviews with the member's package, or take what was kept of an earlier time.

    What a model is given holds no label: this is no read of the test split.
    """
    made_from = {"model_version": facts.model_version, "package": fetched.sha256, "manifest": manifest.hash}
    path = kept / f"{hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]}.parquet"
    if path.is_file() and _made_from(path) == made_from:
        frame: pd.DataFrame = read_table(path).to_pandas(ignore_metadata=True)
        return frame
    interviews = manifest.without_labels("interviews")
    held_out = interviews.filter(pa.array([split in HELD_OUT for split in interviews["split"].to_pylist()], pa.bool_()))
    model = fetched.open({"device": device})
    sessions, refused = [], {}
    for session in sessions_of(manifest, held_out):
        why = model.refusal(session)
        if why:
            refused[unit_id(session.corpus, session.interview_id)] = why
        else:
            sessions.append(session)
    if refused:
        first = next(iter(refused))
        raise ValueError(
            f"{fetched.model} cannot score {len(refused)} of {len(held_out)} held-out interviews, such as {first} "
            f"({refused[first]}); all members must score the same ones"
        )
    answers = model.score(sessions)
    split_of = {
        (row["corpus"], row["interview_id"]): row["split"]
        for row in held_out.select(["corpus", "interview_id", "split"]).to_pylist()
    }
    rows = [
        {
            "person": session.person,
            "unit_id": unit_id(session.corpus, session.interview_id),
            "split": split_of[session.corpus, session.interview_id],
            "score": answer.raw_score,
        }
        for session, answer in zip(sessions, answers, strict=True)
    ]
    table = pa.Table.from_pylist(rows, schema=_SCORES)
    write_table(path, table.replace_schema_metadata({_METADATA: json.dumps(made_from)}))
    logger.info("scored %d interviews with %s", len(table), fetched.model)
    scored: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    return scored


def _made_from(path: UPath) -> Any:
    with path.open("rb") as stream:
        metadata: Mapping[bytes, bytes] = pq.read_schema(stream).metadata or {}
    return json.loads(metadata.get(_METADATA, b"null"))
