"""What an extractor is: a configuration that resolves to a key and groups of work, and an engine that does the work.

``resolve`` runs in the driver and imports no model library: a run that finds everything in the store builds no model.
``open`` runs once in every worker process.
"""

from __future__ import annotations

import abc
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from upath import UPath

from moodscale.config import Component, ConfigError
from moodscale.features.audio import decode_window
from moodscale.features.plan import Group, Window, Windowing, bucketed
from moodscale.features.sources import Sources
from moodscale.features.store import Part

Array = np.ndarray[Any, Any]
MapTasks = Callable[[Callable[[str], str], Sequence[str]], list[str]]
"""A function of text and the texts to give it → its results in their order; on a cluster, where there is one."""


@dataclass(frozen=True)
class Context:
    """What an extractor is resolved against.

    Attributes:
        sources: what is to be extracted from.
        training: the same of the training split alone, read when it is asked for.
        store: the store's folder, for what an extractor keeps beside its parts.
        manifest_hash: which manifest the sources are of.
        map_tasks: for work that has to be done before the key is known.
    """

    windowing: Windowing
    batch_windows: int
    sources: Sources
    training: Callable[[], Sources]
    store: UPath
    manifest_hash: str
    map_tasks: MapTasks


class Engine(Protocol):
    """An extractor at work in one process."""

    def fetch(self, group: Group) -> Any:
        """What ``compute`` needs of a group; runs in a thread, while another group is computed."""
        ...

    def compute(self, group: Group, fetched: Any) -> Iterator[tuple[str, Part]]:
        """The parts of a group by name, all of them, in any order.

        Raises:
            CorpusError: an input that cannot be read.
        """
        ...


class Extractor(Protocol):
    """A resolved extractor. Picklable and small."""

    def key(self) -> str:
        """Names everything that decides a value: equal keys mean equal features of equal audio."""
        ...

    def facts(self) -> dict[str, Any]:
        """What the key stands for, as JSON; with ``window_samples`` and ``context_samples``."""
        ...

    def groups(self, sources: Sources) -> list[Group]:
        """The units of work, in the order in which they are best started."""
        ...

    def missing(self, sources: Sources) -> Mapping[str, tuple[str, ...]]:
        """Interviews that it has nothing of, by kind of feature."""
        ...

    def open(self, roots: Mapping[str, UPath], device: str, num_threads: int) -> Engine:
        """Get ready in a worker that may compute on so many threads.

        Raises:
            ConfigError: the model is not here, or not the one that the key names.
        """
        ...


class ExtractorConfig(Component, abc.ABC):
    """Which features, and of what model."""

    @abc.abstractmethod
    def resolve(self, context: Context) -> Extractor:
        """The extractor with everything known that its key depends on.

        Raises:
            ConfigError, CorpusError: it cannot be used here.
        """


def key_of(facts: Mapping[str, Any]) -> str:
    """Hash of an extractor's facts, equal in every process and on every machine."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


class AudioModel(Protocol):
    """Waveforms → frames, in one process."""

    @property
    def hop_samples(self) -> int:
        """Samples at 16 kHz from one frame to the next."""
        ...

    @property
    def dim(self) -> int: ...

    def extract(self, waveforms: Sequence[Array]) -> list[Array]:
        """Float32 ``[num_samples]`` at 16 kHz each → ``[frames, dim]`` each; too short a waveform has no frames."""
        ...


class AudioExtractorConfig(ExtractorConfig):
    """An extractor that hears windows of recordings. A new one defines ``identity`` and ``load``."""

    @abc.abstractmethod
    def identity(self) -> dict[str, Any]:
        """What decides its values, as JSON, apart from the lengths of windows."""

    @abc.abstractmethod
    def load(self, device: str, identity: Mapping[str, Any]) -> AudioModel:
        """Build the model on a torch device.

        Raises:
            ConfigError: it is not what ``identity`` said in the driver.
        """

    def check_windows(self, windowing: Windowing) -> None:
        """Refuse lengths that the model cannot take.

        Raises:
            ConfigError: naming the setting.
        """

    def resolve(self, context: Context) -> AudioExtractor:
        self.check_windows(context.windowing)
        return AudioExtractor(self, self.identity(), context.windowing, context.batch_windows)


@dataclass(frozen=True)
class AudioExtractor:
    """Any audio model over windows of recordings."""

    config: AudioExtractorConfig
    identity: dict[str, Any]
    windowing: Windowing
    batch_windows: int

    def facts(self) -> dict[str, Any]:
        return {
            **self.identity,
            "window_samples": self.windowing.window_samples,
            "context_samples": self.windowing.context_samples,
        }

    def key(self) -> str:
        return key_of(self.facts())

    def groups(self, sources: Sources) -> list[Group]:
        return bucketed(sources.recordings, self.windowing, self.batch_windows)

    def missing(self, sources: Sources) -> Mapping[str, tuple[str, ...]]:
        return {"audio": sources.missing["audio"]} if "audio" in sources.missing else {}

    def open(self, roots: Mapping[str, UPath], device: str, num_threads: int) -> AudioEngine:
        import torch

        torch.set_num_threads(num_threads)
        model = self.config.load(device, self.identity)
        hop = model.hop_samples
        for name, samples in (
            ("window_s", self.windowing.window_samples),
            ("context_s", self.windowing.context_samples),
        ):
            if samples % hop:
                raise ConfigError(
                    f"features.{name}: {samples} samples are no whole number of this model's hops ({hop})"
                )
        return AudioEngine(model, roots, self.windowing)


class AudioEngine:
    """Decodes windows, runs the model, drops the halo."""

    def __init__(self, model: AudioModel, roots: Mapping[str, UPath], windowing: Windowing) -> None:
        self.model = model
        self.roots = roots
        self.windowing = windowing

    def fetch(self, group: Group) -> list[Array]:
        return [decode_window(self.roots, window) for window in group.windows]

    def compute(self, group: Group, fetched: list[Array]) -> Iterator[tuple[str, Part]]:
        for window, frames in zip(group.windows, self.model.extract(fetched), strict=True):
            yield window.name, self._core(window, frames)

    def _core(self, window: Window, frames: Array) -> Part:
        hop = self.model.hop_samples
        first = window.input_start // hop
        start = window.start // hop
        stop = start + self.windowing.window_samples // hop
        core = frames[start - first : stop - first]
        return Part.of(core.reshape(-1, self.model.dim), frame_hz=16_000 / hop, start_frame=start)
