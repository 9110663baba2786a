"""An ensemble into the registry: pack its members, reload in a fresh process, compare; only then a version.

As with a single model, registering is safe to repeat, and a difference leaves no version behind.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from moodscale.evaluate.table import read_predictions
from moodscale.prepare.audio import read_clip
from moodscale.prepare.config import PrepareConfig
from moodscale.recipes.transcript_severity.examples import unit_id
from moodscale.registry.compare import Comparison, ModelMismatchError, check_model, spaced
from moodscale.registry.config import RegistryConfig
from moodscale.registry.ensemble_build import ANSWERS, BuiltEnsemble
from moodscale.registry.ensemble_fit import score_range
from moodscale.registry.ensemble_maps import Floats
from moodscale.registry.ensemble_members import Member
from moodscale.registry.ensemble_result import EnsembleFit
from moodscale.registry.facts import PackageFacts, TrainedFacts, digests_of
from moodscale.registry.judgement import Judgement
from moodscale.registry.messages import MESSAGES, write_messages
from moodscale.registry.package import MODEL_FILE, PACKAGE, open_package, seal, sha256
from moodscale.registry.recordings import WAVEFORM
from moodscale.registry.reload import Reloader, score_in_fresh_process
from moodscale.registry.serving.base import Session, serving_of
from moodscale.registry.serving.ensemble import MEMBER_SCORES, MEMBERS, EnsembleFacts, EnsembleServing, MemberFacts
from moodscale.registry.sessions import cut_session, sessions_of
from moodscale.registry.store import RegistryStore, registry_uri
from moodscale.registry.versions import Candidate, Registered, register_candidate, registered_before
from moodscale.schema import Split
from moodscale.storage import local_copy, read_table
from moodscale.tracking.base import RunSpec, RunStatus, TrackerConfig

logger = logging.getLogger(__name__)

SERVING_NAME = "ensemble"
_EXACT = 1e-6
"""How far an answer may lie from what its own members' scores combine to, as a share of the range: rounding alone."""


@dataclass(frozen=True)
class ExpectedAnswers:
    """Validation interviews to score again, and what their tables say.

    Attributes:
        scores: (N,) the ensemble's; member_scores_MN: the members' own.
        waveforms, messages: what is asked, where a member reads it; empty elsewhere.
    """

    unit_ids: tuple[str, ...]
    scores: Floats = field(repr=False)
    member_scores_MN: Floats = field(repr=False)
    waveforms: tuple[Floats, ...] = field(default=(), repr=False)
    messages: tuple[str, ...] = field(default=(), repr=False)


def register_ensemble(
    built: BuiltEnsemble,
    tracking: TrackerConfig,
    storage_path: str,
    run_key: str,
    judgement: Judgement,
    reloader: Reloader = score_in_fresh_process,
) -> Registered:
    """Give a built ensemble a version in the registry, once it was shown to score as its tables say.

    Args:
        tracking: must be ``kind: mlflow``; ``storage_path`` is what its default URI is relative to.
        run_key: of the tracked run that the version belongs to; made where it is new.
        judgement: of the evaluation of exactly this ensemble.
        reloader: how the logged model is loaded and scored.
    Raises:
        ConfigError: runs are not tracked in MLflow.
        ValueError: an evaluation or a table of another ensemble, or members that cannot be asked together.
        ModelMismatchError: the reloaded ensemble differs, or cannot be loaded; it gets no version.
        TrackerError: MLflow could not be reached or refused.
    """
    store = RegistryStore(registry_uri(tracking, storage_path))
    config = _registry_config(built)
    judgement.check_is_of(built.model_version)
    if judgement.target != built.fit.target:
        raise ValueError(
            f"the evaluation is of target {judgement.target!r}, the ensemble's is {built.fit.target!r}; run "
            "`moodscale evaluate` again"
        )
    with local_copy(built.predictions) as path:
        table = read_predictions(path)
    check_model(table, built.model_version)
    before = registered_before(store, config, built.model_version, built.fit.to_json())
    if before is not None:
        return before
    tracker = tracking.open(storage_path)
    spec = RunSpec(
        run_key=run_key,
        name=built.config.name,
        config=built.config.to_json(),
        tags={"moodscale.manifest": built.manifest.hash, "moodscale.recipe": SERVING_NAME},
    )
    run_id, status = tracker.start_or_resume(spec).run_id, RunStatus.FAILED
    try:
        tracker.log_dict(built.summary, "ensemble/ensemble.json")
        registered = _register(built, table.frame, store, run_id, config, judgement, reloader)
        status = RunStatus.FINISHED
    finally:
        tracker.finish(status)
    return registered


def _register(
    built: BuiltEnsemble,
    table: pd.DataFrame,
    store: RegistryStore,
    run_id: str,
    config: RegistryConfig,
    judgement: Judgement,
    reloader: Reloader,
) -> Registered:
    with tempfile.TemporaryDirectory(prefix="moodscale-register-") as folder:
        package = Path(folder) / PACKAGE
        package.mkdir()
        facts = pack_ensemble(built, judgement.guard_verdict, package)
        expected = expected_answers(built, table, package, config.compare_clips)
        candidate = Candidate(
            folder=Path(folder),
            facts=facts,
            label=f"{facts.model_version}, {len(facts.members)} members",
            serving=EnsembleServing(_inputs_of(package)),
            judgement=judgement,
            tags=_member_tags(facts),
            unit="interview",
            check=lambda answers: compare_answers(expected, answers, built.fit, _tolerances(built)),
            waveforms=expected.waveforms,
            messages=expected.messages,
        )
        return register_candidate(store, run_id, config, candidate, reloader)


def pack_ensemble(built: BuiltEnsemble, guard_verdict: str, directory: Path) -> EnsembleFacts:
    """Write the ensemble's package into an empty directory: its members' packages, and ``model.json`` over all."""
    members, trained = [], set(digests_of(built.manifest.people(Split.VALIDATION)))
    for number, member in enumerate(built.members):
        folder = f"{MEMBERS}/{number}"
        target = directory / folder
        target.mkdir(parents=True)
        packed = member.write_package(target)
        if packed.model_version != member.model_version:
            raise ValueError(
                f"{member.name} is {packed.model_version} now and was {member.model_version} when the ensemble was "
                "built; build it again"
            )
        trained.update(packed.trained_people)
        members.append(_member_facts(member, folder, target))
    values = {
        "serving": SERVING_NAME,
        "target": built.fit.target,
        "model_version": built.model_version,
        "manifest_hash": built.manifest.hash,
        "operating_point": built.fit.to_json(),
        "guard_verdict": guard_verdict,
        "trained_people": tuple(sorted(trained)),
        "members": [member.to_json() for member in members],
        "precision": max(
            (member.precision for member in built.members), key=lambda one: built.config.tolerance.of(one)
        ),
    }
    return seal(directory, EnsembleFacts, values)


def _member_tags(facts: EnsembleFacts) -> dict[str, str]:
    """Each member with its version and hash."""
    said = ("name", "model_version", "manifest_hash", "package_sha256")
    members = {
        f"moodscale.member.{number}": json.dumps({field: getattr(member, field) for field in said})
        for number, member in enumerate(facts.members)
    }
    return {"moodscale.num_members": str(len(facts.members)), **members}


def expected_answers(built: BuiltEnsemble, table: pd.DataFrame, package: Path, num: int) -> ExpectedAnswers:
    """Validation interviews spaced evenly over the order of their scores, as the members are to be asked of them.

    Raises:
        ValueError: tables of another ensemble, or members that read recordings in different ways.
    """
    answers = read_table(built.directory / ANSWERS).to_pandas(ignore_metadata=True).set_index("unit_id")
    rows = spaced(table[table["split"] == str(Split.VALIDATION)], num)
    chosen = answers.reindex(list(rows["unit_id"]))
    scores = rows["score"].to_numpy(dtype=np.float64)
    member_scores_MN = np.stack([chosen[member.name].to_numpy(dtype=np.float64) for member in built.members])
    if not np.isfinite(member_scores_MN).all() or not np.allclose(
        built.fit.apply(member_scores_MN).score, scores, rtol=0, atol=_EXACT
    ):
        raise ValueError(f"{built.directory}: its tables are not of {built.model_version}; build the ensemble again")
    sessions = _sessions(built, list(rows["unit_id"]))
    inputs = _inputs_of(package)
    cutting = _cutting_of(package)
    return ExpectedAnswers(
        unit_ids=tuple(rows["unit_id"]),
        scores=scores,
        member_scores_MN=member_scores_MN,
        waveforms=tuple(_speech(session, cutting) for session in sessions) if cutting is not None else (),
        messages=tuple(write_messages(session.turns) for session in sessions) if MESSAGES in inputs else (),
    )


def compare_answers(
    expected: ExpectedAnswers,
    answers: Sequence[Mapping[str, Any]],
    fit: EnsembleFit,
    tolerances: Sequence[float],
) -> Comparison:
    """Every member's own score within its tolerance, and the combination exactly that of those scores.

    Combining never falls in a member's score, so what is allowed of the ensemble follows from what is allowed of its
    members.

    Args:
        tolerances: (M,) by member, as a share of the range of its score.
    Raises:
        ModelMismatchError: naming the interview and the member that differs most, and by how much.
    """
    names = ("score", "low", "high", "disagreement", MEMBER_SCORES)
    num = len(expected.unit_ids)
    if len(answers) != num or any(
        name not in row or len(row[MEMBER_SCORES]) != len(fit.members) for row in answers for name in names
    ):
        raise ModelMismatchError(f"asked for {num} interviews, the reloaded ensemble answered otherwise")
    given_MN = np.array([row[MEMBER_SCORES] for row in answers], dtype=np.float64).T
    scale_M = np.array([score_range(target, fit.instrument)[1] for target in fit.targets])
    difference_MN = np.abs(given_MN - expected.member_scores_MN) / scale_M[:, None]
    for name, difference, tolerance in zip(fit.members, difference_MN, tolerances, strict=True):
        worst = int(np.argmax(np.nan_to_num(difference, nan=np.inf)))
        if not np.isfinite(difference).all() or difference[worst] > tolerance:
            raise ModelMismatchError(
                f"the reloaded member {name} differs from the evaluated one by {difference[worst]:.2g} of its range at "
                f"interview {expected.unit_ids[worst]} (allowed {tolerance:g}, {int((difference > tolerance).sum())} "
                f"of {num} are beyond it); no version was created"
            )
    combined = fit.apply(given_MN)
    width = fit.range[1] - fit.range[0]
    for name, right in zip(names, (combined.score, combined.low, combined.high, combined.disagreement), strict=False):
        own = np.array([row[name] for row in answers], dtype=np.float64)
        if not np.allclose(own, right, rtol=0, atol=_EXACT * width):
            raise ModelMismatchError(
                f"the reloaded ensemble combines its members' scores otherwise ({name}); no version was created"
            )
    furthest = float(np.max(np.abs(combined.score - expected.scores))) / width
    return Comparison(num, furthest, max(tolerances))


def _registry_config(built: BuiltEnsemble) -> RegistryConfig:
    config = built.config
    return RegistryConfig(
        name=config.name,
        alias=config.alias,
        compare_clips=config.compare_interviews,
        tolerance=config.tolerance,
        reload_timeout_s=config.reload_timeout_s,
    )


def _tolerances(built: BuiltEnsemble) -> list[float]:
    return [built.config.tolerance.of(member.precision) for member in built.members]


def _member_facts(member: Member, folder: str, target: Path) -> MemberFacts:
    return MemberFacts(
        name=member.name,
        folder=folder,
        model_version=member.model_version,
        recipe=member.recipe,
        serving=member.serving,
        target=member.target,
        manifest_hash=member.manifest_hash,
        package_sha256=sha256(target / MODEL_FILE),
    )


def _sessions(built: BuiltEnsemble, units: Sequence[str]) -> list[Session]:
    interviews = built.manifest.without_labels("interviews")
    keys = [
        unit_id(row["corpus"], row["interview_id"]) for row in interviews.select(["corpus", "interview_id"]).to_pylist()
    ]
    position = {key: index for index, key in enumerate(keys)}
    chosen = interviews.take(pa.array([position[unit] for unit in units], pa.int64()))
    return list(sessions_of(built.manifest, chosen))


def _inputs_of(package: Path) -> set[str]:
    """Columns that a package's members read, whatever ensembles lie in each other."""
    return {name for facts in _trained(package) for name in serving_of(facts.serving).signature().inputs.input_names()}


def _cutting_of(package: Path) -> PrepareConfig | None:
    """How the members cut recordings; ``None`` where none reads any."""
    found = sorted(
        {
            (str(facts.speech), float(facts.clip_s))
            for facts in _trained(package)
            if isinstance(facts, TrainedFacts) and facts.speech is not None and facts.clip_s is not None
        }
    )
    if len(found) > 1:
        said = " and ".join(f"{clip_s:g} s of {speech} speech" for speech, clip_s in found)
        raise ValueError(
            f"ensemble.members: some read {said}: one recording cannot be both; use members of one prepare.speech and "
            "prepare.clip_s"
        )
    if not found:
        assert WAVEFORM not in _inputs_of(package), "a model of recordings says how it cuts them"
        return None
    return PrepareConfig.model_validate({"speech": found[0][0], "clip_s": found[0][1]})


def _trained(package: Path) -> list[PackageFacts]:
    facts = open_package(package)
    if not isinstance(facts, EnsembleFacts):
        return [facts]
    return [one for member in facts.members for one in _trained(package / member.folder)]


def _speech(session: Session, cutting: PrepareConfig) -> Floats:
    """An interview's clips on end: cut again they are the same clips."""
    clips = [read_clip(session.roots, clip) for clip in cut_session(session, cutting)]
    return np.asarray(np.concatenate(clips), dtype=np.float32)
