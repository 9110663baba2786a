"""The clip-level system on E-DAIC, on CMDC and with one of three corpora held out: shipped configurations, small."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from moodscale.config import load_config
from moodscale.corpora.synthesize import SynthesizeConfig, synthesize
from moodscale.experiment import Experiment
from moodscale.prepare.manifest import Manifest
from moodscale.verbs import data, evaluating, training
from tiny import SIZES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RECIPES = Path(__file__).parents[2] / "jobs" / "configs" / "recipes"
SMALL = (
    "prepare.clip_s=2",
    "recipe.clip_s=2",
    "recipe.model.source=random",
    "recipe.model.revision=null",
    f"recipe.sizes={json.dumps(SIZES)}",
    "recipe.greedy_tokens=2",
    "optim.lr=0.005",
    "train.num_workers=1",
    "train.use_gpu=false",
    "train.cpus_per_worker=1",
    "train.data_cpus=1",
    "train.engine.precision=fp32",
    "evaluate.num_bootstrap=200",
)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 people of each; people 300-… are in both of the first two."""
    folder = tmp_path_factory.mktemp("corpora")
    for kind, changes in (
        ("daic_woz", {"minutes": 0.4}),
        ("edaic", {"minutes": 0.4, "archives": True, "features": False}),
        ("cmdc", {"minutes": 0.4, "features": False}),
    ):
        synthesize(kind, SynthesizeConfig(out=folder / kind, num_participants=24, **changes))
    return folder


@pytest.fixture(scope="module", autouse=True)
def _one_ray(ray_dir: Path) -> Iterator[None]:
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, _temp_dir=str(ray_dir))
    yield
    ray.shutdown()


def experiment(name: str, storage: Path, *overrides: str) -> Experiment:
    return load_config(Experiment, RECIPES / f"{name}.yaml", [*SMALL, f"storage_path={storage}", *overrides])


def run(own: Experiment) -> tuple[Manifest, evaluating.Evaluated, str]:
    data.prepare(own)
    training.train(own)
    evaluated = evaluating.evaluate_experiment(own)
    return Manifest.open(str(own.manifest_dir)), evaluated, Path(str(evaluated.report)).read_text()


def test_e_daic_is_read_from_its_archives_and_the_report_says_that_there_is_no_speaker_column(
    corpora: Path, tmp_path: Path
) -> None:
    manifest, evaluated, report = run(experiment("qwen2_audio_edaic", tmp_path, f"corpus.path={corpora / 'edaic'}"))
    assert {"300", "600"} <= {row["interview_id"] for row in manifest.interviews("train").to_pylist()} | {
        row["interview_id"] for row in manifest.interviews("test").to_pylist()
    }
    assert not list((tmp_path / "qwen2_audio_edaic").rglob("*.wav")), "nothing is unpacked"
    assert evaluated.evaluation.participant.counts["num"] == len(manifest.people("test")) >= 4
    assert "What is approximate" in report
    assert "speaker" in report


def test_cmdc_takes_its_public_test_people_and_validates_on_others(corpora: Path, tmp_path: Path) -> None:
    manifest, evaluated, report = run(
        experiment("qwen2_audio_cmdc", tmp_path, f"corpus.path={corpora / 'cmdc'}", "prepare.splits={kind: kfold}")
    )
    clips = manifest.clips("train").to_pylist()
    assert {row["instrument"] for row in clips} == {"PHQ-9"}
    assert any(len({one["path"] for one in row["segments"]}) > 1 for row in clips), "a clip goes over two answers"
    assert evaluated.evaluation.participant.counts["num"] == len(manifest.people("test")) >= 4
    assert "What is approximate" in report


def test_one_of_three_corpora_is_held_out_with_nobody_in_two_splits(corpora: Path, tmp_path: Path) -> None:
    paths = [f"corpus.corpora.{at}.path={corpora / kind}" for at, kind in enumerate(("daic_woz", "edaic", "cmdc"))]
    manifest, evaluated, report = run(experiment("qwen2_audio_leave_one_corpus_out", tmp_path, *paths))
    held_out = manifest.clips("test").to_pylist()
    trained = [*manifest.clips("train").to_pylist(), *manifest.clips("validation").to_pylist()]
    assert {row["corpus"] for row in held_out} == {"cmdc"}
    assert {row["corpus"] for row in trained} == {"daic_woz", "edaic"}
    shared = {row["person"] for row in trained if row["corpus"] == "daic_woz"} & {
        row["person"] for row in trained if row["corpus"] == "edaic"
    }
    assert len(shared) >= 5, "people of both are one person each"
    manifest.check_people_disjoint()
    assert evaluated.evaluation.participant.counts["num"] == len(manifest.people("test"))
    for said in ("PHQ-8", "PHQ-9", "speaker", "share people 300"):
        assert said in report
