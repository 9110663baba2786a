"""What an epoch of training would show under each way of sampling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from moodscale.inspect.gather import Gathered
from moodscale.schema import Split
from moodscale.train.config import SamplingConfig
from moodscale.train.sampling import ExampleIndex, plan_epoch

NATURAL = "natural"
"""Each clip once."""


@dataclass(frozen=True)
class SamplingPlan:
    """One epoch over the training clips of a manifest.

    Attributes:
        setting: as it is written in ``train.sampling``.
        num_clips: clips the epoch shows, ``num_different`` of them different ones.
        depressed_share: of the clips shown; ``None`` where a class has fewer people than may be counted.
        largest_share: of the clips shown, those of the person with most of them.
        top_tenth_share: those of the tenth of the people with most of them.
    """

    manifest: str
    name: str
    setting: str
    num_people: int
    num_clips: int
    num_different: int
    depressed_share: float | None
    largest_share: float
    top_tenth_share: float


def sampling_plans(data: Gathered, max_clips: int, min_cell: int) -> tuple[SamplingPlan, ...]:
    """The plan of a first epoch, for each manifest and setting; none where no clip is for training.

    Args:
        max_clips: the setting ``max_clips_per_speaker`` to show.
    """
    found = []
    for source in data.sources:
        clips = source.manifest.clips(Split.TRAIN).select(["person", "depressed"])
        if not clips.num_rows:
            continue
        index = ExampleIndex(np.asarray(clips["person"].to_pylist()), clips["depressed"].to_numpy().astype(np.int8))
        found += [_plan(source.name, index, name, sampling, min_cell) for name, sampling in _settings(max_clips)]
    return tuple(found)


def _settings(max_clips: int) -> Iterator[tuple[str, SamplingConfig]]:
    yield NATURAL, SamplingConfig()
    yield "class-balanced", SamplingConfig(class_balanced=True)
    yield "speaker-balanced", SamplingConfig(speaker_balanced=True)
    yield "class- and speaker-balanced", SamplingConfig(class_balanced=True, speaker_balanced=True)
    yield f"at most {max_clips} a person", SamplingConfig(max_clips_per_speaker=max_clips)


def _plan(manifest: str, clips: ExampleIndex, name: str, sampling: SamplingConfig, min_cell: int) -> SamplingPlan:
    rows = plan_epoch(clips, sampling, seed=0, epoch=0)
    people, shown = np.unique(clips.persons[rows], return_counts=True)
    shares = np.sort(shown)[::-1] / len(rows)
    classes = [len(set(clips.persons[clips.strata == value].tolist())) for value in (0, 1)]
    hidden = any(0 < number < min_cell for number in classes)
    changed = sampling.model_dump(exclude_defaults=True)
    return SamplingPlan(
        manifest,
        name,
        ", ".join(f"{key}: {str(value).lower()}" for key, value in changed.items()) or "defaults",
        num_people=len(people),
        num_clips=len(rows),
        num_different=len(np.unique(rows)),
        depressed_share=None if hidden else float(clips.strata[rows].mean()),
        largest_share=float(shares[0]),
        top_tenth_share=float(shares[: max(1, round(len(people) / 10))].sum()),
    )
