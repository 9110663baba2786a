"""Language models as readers of transcripts: hidden states of chosen layers, no vocabulary head.

Shape suffixes: W windows, T positions, D width.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.utils import logging as transformers_logging

from moodscale.config import ConfigError
from moodscale.models.source import ModelSource
from moodscale.models.text_backbone_sizes import BIDIRECTIONAL, TextBackboneSizes, first_layers, without_dropout


def backbone_config(
    source: ModelSource, backbone: TextBackboneSizes, num_layers: int | None = None, fetch: bool = False
) -> PretrainedConfig:
    """The configuration that a model of ``source`` has.

    Args:
        num_layers: of the first layers alone.
        fetch: ask the hub, where the source is there; without, ``backbone`` says what it has.
    Raises:
        ConfigError: a source whose sizes are not those of ``backbone``.
    """
    if source.is_random or not (source.is_local or fetch):
        config = backbone.to_transformers()
    else:
        config = CONFIG_MAPPING[backbone.model_type].from_pretrained(source.location, revision=source.revision)
        for name, expected in backbone.sizes.items():
            found = getattr(config, name, None)
            if name != "rope_parameters" and found != expected:
                raise ConfigError(f"recipe.backbone.sizes.{name}={expected!r}, but {source.source} has {found!r}")
    return first_layers(without_dropout(config), num_layers)


def load_backbone(
    source: ModelSource,
    backbone: TextBackboneSizes,
    dtype: torch.dtype,
    attention: str = "sdpa",
    num_layers: int | None = None,
) -> PreTrainedModel:
    """The text model of ``source``; random weights are drawn from ``source.init_seed`` alone, equal in every process.

    Of a model that also sees images the text model alone is read. Weights come from safetensors: a pickle would run
    what it holds.
    """
    config = backbone_config(source, backbone, num_layers, fetch=True)
    model_class = MODEL_MAPPING[type(config)]
    if source.is_random:
        config._attn_implementation = attention
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(source.init_seed)
            return _headless(model_class(config).to(dtype))
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()  # a line a worker for nothing, wherever its output goes
    if num_layers is not None:
        transformers_logging.set_verbosity_error()  # it would list the weights of every layer that was left out
    try:
        model = model_class.from_pretrained(
            source.location,
            config=config,
            revision=source.revision,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
        )
    finally:
        transformers_logging.set_verbosity(verbosity)
    return _headless(model)


def load_meta(source: ModelSource, backbone: TextBackboneSizes, num_layers: int | None = None) -> PreTrainedModel:
    """The same on the meta device: shapes without memory, and nothing fetched."""
    config = backbone_config(source, backbone, num_layers)
    with torch.device("meta"):
        return _headless(MODEL_MAPPING[type(config)](config))


def _headless(model: Any) -> PreTrainedModel:
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # BERT's: read by nothing here
    return cast(PreTrainedModel, model)


def hidden_states(model: nn.Module, model_type: str, input_ids: torch.Tensor, mask_WT: torch.Tensor) -> torch.Tensor:
    """Last hidden states ``[W, T, D]`` of windows that are padded on the right.

    Under a causal model no valid position sees padding on its right: no mask is passed, and the fast kernels apply.
    A bidirectional one gets the mask, always: whether it is needed depends on the batch, which ranks do not share.
    """
    given: dict[str, Any] = {"attention_mask": mask_WT} if model_type in BIDIRECTIONAL else {"use_cache": False}
    return cast(torch.Tensor, model(input_ids=input_ids, **given).last_hidden_state)


PAD, START = "<|pad|>", "<|start|>"


def load_tokenizer(source: ModelSource) -> Any:
    """The tokenizer that belongs to ``source``; for random weights one of bytes, equal in every process."""
    if source.is_random:
        return byte_tokenizer()
    return AutoTokenizer.from_pretrained(source.location, revision=source.revision)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Every byte of UTF-8 a token, a start token before each text where special tokens are asked for."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([PAD, START, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A", special_tokens=[(START, 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, bos_token=START)


def special_ids(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after one text: ``[CLS]`` and ``[SEP]``, or a begin of text, or nothing."""
    plain, whole = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    start = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
    return list(whole[:start]), list(whole[start + len(plain) :])


def pad_id(tokenizer: Any) -> int:
    """LLaMA 3 has no padding token; what stands there is masked, so its end of text will do."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if candidate is not None:
            return int(candidate)
    return 0
