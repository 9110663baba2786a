"""What one example costs to train on: floating point operations, and the memory that autograd keeps.

Pure arithmetic over an architecture's sizes; nothing is built or run. The tests hold the operations against
PyTorch's own counter and the memory against what autograd really saves, on small models of the same classes.

Conventions. A multiply-add is two operations; only matrix products and convolutions count (the rest is bandwidth).
Attention scores count in full under a causal mask too, as model-FLOPs figures usually do, although fused kernels skip
half of them; those kernels' own recomputation of the scores is not counted either. Base weights are frozen: their
backward pass computes input gradients (as much work as the forward pass) and no weight gradients. Adapters compute
both, so their backward pass is twice their forward pass; so is that of attention scores, which have two inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

from moodscale.models.log_mel import HALO_FRAMES, MAX_FRAMES
from moodscale.models.qwen2_audio_sizes import Qwen2AudioSizes, num_encoder_positions


@dataclass(frozen=True)
class Kept:
    """What autograd keeps for the backward pass, as counts; precision and device decide the bytes.

    Attributes:
        values: numbers in the precision of the computation.
        floats: numbers in fp32 whatever the precision (norms and attention statistics).
        flags: elements of dropout masks: a byte each on a GPU, a whole number on a CPU.
    """

    values: float = 0.0
    floats: float = 0.0
    flags: float = 0.0

    def __add__(self, other: Kept) -> Kept:
        return Kept(self.values + other.values, self.floats + other.floats, self.flags + other.flags)

    def __mul__(self, factor: float) -> Kept:
        return Kept(self.values * factor, self.floats * factor, self.flags * factor)

    def num_bytes(self, value_bytes: int, flag_bytes: int = 1) -> float:
        return self.values * value_bytes + self.floats * 4 + self.flags * flag_bytes


@dataclass(frozen=True)
class CostModel:
    """A recipe's arithmetic for one example (a clip, an interview), from which ``plan`` computes memory and time.

    Attributes:
        forward_flops: floating point operations of one forward pass over one example.
        backward_flops: of one backward pass with frozen base weights (input gradients only, plus the adapters').
        recompute_flops: what gradient checkpointing adds: the blocks' forward pass again, and input gradients further
            down than needed, where transformers makes the embeddings' outputs require gradients.
        activations: kept for the backward pass of one example, without checkpointing.
        checkpointed: kept with checkpointing: every block's input, and one block at work.
        block: what the largest single block keeps; its gradients need about as much again while it is at work.
        head_logits: numbers in the logits of one example's scored positions (not part of the three above).
        tokens: positions of the language model that one example has.
    """

    forward_flops: float
    backward_flops: float
    recompute_flops: float
    activations: Kept
    checkpointed: Kept
    block: Kept
    head_logits: float
    tokens: int = 300

    def train_flops(self, gradient_checkpointing: bool) -> float:
        """Operations of one example's forward and backward pass."""
        recomputed = self.recompute_flops if gradient_checkpointing else 0.0
        return self.forward_flops + self.backward_flops + recomputed

    def kept(self, gradient_checkpointing: bool) -> Kept:
        return self.checkpointed if gradient_checkpointing else self.activations


@dataclass(frozen=True)
class Part:
    """A stretch of the network over one example."""

    forward: float = 0.0
    backward: float = 0.0
    kept: Kept = Kept()

    def __add__(self, other: Part) -> Part:
        return Part(self.forward + other.forward, self.backward + other.backward, self.kept + other.kept)

    def __mul__(self, factor: float) -> Part:
        return Part(self.forward * factor, self.backward * factor, self.kept * factor)


@dataclass(frozen=True)
class Mode:
    """How attention runs: by a fused kernel or ``eager``; with a mask of padding or without."""

    fused: bool
    masked: bool


@dataclass(frozen=True)
class Adapter:
    """LoRA on a linear: ``W x + (α/√r) B A dropout(x)``, ``A`` of ``[r, in]`` and ``B`` of ``[out, r]``."""

    r: int
    dropout: float

    def linear(self, positions: int, width_in: int, width_out: int, input_has_grad: bool = True) -> Part:
        """Operations of a frozen linear and its adapter, and the adapter's inner ``[positions, r]`` that is kept.

        Where nothing before it is trained the input needs no gradient: the base weights and ``A`` spare theirs.
        """
        base = 2.0 * positions * width_in * width_out
        down, up = 2.0 * positions * self.r * width_in, 2.0 * positions * self.r * width_out
        backward = base + 2 * down if input_has_grad else down
        return Part(base + down + up, backward + 2 * up, Kept(values=positions * self.r))

    def input(self, numbers: float, readers: int = 1, elsewhere: bool = False, has_grad: bool = True) -> Kept:
        """What ``readers`` adapters keep of an input they share: for the gradient of each ``A``, its dropped copy.

        A frozen weight keeps nothing of its input. With dropout every reader has its own copy and its own mask (the
        mask is kept for the input's gradient); without, all share the input, which may be kept ``elsewhere`` anyway.
        """
        if not self.dropout:
            return Kept() if elsewhere else Kept(values=numbers)
        return Kept(values=readers * numbers, flags=readers * numbers if has_grad else 0.0)


def attention(positions: int, width: int, kv_width: int, heads: int, mode: Mode, float_softmax: bool) -> Part:
    """``softmax(q kᵀ) v``: two products forward, four backward.

    Fused kernels keep q, k, v, the output, one statistic a head and position, and the mask as numbers to be added,
    where there is a mask; ``eager`` keeps the whole matrix of weights instead of output and mask (twice where the
    softmax runs in fp32; in fp32 training, where that copy is no copy, this counts it once too often).
    """
    scores = 2 * 2.0 * positions**2 * width
    kept = Kept(values=positions * (width + 2 * kv_width))
    if mode.fused:
        mask = positions**2 if mode.masked else 0
        kept += Kept(values=positions * width + mask, floats=positions * heads)
    else:
        matrix = float(heads * positions**2)
        kept += Kept(values=matrix, floats=matrix if float_softmax else 0.0)
    return Part(scores, 2 * scores, kept)


def _encoder_layer(sizes: Qwen2AudioSizes, adapter: Adapter, positions: int, mode: Mode, first: bool) -> Part:
    """Pre-norm attention and GELU feed-forward, as in Whisper's encoder.

    Nothing before the first layer is trained, so its input needs no gradient, and its norm keeps nothing.
    """
    width, ffn = sizes.audio_width, sizes.audio_ffn
    hidden, has_grad = positions * width, not first
    norm = Kept(values=hidden, floats=2 * positions)
    kept = norm + adapter.input(positions * ffn) + Kept(values=positions * ffn)  # before fc1, fc2's input, GELU's
    kept += adapter.input(hidden, readers=3, has_grad=has_grad) + adapter.input(hidden, elsewhere=mode.fused)
    kept += adapter.input(hidden) + (norm if has_grad else Kept())
    part = Part(kept=kept) + attention(positions, width, width, sizes.audio_heads, mode, float_softmax=False)
    part += adapter.linear(positions, width, width, has_grad) * 3 + adapter.linear(positions, width, width)
    return part + adapter.linear(positions, width, ffn) + adapter.linear(positions, ffn, width)


def _text_layer(sizes: Qwen2AudioSizes, adapter: Adapter, positions: int, mode: Mode) -> Part:
    """Qwen2's decoder layer: RMS norms (computed, and kept, in fp32), rotary attention, gated feed-forward."""
    width, ffn = sizes.text_width, sizes.text_ffn
    kv_width = width * sizes.text_kv_heads // sizes.text_heads
    hidden, inner = positions * width, positions * ffn
    kept = Kept(floats=2 * (hidden + positions))  # two norms
    kept += adapter.input(hidden, readers=3) + adapter.input(hidden, elsewhere=mode.fused)  # q, k, v; o
    # SiLU's input, and both factors of the gate's product; then gate and up, and down.
    kept += Kept(values=3 * inner) + adapter.input(hidden, readers=2) + adapter.input(inner)
    part = Part(kept=kept) + attention(positions, width, kv_width, sizes.text_heads, mode, float_softmax=True)
    part += adapter.linear(positions, width, width) * 2 + adapter.linear(positions, width, kv_width) * 2
    return part + adapter.linear(positions, width, ffn) * 2 + adapter.linear(positions, ffn, width)


def qwen2_audio_cost(
    sizes: Qwen2AudioSizes,
    lora_r: int,
    *,
    encoder_frames: int,
    audio_tokens: int,
    text_tokens: int,
    scored_tokens: int,
    lora_dropout: float = 0.1,
    fused_attention: bool = True,
) -> CostModel:
    """The cost of one clip through LoRA-adapted Qwen2-Audio, with adapters on every linear.

    At the published sizes, for 250 audio and 70 text tokens: 20.8 TFLOP a clip with the encoder padded to 30 s,
    checkpointing and the head on all positions; 14.3 without checkpointing; 10.7 with the encoder on 10 s too.
    (Twice the forward pass gives 13.8 and 10.6: that leaves out half of the scores' backward pass and the adapters'
    weight gradients.) The head on scored positions alone spares another 0.8.

    Args:
        encoder_frames: log-mel frames the encoder runs on without the halo (3,000 where it is padded to 30 s).
        audio_tokens: positions of the language model that hold audio; fewer than the encoder gives means padding.
        text_tokens: all others, the answer included.
        scored_tokens: positions the head runs on; all of them for a head that is not restricted.
        fused_attention: False for ``eager``, which keeps whole attention matrices.
    """
    adapter = Adapter(lora_r, lora_dropout)
    positions, sequence = num_encoder_positions(encoder_frames), audio_tokens + text_tokens
    pooled, width = positions // 2, sizes.audio_width
    convolved = encoder_frames if encoder_frames >= MAX_FRAMES else encoder_frames + HALO_FRAMES
    mode = Mode(fused_attention, masked=audio_tokens < pooled)

    first_convolution = 2.0 * 3 * convolved * sizes.num_mel_bins * width
    second_convolution = 2.0 * 3 * num_encoder_positions(convolved) * width**2
    # The pooling keeps its input, the norm after it too; the language model's last norm and the head's input.
    between = adapter.linear(pooled, width, sizes.text_width) + Part(
        forward=first_convolution + second_convolution,
        kept=Kept(values=(positions + pooled) * width, floats=2 * pooled) + adapter.input(pooled * width),
    )
    head = adapter.linear(scored_tokens, sizes.text_width, sizes.vocab_size) + Part(
        kept=Kept(floats=sequence * (sizes.text_width + 1)) + adapter.input(scored_tokens * sizes.text_width)
    )
    outside = between + head
    first = _encoder_layer(sizes, adapter, positions, mode, first=True)
    encoder_layer = _encoder_layer(sizes, adapter, positions, mode, first=False)
    text_layer = _text_layer(sizes, adapter, sequence, Mode(fused_attention, masked=False))
    blocks = first + encoder_layer * (sizes.audio_layers - 1) + text_layer * sizes.text_layers
    block = max(encoder_layer.kept, text_layer.kept, key=lambda kept: kept.num_bytes(2))
    inputs = Kept(values=positions * width * sizes.audio_layers + sequence * sizes.text_width * sizes.text_layers)
    if mode.masked:
        inputs += Kept(floats=positions**2 / 4) if fused_attention else Kept(values=positions**2)
    # With checkpointing gradients reach the first convolution's output: both GELUs and the second convolution.
    inputs += Kept(values=(2 * convolved + num_encoder_positions(convolved)) * width)
    return CostModel(
        forward_flops=blocks.forward + outside.forward,
        backward_flops=blocks.backward + outside.backward,
        recompute_flops=blocks.forward + encoder_layer.backward - first.backward + second_convolution,
        activations=blocks.kept + outside.kept,
        checkpointed=inputs + outside.kept + block,
        block=block,
        head_logits=float(scored_tokens * sizes.vocab_size),
        tokens=sequence,
    )
