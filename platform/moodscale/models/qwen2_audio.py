"""Qwen2-Audio as speech classifiers need it: an encoder that runs on the clip's length, a head on chosen positions.

Shape suffixes: B clips, M mel bins, F mel frames, T encoder positions (F / 2), A audio tokens (F / 4), S sequence,
D width.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
from torch import nn
from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from moodscale.models.log_mel import HALO_FRAMES, MAX_FRAMES
from moodscale.models.qwen2_audio_sizes import Qwen2AudioSizes, num_encoder_positions
from moodscale.models.source import ModelSource

logger = logging.getLogger(__name__)


class ClipLengthEncoder(Qwen2AudioEncoder):  # type: ignore[misc]
    """The published encoder without its demand for 30 s of padding.

    A clip of 10 s uses a third of the padded positions, and the rest is masked out of every attention: running only
    the batch's longest clip gives the same valid frames. Exact only with a halo: the first convolution reads one
    frame past the clip, which is normalised log-mel silence and not zero, so ``HALO_FRAMES`` real frames come along
    through the convolutions and the position they add is dropped before the first layer.
    """

    def forward(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutput:
        """Encode.

        Args:
            input_features: ``[B, M, F]`` log-mel; F = 3000 runs as published, fewer frames end with the halo.
            attention_mask: ``[B, 1, T, T]`` as transformers makes it, or None where no position is padding.
        """
        num_frames = input_features.shape[-1]
        if num_frames > MAX_FRAMES:
            raise ValueError(f"{num_frames} mel frames, but the encoder has positions for {MAX_FRAMES} (30 s)")
        hidden_BDT = self.convolve(input_features.to(self.conv1.weight.dtype))
        for layer in self.layers:
            hidden_BDT = layer(hidden_BDT, attention_mask, **kwargs)
        pooled = self.avg_pooler(hidden_BDT.permute(0, 2, 1)).permute(0, 2, 1)
        return BaseModelOutput(last_hidden_state=self.layer_norm(pooled))

    def convolve(self, input_features: torch.Tensor) -> torch.Tensor:
        """``[B, M, F]`` → ``[B, T, D]``, the halo's position dropped."""
        hidden = nn.functional.gelu(self.conv1(input_features))
        hidden = nn.functional.gelu(self.conv2(hidden)).permute(0, 2, 1)
        num_frames = input_features.shape[-1]
        if num_frames < MAX_FRAMES:
            hidden = hidden[:, : num_encoder_positions(num_frames - HALO_FRAMES)]
        # Called as a module, not read as a weight: ZeRO-3 gathers parameters in module hooks.
        hidden = hidden + self.embed_positions(torch.arange(hidden.shape[1], device=hidden.device))
        return nn.functional.dropout(hidden, p=self.dropout, training=self.training)


class ClipQwen2Audio(Qwen2AudioForConditionalGeneration):  # type: ignore[misc]
    """Qwen2-Audio with :class:`ClipLengthEncoder` and its parts callable one by one."""

    def __init__(self, config: Qwen2AudioConfig) -> None:
        super().__init__(config)
        self.model.audio_tower = ClipLengthEncoder(config.audio_config)

    def embed(self, input_ids: torch.Tensor, input_features: torch.Tensor, num_frames: torch.Tensor) -> torch.Tensor:
        """Token embeddings with the clips' audio in place of the audio tokens.

        Args:
            input_ids: ``[B, S]``; row b holds ``num_audio_tokens(num_frames[b])`` audio tokens.
            input_features: ``[B, M, F]``.
            num_frames: ``[B]`` valid mel frames.
        Returns:
            ``[B, S, D]``.
        """
        audio_BAD = self.encode(input_features, num_frames)
        num_tokens_B = (num_encoder_positions_of(num_frames) - 2) // 2 + 1
        valid_BA = torch.arange(audio_BAD.shape[1], device=audio_BAD.device)[None] < num_tokens_B[:, None]
        embeds_BSD = self.get_input_embeddings()(input_ids)
        is_audio_BS = input_ids == self.config.audio_token_id
        return cast(
            torch.Tensor,
            embeds_BSD.masked_scatter(is_audio_BS[..., None], audio_BAD[valid_BA].to(embeds_BSD.dtype)),
        )

    def encode(self, input_features: torch.Tensor, num_frames: torch.Tensor) -> torch.Tensor:
        """Audio tokens' embeddings ``[B, A, D]``; positions past a clip's own length are padding."""
        tower = self.model.audio_tower
        frames = input_features.shape[-1]
        positions = frames // 2 if frames == MAX_FRAMES else num_encoder_positions(frames - HALO_FRAMES)
        valid_B = num_encoder_positions_of(num_frames)
        mask = None
        if bool((valid_B < positions).any()):
            mask = create_bidirectional_mask(
                config=tower.config,
                inputs_embeds=torch.empty(
                    (len(valid_B), positions, 1), dtype=tower.conv1.weight.dtype, device=input_features.device
                ),
                attention_mask=(torch.arange(positions, device=valid_B.device)[None] < valid_B[:, None]).long(),
            )
        encoded = tower(input_features, attention_mask=mask).last_hidden_state
        return cast(torch.Tensor, self.model.multi_modal_projector(encoded))


def num_encoder_positions_of(num_frames: torch.Tensor) -> torch.Tensor:
    return (num_frames - 1) // 2 + 1


def load(
    source: ModelSource, sizes: Qwen2AudioSizes, dtype: torch.dtype, token_ids: dict[str, int], attention: str
) -> ClipQwen2Audio:
    """Weights from ``source``; random ones are drawn from ``source.init_seed`` alone, equal in every process."""
    if not source.is_random:
        return cast(
            ClipQwen2Audio,
            ClipQwen2Audio.from_pretrained(
                source.location,
                revision=source.revision,
                dtype=dtype,
                attn_implementation=attention,
                use_safetensors=True,  # weights in a pickle would run what it holds
            ),
        )
    config = sizes.to_transformers(**token_ids)
    config._attn_implementation = attention
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.init_seed)
        return cast(ClipQwen2Audio, ClipQwen2Audio(config).to(dtype))


def fuse_kernels(model: ClipQwen2Audio) -> None:
    """Replace the language model's rotary embedding, norms and MLP activations by Liger's Triton kernels.

    They compute the same in fewer passes over memory. Where there is no CUDA device or no Liger (a registered model may
    be loaded anywhere) the stock modules stay, with a warning.
    """
    if not torch.cuda.is_available():
        logger.warning("recipe.fused_kernels needs a CUDA device: the stock modules are used")
        return
    try:
        from liger_kernel.transformers import apply_liger_kernel_to_qwen2
    except ModuleNotFoundError:
        logger.warning("recipe.fused_kernels needs the extra: pip install 'moodscale[gpu]'; the stock modules are used")
        return
    # The recipe computes its own loss on scored positions; Liger's would replace the model's forward.
    apply_liger_kernel_to_qwen2(
        rope=True, rms_norm=True, swiglu=True, fused_linear_cross_entropy=False, model=model.model.language_model
    )


def load_meta(source: ModelSource, sizes: Qwen2AudioSizes) -> ClipQwen2Audio:
    """The architecture without weights, on the meta device: no memory, no download for sizes given in full."""
    if source.is_local and not source.is_random:
        config = Qwen2AudioConfig.from_pretrained(source.location)
    else:
        config = sizes.to_transformers()
    with torch.device("meta"):
        return ClipQwen2Audio(config)
