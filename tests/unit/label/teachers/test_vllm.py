"""The teacher on the cluster's own GPUs, as far as it goes without vLLM: settings, rows, and Ray Data around them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from fake_engines import GOOD, FakeEngines, fake_build
from moodscale.config import ConfigError
from moodscale.label.answer import RefusedAnswer
from moodscale.label.ask import label_transcripts
from moodscale.label.prompt import answer_schema, build_prompt
from moodscale.label.teachers.base import Outcome, TeacherFailure
from moodscale.label.teachers.vllm import (
    ERROR,
    VllmConfig,
    VllmTeacher,
    from_engine,
    only_ours,
    processor_config,
    rows_of,
    to_request,
    weights_fingerprint,
)
from moodscale.schema import Instrument
from spoken import transcript, transcripts
from teacher_server import good_answer

SUPPORT = Path(__file__).parents[3] / "support"


def test_without_vllm_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"moodscale\[vllm\]"):
        VllmConfig(model=str(tmp_path)).open()


def test_a_folder_without_a_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(ConfigError, match=r"config\.json"):
        VllmConfig(model=str(tmp_path)).open()


def test_rays_processor_gets_the_engine_that_was_asked_for(tmp_path: Path) -> None:
    config = VllmConfig(
        model=str(tmp_path), tensor_parallel=4, num_replicas=2, batch_size=8, max_model_len=16_384,
        accelerator_type="H100", engine={"gpu_memory_utilization": 0.85},
    )  # fmt: skip
    made = processor_config(config)
    assert made.model_source == str(tmp_path)
    assert made.engine_kwargs == {
        "tensor_parallel_size": 4, "pipeline_parallel_size": 1, "dtype": "auto", "seed": 0, "max_model_len": 16_384,
        "gpu_memory_utilization": 0.85, "task_type": "generate",
    }  # fmt: skip
    assert (made.concurrency, made.batch_size, made.accelerator_type) == (2, 8, "H100")
    assert made.should_continue_on_error, "a transcript that is too long is one row, not the run"
    assert not made.log_engine_metrics


def test_a_row_holds_the_prompt_and_the_form_it_is_held_to() -> None:
    one = transcript("u1", "I sleep badly", instrument=Instrument.PHQ8)
    (row,) = rows_of(VllmConfig(model="/m", temperature=0.5, max_output_tokens=99), [one])
    request = to_request(row)
    assert request["messages"] == build_prompt(one).messages()
    sampling = request["sampling_params"]
    assert json.loads(sampling.pop("structured_outputs")["json"]) == answer_schema(Instrument.PHQ8)
    assert sampling == {"temperature": 0.5, "max_tokens": 99, "seed": 0}
    (free,) = rows_of(VllmConfig(model="/m", structured="none"), [one])
    assert "structured_outputs" not in to_request(free)["sampling_params"]


def test_neither_the_prompt_nor_an_engines_error_goes_on() -> None:
    failed = only_ours({"at": 3, "prompt": "secret words", "generated_text": "", ERROR: "ValueError: secret words"})
    assert failed == {"at": 3, "text": "", "num_input_tokens": 0, "num_output_tokens": 0, "failed": "engine"}
    too_long = only_ours({"at": 3, ERROR: "VLLMValidationError: longer than the maximum model length of 512"})
    assert too_long["failed"] == "too_long"
    went_well = from_engine(
        {"at": 1, "generated_text": "x", "num_input_tokens": 5, "num_generated_tokens": 2, "prompt": "p"}
    )
    assert only_ours(went_well | {ERROR: ""}) == {
        "at": 1, "text": "x", "num_input_tokens": 5, "num_output_tokens": 2, "failed": "",
    }  # fmt: skip


def test_the_identity_follows_the_weights_and_not_the_number_of_engines(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")

    def identity(**more: Any) -> Any:
        return VllmTeacher(VllmConfig(model=str(tmp_path), **more), fake_build).identity

    plain = identity()
    assert identity(num_replicas=4, batch_size=2, tensor_parallel=2) == plain
    assert identity(temperature=0.5) != plain
    assert identity(chat_template={"enable_thinking": False}) != plain
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert identity() != plain
    assert weights_fingerprint("s3://bucket/model") is None


@pytest.fixture
def _own_ray(ray_dir: Path) -> Iterator[None]:
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=str(ray_dir),
        runtime_env={"env_vars": {"PYTHONPATH": str(SUPPORT)}},
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("_own_ray")
def test_a_dataset_of_transcripts_comes_back_as_answers_and_reasons(
    tmp_path: Path, ray_dir: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    canary = "quokka-lantern-9026"
    scripts = ("too_long", "dead", "no_json", "cut")
    asked = [*transcripts(6, canary), *(transcript(script, f"{canary} script:{script}") for script in scripts)]
    config = FakeEngines(model=str(tmp_path), batch_size=3)
    found = label_transcripts(config, asked, tmp_path / "answers")
    assert list(found.answers) == [f"u{at:03d}" for at in range(6)]
    assert {answer.total for answer in found.answers.values()} == {10.0}
    assert found.refused == {"too_long": "too_long", "dead": "server_error", "no_json": "not_json", "cut": "truncated"}
    assert found.summary.output_tokens == 6 * 40 + 40 + 2048
    again = label_transcripts(config, asked, tmp_path / "answers")
    assert again.answers == found.answers
    assert again.summary.num_requests == 1, "only what failed is asked for again"
    assert any(ray_dir.rglob("*.out")), "this is where Ray writes"
    written = [path for folder in (ray_dir, tmp_path) for path in folder.rglob("*") if path.is_file()]
    assert [path for path in written if canary.encode() in path.read_bytes()] == []
    assert canary not in caplog.text + "".join(capfd.readouterr())


def outcome(text: str, num_output: int = 10, failed: str = "") -> Outcome:
    teacher = VllmTeacher(VllmConfig(model="/m", max_output_tokens=64), fake_build)
    return teacher._reply({"text": text, "num_input_tokens": 1, "num_output_tokens": num_output, "failed": failed})


def test_a_row_is_read_as_any_reply_is() -> None:
    assert outcome(GOOD).raw == good_answer()  # type: ignore[union-attr]
    assert isinstance(outcome("no"), RefusedAnswer)
    assert str(outcome(GOOD, num_output=64)) == "truncated"
    assert str(outcome("", failed="too_long")) == "too_long"
    assert isinstance(outcome("", failed="engine"), TeacherFailure)
