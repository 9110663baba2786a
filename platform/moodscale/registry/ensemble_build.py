"""Members → a fitted ensemble, its Prediction table, and a summary; nothing is registered here.

```
predictions.parquet   validation and test interviews, as any model's table
answers.parquet       the same interviews with interval, disagreement and every member's own score
ensemble.json         members, weights, calibration, interval; and the fit, exactly
members/              scores of registered members, kept so that building again does not score again
```
Validation rows of the table come from what was fitted on them. Figures of members in the summary do not: there, links
are those of other people.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from moodscale.prepare.manifest import Manifest
from moodscale.recipes.transcript_severity.examples import unit_id
from moodscale.registry.ensemble_config import EnsembleConfig
from moodscale.registry.ensemble_fit import MemberScores, fit_ensemble, out_of_fold_links
from moodscale.registry.ensemble_maps import Floats, Identity
from moodscale.registry.ensemble_members import HELD_OUT, Member, open_members
from moodscale.registry.ensemble_result import EnsembleFit
from moodscale.schema import PREDICTION_SCHEMA, Instrument, Split
from moodscale.storage import display, location, write_bytes, write_table
from moodscale.train.predict_job import PREDICTIONS

logger = logging.getLogger(__name__)

SUMMARY = "ensemble.json"
ANSWERS = "answers.parquet"
MEMBERS = "members"
READER = "ensemble"


@dataclass(frozen=True)
class BuiltEnsemble:
    """A fitted ensemble that is not registered yet.

    Attributes:
        model_version: name and hash of members and fit.
        predictions: the Prediction table, validation and test rows.
        summary: what stands in ``ensemble.json``.
        already_built: the very table was there before.
    """

    config: EnsembleConfig
    fit: EnsembleFit
    members: tuple[Member, ...]
    manifest: Manifest
    model_version: str
    directory: UPath
    predictions: UPath
    summary: Mapping[str, Any] = field(repr=False)
    already_built: bool

    def to_json(self) -> dict[str, Any]:
        return {
            **{name: self.summary[name] for name in ("members", "weighting", "calibration", "interval")},
            "model_version": self.model_version,
            "manifest_hash": self.manifest.hash,
            "predictions": display(self.predictions),
            "summary": display(self.directory / SUMMARY),
            "already_built": self.already_built,
            "num_test_reads": self.manifest.num_test_reads(),
        }


def build_ensemble(
    config: EnsembleConfig,
    manifest: str,
    storage_path: str,
    directory: str,
    tracking_uri: str,
    device: str = "auto",
) -> BuiltEnsemble:
    """Fit on validation, then score validation and test; one table of the same members and manifest is kept as it is.

    Args:
        manifest: whose interviews are scored and whose validation people are fitted on.
        storage_path: where ``runs:/`` members are, a directory of its name each.
        directory: where the ensemble's files go.
        tracking_uri: of the MLflow that holds registered members.
        device: that registered members score on.
    Raises:
        ConfigError: a member that is not there or was not evaluated.
        ValueError: members that do not fit together: other interviews, another instrument, one model twice; too few
            validation people; a member that has learned from people whom it would be judged on.
    """
    opened = Manifest.open(manifest)
    opened.check_people_disjoint()
    place = location(directory)
    members = open_members(config.members, opened, location(storage_path), tracking_uri, place / MEMBERS, device)
    target, instrument = _target(members, opened)
    aligned = {split: align(members, opened, split) for split in HELD_OUT}
    validation = _labelled(aligned[Split.VALIDATION], members, opened, Split.VALIDATION, target, instrument)
    data = _member_scores(validation, members, target, instrument)
    fit = fit_ensemble(data, config)
    version = version_of(config.name, members, fit)
    made_from = {"model_version": version, "manifest": opened.hash, "splits": [str(split) for split in HELD_OUT]}
    summary = _summary(config, members, fit, data, version, opened)
    path = place / PREDICTIONS
    built = BuiltEnsemble(config, fit, members, opened, version, place, path, summary, _is_made_from(path, made_from))
    if built.already_built:
        logger.info("%s already holds the scores of %s", display(path), version)
        return built
    parts = [validation]
    if len(aligned[Split.TEST]):
        parts.append(_labelled(aligned[Split.TEST], members, opened, Split.TEST, target, instrument))
    _write(built, pd.concat(parts, ignore_index=True), made_from)
    for note in fit.notes:
        logger.warning("%s: %s", version, note)
    logger.info("built %s of %d members", version, len(members))
    return built


def version_of(name: str, members: Sequence[Member], fit: EnsembleFit) -> str:
    """Name, and hash of members and fit: two ensembles never share one."""
    content = [[member.name, member.model_version] for member in members]
    digest = hashlib.sha256((json.dumps(content) + fit.fingerprint_text()).encode()).hexdigest()
    return f"{name}@ensemble:{digest[:12]}"


def align(members: Sequence[Member], manifest: Manifest, split: Split) -> pd.DataFrame:
    """The members' scores over the same interviews of a split; no label is read.

    Returns:
        columns ``unit_id``, ``person`` and one a member, named by its position; in the order of unit ids.
    Raises:
        ValueError: interviews that one member scores and another does not, or that are of another split or person in
            the manifest; by name and count.
    """
    table = manifest.without_labels("interviews").select(["person", "corpus", "interview_id", "split"]).to_pylist()
    known = {unit_id(row["corpus"], row["interview_id"]): row for row in table}
    scored = [member.scores[member.scores["split"] == str(split)].set_index("unit_id") for member in members]
    for member, rows in zip(members, scored, strict=True):
        foreign = [
            unit
            for unit, person in rows["person"].items()
            if unit not in known or known[str(unit)]["split"] != split or known[str(unit)]["person"] != person
        ]
        if foreign:
            raise ValueError(
                f"{member.name}: scores {len(foreign)} interviews as {split} that are not in the {split} split of the "
                f"manifest {manifest.hash}, such as {foreign[0]}; evaluate it on this manifest, or on one of its split"
            )
    units = sorted({str(unit) for rows in scored for unit in rows.index})
    for member, rows in zip(members, scored, strict=True):
        missing = [unit for unit in units if unit not in rows.index]
        if missing:
            raise ValueError(
                f"{member.name}: has no score of {len(missing)} of {len(units)} {split} interviews that other members "
                f"score, such as {missing[0]}; all members must score the same ones"
            )
    expected = sum(row["split"] == split for row in table)
    if len(units) < expected:
        logger.warning("no member scores %d of %d %s interviews", expected - len(units), expected, split)
    frame = pd.DataFrame({"unit_id": units, "person": [known[unit]["person"] for unit in units]})
    for number, rows in enumerate(scored):
        frame[number] = rows["score"].reindex(units).to_numpy(dtype=np.float64)
        if "label" in rows.columns:
            frame[f"label_{number}"] = rows["label"].reindex(units).to_numpy(dtype=np.float64)
    return frame


def _target(members: Sequence[Member], manifest: Manifest) -> tuple[str, Instrument | None]:
    """What the ensemble's score is."""
    totals = [member for member in members if member.target == "total"]
    if not totals:
        return "depressed", None
    named = {str(member.instrument): member.name for member in totals}
    if len(named) > 1:
        said = ", ".join(f"{name} of {instrument}" for instrument, name in sorted(named.items()))
        raise ValueError(f"ensemble.members: {said}: points of one are not points of the other, and are never mixed")
    assert totals[0].instrument is not None, "a total has its instrument"
    return "total", totals[0].instrument


def _labelled(
    aligned: pd.DataFrame,
    members: Sequence[Member],
    manifest: Manifest,
    split: Split,
    target: str,
    instrument: Instrument | None,
) -> pd.DataFrame:
    """With the manifest's labels and what the Prediction table says beside them. Reading test is counted."""
    rows = {
        unit_id(row["corpus"], row["interview_id"]): row
        for row in manifest.interviews(split, reader=READER).to_pylist()
    }
    own = [rows[unit] for unit in aligned["unit_id"]]
    for row in own:
        if instrument is not None and row["instrument"] != instrument:
            raise ValueError(
                f"{unit_id(row['corpus'], row['interview_id'])} was asked {row['instrument']}, the ensemble's "
                f"totals are of {instrument}: points of one are not points of the other; prepare a manifest of "
                f"{instrument} alone"
            )
    for number, member in enumerate(members):
        if f"label_{number}" not in aligned.columns:
            continue
        expected = np.array([row[member.target] for row in own], dtype=np.float64)
        differs = np.flatnonzero(aligned[f"label_{number}"].to_numpy() != expected)
        if len(differs):
            raise ValueError(
                f"{member.name}: its Prediction table has other labels than the manifest {manifest.hash} for "
                f"{len(differs)} interviews, such as {aligned['unit_id'].iloc[int(differs[0])]}; evaluate it again"
            )
    frame = aligned[["unit_id", "person", *range(len(members))]].copy()
    frame["split"] = str(split)
    frame["label"] = [float(row[target]) for row in own]
    for column in ("corpus", "gender", "duration_s", "num_turns"):
        frame[column] = [row[column] for row in own]
    return frame


def _member_scores(
    frame: pd.DataFrame, members: Sequence[Member], target: str, instrument: Instrument | None
) -> MemberScores:
    return MemberScores(
        members=tuple(member.name for member in members),
        targets=tuple(member.target for member in members),
        target=target,
        instrument=instrument,
        unit_ids=tuple(frame["unit_id"]),
        persons=tuple(frame["person"]),
        splits=tuple(frame["split"]),
        labels=frame["label"].to_numpy(dtype=np.float64),
        scores_MN=_scores_MN(frame, len(members)),
    )


def _scores_MN(frame: pd.DataFrame, num_members: int) -> Floats:
    return np.stack([frame[number].to_numpy(dtype=np.float64) for number in range(num_members)])


def _write(built: BuiltEnsemble, frame: pd.DataFrame, made_from: Mapping[str, Any]) -> None:
    """The table last: where it is, everything is."""
    answers = built.fit.apply(_scores_MN(frame, len(built.members)))
    shared = frame[["person", "unit_id", "split"]]
    details = shared.assign(
        score=answers.score, low=answers.low, high=answers.high, disagreement=answers.disagreement
    ).assign(**{member.name: frame[number] for number, member in enumerate(built.members)})
    table = frame.assign(
        unit="interview",
        target=built.fit.target,
        score=answers.score,
        model_version=built.model_version,
        instrument=None if built.fit.instrument is None else str(built.fit.instrument),
        score_normalised=None,
        answer=None,
    )
    metadata = {"moodscale": json.dumps(made_from)}
    write_table(
        built.directory / ANSWERS,
        pa.Table.from_pandas(details, preserve_index=False).replace_schema_metadata(metadata),
    )
    write_bytes(built.directory / SUMMARY, json.dumps(built.summary, indent=1).encode())
    predictions = pa.Table.from_pandas(table[PREDICTION_SCHEMA.names], schema=PREDICTION_SCHEMA, preserve_index=False)
    write_table(built.predictions, predictions.replace_schema_metadata(metadata))


def _is_made_from(path: UPath, made_from: Mapping[str, Any]) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        metadata = pq.read_schema(stream).metadata or {}
    return bool(json.loads(metadata.get(b"moodscale", b"null")) == made_from)


def _summary(
    config: EnsembleConfig,
    members: Sequence[Member],
    fit: EnsembleFit,
    data: MemberScores,
    version: str,
    manifest: Manifest,
) -> dict[str, Any]:
    """What a report shows, and the fit."""
    linked_MN = out_of_fold_links(data, config)
    calibration = {"kind": "none"} if isinstance(fit.calibration, Identity) else fit.calibration.to_json()
    return {
        "name": config.name,
        "model_version": version,
        "manifest_hash": manifest.hash,
        "target": fit.target,
        "instrument": None if fit.instrument is None else str(fit.instrument),
        "members": [
            {
                "name": member.name,
                "model_version": member.model_version,
                "recipe": member.recipe,
                "weight": weight,
                "link": link.to_json(),
                "validation": member_figures(linked, data.labels, fit.target),
            }
            for member, weight, link, linked in zip(members, fit.weights, fit.links, linked_MN, strict=True)
        ],
        "weighting": _said(config),
        "calibration": calibration,
        "interval": fit.to_json()["interval"],
        "disagreement": fit.to_json()["disagreement"],
        "fitted_on": {**fit.to_json()["fitted_on"], "split": str(Split.VALIDATION)},
        "notes": list(fit.notes),
        "fit": fit.to_json(),
        "config": config.to_json(),
    }


def _said(config: EnsembleConfig) -> str:
    if config.weights == "equal":
        return "equal"
    pulled = f", pulled towards equal ones (shrinkage {config.shrinkage:g})" if config.shrinkage else ""
    return f"least squares on validation, non-negative, sum 1{pulled}"


def member_figures(linked: Floats, labels: Floats, target: str) -> dict[str, float | None]:
    """A member alone on validation, by interview, on the ensemble's scale."""
    error = linked - labels
    if target == "depressed":
        return {"brier": float((error**2).mean()), "mae": float(np.abs(error).mean())}
    is_flat = len(labels) < 2 or np.ptp(linked) == 0 or np.ptp(labels) == 0
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "pearson_r": None if is_flat else float(np.corrcoef(linked, labels)[0, 1]),
    }
