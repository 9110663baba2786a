"""The registered ensemble: what it is made of, what it answers and refuses, and what keeps it from being registered."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from moodscale.models.lora import ADAPTER_FILE, load_adapter, save_adapter
from moodscale.prepare.manifest import Manifest
from moodscale.registry.compare import ModelMismatchError
from moodscale.registry.ensemble_build import BuiltEnsemble
from moodscale.registry.ensemble_register import expected_answers, register_ensemble
from moodscale.registry.facts import digests_of
from moodscale.registry.package import MODEL_FILE, open_package, sha256
from moodscale.registry.reload import Request
from moodscale.registry.serving.base import open_model
from moodscale.registry.serving.ensemble import EnsembleFacts
from moodscale.registry.sessions import sessions_of
from moodscale.registry.versions import Registered
from moodscale.schema import Split
from tiny_ensemble import CANARY, Runs, change_table, in_this_process, make_runs, rows_of
from tiny_registry import load, stored_model


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Made once; tests add ensembles and registered models under names of their own and change nothing else."""
    return make_runs(tmp_path_factory.mktemp("ensemble"))


@pytest.fixture(scope="module")
def built(runs: Runs) -> BuiltEnsemble:
    return runs.build("both", compare_interviews=4)


@pytest.fixture(scope="module")
def registered(runs: Runs, built: BuiltEnsemble) -> Registered:
    """Registered as in production: reloaded in a process of its own."""
    return register_ensemble(**runs.registering(built))


@pytest.fixture(scope="module")
def package(runs: Runs, registered: Registered) -> Path:
    return stored_model(runs.uri, registered.name) / "artifacts" / "package"


@pytest.fixture(scope="module")
def model(runs: Runs, registered: Registered) -> Any:
    return load(stored_model(runs.uri, registered.name), device="cpu")


@pytest.fixture(scope="module")
def asked(built: BuiltEnsemble, package: Path) -> pd.DataFrame:
    """A request for every validation interview."""
    table = pq.read_table(built.predictions).to_pandas()
    expected = expected_answers(built, table, package, 100)
    rows = rows_of(Request("", "", waveforms=expected.waveforms, messages=expected.messages))
    return rows.assign(unit_id=expected.unit_ids).set_index("unit_id")


def never(request: Request, timeout_s: float) -> list[dict[str, Any]]:
    raise AssertionError("nothing should be loaded")


def versions(runs: Runs, name: str) -> list[Any]:
    return list(runs.client().search_model_versions(f"name = '{name}'"))


def logged_models(runs: Runs) -> dict[str, str]:
    experiments = [one.experiment_id for one in runs.client().search_experiments()]
    return {model.model_id: str(model.status) for model in runs.client().search_logged_models(experiments)}


def test_one_version_holds_all_members_and_says_which_they_are(
    runs: Runs, built: BuiltEnsemble, registered: Registered
) -> None:
    assert (registered.model_uri, registered.num_compared, registered.already_registered) == (
        "models:/both/1",
        4,
        False,
    )
    assert registered.max_difference <= 1e-4
    version = runs.client().get_model_version_by_alias("both", "candidate")
    tags = version.tags
    assert tags["moodscale.model_version"] == built.model_version
    assert tags["moodscale.serving"] == "ensemble"
    assert tags["moodscale.num_members"] == "2"
    members = [json.loads(tags[f"moodscale.member.{number}"]) for number in (0, 1)]
    assert [member["name"] for member in members] == ["runs:/clips", "runs:/words"]
    assert [member["model_version"] for member in members] == [one.model_version for one in built.members]
    assert tags["moodscale.figure.test.interview.mae"] == "4.5"
    assert "Not a medical device" in version.description
    run = runs.client().get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["moodscale.recipe"] == "ensemble"


def test_the_package_is_whole_and_names_everyone_it_has_learned_from(
    runs: Runs, built: BuiltEnsemble, package: Path
) -> None:
    facts = open_package(package)
    assert isinstance(facts, EnsembleFacts)
    assert facts.operating_point == built.fit.to_json()
    manifest = Manifest.open(runs.manifest)
    taught = [*manifest.people(Split.TRAIN), *manifest.people(Split.VALIDATION)]
    assert facts.trained_people == digests_of(taught)
    for number, member in enumerate(facts.members):
        assert member.folder == f"members/{number}"
        assert open_package(package / member.folder).model_version == member.model_version
        assert sha256(package / member.folder / MODEL_FILE) == member.package_sha256


def test_nothing_that_was_said_is_in_the_stored_model(runs: Runs, package: Path) -> None:
    for path in package.parents[1].rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes()


def test_registering_again_finds_the_version_and_changes_nothing(
    runs: Runs, built: BuiltEnsemble, registered: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    tags, models = runs.client().get_model_version("both", "1").tags, logged_models(runs)
    with caplog.at_level(logging.INFO):
        again = register_ensemble(**runs.registering(built), reloader=never)
    assert again == dataclasses.replace(registered, already_registered=True)
    assert "already" in caplog.text
    assert runs.client().get_model_version("both", "1").tags == tags
    assert logged_models(runs) == models


def test_an_answer_has_score_interval_disagreement_and_what_each_member_said(
    built: BuiltEnsemble, model: Any, asked: pd.DataFrame
) -> None:
    answers = model.predict(asked)
    assert answers.index.tolist() == asked.index.tolist()
    tables = pq.read_table(built.directory / "answers.parquet").to_pandas().set_index("unit_id").loc[asked.index]
    for column in ("score", "low", "high", "disagreement"):
        assert answers[column].to_numpy() == pytest.approx(tables[column].to_numpy(), abs=1e-2)
    own = np.array(answers["member_scores"].tolist())
    assert own[:, 0] == pytest.approx(tables["runs:/clips"].to_numpy(), abs=1e-4)
    assert own[:, 1] == pytest.approx(tables["runs:/words"].to_numpy(), abs=1e-3)
    assert set(answers["instrument"]) == {"PHQ-8"}
    assert set(answers["model_version"]) == {built.model_version}
    assert (answers["high"] <= 24).all()


def test_interviews_of_a_manifest_are_scored_as_requests_are(runs: Runs, package: Path, model: Any, asked: Any) -> None:
    manifest = Manifest.open(runs.manifest)
    sessions = list(sessions_of(manifest, manifest.interviews(Split.VALIDATION)))
    served = open_model(package, {"device": "cpu"})
    assert {served.refusal(session) for session in sessions} == {""}
    scored = {
        f"daic_woz:{one.interview_id}": answer for one, answer in zip(sessions, served.score(sessions), strict=True)
    }
    given = model.predict(asked)
    for unit, row in given.iterrows():
        answer = scored[str(unit)]
        assert (answer.score, answer.low, answer.high) == pytest.approx(
            (row["score"], row["low"], row["high"]), abs=1e-2
        )
        assert (answer.instrument, answer.severity_band) == ("PHQ-8", row["severity_band"])
    silent = dataclasses.replace(sessions[0], recordings=())
    assert served.refusal(silent) == "member runs:/clips: no recording"


def test_a_request_without_what_a_member_reads_is_refused_by_column_and_member(model: Any, asked: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"no column 'messages', which member runs:/words reads") as caught:
        model.predict(asked[["waveform", "sample_rate_hz"]])
    with pytest.raises(ValueError, match=r"no column 'path' or 'waveform' .* which member runs:/clips reads"):
        model.predict(asked[["messages"]])
    with pytest.raises(ValueError, match=r"member runs:/clips: row 0: sample_rate_hz must say"):
        model.predict(asked[["messages", "waveform"]])
    bad = asked.head(2).assign(messages=["[]", f'[{{"role": "{CANARY}", "content": "{CANARY}"}}]'])
    with pytest.raises(ValueError, match=r"member runs:/words: row 0: messages holds no message") as said:
        model.predict(bad)
    assert CANARY not in str(caught.value) + str(said.value)


def shifted(member: int, by: float) -> Callable[[Request, float], list[dict[str, Any]]]:
    def reloader(request: Request, timeout_s: float) -> list[dict[str, Any]]:
        rows = in_this_process(request, timeout_s)
        for row in rows:
            row["member_scores"][member] += by
        return rows

    return reloader


def combined_otherwise(request: Request, timeout_s: float) -> list[dict[str, Any]]:
    return [{**row, "high": row["high"] - 0.01} for row in in_this_process(request, timeout_s)]


def too_few(request: Request, timeout_s: float) -> list[dict[str, Any]]:
    return in_this_process(request, timeout_s)[1:]


@pytest.mark.parametrize(
    ("reloader", "said"),
    [
        (
            shifted(0, 0.01),
            r"member runs:/clips differs .* by 0\.01 of its range at interview daic_woz:4\d\d .* 4 of 4",
        ),
        (shifted(1, 0.1), r"member runs:/words differs .* by 0\.0042 of its range"),
        (combined_otherwise, r"combines its members' scores otherwise \(high\)"),
        (too_few, r"asked for 4 interviews, the reloaded ensemble answered otherwise"),
    ],
)
def test_an_ensemble_that_answers_otherwise_gets_no_version(runs: Runs, built: Any, reloader: Any, said: str) -> None:
    other = renamed(built, "otherwise")
    before = logged_models(runs)
    with pytest.raises(ModelMismatchError, match=said):
        register_ensemble(**runs.registering(other), reloader=reloader)
    assert versions(runs, "otherwise") == []
    assert logged_models(runs) == before


def renamed(built: BuiltEnsemble, name: str) -> BuiltEnsemble:
    return dataclasses.replace(built, config=built.config.model_copy(update={"name": name}))


def change_member(package: Path) -> None:
    """Other weights of one member, everything else untouched."""
    path = package / "members" / "1" / ADAPTER_FILE
    save_adapter({name: tensor * 1.5 for name, tensor in load_adapter(path).items()}, path)


def change_member_and_the_ensembles_hashes(package: Path) -> None:
    """The ensemble's ``model.json`` agrees, the member's own does not."""
    change_member(package)
    seal_again(package, "members/1/" + ADAPTER_FILE)


def change_member_and_all_hashes(package: Path) -> None:
    """Both agree: the hash that the ensemble holds of its member's ``model.json`` does not."""
    change_member(package)
    seal_again(package / "members" / "1", ADAPTER_FILE)
    seal_again(package, "members/1/" + ADAPTER_FILE, "members/1/" + MODEL_FILE)


def lead_out_of_the_package(package: Path) -> None:
    facts = json.loads((package / MODEL_FILE).read_text())
    facts["members"][1]["folder"] = "members/../../package/members/1"
    (package / MODEL_FILE).write_text(json.dumps(facts))


def seal_again(directory: Path, *names: str) -> None:
    facts = json.loads((directory / MODEL_FILE).read_text())
    facts["files"].update({name: sha256(directory / name) for name in names})
    (directory / MODEL_FILE).write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (change_member, r"members/1/adapter\.safetensors: hash mismatch"),
        (change_member_and_the_ensembles_hashes, r"members/1/adapter\.safetensors: hash mismatch"),
        (change_member_and_all_hashes, r"and not words@step-\S+ as it was when the ensemble was built"),
        (lead_out_of_the_package, r"members\.1\.folder"),
    ],
)
def test_a_member_changed_between_packing_and_reloading_gets_no_version(
    runs: Runs, built: BuiltEnsemble, tamper: Callable[[Path], None], said: str
) -> None:
    def tampered(request: Request, timeout_s: float) -> list[dict[str, Any]]:
        location_ = runs.client().get_logged_model(request.model_uri.removeprefix("models:/")).artifact_location
        tamper(Path(location_.removeprefix("file://")) / "artifacts" / "package")
        return in_this_process(request, timeout_s)

    before = logged_models(runs)
    with pytest.raises(ModelMismatchError, match=said):
        register_ensemble(**runs.registering(renamed(built, "tampered")), reloader=tampered)
    assert versions(runs, "tampered") == []
    assert logged_models(runs) == before


def test_an_evaluation_of_another_ensemble_is_refused(runs: Runs, built: BuiltEnsemble) -> None:
    other = dataclasses.replace(runs.judgement(built), model_versions=("both@ensemble:0123",))
    with pytest.raises(ValueError, match=r"the evaluation is of both@ensemble:0123"):
        register_ensemble(**{**runs.registering(built), "judgement": other}, reloader=never)
    other = dataclasses.replace(runs.judgement(built), target="depressed")
    with pytest.raises(ValueError, match=r"target 'depressed', the ensemble's is 'total'"):
        register_ensemble(**{**runs.registering(built), "judgement": other}, reloader=never)


def test_tables_of_other_scores_are_refused(runs: Runs) -> None:
    built = runs.build("altered")
    change_table(
        Path(built.directory / "answers.parquet"), lambda rows: rows.assign(**{"runs:/words": rows["runs:/words"] / 2})
    )
    with pytest.raises(ValueError, match=r"its tables are not of altered@ensemble:\w+; build the ensemble again"):
        register_ensemble(**runs.registering(built), reloader=never)
    assert versions(runs, "altered") == []


def test_a_member_trained_further_since_is_refused(runs: Runs, built: BuiltEnsemble) -> None:
    clips, words = built.members
    newer = dataclasses.replace(words, model_version="words@step-00000006:0123456789ab")
    other = dataclasses.replace(renamed(built, "newer"), members=(clips, newer))
    with pytest.raises(ValueError, match=r"runs:/words is words@step-00000005:\w+ now and was words@step-00000006"):
        register_ensemble(**runs.registering(other), reloader=never)


def test_an_ensemble_may_be_a_member(runs: Runs, registered: Registered) -> None:
    nested = runs.build("nested", (registered.model_uri, "runs:/more_words"), compare_interviews=2)
    assert nested.members[0].recipe == "ensemble"
    done = register_ensemble(**runs.registering(nested), reloader=in_this_process)
    assert done.num_compared == 2
    inputs = load(stored_model(runs.uri, "nested")).metadata.signature.inputs.input_names()
    assert inputs == ["messages", "path", "waveform", "sample_rate_hz"]


def test_the_signature_has_what_the_members_read_and_no_more(runs: Runs) -> None:
    words = runs.build("words_alone", ("runs:/words", "runs:/more_words"), compare_interviews=2)
    register_ensemble(**runs.registering(words), reloader=in_this_process)
    assert load(stored_model(runs.uri, "words_alone")).metadata.signature.inputs.input_names() == ["messages"]
