"""A registered model as the teacher: it labels nobody whom it has learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moodscale.config import ConfigError, validate
from moodscale.label.config import LabelConfig
from moodscale.label.teachers import model as model_teacher
from moodscale.label.teachers.model import ModelTeacher, ModelTeacherConfig
from moodscale.label.teaching import teach
from moodscale.prepare.manifest import Manifest
from moodscale.registry.serving.base import Answer
from moodscale.schema import Split, person_hash
from tiny_transcripts import prepared


class FakeFacts:
    def __init__(self, people: tuple[str, ...]) -> None:
        self.trained_people = tuple(map(person_hash, people))


class FakeModel:
    """Says one point a turn, give or take five and a half."""

    def __init__(self, people: tuple[str, ...] = (), instrument: str = "PHQ-9") -> None:
        self.facts, self.instrument = FakeFacts(people), instrument

    def refusal(self, session: Any) -> str:
        return "" if any(turn["text"] for turn in session.turns) else "no words"

    def score(self, sessions: Any) -> list[Answer]:
        return [
            Answer(float(len(one.turns)), len(one.turns) + 2.5, 2.5, 13.5, instrument=self.instrument)
            for one in sessions
        ]


class FakePackage:
    model_version, sha256, target = "m@step-1", "0" * 64, "total"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return prepared(tmp_path_factory.mktemp("model") / "manifest", [3, 12, None, None, 7, 9])


def using(monkeypatch: pytest.MonkeyPatch, model: FakeModel) -> LabelConfig:
    monkeypatch.setattr(ModelTeacher, "_package", FakePackage())
    monkeypatch.setattr(ModelTeacher, "_model", model)
    return validate(LabelConfig, {"teacher": {"kind": "model", "model": "models:/m/1"}, "num_orders": 0})


def test_its_total_becomes_a_label_with_the_confidence_of_its_interval(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = teach(using(monkeypatch, FakeModel(("conv:elsewhere",))), str(tmp_path), manifest, seed=0)
    assert [(row["person"], row["total"]) for row in taught.rows] == [("conv:u02", 5.5), ("conv:u03", 5.5)]
    assert taught.rows[0]["items"] == [None] * 9
    assert taught.rows[0]["chain"][0]["confidence"] == pytest.approx(1 - 5.5 / 27)
    assert taught.labeller.learned_from == {person_hash("conv:elsewhere")}


@pytest.mark.parametrize(
    ("split", "said"), [(None, "people without a label"), (Split.TEST, "people of the test split")]
)
def test_a_model_that_has_seen_them_is_refused_before_it_is_asked(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: Split | None, said: str
) -> None:
    person = "conv:u02" if split is None else manifest.people(split)[0]
    with pytest.raises(ConfigError, match=rf"has learned from {person}, one of 1 {said}"):
        teach(using(monkeypatch, FakeModel((person,))), str(tmp_path), manifest, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_points_of_another_questionnaire_are_refused(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="gives totals of PHQ-8"):
        teach(using(monkeypatch, FakeModel(instrument="PHQ-8")), str(tmp_path), manifest, seed=0)


def test_a_model_of_probabilities_teaches_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    package = FakePackage()
    package.target = "depressed"
    monkeypatch.setattr(ModelTeacher, "_package", package)
    with pytest.raises(ConfigError, match="gives probabilities"):
        ModelTeacherConfig(model="models:/m/1").open()


def test_no_registry_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="no registry named"):
        model_teacher.ModelTeacherConfig(model="models:/m/1").open()
