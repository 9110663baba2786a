"""Rounds of pseudo-labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from upath import UPath

from moodscale.experiment import Experiment
from moodscale.prepare.manifest import Manifest
from moodscale.storage import check_reachable, location
from moodscale.tracking.base import RunSpec
from moodscale.verbs.training import open_tracker, run_spec

if TYPE_CHECKING:
    from moodscale.label.rounds import LabelSummary

ANSWERS = "answers"


def label(experiment: Experiment) -> LabelSummary:
    """Teacher's labels for people without a questionnaire, and rounds of models that learn from them."""
    from moodscale.label.rounds import Labelling
    from moodscale.label.rounds import label as label_in_rounds

    check_reachable(experiment.run_dir)
    manifest_hash = Manifest.open(str(experiment.manifest_dir)).hash
    answers = experiment.label.answers or str(location(experiment.storage_path) / ANSWERS)

    def spec_of(name: str, directory: UPath, tags: Mapping[str, str]) -> RunSpec:
        spec = run_spec(experiment, manifest_hash)
        key = f"{name}.{hashlib.sha256(str(directory).encode()).hexdigest()[:8]}"
        return RunSpec(run_key=key, name=name, config=spec.config, tags={**spec.tags, **tags})

    work = Labelling(
        job=experiment.train_job(),
        config=experiment.label,
        answers=answers,
        open_tracker=lambda: open_tracker(experiment),
        spec_of=spec_of,
    )
    return label_in_rounds(work)
