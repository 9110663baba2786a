"""LoRA adapters: attached by exact module names, saved in safetensors, checked when loaded.

Configurations hold :class:`LoraSettings`, so nothing that takes seconds is imported before an adapter is made or read.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, cast

from moodscale.config import Config

if TYPE_CHECKING:
    import torch
    from torch import nn

ADAPTER_FILE = "adapter.safetensors"


class LoraSettings(Config):
    """Hu et al. 2021; rank-stabilised scaling α/√r after Kalajdzievski 2023."""

    r: int = 8
    alpha: int = 32
    dropout: float = 0.1
    rslora: bool = True
    targets: tuple[str, ...]
    """Regular expressions, each matched against the whole module name. Anchored to the sub-model on purpose: the
    audio tower and the language model both have a ``q_proj``."""


def attach(model: nn.Module, settings: LoraSettings) -> nn.Module:
    """Freeze ``model`` and inject adapters in place.

    Raises:
        ValueError: a target that matches no linear module (a typo would silently train less).
    """
    from peft import LoraConfig, get_peft_model
    from torch import nn

    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for target in settings.targets:
        if not any(re.fullmatch(target, name) for name in names):
            raise ValueError(f"lora.targets: {target!r} matches no linear module; e.g. there is {names[0]!r}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # PEFT asks by the old name
        peft_model = get_peft_model(
            model,
            LoraConfig(
                r=settings.r,
                lora_alpha=settings.alpha,
                lora_dropout=settings.dropout,
                use_rslora=settings.rslora,
                target_modules="|".join(f"(?:{target})" for target in settings.targets),
            ),
            low_cpu_mem_usage=next(model.parameters()).is_meta,
        )
    return cast("nn.Module", peft_model.base_model.model)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The adapter's parameters by name, in a fixed order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save_adapter(state: dict[str, torch.Tensor], path: Path) -> None:
    """Write fp32 safetensors.

    Raises:
        ValueError: an empty tensor, which is what a ZeRO-3 partition looks like that nobody gathered.
    """
    from safetensors.torch import save_file

    empty = [name for name, tensor in state.items() if tensor.numel() == 0]
    if empty or not state:
        raise ValueError(f"{path}: {len(empty)} of {len(state)} adapter tensors are empty; gather them before saving")
    save_file({name: tensor.detach().float().cpu().contiguous() for name, tensor in state.items()}, str(path))


def load_adapter(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file; anything else (a pickle, say) is refused without being run."""
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: adapters are read from .safetensors only")
    try:
        return cast("dict[str, torch.Tensor]", load_file(str(path)))
    except Exception as error:
        raise ValueError(f"{path}: not a readable safetensors file ({type(error).__name__})") from None


def apply_adapter(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Copy adapter weights into ``model``.

    Raises:
        ValueError: names or shapes that do not fit, named; the model is left as it was.
    """
    import torch

    own = trainable(model)
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or extra:
        raise ValueError(
            f"the adapter does not fit the model: {len(missing)} tensors missing (e.g. {missing[:1]}), "
            f"{len(extra)} unknown (e.g. {extra[:1]})"
        )
    for name, parameter in own.items():
        if parameter.shape != state[name].shape:
            raise ValueError(f"{name}: the adapter has {tuple(state[name].shape)}, not {tuple(parameter.shape)}")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(state[name])
