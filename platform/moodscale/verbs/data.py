"""Corpora and manifests: prepare, extract, inspect, forget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moodscale.experiment import Experiment
from moodscale.features.driver import ExtractSummary
from moodscale.features.driver import extract as extract_features
from moodscale.prepare.driver import prepare as prepare_manifest
from moodscale.prepare.manifest import Manifest
from moodscale.prepare.summary import ManifestSummary
from moodscale.storage import Place, check_reachable, display, location, write_bytes

if TYPE_CHECKING:
    from moodscale.forget.forget import Forgotten, Places
    from moodscale.inspect.overlap import Overlap
    from moodscale.inspect.report import DataReport

DATA_REPORT = "inspect.html"


def prepare(experiment: Experiment) -> ManifestSummary:
    """Interviews → manifest."""
    check_reachable(experiment.manifest_dir)
    return prepare_manifest(experiment.corpus, experiment.prepare, str(experiment.manifest_dir))


def extract(experiment: Experiment) -> ExtractSummary:
    """Manifest → features in their store."""
    check_reachable(experiment.features_dir)
    manifest = Manifest.open(str(experiment.manifest_dir))
    return extract_features(manifest, experiment.features, str(experiment.features_dir))


@dataclass(frozen=True)
class Inspected:
    """A data report and where its page lies."""

    report: DataReport
    page: Place

    def to_json(self) -> dict[str, Any]:
        return {**self.report.to_json(), "page": display(self.page)}


def inspect(
    manifests: Sequence[str],
    out: str | None = None,
    *,
    min_cell: int = 5,
    test_labels: bool = True,
    max_clips: int = 14,
) -> Inspected:
    """Manifests → a data report and its page, by default in the first manifest's folder."""
    from moodscale.inspect.page import render_page
    from moodscale.inspect.report import inspect as look_at

    opened = _open_manifests(manifests)
    page = location(out) if out else opened[0].path / DATA_REPORT
    check_reachable(page.parent)
    result = Inspected(look_at(opened, min_cell, test_labels, max_clips), page)
    write_bytes(page, render_page(result.report).encode())
    return result


def check_overlap(manifests: Sequence[str]) -> Overlap:
    """Who is in two places over all the manifests. No label is read."""
    from moodscale.inspect.overlap import find_overlap
    from moodscale.inspect.report import check_different

    opened = _open_manifests(manifests)
    check_different(opened)
    return find_overlap(opened)


def _open_manifests(manifests: Sequence[str]) -> list[Manifest]:
    for one in manifests:
        check_reachable(location(one))
    return [Manifest.open(one) for one in manifests]


def forget(person: str, places: Places, really: bool = False) -> Forgotten:
    """A person out of everything that is named, and the models that learned from them."""
    from moodscale.forget.forget import forget as forget_person

    return forget_person(person, places, really)
