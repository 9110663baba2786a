"""Recordings → windows → groups: what is computed together, decided by the manifest and the settings alone.

A window's core is its own stretch of the recording; what the model hears begins and ends ``context`` further out, and
the frames over that halo are dropped. Cores begin on a grid that every hop divides, so that frame *i* of a recording
is the same frame in whichever window it was computed.

A group is computed whole or not at all: which windows share a padded batch decides a GPU's last bits, and a run that
was killed and resumed must give the bits of one that was not.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from moodscale.config import ConfigError
from moodscale.schema import CorpusError, FeatureFile

SAMPLE_RATE_HZ = 16_000
GRID_SAMPLES = 640
"""40 ms: whole hops of every model here, and whole samples at every usual sample rate."""
BUCKET_RATIO = 1.25
"""Windows of one group differ in length by less than this, so that padding is a fifth of a batch at most."""

_HASH = re.compile(r"[0-9a-f]{16,128}")


@dataclass(frozen=True)
class Recording:
    """A recording of the manifest; paths as of ``schema.AudioFile``."""

    audio_hash: str
    root: str
    path: str
    sample_rate_hz: int
    num_samples: int

    def __post_init__(self) -> None:
        if not _HASH.fullmatch(self.audio_hash):
            raise CorpusError(f"audio_hash={self.audio_hash!r} is no hash: the table is not from this manifest")

    @property
    def num_samples_16k(self) -> int:
        return self.num_samples * SAMPLE_RATE_HZ // self.sample_rate_hz


@dataclass(frozen=True)
class Window:
    """A stretch of a recording, in samples at 16 kHz: ``start`` to ``stop`` is its own, the input what is heard."""

    recording: Recording
    index: int
    start: int
    stop: int
    input_start: int
    input_stop: int

    @property
    def name(self) -> str:
        """Of its part in the store."""
        return part_name(self.recording.audio_hash, self.index)

    @property
    def num_input_samples(self) -> int:
        return self.input_stop - self.input_start


def part_name(audio_hash: str, index: int) -> str:
    return f"{audio_hash[:2]}/{audio_hash}/{index:05d}.arrow"


@dataclass(frozen=True)
class Windowing:
    """Lengths in samples at 16 kHz, both on the grid."""

    window_samples: int
    context_samples: int

    @classmethod
    def of(cls, window_s: float, context_s: float) -> Windowing:
        """From seconds.

        Raises:
            ConfigError: a length that does not lie on the grid.
        """
        lengths = []
        for name, seconds in (("window_s", window_s), ("context_s", context_s)):
            samples = round(seconds * SAMPLE_RATE_HZ)
            if samples % GRID_SAMPLES or samples <= 0:
                raise ConfigError(
                    f"features.{name}={seconds:g} is not a multiple of {GRID_SAMPLES / SAMPLE_RATE_HZ:g} s; "
                    "frames of neighbouring windows would not meet"
                )
            lengths.append(samples)
        return cls(*lengths)

    def windows(self, recording: Recording) -> list[Window]:
        total = recording.num_samples_16k
        return [
            Window(
                recording,
                index,
                start,
                min(start + self.window_samples, total),
                max(start - self.context_samples, 0),
                min(start + self.window_samples + self.context_samples, total),
            )
            for index, start in enumerate(range(0, total, self.window_samples))
        ]


@dataclass(frozen=True)
class Group:
    """The unit of work: some windows, or all windows of one file of columns.

    Attributes:
        file: the file that the values come from; ``None`` where it is the recordings themselves.
        stamp: tells another version of ``file``; empty for recordings, which their hash tells.
        wanted: names of the parts that are to be written; the others are there already.
    """

    windows: tuple[Window, ...]
    file: FeatureFile | None = None
    stamp: str = ""
    wanted: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(window.name for window in self.windows)

    @property
    def num_samples(self) -> int:
        return sum(window.num_input_samples for window in self.windows)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Group:
        values = json.loads(text)
        windows = tuple(Window(**{**one, "recording": Recording(**one["recording"])}) for one in values["windows"])
        file = None if values["file"] is None else FeatureFile(**values["file"])
        return cls(windows, file, values["stamp"], tuple(values["wanted"]))


def bucketed(recordings: Iterable[Recording], windowing: Windowing, batch_windows: int) -> list[Group]:
    """Groups of at most ``batch_windows`` windows of about one length, the longest first.

    Buckets have fixed edges and a recording's windows stay together in them: further recordings change few groups.
    """
    buckets: dict[int, list[Window]] = {}
    for recording in sorted(recordings, key=lambda one: one.audio_hash):
        for window in windowing.windows(recording):
            buckets.setdefault(_bucket(window.num_input_samples), []).append(window)
    return [
        Group(tuple(chunk))
        for _, windows in sorted(buckets.items(), reverse=True)
        for chunk in _chunks(windows, batch_windows)
    ]


def _bucket(num_samples: int) -> int:
    return math.floor(math.log(num_samples, BUCKET_RATIO) + 1e-9)


def _chunks(windows: Sequence[Window], size: int) -> Iterable[Sequence[Window]]:
    return (windows[at : at + size] for at in range(0, len(windows), size))
