"""Scoring files with a version of the registry."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from moodscale.config import ConfigError
from moodscale.registry.predict import in_words, predict_from_registry
from moodscale.registry.reload import ReloadError, Request, score_in_fresh_process
from moodscale.registry.versions import MODEL_VERSION_TAG, Registered
from tiny_registry import Trained, load, stored_model


def here(request: Request, timeout_s: float) -> list[dict[str, Any]]:
    del timeout_s
    rows: list[dict[str, Any]] = (
        load(Path(request.model_uri)).predict(pd.DataFrame({"path": request.paths})).to_dict(orient="records")
    )
    return rows


def test_files_are_scored_by_the_candidate_in_a_process_of_its_own(
    trained: Trained, registered: Registered, model: Any
) -> None:
    paths = [trained.wav(0), trained.wav(1)]
    answers = predict_from_registry("models:/tiny@candidate", paths, trained.uri, device="cpu")
    expected = model.predict(pd.DataFrame({"path": [str(path) for path in paths]}))
    assert [answer["path"] for answer in answers] == [str(path) for path in paths]
    for answer, row in zip(answers, expected.to_dict(orient="records"), strict=True):
        assert answer["probability"] == pytest.approx(row["probability"], abs=1e-5)
        assert answer["num_clips"] == row["num_clips"] == 6
        assert answer["version"] == registered.version
        assert answer["model_version"] == trained.model_version


@pytest.mark.parametrize("reference", ["tiny@candidate", "tiny/1", "models:/tiny/1"])
def test_a_version_is_named_by_alias_or_number(trained: Trained, registered: Registered, reference: str) -> None:
    (answer,) = predict_from_registry(reference, [trained.wav()], trained.uri, reloader=here)
    assert answer["version"] == registered.version


@pytest.mark.parametrize(
    "reference",
    ["tiny", "", "tiny@", "tiny/latest; rm -rf ~", "models:/$(id)@candidate", "../tiny/1", "models:/m-0123"],
)
def test_what_is_no_reference_is_refused(trained: Trained, reference: str) -> None:
    with pytest.raises(ConfigError, match="is not of the form models:/NAME@ALIAS"):
        predict_from_registry(reference, [trained.wav()], trained.uri, reloader=here)


@pytest.mark.parametrize("reference", ["tiny@nobody", "tiny/99", "nothing/1", "nothing@candidate"])
def test_an_unknown_version_is_said_to_be_unknown(trained: Trained, registered: Registered, reference: str) -> None:
    with pytest.raises(ConfigError, match="is not in the registry at sqlite"):
        predict_from_registry(reference, [trained.wav()], trained.uri, reloader=here)


def test_a_file_that_cannot_be_scored_is_named(trained: Trained, registered: Registered, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.wav"):
        predict_from_registry("tiny@candidate", [tmp_path / "gone.wav"], trained.uri, reloader=here)
    with pytest.raises(ValueError, match="no recording given"):
        predict_from_registry("tiny@candidate", [], trained.uri, reloader=here)


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "ran")


def foreign(trained: Trained, name: str, directory: Path, tags: dict[str, str]) -> None:
    client = MlflowClient(trained.uri, registry_uri=trained.uri)
    client.create_registered_model(name)
    client.create_model_version(name, directory.as_uri(), tags=tags)


def pickled_model(tmp_path: Path) -> Path:
    """What MLflow writes for a model that is saved by pickling."""
    directory = tmp_path / "pickled"
    directory.mkdir()
    (directory / "python_model.pkl").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    (directory / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n    python_model: python_model.pkl\n"
        "    cloudpickle_version: 3.1.2\nmlflow_version: 3.17.2\nmodel_uuid: x\n"
        "utc_time_created: '2026-01-01 00:00:00'\n"
    )
    return directory


def test_a_pickled_model_is_refused_and_does_not_run(trained: Trained, tmp_path: Path) -> None:
    foreign(trained, "pickled", pickled_model(tmp_path), {MODEL_VERSION_TAG: "forged"})
    with pytest.raises(ValueError, match=r"python_model\.pkl: a pickle can run code.*refused"):
        predict_from_registry("pickled/1", [trained.wav()], trained.uri, reloader=here)
    assert not (tmp_path / "ran").exists()


def test_a_model_loaded_by_another_loader_is_refused(trained: Trained, registered: Registered, tmp_path: Path) -> None:
    directory = pickled_model(tmp_path)
    (directory / "python_model.pkl").unlink()
    foreign(trained, "otherloader", directory, {MODEL_VERSION_TAG: "forged"})
    with pytest.raises(ConfigError, match="is no model from code"):
        predict_from_registry("otherloader/1", [trained.wav()], trained.uri, reloader=here)


def test_a_version_of_somebody_else_is_not_loaded(trained: Trained, registered: Registered) -> None:
    foreign(trained, "somebody", stored_model(trained.uri, registered.name), {})
    with pytest.raises(ConfigError, match="was not registered by moodscale"):
        predict_from_registry("somebody/1", [trained.wav()], trained.uri, reloader=here)


def test_a_fresh_process_does_not_unpickle_either(trained: Trained, tmp_path: Path) -> None:
    request = Request(str(pickled_model(tmp_path)), trained.uri, paths=[str(trained.wav())])
    with pytest.raises(ReloadError, match="pickle is disallowed"):
        score_in_fresh_process(request, timeout_s=120)
    assert not (tmp_path / "ran").exists()


def test_a_process_that_takes_too_long_is_stopped(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(ReloadError, match=r"longer than 0\.05 s; raise reload_timeout_s \(of registry"):
        score_in_fresh_process(Request(str(tmp_path), trained.uri, paths=["a.wav"]), timeout_s=0.05)


def test_answers_of_every_kind_of_model_are_told_in_words(model: Any, severity_model: Any, trained: Trained) -> None:
    (heard,) = model.predict(pd.DataFrame({"path": [str(trained.wav())]})).to_dict(orient="records")
    assert re.fullmatch(r"P\(depressed\) 0\.\d{3} over 6 clips", in_words(heard))
    asked = pd.DataFrame({"messages": ['[{"role": "user", "content": "hello"}]']})
    (read,) = severity_model.predict(asked).to_dict(orient="records")
    assert re.fullmatch(r"PHQ-9 total [\d.]+ \([\d.]+ to [\d.]+\), [a-z ]+", in_words(read))
    assert in_words({"score": 0.25, "low": 0.1, "high": 0.4, "instrument": None}) == "P(depressed) 0.250"
