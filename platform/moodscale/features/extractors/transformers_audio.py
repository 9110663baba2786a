"""Any audio encoder of transformers: HuBERT, WavLM, wav2vec 2.0 and their like, and Whisper's encoder.

On a CPU windows go through one by one: batching gains nothing there and would let a window's last bits depend on its
neighbours. On a GPU a group is one padded batch where the model masks padding exactly, and a batch for each length
where it does not: a group norm over time (the base models') sees the padding whatever the mask says.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from moodscale.config import ConfigError
from moodscale.features.extractors.base import Array, AudioExtractorConfig
from moodscale.features.plan import SAMPLE_RATE_HZ, Windowing
from moodscale.models.source import ModelSource

_VERSION = 1
"""Counts up where the arithmetic below changes a value."""
PIECE_FRAMES = 200
"""Frames that the convolutions make at a time on a CPU: what lies between them then stays in a core's cache."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WEIGHT_FILES = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json")
_WHISPER_INPUT_S = 30.0
_NAME = re.compile(r"[a-z0-9_-]+")


class TransformersAudioConfig(AudioExtractorConfig):
    """Hidden states of one layer, or a weighted mean over layers."""

    kind: Literal["transformers_audio"] = "transformers_audio"
    model: ModelSource
    layer: int | Literal["last"] | tuple[float, ...] = Field(
        default="last",
        description="hidden state by number (0 is what enters the first layer), 'last', or one weight a hidden state",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    architecture: str | None = Field(
        default=None, description="model_type of transformers, such as hubert; for source 'random' only"
    )
    sizes: dict[str, Any] = Field(default={}, description="settings of that architecture's config class")

    @model_validator(mode="after")
    def _source_is_exact(self) -> TransformersAudioConfig:
        if self.model.is_random:
            if self.architecture is None or not _NAME.fullmatch(self.architecture):
                raise ValueError(f"architecture={self.architecture!r}: source 'random' needs one, such as hubert")
        elif self.architecture is not None or self.sizes:
            raise ValueError("architecture and sizes are for source 'random'; other models bring their own")
        elif not self.model.is_local and not _COMMIT.fullmatch(self.model.revision or ""):
            raise ValueError(
                f"revision={self.model.revision!r} may move: features are stored for good, so name the commit "
                "(40 hexadecimal digits)"
            )
        if isinstance(self.layer, tuple) and (min(self.layer, default=-1.0) < 0 or sum(self.layer) <= 0):
            raise ValueError(f"layer={list(self.layer)}: weights must be at least 0, and not all 0")
        if isinstance(self.layer, int) and self.layer < 0:
            raise ValueError(f"layer={self.layer}: count from 0, or write 'last'")
        return self

    def identity(self) -> dict[str, Any]:
        layer = list(self.layer) if isinstance(self.layer, tuple) else self.layer
        shared = {"kind": "transformers_audio", "dtype": self.dtype, "layer": layer, "version": _VERSION}
        if self.model.is_random:
            # The libraries draw the weights, so their versions are part of what the weights are.
            drawn_by = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
            named = {"architecture": self.architecture, "sizes": self.sizes, "init_seed": self.model.init_seed}
            return {**shared, "model": "random", **named, "drawn_by": drawn_by}
        if self.model.is_local:
            return {**shared, "model": "local", "weights_sha256": hash_weights(Path(self.model.location))}
        return {**shared, "model": self.model.source, "revision": self.model.revision}

    def check_windows(self, windowing: Windowing) -> None:
        if self.architecture == "whisper":
            _check_whisper(windowing.window_samples + 2 * windowing.context_samples)

    def load(self, device: str, identity: Mapping[str, Any]) -> TransformersAudio:
        if self.model.is_local and hash_weights(Path(self.model.location)) != identity["weights_sha256"]:
            raise ConfigError(
                f"features.extractors: {self.model.source} holds other weights here than where the job was started; "
                "give every node the same files"
            )
        model, preprocess = _build(self)
        return TransformersAudio(model, preprocess, self.layer, device, self.dtype)


def hash_weights(directory: Path) -> str:
    """Hash of everything of a model's directory that decides its outputs.

    Raises:
        ConfigError: no model here, or one whose weights are not safetensors.
    """
    files = sorted({file for pattern in _WEIGHT_FILES for file in directory.glob(pattern)})
    if not any(file.suffix == ".safetensors" for file in files) or directory / "config.json" not in files:
        raise ConfigError(
            f"{directory}: no config.json with *.safetensors in it; other formats of weights are refused, convert them"
        )
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}:{file.stat().st_size}\n".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()


def _check_whisper(num_samples: int) -> None:
    if num_samples > _WHISPER_INPUT_S * SAMPLE_RATE_HZ:
        raise ConfigError(
            f"features.window_s + 2 × features.context_s = {num_samples / SAMPLE_RATE_HZ:g} s: Whisper hears "
            f"{_WHISPER_INPUT_S:g} s at most; lower window_s"
        )


def _build(config: TransformersAudioConfig) -> tuple[Any, Any]:
    """The model and its own feature extractor."""
    import torch
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, WhisperFeatureExtractor
    from transformers import Wav2Vec2FeatureExtractor as WaveformExtractor

    if not config.model.is_random:
        where = {"revision": config.model.revision} if not config.model.is_local else {}
        try:
            preprocess = AutoFeatureExtractor.from_pretrained(config.model.location, **where)
            model = AutoModel.from_pretrained(
                config.model.location,
                use_safetensors=True,  # weights in a pickle would run what it holds
                dtype=torch.float32,
                **where,
            )
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"features.extractors: {config.model.source} cannot be loaded: {str(error).splitlines()[0]}"
            ) from None
        return model, preprocess
    try:
        sizes = AutoConfig.for_model(str(config.architecture), **config.sizes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.model.init_seed)
            model = AutoModel.from_config(sizes)
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"features.extractors: no {config.architecture} of these sizes can be built: {str(error).splitlines()[0]}"
        ) from None
    if config.architecture == "whisper":
        return model, WhisperFeatureExtractor(feature_size=sizes.num_mel_bins)
    return model, WaveformExtractor(do_normalize=True, return_attention_mask=True)


class TransformersAudio:
    """A model of transformers over waveforms.

    Args:
        preprocess: the model's own feature extractor: it decides about normalising.
        batch: whether waveforms are computed together; by default, where the device is no CPU.
    Raises:
        ConfigError: a model that does not hear waveforms, another sample rate, or a layer that it does not have.
    """

    def __init__(
        self,
        model: Any,
        preprocess: Any,
        layer: int | Literal["last"] | tuple[float, ...] = "last",
        device: str = "cpu",
        dtype: str = "float32",
        batch: bool | None = None,
    ) -> None:
        import torch

        settings = model.config
        if preprocess.sampling_rate != SAMPLE_RATE_HZ:
            raise ConfigError(f"features.extractors: the model hears {preprocess.sampling_rate} Hz, windows have 16000")
        self.is_whisper = settings.model_type == "whisper"
        if self.is_whisper:
            model = model.get_encoder()
            self._shrinking = [(2 * preprocess.hop_length, 2 * preprocess.hop_length)]
            num_layers, self.dim = settings.encoder_layers, settings.d_model
        elif hasattr(settings, "conv_stride") and hasattr(model, "feature_extractor"):
            self._shrinking = list(zip(settings.conv_kernel, settings.conv_stride, strict=True))
            num_layers, self.dim = settings.num_hidden_layers, settings.hidden_size
        else:
            raise ConfigError(f"features.extractors: {settings.model_type} does not take waveforms; HuBERT, WavLM, "
                              "wav2vec2 and their like do, and Whisper")  # fmt: skip
        self.weights = _weights(layer, num_layers)
        self.hop_samples = int(np.prod([stride for _, stride in self._shrinking]))
        # Only a layer norm, over channels, gives a padded waveform's frames the values of the bare one's.
        self.pads = self.is_whisper or getattr(settings, "feat_extract_norm", None) == "layer"
        self.batch = not device.startswith("cpu") if batch is None else batch
        self.device = device
        if device.startswith("cpu") and self.pads and not self.is_whisper:
            self._convolve_in_pieces(model.feature_extractor)
        self._preprocess = preprocess
        self._model = model.to(device=device, dtype=getattr(torch, dtype)).eval()
        torch.backends.cudnn.benchmark = False  # it would choose by the clock, and the choice decides the bits
        torch.backends.cudnn.deterministic = True

    def _convolve_in_pieces(self, convolutions: Any) -> None:
        """Under a layer norm a frame depends on its own samples alone, so the pieces give the whole's frames."""
        import torch

        whole = convolutions.forward
        hop, heard = self.hop_samples, self._samples_of_a_frame()

        def in_pieces(values: Any) -> Any:
            num_frames = self.num_frames(values.shape[1])
            edges = [*range(0, num_frames, PIECE_FRAMES), num_frames]
            return torch.cat(
                [whole(values[:, first * hop : (last - 1) * hop + heard]) for first, last in pairwise(edges)], dim=2
            )

        convolutions.forward = in_pieces

    def _samples_of_a_frame(self) -> int:
        samples = 1
        for kernel, stride in reversed(self._shrinking):
            samples = (samples - 1) * stride + kernel
        return samples

    def num_frames(self, num_samples: int) -> int:
        if self.is_whisper:
            return -(-num_samples // self.hop_samples)
        for kernel, stride in self._shrinking:
            num_samples = (num_samples - kernel) // stride + 1
        return max(num_samples, 0)

    def extract(self, waveforms: Sequence[Array]) -> list[Array]:
        import torch

        results: list[Array] = [np.zeros((0, self.dim), np.float32) for _ in waveforms]
        with torch.inference_mode():
            for batch in self._batches(waveforms):
                for index, frames in zip(batch, self._forward([waveforms[one] for one in batch]), strict=True):
                    results[index] = frames
        return results

    def _batches(self, waveforms: Sequence[Array]) -> Iterator[list[int]]:
        heard = [index for index, one in enumerate(waveforms) if self.num_frames(len(one)) > 0]
        if not self.batch:
            yield from ([index] for index in heard)
        elif self.pads:
            yield from ([heard] if heard else [])
        else:
            by_length = sorted(heard, key=lambda index: len(waveforms[index]))
            yield from (list(group) for _, group in groupby(by_length, key=lambda index: len(waveforms[index])))

    def _forward(self, waveforms: list[Array]) -> Iterator[Array]:
        inputs, lengths = self._inputs(waveforms), [self.num_frames(len(one)) for one in waveforms]
        if self.weights is None:
            states = self._model(**inputs).last_hidden_state
        else:
            hidden = self._model(**inputs, output_hidden_states=True).hidden_states
            states = sum(weight * hidden[index].float() for index, weight in self.weights.items())
        for row, length in zip(states, lengths, strict=True):
            yield row[:length].float().cpu().numpy()

    def _inputs(self, waveforms: list[Array]) -> dict[str, Any]:
        import torch

        settings = {"sampling_rate": SAMPLE_RATE_HZ, "return_tensors": "np"}
        dtype, device = self._model.dtype, self.device
        if self.is_whisper:
            features = self._preprocess(waveforms, **settings).input_features
            return {"input_features": torch.from_numpy(features).to(device, dtype)}
        # Each by itself: what normalises a waveform must not see its neighbours' padding.
        heard = [np.asarray(self._preprocess(one, **settings).input_values[0], np.float32) for one in waveforms]
        longest = max(len(one) for one in heard)
        values = torch.zeros(len(heard), longest)
        for row, one in zip(values, heard, strict=True):
            row[: len(one)] = torch.from_numpy(one)
        inputs = {"input_values": values.to(device, dtype)}
        if any(len(one) < longest for one in heard):
            mask = torch.arange(longest)[None] < torch.tensor([len(one) for one in heard])[:, None]
            inputs["attention_mask"] = mask.long().to(device)
        return inputs


def _weights(layer: int | Literal["last"] | tuple[float, ...], num_layers: int) -> dict[int, float] | None:
    """Weight of each hidden state that counts; ``None`` for the model's output."""
    if layer == "last":
        return None
    if isinstance(layer, tuple):
        if len(layer) != num_layers + 1:
            raise ConfigError(
                f"features.extractors.layer: {len(layer)} weights, but the model has {num_layers + 1} hidden states "
                f"(what enters the first of {num_layers} layers, and what leaves each)"
            )
        return {index: weight / sum(layer) for index, weight in enumerate(layer) if weight}
    if not 0 <= int(layer) <= num_layers:
        raise ConfigError(f"features.extractors.layer={layer}: the model has hidden states 0 to {num_layers}")
    return {int(layer): 1.0}
