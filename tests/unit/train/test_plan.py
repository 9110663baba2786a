"""Plans of the shipped configurations, and the rules by which a plan decides, on a fake recipe with round numbers."""

from __future__ import annotations

import io
import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from pydantic import SerializeAsAny
from rich.console import Console
from torch import nn

from moodscale.config import Config, by_kind, load_config
from moodscale.models.cost import CostModel, Kept
from moodscale.recipes.base import RecipeConfig
from moodscale.train.config import EngineConfig, TrainConfig
from moodscale.train.memory import GB
from moodscale.train.plan import A800, H100, Gpu, Plan, choose, plan
from moodscale.train.plan_view import render

RECIPES = Path(__file__).parents[3] / "jobs" / "configs" / "recipes"
PUBLISHED = RECIPES / "qwen2_audio_daic_woz.yaml"
FAST = RECIPES / "qwen2_audio_daic_woz_fast.yaml"


class Sections(Config):
    """The sections that a plan reads; the others are left as they are."""

    name: str
    corpus: Any
    prepare: Any
    optim: Any
    tracking: Any
    registry: Any
    recipe: Annotated[SerializeAsAny[RecipeConfig], by_kind("moodscale.recipes", RecipeConfig)]
    train: TrainConfig


def plan_file(path: Path) -> Plan:
    sections = load_config(Sections, path)
    return plan(sections.recipe.build(), sections.train)


@pytest.fixture(scope="module")
def published() -> Plan:
    """Made with every connection refused: a plan needs no download."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was asked")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        return plan_file(PUBLISHED)


class FakeRecipe:
    """10 GB of frozen weights in 16 bits, a small adapter; a clip keeps 5 GB, or 1 GB with checkpointing."""

    unit = "clip"

    def build_meta(self) -> nn.Module:
        with torch.device("meta"):
            base = [nn.Linear(100_000, 1000, bias=False) for _ in range(50)]
            adapter = nn.Linear(1000, 1000, bias=False)
        for layer in base:
            layer.requires_grad_(False)
        return nn.ModuleList([*base, adapter])

    def cost(self) -> CostModel:
        return CostModel(
            forward_flops=4e12,
            backward_flops=5e12,
            recompute_flops=3e12,
            activations=Kept(values=2.5e9),
            checkpointed=Kept(values=0.5e9),
            block=Kept(values=0.05e9),
            head_logits=0.0,
        )

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a plan has no business with {name}")


def fake_plan(gpu_gb: float = 80, reserve_gb: float = 0, **train: Any) -> tuple[Plan, Gpu]:
    gpu = Gpu("fake", memory_gb=gpu_gb, tflops_16bit=100, tflops_fp32=10)
    engine = EngineConfig(**{"zero_stage": 0, **train.pop("engine", {})})
    made = plan(FakeRecipe(), TrainConfig(engine=engine, **train), num_units=3600, gpus=[gpu], reserve_gb=reserve_gb)
    return made, gpu


def row(made: Plan, zero_stage: int, micro_batch: int = 1, checkpointing: bool = False, offload: str = "none") -> Any:
    wanted = (zero_stage, micro_batch, checkpointing, offload)
    [found] = [
        row
        for row in made.rows
        if wanted
        == (
            row.setting.zero_stage,
            row.setting.micro_batch,
            row.setting.gradient_checkpointing,
            row.setting.offload,
        )
    ]
    return found


def test_the_published_configuration_has_the_papers_parameter_counts(published: Plan) -> None:
    shown = published.to_json()
    assert shown["trainable_params"] == 27_210_752
    assert shown["total_params"] == 8_424_305_664


def test_the_published_configuration_fits_one_h100_in_about_six_minutes_an_epoch(published: Plan) -> None:
    shown = published.to_json()
    assert shown["config_fits"] == {H100.name: True, A800.name: True}
    # 20.6 TFLOP by hand, for the head on every position and 70 text tokens; here the head runs on the answer alone.
    assert shown["tflop_per_clip"] == pytest.approx(20.6 - 0.8, rel=0.05)
    assert shown["epoch"][H100.name]["hours"] * 60 == pytest.approx(6.3, rel=0.1)
    assert shown["epoch"][A800.name]["hours"] == pytest.approx(shown["epoch"][H100.name]["hours"] * 989 / 312, rel=1e-3)


def test_weights_of_the_published_configuration_take_two_bytes_each(published: Plan) -> None:
    parts = published.configured.memory.parts
    assert parts["base_weights"] == (8_424_305_664 - 27_210_752) * 2
    assert parts["optimizer_states"] == 27_210_752 * 12


def test_the_fast_configuration_says_what_its_plan_recommends() -> None:
    made = plan_file(FAST)
    written = (made.train.micro_batch, made.train.engine.gradient_checkpointing, made.train.engine.zero_stage)
    assert choose(made, H100) == written
    assert choose(made, A800) == written
    assert made.configured.fits(H100)
    assert made.configured.fits(A800)
    assert made.train.num_workers > 1
    assert made.train.effective_batch == 8


def test_json_is_serialisable_and_has_every_promised_key(published: Plan) -> None:
    shown = json.loads(json.dumps(published.to_json()))
    promised = {"trainable_params", "total_params", "tflop_per_clip", "memory", "epoch"}
    assert promised | {"config_fits", "advice", "recommended"} <= shown.keys()
    assert {(entry["zero_stage"], entry["micro_batch"]) for entry in shown["memory"]} == {
        (stage, size) for stage in range(4) for size in (1, 2, 4, 8)
    }
    for entry in shown["memory"]:
        assert entry["total_gb"] == pytest.approx(sum(entry["gb"].values()), abs=0.01)
        assert entry["micro_batch"] * entry["accumulation"] == 8


def test_the_table_fits_two_screens_and_names_the_figures(published: Plan) -> None:
    written = io.StringIO()
    Console(width=100, file=written).print(render(published))
    text = written.getvalue()
    assert "27,210,752" in text
    assert "activations" in text
    assert "40%" in text
    lines = text.splitlines()
    assert len(lines) <= 80
    assert max(map(len, lines)) <= 100


def test_micro_batches_divide_a_workers_share_of_the_effective_batch() -> None:
    made, _ = fake_plan(num_workers=2, effective_batch=12, micro_batch=3)
    assert {row.setting.micro_batch for row in made.rows} == {1, 2, 3}


def test_zero_1_and_2_shard_the_adapters_states_and_only_zero_3_the_frozen_weights() -> None:
    made, _ = fake_plan(num_workers=2)
    whole, one, two, three = (row(made, stage).memory for stage in range(4))
    assert whole.base_weights == one.base_weights == two.base_weights == 10 * GB
    assert three.base_weights == 5 * GB
    assert one.optimizer_states == whole.optimizer_states / 2
    assert one.gradients == whole.gradients
    assert two.gradients == whole.gradients / 2
    # What stage 2 spares is megabytes: frozen weights have neither gradients nor states.
    assert whole.optimizer_states + whole.gradients < 0.02 * GB


def test_zero_3_pays_with_gathered_weights() -> None:
    made, _ = fake_plan(num_workers=2)
    # The reduction buffer of 3e7 numbers, and DeepSpeed's 1e9 weights that may be gathered at a time.
    assert row(made, 2).memory.communication == 0.06 * GB
    assert row(made, 3).memory.communication == 2.06 * GB


def test_activations_grow_with_the_micro_batch_and_shrink_with_checkpointing() -> None:
    made, _ = fake_plan()
    assert row(made, 0, micro_batch=4).memory.activations == 20 * GB
    assert row(made, 0, micro_batch=4, checkpointing=True).memory.activations == 4 * GB


def test_offloaded_parts_move_to_the_hosts_memory() -> None:
    made, _ = fake_plan(num_workers=2)
    kept, moved = row(made, 3).memory, row(made, 3, offload="optimizer+parameters").memory
    assert (moved.base_weights, moved.optimizer_states) == (0, 0)
    assert moved.host == kept.base_weights + kept.optimizer_states


def test_the_reserve_is_part_of_what_must_fit() -> None:
    made, _ = fake_plan(gpu_gb=15.2)
    assert made.to_json()["config_fits"] == {"fake": True}
    made, _ = fake_plan(gpu_gb=15.2, reserve_gb=1)
    assert made.to_json()["config_fits"] == {"fake": False}


def test_hours_follow_from_operations_peak_and_utilisation() -> None:
    made, gpu = fake_plan(num_workers=2)
    # 3,600 clips × 9 TFLOP over two GPUs of 100 TFLOP/s at 40 %: 405 s.
    assert made.hours_per_epoch(gpu) * 3600 == pytest.approx(405)
    assert made.to_json()["epoch"]["fake"]["gpu_hours"] == pytest.approx(2 * 405 / 3600, abs=1e-3)
    recomputing = replace(made.configured.setting, gradient_checkpointing=True)
    assert made.hours_per_epoch(gpu, recomputing) * 3600 == pytest.approx(405 * 12 / 9)


def test_with_room_it_recommends_the_largest_micro_batch_without_checkpointing() -> None:
    made, gpu = fake_plan(gpu_gb=80)
    assert choose(made, gpu) == (8, False, 0)


def test_several_workers_start_at_zero_1() -> None:
    made, gpu = fake_plan(gpu_gb=80, num_workers=2)
    assert choose(made, gpu) == (4, False, 1)


def test_it_recomputes_before_it_starves_the_gpu_with_tiny_batches() -> None:
    # 22 GB hold two clips without checkpointing, or eight with it.
    made, gpu = fake_plan(gpu_gb=22)
    assert choose(made, gpu) == (8, True, 0)


def test_it_shards_weights_where_they_do_not_fit_whole() -> None:
    made, gpu = fake_plan(gpu_gb=8.5, num_workers=2)
    assert choose(made, gpu) == (1, True, 3)


def test_it_offloads_only_where_nothing_else_fits_and_says_how_many_gpus_would_do() -> None:
    made, gpu = fake_plan(gpu_gb=5)
    recommended = made.recommended["fake"]
    assert recommended is not None
    assert recommended.setting.offload == "optimizer+parameters"
    # 10 GB shared by six, 2.1 GB of buffers and gathered weights, and one clip's 1.1 GB.
    with pytest.raises(ValueError, match=r"train\.num_workers: 6, train\.effective_batch: 12"):
        choose(made, gpu)


def test_advice_names_the_one_field_that_makes_it_fit() -> None:
    made, _ = fake_plan(gpu_gb=40, micro_batch=8)
    [sentence] = made.advice
    assert "does not fit: 50.8 GB of 40 GB, 40.0 GB of it activations" in sentence
    assert "Set train.micro_batch: 4:" in sentence
    assert "gradient_checkpointing" not in sentence


def test_advice_turns_to_checkpointing_where_the_smallest_batch_is_too_large() -> None:
    made, _ = fake_plan(gpu_gb=12, micro_batch=1)
    [sentence] = made.advice
    assert "Set train.engine.gradient_checkpointing: true" in sentence


def test_what_was_advised_does_fit() -> None:
    advised, _ = fake_plan(gpu_gb=12, micro_batch=1, engine={"gradient_checkpointing": True})
    assert advised.to_json()["config_fits"] == {"fake": True}


def test_advice_for_fp32_that_cannot_fit_is_to_halve_the_precision() -> None:
    made, _ = fake_plan(gpu_gb=13, engine={"precision": "fp32"}, num_workers=1)
    assert any("train.engine.precision: bf16" in sentence for sentence in made.advice)


def test_advice_says_so_where_no_number_of_gpus_helps() -> None:
    made, _ = fake_plan(gpu_gb=1)
    assert made.advice == [made.advice[0]]
    assert "GPUs with more memory" in made.advice[0]


def test_a_configuration_that_fits_is_told_what_would_be_faster() -> None:
    made, _ = fake_plan(gpu_gb=80, engine={"gradient_checkpointing": True})
    fits, faster = made.advice
    assert "fits" in fits
    assert "train.micro_batch: 8, train.engine.gradient_checkpointing: false" in faster
    assert "25% fewer operations" in faster


@pytest.mark.parametrize("wrong", [{"utilisation": 0.0}, {"utilisation": 1.1}, {"num_units": 0}, {"reserve_gb": -1}])
def test_inputs_outside_their_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    [name] = wrong
    with pytest.raises(ValueError, match=name.replace("units", "clips")):
        plan(FakeRecipe(), TrainConfig(), **wrong)


class FakeTranscripts(FakeRecipe):
    """The same with long examples: one alone keeps a GPU busy."""

    unit = "interview"

    def cost(self) -> CostModel:
        return replace(super().cost(), tokens=4096)


def test_examples_are_named_as_the_recipe_names_them() -> None:
    made = plan(FakeTranscripts(), TrainConfig(), num_units=50, gpus=[Gpu("fake", 80, 100, 10)])
    shown = made.to_json()
    assert shown["tflop_per_interview"] == 9
    assert shown["assumptions"]["num_interviews"] == 50
    written = io.StringIO()
    Console(width=100, file=written).print(render(made))
    assert "clip" not in json.dumps(shown) + written.getvalue()
    assert "9.0 TFLOP an interview as configured" in written.getvalue()


def test_one_long_example_keeps_a_gpu_busy_where_clips_need_several() -> None:
    # 13 GB hold one without checkpointing or several with it; for clips it recomputes rather than starve the GPU.
    gpu = Gpu("fake", 16, 100, 10)
    train = TrainConfig(engine=EngineConfig(zero_stage=0))
    assert choose(plan(FakeTranscripts(), train, gpus=[gpu], reserve_gb=0), gpu) == (1, False, 0)
    assert choose(plan(FakeRecipe(), train, gpus=[gpu], reserve_gb=0), gpu) == (4, True, 0)


SEVERITY = ("qwen3_5_27b", "llama_3_8b")


@pytest.mark.parametrize("name", SEVERITY)
def test_severity_configurations_say_what_their_plans_recommend(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    made = plan_file(RECIPES / f"transcript_severity_{name}.yaml")
    written = (made.train.micro_batch, made.train.engine.gradient_checkpointing, made.train.engine.zero_stage)
    assert choose(made, H100) == choose(made, A800) == written
    assert made.configured.fits(H100)
    assert made.unit == "interview"


def test_the_27_billion_parameters_fit_whole_on_80_gb_only_with_checkpointing() -> None:
    made = plan_file(RECIPES / "transcript_severity_qwen3_5_27b.yaml")
    # By hand from the published sizes, without the vocabulary's head, which nothing here needs.
    attention = 5120 * (2 * 24 + 4 + 4) * 256 + 24 * 256 * 5120 + 2 * 256
    keys, values = 16 * 128, 48 * 128
    delta_rule = 5120 * (2 * keys + 2 * values + 2 * 48) + values * 5120 + 4 * (2 * keys + values) + 2 * 48 + 128
    shared = 3 * 5120 * 17_408 + 2 * 5120
    assert made.facts.frozen_params == 248_320 * 5120 + 16 * attention + 48 * delta_rule + 64 * shared + 5120
    assert made.train.num_workers == 8
    for stage in (0, 1, 2):
        assert row(made, stage, 1, checkpointing=True).fits(H100)
        assert not row(made, stage, 1, checkpointing=False).fits(H100)
    assert row(made, 3, 1, checkpointing=True).memory.total < 0.4 * row(made, 2, 1, checkpointing=True).memory.total
    offloaded = row(made, 3, 1, checkpointing=True, offload="optimizer+parameters").memory
    assert offloaded.base_weights == 0
    assert offloaded.host > 6 * GB


def test_the_smallest_setting_that_fits_is_named_with_and_without_offloading() -> None:
    made, gpu = fake_plan(num_workers=4, effective_batch=8)
    kept, moved = made.smallest(gpu, offload=False), made.smallest(gpu, offload=True)
    assert kept is not None
    assert moved is not None
    assert kept.setting.offload == "none"
    assert moved.setting.offload == "optimizer+parameters"
    fitting = [one for one in made.rows if one.fits(gpu)]
    assert moved.memory.total == min(one.memory.total for one in fitting)
    assert kept.memory.total == min(one.memory.total for one in fitting if one.setting.offload == "none")
    assert made.to_json()["smallest"]["fake"]["with_offload"]["total_gb"] == round(moved.memory.total / GB, 3)
    tiny, small = fake_plan(gpu_gb=0.5, num_workers=4, effective_batch=8)
    assert tiny.smallest(small, offload=True) is None
    assert "nothing fits" in shown(tiny)


def shown(made: Plan) -> str:
    text = io.StringIO()
    Console(file=text, width=200).print(render(made))
    return text.getvalue()
