"""What one interview's transcript costs to train on, by the arithmetic and conventions of :mod:`moodscale.models.cost`.

Exact for LLaMA and BERT. Of Qwen3.5's gated delta rule the operations are those of its chunked form, and what is kept
is what the fused kernels of flash-linear-attention keep (transformers' reference in plain PyTorch, which runs where
those are not installed, keeps several times as much).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from moodscale.models.cost import Adapter, CostModel, Kept, Mode, Part, attention
from moodscale.models.lora import LoraSettings
from moodscale.models.text_backbone_sizes import BIDIRECTIONAL

CHUNK = 64
"""Positions that the delta rule's kernels take at once."""


@dataclass(frozen=True)
class _Layer:
    """One layer over one window: which of its linears are adapted, and whether its input needs a gradient."""

    adapter: Adapter
    adapted: frozenset[str]
    positions: int
    has_grad: bool
    mode: Mode

    @property
    def is_live(self) -> bool:
        """Whether anything in it is back-propagated."""
        return self.has_grad or bool(self.adapted)

    def linears(self, width_in: int, outs: Mapping[str, int], elsewhere: bool = False, first: bool = False) -> Part:
        """Linears that read one input, which is kept once for each adapter that drops parts of it.

        Args:
            first: the input is the layer's own, which may need no gradient.
        """
        has_grad = self.has_grad or (not first and bool(self.adapted))
        part, readers = Part(), 0
        for name, width_out in outs.items():
            if name in self.adapted:
                part += self.adapter.linear(self.positions, width_in, width_out, has_grad)
                readers += 1
            else:
                base = 2.0 * self.positions * width_in * width_out
                part += Part(base, base if has_grad else 0.0)
        if readers:
            part += Part(kept=self.adapter.input(self.positions * width_in, readers, elsewhere, has_grad))
        return part

    def whole(self, part: Part) -> Part:
        return part if self.is_live else Part(forward=part.forward)


def _gated_mlp(layer: _Layer, width: int, ffn: int) -> Part:
    """SiLU's input, both factors of the gate's product; then gate and up, and down."""
    part = layer.linears(width, {"mlp.gate_proj": ffn, "mlp.up_proj": ffn})
    return part + layer.linears(ffn, {"mlp.down_proj": width}) + Part(kept=Kept(values=3 * layer.positions * ffn))


def _rms_norms(layer: _Layer, width: int) -> Part:
    """The two norms of a layer, computed and kept in fp32; the first keeps nothing of an input without gradient."""
    count = 2 if layer.has_grad else 1
    return Part(kept=Kept(floats=count * layer.positions * (width + 1)))


def _llama_layer(config: Any, layer: _Layer) -> Part:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width, q, kv = config.hidden_size, config.num_attention_heads * head, config.num_key_value_heads * head
    part = layer.linears(width, {"self_attn.q_proj": q, "self_attn.k_proj": kv, "self_attn.v_proj": kv}, first=True)
    part += attention(layer.positions, q, kv, config.num_attention_heads, layer.mode, float_softmax=True)
    part += layer.linears(q, {"self_attn.o_proj": width}, elsewhere=layer.mode.fused)
    return part + _rms_norms(layer, width) + _gated_mlp(layer, width, config.intermediate_size)


def _gated_attention_layer(config: Any, layer: _Layer) -> Part:
    """Qwen3.5's: the query's projection gives a gate of the output too, queries and keys have norms of their own."""
    width, heads, kv_heads = config.hidden_size, config.num_attention_heads, config.num_key_value_heads
    q, kv = heads * config.head_dim, kv_heads * config.head_dim
    outs = {"self_attn.q_proj": 2 * q, "self_attn.k_proj": kv, "self_attn.v_proj": kv}
    part = layer.linears(width, outs, first=True)
    norms = Kept(floats=layer.positions * (q + kv + heads + kv_heads))
    gate = Kept(values=layer.positions * 2 * q)  # the sigmoid and the output that it gates
    part += attention(layer.positions, q, kv, heads, layer.mode, float_softmax=True) + Part(kept=norms + gate)
    part += layer.linears(q, {"self_attn.o_proj": width})
    return part + _rms_norms(layer, width) + _gated_mlp(layer, width, config.intermediate_size)


def _delta_rule_layer(config: Any, layer: _Layer) -> Part:
    """Qwen3.5's linear attention: a state of ``[dk, dv]`` a head, written to 64 positions at a time."""
    width, positions = config.hidden_size, layer.positions
    heads, dk, dv = config.linear_num_value_heads, config.linear_key_head_dim, config.linear_value_head_dim
    keys, values = config.linear_num_key_heads * dk, heads * dv
    mixed = 2 * keys + values
    names = {"in_proj_qkv": mixed, "in_proj_z": values, "in_proj_b": heads, "in_proj_a": heads}
    part = layer.linears(width, {f"linear_attn.{name}": out for name, out in names.items()}, first=True)
    convolution = 2.0 * config.linear_conv_kernel_dim * positions * mixed
    # Within a chunk: keys on keys, queries on keys, weights on values. Between: three products with the state.
    chunked = 2.0 * -(-positions // CHUNK) * CHUNK * heads * (CHUNK * (2 * dk + dv) + 3 * dk * dv)
    kept = Kept(
        # The convolution's input and output, normed keys and queries, each chunk's triangular inverse.
        values=positions * (2 * mixed + 2 * keys + heads * (CHUNK + 1)),
        # Decay, its logarithm and input; norms of keys and queries; the gated norm's four factors.
        floats=positions * (3 * heads + 2 * config.linear_num_key_heads + 4 * values + heads),
    )
    # PyTorch's counter sees of the triangular solve only its gradient; it is a few per cent of the rest.
    solved = 2.0 * positions * heads * CHUNK * (dk + dv)
    # The first chunk finds no state and nobody reads what the last one leaves: four products have no gradient.
    ends = 4 * 2.0 * CHUNK * heads * dk * dv
    part += Part(convolution + chunked, convolution + 2 * chunked + solved - ends, kept)
    part += layer.linears(values, {"linear_attn.out_proj": width})
    return part + _rms_norms(layer, width) + _gated_mlp(layer, width, config.intermediate_size)


def _bert_layer(config: Any, layer: _Layer) -> Part:
    """Norms come after the residual sums; each keeps its input."""
    width, ffn = config.hidden_size, config.intermediate_size
    own = "attention.self"
    part = layer.linears(width, {f"{own}.query": width, f"{own}.key": width, f"{own}.value": width}, first=True)
    part += attention(layer.positions, width, width, config.num_attention_heads, layer.mode, float_softmax=False)
    part += layer.linears(width, {"attention.output.dense": width}, elsewhere=layer.mode.fused)
    part += layer.linears(width, {"intermediate.dense": ffn}) + layer.linears(ffn, {"output.dense": width})
    norms = Kept(values=2 * layer.positions * width, floats=4 * layer.positions)
    return part + Part(kept=norms + Kept(values=layer.positions * ffn))  # GELU's input


_LAYERS = {
    "llama": ("layers", _llama_layer),
    "bert": ("encoder.layer", _bert_layer),
    "full_attention": ("layers", _gated_attention_layer),
    "linear_attention": ("layers", _delta_rule_layer),
}
_NAMES = {
    "llama": ("self_attn", "mlp"),
    "bert": ("attention", "intermediate", "output"),
    "full_attention": ("self_attn", "mlp"),
    "linear_attention": ("linear_attn", "mlp"),
}
_LINEARS = {
    "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "linear_attn": ("in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "out_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
    "attention": ("self.query", "self.key", "self.value", "output.dense"),
    "intermediate": ("dense",),
    "output": ("dense",),
}


def text_cost(
    config: Any, lora: LoraSettings, *, window_tokens: int, num_windows: int = 1, fused_attention: bool = True
) -> CostModel:
    """The cost of one interview that fills its context.

    Args:
        config: transformers' configuration of the backbone.
        window_tokens: positions of a window.
        num_windows: windows of an interview; each is attended to alone.
        fused_attention: False for ``eager``, which keeps whole attention matrices.
    """
    adapter = Adapter(lora.r, lora.dropout)
    targets = [re.compile(target) for target in lora.targets]
    mode = Mode(fused_attention, masked=config.model_type in BIDIRECTIONAL)
    total, recomputed, block, inputs = Part(), 0.0, Kept(), Kept()
    has_grad = False
    for number in range(config.num_hidden_layers):
        kind = config.layer_types[number] if config.model_type == "qwen3_5_text" else config.model_type
        folder, count = _LAYERS[kind]
        names = [f"{part}.{name}" for part in _NAMES[kind] for name in _LINEARS[part]]
        adapted = frozenset(
            name for name in names if any(target.fullmatch(f"{folder}.{number}.{name}") for target in targets)
        )
        layer = _Layer(adapter, adapted, window_tokens, has_grad, mode)
        part = layer.whole(count(config, layer))
        total += part
        if layer.is_live:
            recomputed += part.forward
            inputs += Kept(values=window_tokens * config.hidden_size)
            block = max(block, part.kept, key=lambda kept: kept.num_bytes(2))
        has_grad = layer.is_live
    if mode.masked:
        inputs += Kept(floats=window_tokens**2 / 4) if fused_attention else Kept(values=window_tokens**2)
    # The last norm of a causal model, and pooling's mask.
    outside = Kept(flags=window_tokens)
    if config.model_type not in BIDIRECTIONAL:
        outside += Kept(floats=window_tokens * (config.hidden_size + 1))
    whole = replace(total, kept=total.kept + outside) * num_windows
    return CostModel(
        forward_flops=whole.forward,
        backward_flops=whole.backward,
        recompute_flops=recomputed * num_windows,
        activations=whole.kept,
        checkpointed=(inputs + outside + block) * num_windows,
        block=block * num_windows,
        head_logits=0.0,
        tokens=window_tokens * num_windows,
    )
