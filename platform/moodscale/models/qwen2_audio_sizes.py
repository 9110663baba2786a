"""Qwen2-Audio's sizes and what follows from them by arithmetic.

Configurations and plans read this: transformers takes seconds to import, and they do without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from moodscale.config import Config
from moodscale.models.log_mel import MAX_FRAMES

if TYPE_CHECKING:
    from transformers import Qwen2AudioConfig


class Qwen2AudioSizes(Config):
    """The architecture's sizes; the defaults are Qwen2-Audio-7B's."""

    audio_layers: int = 32
    audio_width: int = 1280
    audio_heads: int = 20
    audio_ffn: int = 5120
    text_layers: int = 32
    text_width: int = 4096
    text_heads: int = 32
    text_kv_heads: int = 32
    text_ffn: int = 11008
    vocab_size: int = 156_032
    num_mel_bins: int = 128
    init_std: float = 0.02
    """Standard deviation of random weights. The published 0.02 suits a width of thousands; at a width of 64 it lets
    no signal through, and about 1/√width does."""

    def to_transformers(self, **token_ids: int) -> Qwen2AudioConfig:
        """The transformers configuration; ``token_ids`` overrides the published special tokens' ids."""
        from transformers import Qwen2AudioConfig

        return Qwen2AudioConfig(
            audio_config={
                "model_type": "qwen2_audio_encoder",
                "encoder_layers": self.audio_layers,
                "d_model": self.audio_width,
                "encoder_attention_heads": self.audio_heads,
                "encoder_ffn_dim": self.audio_ffn,
                "num_mel_bins": self.num_mel_bins,
                "initializer_range": self.init_std,
                "max_source_positions": MAX_FRAMES // 2,
            },
            text_config={
                "model_type": "qwen2",
                "vocab_size": self.vocab_size,
                "hidden_size": self.text_width,
                "intermediate_size": self.text_ffn,
                "num_hidden_layers": self.text_layers,
                "num_attention_heads": self.text_heads,
                "num_key_value_heads": self.text_kv_heads,
                "max_position_embeddings": 8192,
                "rms_norm_eps": 1e-5,
                "rope_theta": 10_000.0,
                "tie_word_embeddings": False,
                "initializer_range": self.init_std,
            },
            initializer_range=self.init_std,
            **token_ids,
        )


def num_encoder_positions(num_frames: int) -> int:
    """Positions after the two convolutions (the second has stride 2)."""
    return (num_frames - 1) // 2 + 1


def num_audio_tokens(num_frames: int) -> int:
    """Audio tokens of a clip: 250 for 10 s (convolution, then average pooling, stride 2 each)."""
    return (num_encoder_positions(num_frames) - 2) // 2 + 1
