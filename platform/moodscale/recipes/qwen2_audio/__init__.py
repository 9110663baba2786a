"""Qwen2-Audio, LoRA-tuned to answer "Depressed" or "Not Depressed" to a 10 s clip of speech.

The published system fine-tunes Qwen2-Audio-7B-Instruct on DAIC-WOZ clips. These are its settings, which every verb
reads; ``build`` makes the recipe, and imports torch and transformers for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from moodscale.models.lora import LoraSettings
from moodscale.models.qwen2_audio_sizes import Qwen2AudioSizes
from moodscale.models.source import ModelSource
from moodscale.recipes.base import RecipeConfig

if TYPE_CHECKING:
    from moodscale.recipes.qwen2_audio.recipe import Qwen2AudioRecipe

TARGETS = (
    r"model\.audio_tower\.layers\.\d+\.self_attn\.(q|k|v|out)_proj",
    r"model\.audio_tower\.layers\.\d+\.fc[12]",
    r"model\.multi_modal_projector\.linear",
    r"model\.language_model\.layers\.\d+\.self_attn\.(q|k|v|o)_proj",
    r"model\.language_model\.layers\.\d+\.mlp\.(gate|up|down)_proj",
    r"lm_head",
)
"""Every linear of encoder, projector and language model **with** ``lm_head``: PEFT's ``all-linear`` leaves the head
out and gives 25,929,728 trainable parameters where the paper has 27,210,752."""


class Qwen2AudioRecipeConfig(RecipeConfig):
    """Settings of the recipe; the defaults are the paper's where it names a value."""

    kind: Literal["qwen2_audio"] = "qwen2_audio"
    model: ModelSource
    sizes: Qwen2AudioSizes = Qwen2AudioSizes()
    lora: LoraSettings = LoraSettings(targets=TARGETS)
    system_prompt: str = "You are a helpful assistant."
    question: str = 'Based on the audio, is the person depressed? Answer with either "Depressed" or "Not Depressed".'
    answers: tuple[str, str] = ("Not Depressed", "Depressed")
    clip_s: float = Field(10.0, gt=0, le=30)
    pad_to_30_s: bool = False
    """Run the encoder on 30 s of padding, as published, rather than on the clip."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    fused_kernels: bool = False
    """Liger's fused rotary embedding, RMS norm and SwiGLU in the language model: CUDA only, extra ``gpu``."""
    greedy_tokens: int = 8
    """Tokens of greedy text decoded beside the probability; 0 leaves it out."""

    def build(self) -> Qwen2AudioRecipe:
        from moodscale.recipes.qwen2_audio.recipe import Qwen2AudioRecipe

        return Qwen2AudioRecipe(self)
