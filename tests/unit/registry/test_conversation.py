"""A registered model of transcripts: how it gets its version, what it answers and refuses, and what it never quotes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from moodscale.config import ConfigError
from moodscale.evaluate.config import SeverityConfig
from moodscale.evaluate.severity.evaluate import evaluate_severity
from moodscale.evaluate.table import read_predictions
from moodscale.prepare.manifest import Manifest
from moodscale.registry.compare import ModelMismatchError
from moodscale.registry.config import RegistryConfig
from moodscale.registry.facts import digests_of
from moodscale.registry.judgement import Judgement
from moodscale.registry.messages import read_messages, write_messages
from moodscale.registry.package import MODEL_FILE, open_package
from moodscale.registry.predict import predict_from_registry
from moodscale.registry.register import register
from moodscale.registry.reload import Request
from moodscale.registry.serving.base import serving_of
from moodscale.registry.sessions import sessions_of
from moodscale.registry.severity_point import SeverityPoint
from moodscale.registry.versions import Registered
from moodscale.schema import person_hash
from tiny_registry import Trained, in_process, load, stored_model, table_with_scores
from tiny_severity import CANARY

SAID = [{"role": "user", "content": f"{CANARY} one"}, {"role": "assistant", "content": "and?"}]


def ask(*rows: Any) -> pd.DataFrame:
    return pd.DataFrame({"messages": [row if isinstance(row, str) else json.dumps(row) for row in rows]})


def chain(error: BaseException | None) -> str:
    """Everything that a traceback would print of an error and of those behind it."""
    texts = []
    while error is not None:
        texts.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


def test_a_reloaded_and_compared_severity_model_becomes_the_candidate(
    severity: Trained, registered_severity: Registered
) -> None:
    assert (registered_severity.num_compared, registered_severity.guard_verdict) == (5, "pass")
    assert registered_severity.max_difference <= 1e-4
    client = MlflowClient(severity.uri, registry_uri=severity.uri)
    tags = client.get_model_version_by_alias("severe", "candidate").tags
    assert tags["moodscale.serving"] == "conversation"
    assert tags["moodscale.target"] == "total"
    assert tags["moodscale.manifest_hash"] == Manifest.open(severity.job.manifest).hash
    assert tags["moodscale.figure.test.interview.mae"] == "4.5"
    assert "moodscale.threshold_source" not in tags
    assert json.loads(tags["moodscale.operating_point"])["instrument"] == "PHQ-9"


def test_a_package_says_whom_its_model_has_learned_from(severity: Trained, registered_severity: Registered) -> None:
    facts = open_package(stored_model(severity.uri, "severe") / "artifacts" / "package")
    manifest = Manifest.open(severity.job.manifest)
    people = [*manifest.people("train"), *manifest.people("validation")]
    assert facts.trained_people == digests_of(people)
    assert set(facts.trained_people) == {person_hash(person) for person in people}, "as tables of labels say it"
    assert not set(facts.trained_people) & set(digests_of(manifest.people("test")))
    assert not any(person in (stored_model(severity.uri, "severe") / "artifacts" / "package" / MODEL_FILE).read_text()
                   for person in people)  # fmt: skip


def test_no_word_of_an_interview_is_in_the_registry(severity: Trained, registered_severity: Registered) -> None:
    directory = stored_model(severity.uri, "severe")
    holding = [path for path in directory.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert holding == []
    assert CANARY.encode() not in (severity.storage / "mlflow.db").read_bytes()


def test_the_operating_point_is_fitted_on_validation_rows_alone(severity: Trained) -> None:
    table = read_predictions(severity.predictions)
    assert set(table.frame["split"]) == {"validation", "test"}
    serving = serving_of("conversation")
    point = serving.operating_point(severity.judgement, table, RegistryConfig())  # type: ignore[attr-defined]
    changed = table.frame.copy()
    changed.loc[changed["split"] == "test", ["score", "label"]] = 1.0
    other = dataclasses.replace(table, frame=changed)
    assert serving.operating_point(severity.judgement, other, RegistryConfig()) == point  # type: ignore[attr-defined]
    assert point["num_people"] == table.frame.loc[table.frame["split"] == "validation", "person"].nunique()


def test_answers_are_calibrated_totals_with_intervals(severity_model: Any, severity: Trained) -> None:
    answers = severity_model.predict(ask(SAID, [SAID, SAID]))
    assert list(answers.columns) == [
        "score", "raw_score", "low", "high", "instrument", "severity_band", "items", "model_version",
    ]  # fmt: skip
    point: SeverityPoint = severity_model.unwrap_python_model().served.point
    np.testing.assert_allclose(answers["score"], point.score(answers["raw_score"].to_numpy()))
    assert ((answers["low"] >= 0) & (answers["low"] <= answers["score"])).all()
    assert ((answers["score"] <= answers["high"]) & (answers["high"] <= 27)).all()
    assert [len(items) for items in answers["items"]] == [9, 9]
    assert sum(answers["items"][0]) == pytest.approx(answers["raw_score"][0], abs=1e-4)
    assert set(answers["model_version"]) == {severity.model_version}
    assert set(answers["instrument"]) == {"PHQ-9"}


def test_several_conversations_are_one_interview_the_newest_last(severity_model: Any) -> None:
    older = [{"role": "user", "content": "long ago " * 60}]
    newer = [{"role": "user", "content": "yesterday"}]
    answers = severity_model.predict(ask([older, newer], [*older, *newer], [newer, older], newer))
    scores = answers["raw_score"].tolist()
    assert scores[0] == scores[1], "a conversation's end is no turn's"
    assert scores[0] != scores[2]


def test_only_those_are_read_whom_the_model_listens_to(severity_model: Any) -> None:
    other = [SAID[0], {"role": "assistant", "content": "something quite different"}]
    answers = severity_model.predict(ask(SAID, other))
    assert answers["raw_score"][0] == pytest.approx(answers["raw_score"][1], abs=1e-6)
    with pytest.raises(ValueError, match="row 0: messages hold no words by those whom the model listens to"):
        severity_model.predict(ask([SAID[1]]))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (f"{CANARY} no json", "row 1: messages is not the JSON text of a list"),
        ([], "row 1: messages holds no message"),
        ([[]], "row 1: messages holds no message"),
        ({"role": "user", "content": CANARY}, "row 1: messages is not the JSON text of a list"),
        ([SAID, SAID[0]], r"row 1: messages\[0\] is no message"),
        ([{"role": CANARY, "content": "x"}], r"row 1: messages\[0\]\.role is none of user, assistant, unknown"),
        ([{"role": "system", "content": CANARY}], r"row 1: messages\[0\]\.role is none of"),
        ([SAID[0], {"role": "user", "content": [CANARY]}], r"row 1: messages\[1\]\.content must be text, not list"),
        ([SAID, [{"role": "user"}]], r"row 1: messages\[1\]\[0\]\.content must be text, not NoneType"),
        ("[" * 100_000, "row 1: messages is not the JSON text of a list"),
    ],
)
def test_malformed_rows_are_refused_by_row_and_field_and_never_quoted(severity_model: Any, row: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        severity_model.predict(ask(SAID, row))
    assert CANARY not in chain(caught.value)


@pytest.mark.parametrize("request_", [pd.DataFrame({"messages": [7]}), pd.DataFrame({"text": [CANARY]}), [CANARY]])
def test_what_does_not_fit_the_signature_is_not_quoted(severity_model: Any, request_: Any) -> None:
    with pytest.raises((MlflowException, ValueError)) as caught:
        severity_model.predict(request_)
    assert CANARY not in chain(caught.value)


def test_messages_of_a_manifests_turns_are_read_back_as_they_were(severity: Trained) -> None:
    manifest = Manifest.open(severity.job.manifest)
    for session in sessions_of(manifest, manifest.interviews("validation")):
        again = read_messages(write_messages(session.turns), "row 0")
        assert [(turn["speaker"], turn["text"], turn["recording"]) for turn in again] == [
            (turn["speaker"], turn["text"], turn["recording"]) for turn in session.turns
        ]


def test_turns_of_conversations_that_overlap_in_time_keep_their_order() -> None:
    turns = [{"speaker": "participant", "text": str(number), "recording": number % 2} for number in range(4)]
    turns.append({"speaker": "unknown", "text": None, "recording": 1})
    assert [turn["text"] for turn in read_messages(write_messages(turns), "row 0")] == ["0", "1", "2", "3", ""]


def test_a_model_that_scores_otherwise_gets_no_version(severity: Trained, tmp_path: Path) -> None:
    other = table_with_scores(severity.predictions, lambda scores: np.clip(scores + 0.2, 0, 3), tmp_path / "p.parquet")
    with pytest.raises(ModelMismatchError, match=r"differs .* at interview conversations:u\d+"):
        register(**{**severity.arguments(), "predictions": other}, config=RegistryConfig(name="x"), reloader=in_process)


def test_words_reach_the_fresh_process_by_a_pipe_and_no_file(
    severity: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import subprocess

    from moodscale.registry import reload

    seen: list[dict[str, Any]] = []

    def looking(command: list[str], **options: Any) -> Any:
        files = [path.read_bytes() for path in Path(command[-1]).parent.iterdir()]
        seen.append({"command": command, "files": files, "input": options["input"], "env": options["env"]})
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(reload.subprocess, "run", looking)
    with pytest.raises(ModelMismatchError):
        register(**severity.arguments(), config=RegistryConfig(name="piped"))
    assert CANARY.encode() in seen[0]["input"]
    assert not any(CANARY.encode() in data for data in seen[0]["files"])
    assert CANARY not in str(seen[0]["command"]) + str(seen[0]["env"])


def test_no_request_and_no_expectation_shows_words() -> None:
    assert CANARY not in repr(Request("models:/x/1", "sqlite://", messages=[json.dumps(SAID)]))


def test_an_evaluation_of_another_target_is_refused(severity: Trained, trained: Trained) -> None:
    judgement = dataclasses.replace(trained.judgement, model_versions=(severity.model_version,))
    with pytest.raises(ValueError, match="the evaluation is of target 'depressed', the recipe's is 'total'"):
        register(**{**severity.arguments(), "judgement": judgement}, config=RegistryConfig(name="other"))


def test_a_severity_evaluation_is_judged_by_its_own_figures() -> None:
    values = {
        "target": "total", "split": "test", "unit": "interview", "mae": 4.5, "rmse": 5.5, "pearson_r": None, "ccc": 0.3,
        "mean_error": -0.5, "auc_at_10": 0.7, "model_versions": ["a"],
        "guard": {"verdict": "fail", "reasons": [{"code": "no_better_than_mean", "message": "…"}]},
    }  # fmt: skip
    judgement = Judgement.from_json(values)
    assert (judgement.target, judgement.point, judgement.guard_reasons) == ("total", None, ("no_better_than_mean",))
    assert judgement.figures == {
        "test.interview.mae": 4.5, "test.interview.rmse": 5.5, "test.interview.ccc": 0.3,
        "test.interview.mean_error": -0.5, "test.interview.auc_at_10": 0.7,
    }  # fmt: skip
    with pytest.raises(ValueError, match="the evaluation lacks 'mae'"):
        Judgement.from_json({name: value for name, value in values.items() if name != "mae"})


def test_what_evaluating_writes_is_what_registering_reads(severity: Trained) -> None:
    evaluation = evaluate_severity(read_predictions(severity.predictions), SeverityConfig(num_bootstrap=50))
    judgement = Judgement.from_json(json.loads(json.dumps(evaluation.to_json())))
    assert judgement.model_versions == (severity.model_version,)
    assert judgement.figures["test.interview.mae"] == pytest.approx(evaluation.figures.values["mae"])
    done = register(
        **{**severity.arguments(), "judgement": judgement}, config=RegistryConfig(name="judged"), reloader=in_process
    )
    assert done.guard_verdict == judgement.guard_verdict == "fail", "a random model"


@pytest.fixture
def model_copy(severity: Trained, registered_severity: Registered, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stored_model(severity.uri, "severe"), tmp_path / "model"))


def test_another_base_model_is_refused(model_copy: Path) -> None:
    path = model_copy / "artifacts" / "package" / MODEL_FILE
    facts = json.loads(path.read_text())
    facts["recipe"]["model"]["init_seed"] = 9
    path.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="the base model's weights are not those that severe@"):
        load(model_copy)


def test_a_changed_tokenizer_is_refused(model_copy: Path) -> None:
    tokenizer = model_copy / "artifacts" / "package" / "assets" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    with pytest.raises(ValueError, match=r"tokenizer\.json: hash mismatch"):
        load(model_copy)


@pytest.mark.parametrize("serving", ["base", "os", "../speech", "telepathy", ""])
def test_a_kind_of_model_that_is_not_served_is_refused(model_copy: Path, serving: str) -> None:
    path = model_copy / "artifacts" / "package" / MODEL_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "serving": serving}))
    with pytest.raises(ConfigError, match="is no kind of model that this version serves"):
        open_package(path.parent)


def test_conversations_in_files_are_scored_by_the_candidate(
    severity: Trained, registered_severity: Registered, severity_model: Any, tmp_path: Path
) -> None:
    (tmp_path / "chat.json").write_text(json.dumps([SAID]))
    (answer,) = predict_from_registry("models:/severe@candidate", [tmp_path / "chat.json"], severity.uri, device="cpu")
    assert answer["score"] == pytest.approx(severity_model.predict(ask(SAID))["score"][0], abs=1e-5)
    with pytest.raises(ValueError, match=r"a\.wav: the model reads conversations, as \.json files"):
        predict_from_registry("models:/severe@candidate", [tmp_path / "a.wav"], severity.uri)
    with pytest.raises(ValueError, match="one kind at a time"):
        predict_from_registry("models:/severe@candidate", [tmp_path / "a.wav", tmp_path / "chat.json"], severity.uri)
    (tmp_path / "chat.json").write_text(f"{CANARY}")
    with pytest.raises(ValueError, match=r"chat\.json: messages is not") as caught:
        predict_from_registry("models:/severe@candidate", [tmp_path / "chat.json"], severity.uri)
    assert CANARY not in chain(caught.value)
