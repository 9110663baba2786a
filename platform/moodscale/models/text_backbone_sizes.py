"""Sizes of the language models that read transcripts, and what is known of each kind by name.

Configurations and plans read this: transformers takes seconds to import, and settings do without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from moodscale.config import Config, ConfigError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ModelType = Literal["qwen3_5_text", "llama", "bert"]

BIDIRECTIONAL: frozenset[str] = frozenset({"bert"})
"""Kinds whose positions see what comes after them, and so would see padding on the right."""

TARGETS: dict[str, tuple[str, ...]] = {
    "qwen3_5_text": (
        r"layers\.\d+\.(self_attn\.(q|k|v|o)_proj|linear_attn\.(in_proj_(qkv|z|a|b)|out_proj)|mlp\.(gate|up|down)_proj)",
    ),
    "llama": (r"layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)",),
    "bert": (
        r"encoder\.layer\.\d+\.(attention\.(self\.(query|key|value)|output\.dense)|(intermediate|output)\.dense)",
    ),
}
"""Every linear of the layers, in one expression: which kinds of attention there are depends on the layers that are
used. In three of four layers of Qwen3.5 they are the projections of its gated delta rule (queries, keys and values;
the output's gate; decay and writing strength; the output)."""

_DROPOUTS = ("attention_dropout", "attention_probs_dropout_prob", "hidden_dropout_prob")


class TextBackboneSizes(Config):
    """A kind of language model and its sizes, as transformers' configuration of that kind names them."""

    model_type: ModelType
    sizes: dict[str, Any] = Field(default_factory=dict)
    """What differs from the defaults of the kind's configuration class. Needed in full for random weights and for a
    hub id (which is planned without being fetched); for a directory its own ``config.json`` says it."""

    def to_transformers(self) -> PretrainedConfig:
        """The transformers configuration.

        Raises:
            ConfigError: a size that this kind does not have, or a value that it refuses.
        """
        from transformers import AutoConfig

        known = AutoConfig.for_model(self.model_type)
        for name in self.sizes:
            if not hasattr(known, name):
                raise ConfigError(
                    f"recipe.backbone.sizes.{name}: {self.model_type} has no such size; check its spelling"
                )
        try:
            return AutoConfig.for_model(self.model_type, **self.sizes)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"recipe.backbone.sizes: refused by {self.model_type}: {error}") from None
        except Exception as error:  # huggingface_hub's strict dataclasses raise their own kind
            raise ConfigError(f"recipe.backbone.sizes: refused by {self.model_type}: {type(error).__name__}") from None


def without_dropout(config: PretrainedConfig) -> PretrainedConfig:
    """Switch the base model's own dropout off: its weights are frozen, and the adapters have a dropout of theirs."""
    for name in _DROPOUTS:
        if hasattr(config, name):
            setattr(config, name, 0.0)
    return config


def first_layers(config: PretrainedConfig, num_layers: int | None) -> PretrainedConfig:
    """The configuration of a model's first layers.

    Raises:
        ConfigError: more layers than there are.
    """
    if num_layers is None or num_layers == config.num_hidden_layers:
        return config
    if num_layers > config.num_hidden_layers:
        raise ConfigError(f"recipe.num_layers={num_layers}: the backbone has {config.num_hidden_layers} layers")
    config.num_hidden_layers = num_layers
    if getattr(config, "layer_types", None):
        config.layer_types = list(config.layer_types)[:num_layers]
    return config
