"""Adapters: what they attach to, what is written, and what is refused when one is loaded."""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from moodscale.models.lora import (
    ADAPTER_FILE,
    LoraSettings,
    apply_adapter,
    attach,
    load_adapter,
    save_adapter,
    trainable,
)


class Tower(nn.Module):
    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.q_proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.q_proj(self.norm(x))
        return hidden


class TwoTowers(nn.Module):
    """Two sub-models with a module of the same name, as an audio encoder and a language model have."""

    def __init__(self) -> None:
        super().__init__()
        self.audio, self.text = Tower(), Tower()
        self.head = nn.Linear(6, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.text(self.audio(x)))
        return logits


def settings(*targets: str, **changes: object) -> LoraSettings:
    return LoraSettings.model_validate({"targets": targets, "dropout": 0.0, "r": 2, "alpha": 8, **changes})


def adapted(*targets: str, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    return attach(TwoTowers(), settings(*(targets or (r"text\.q_proj", "head")), **changes))


def test_only_the_adapters_are_trained() -> None:
    model = adapted()
    names = set(trainable(model))
    assert names == {
        "text.q_proj.lora_A.default.weight",
        "text.q_proj.lora_B.default.weight",
        "head.lora_A.default.weight",
        "head.lora_B.default.weight",
    }
    assert sum(parameter.numel() for parameter in trainable(model).values()) == 2 * (6 + 6) + 2 * (6 + 3)


def test_a_target_is_anchored_to_the_whole_module_name() -> None:
    with pytest.raises(ValueError, match=r"'q_proj' matches no linear module"):
        adapted("q_proj")


@pytest.mark.parametrize("typo", [r"text\.qproj", r"text\.norm", "text", r"txt\.q_proj"])
def test_a_target_that_matches_no_linear_is_refused_beside_one_that_does(typo: str) -> None:
    with pytest.raises(ValueError, match="matches no linear module") as caught:
        adapted("head", typo)
    assert repr(typo) in str(caught.value)
    assert "audio.q_proj" in str(caught.value), "an example of a name that exists"


def test_a_fresh_adapter_changes_nothing() -> None:
    torch.manual_seed(0)
    plain = TwoTowers()
    x = torch.randn(4, 6)
    torch.testing.assert_close(adapted()(x), plain(x))


@pytest.mark.parametrize(("rslora", "scale"), [(True, 8 / math.sqrt(2)), (False, 8 / 2)])
def test_the_scale_is_alpha_over_the_root_of_r_where_rank_stabilised(rslora: bool, scale: float) -> None:
    model = adapted("head", rslora=rslora)
    base = model.get_submodule("head.base_layer")
    a, b = (model.get_parameter(f"head.lora_{part}.default.weight") for part in "AB")
    with torch.no_grad():
        b.normal_()
        x = torch.randn(4, 6)
        torch.testing.assert_close(model.get_submodule("head")(x), base(x) + scale * (x @ a.T) @ b.T)


def test_a_saved_adapter_comes_back_in_fp32(tmp_path: Path) -> None:
    state = {name: p.detach().to(torch.bfloat16) for name, p in trainable(adapted()).items()}
    save_adapter(state, tmp_path / ADAPTER_FILE)
    loaded = load_adapter(tmp_path / ADAPTER_FILE)
    assert loaded.keys() == state.keys()
    for name, tensor in loaded.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, state[name].float(), rtol=0, atol=0)


def test_a_loaded_adapter_makes_another_model_predict_the_same(tmp_path: Path) -> None:
    first = adapted()
    with torch.no_grad():
        for parameter in trainable(first).values():
            parameter.normal_()
    save_adapter(dict(trainable(first)), tmp_path / ADAPTER_FILE)
    second = adapted()
    x = torch.randn(4, 6)
    assert not torch.allclose(first(x), second(x))
    apply_adapter(second, load_adapter(tmp_path / ADAPTER_FILE))
    torch.testing.assert_close(second(x), first(x), rtol=0, atol=0)


def test_an_empty_tensor_is_not_saved(tmp_path: Path) -> None:
    path = tmp_path / ADAPTER_FILE
    with pytest.raises(ValueError, match="1 of 2 adapter tensors are empty; gather them"):
        save_adapter({"a": torch.zeros(2), "b": torch.zeros(0)}, path)
    assert not path.exists()


def test_an_adapter_without_tensors_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 of 0"):
        save_adapter({}, tmp_path / ADAPTER_FILE)


class Payload:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return _write, (str(self.path), "ran")


def _write(path: str, text: str) -> None:
    Path(path).write_text(text)


@pytest.mark.parametrize("name", ["adapter.safetensors", "adapter.bin", "adapter.pt", "adapter"])
@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_is_refused_and_its_payload_does_not_run(tmp_path: Path, name: str, writer: str) -> None:
    ran, path = tmp_path / "ran", tmp_path / name
    if writer == "pickle":
        path.write_bytes(pickle.dumps(Payload(ran)))
        pickle.loads(path.read_bytes())  # noqa: S301  the payload is live: unpickling does run it
    else:
        torch.save({"head": Payload(ran)}, path)
        torch.load(io.BytesIO(path.read_bytes()), weights_only=False)
    assert ran.exists()
    ran.unlink()
    with pytest.raises(ValueError, match=r"safetensors") as caught:
        load_adapter(path)
    assert str(path) in str(caught.value)
    assert not ran.exists()


def test_a_missing_or_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / ADAPTER_FILE
    with pytest.raises(ValueError, match=str(path)):
        load_adapter(path)
    save_adapter({"a": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_adapter(path)


def test_an_adapter_of_other_targets_does_not_fit() -> None:
    state = dict(trainable(adapted("head")))
    model = adapted(r"text\.q_proj")
    before = {name: parameter.clone() for name, parameter in trainable(model).items()}
    with pytest.raises(ValueError, match=r"2 tensors missing.*text\.q_proj.*2 unknown.*head"):
        apply_adapter(model, state)
    for name, parameter in trainable(model).items():
        torch.testing.assert_close(parameter, before[name], rtol=0, atol=0)


def test_an_adapter_of_another_rank_leaves_the_model_as_it_was() -> None:
    model, other = adapted(), adapted(r=4)
    state = {name: torch.ones_like(parameter) for name, parameter in trainable(other).items()}
    state["head.lora_A.default.weight"] = torch.ones(2, 6)  # one tensor fits, and must not be copied on its own
    before = {name: parameter.clone() for name, parameter in trainable(model).items()}
    with pytest.raises(ValueError, match=r"the adapter has \(.*\), not \("):
        apply_adapter(model, state)
    for name, parameter in trainable(model).items():
        torch.testing.assert_close(parameter, before[name], rtol=0, atol=0)
