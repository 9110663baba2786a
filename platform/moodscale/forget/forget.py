"""Everything of one person, over manifests, runs, stores of features and a corpus: first found, then shown, then gone.

Manifests come last, since they say what is the person's: whatever is interrupted is found again and completed. Models
are never deleted: each that learned from the person is named, and marked where a registry holds it.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from moodscale.config import ConfigError
from moodscale.corpora.base import CorpusConfig
from moodscale.corpora.combined import CombinedConfig
from moodscale.forget.action import Action
from moodscale.forget.manifests import FoundIn, find_in_manifest, manifests_below, was_trained_on
from moodscale.forget.pages import find_pages
from moodscale.forget.raw.base import RawData
from moodscale.forget.runs import Run, find_in_files, runs_below
from moodscale.forget.stores import find_in_store
from moodscale.forget.who import Who
from moodscale.prepare.build import locked
from moodscale.storage import check_reachable, display, is_local, location
from moodscale.train.lock import alone

if TYPE_CHECKING:
    from moodscale.registry.lineage import LineageStore, Version

log = logging.getLogger(__name__)

STORE_DIR = "features"
"""Where features lie beside the experiments, unless a store is named."""
_WHAT_STAYS = (
    "What models learned, figures in reports and statistics over training people were made with the person and stay: "
    "train again on the new manifest, or withdraw the models named."
)


@dataclass(frozen=True)
class Places:
    """Where to look.

    Attributes:
        manifests: folders of manifests.
        runs: storage folders, or folders of single experiments; manifests in them are found.
        features: stores of features.
        corpus: raw data; ``None`` leaves them alone.
        tracking_uri: a registry beside the SQLite files in ``runs``.
    """

    manifests: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    corpus: CorpusConfig | None = None
    tracking_uri: str | None = None

    def check(self) -> None:
        """Before anything is looked at: every place must be there, or a mistyped one would look like a clean one.

        Raises:
            ConfigError: a place is not there, or none is named.
        """
        if not (self.manifests or self.runs):
            raise ConfigError("nowhere to look: name manifests (--manifests DIR) or storage folders (--runs DIR)")
        for option in ("manifests", "runs", "features"):
            for place in getattr(self, option):
                check_reachable(location(place))
                if not location(place).is_dir():
                    raise ConfigError(f"--{option} {display(place)}: no such folder; correct it, or leave it out")


@dataclass(frozen=True)
class Model:
    """A model with the person in its lineage: a run, a checkpoint of it, a tracked run or a registered version."""

    kind: str
    name: str
    manifest_hash: str
    split: str

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Forgotten:
    """What was found, and whether it is gone.

    Attributes:
        done: whether anything was to be removed by now; without it this is only what would go.
        found: whether the person is, or was, anywhere.
        looked_in: every place.
    """

    done: bool
    found: bool
    actions: tuple[Action, ...]
    models: tuple[Model, ...]
    looked_in: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "done": self.done,
            "found": self.found,
            "actions": [action.to_json() for action in self.actions],
            "models": [model.to_json() for model in self.models],
            "looked_in": list(self.looked_in),
            "notes": list(self.notes),
        }


def forget(person: str, places: Places, really: bool = False) -> Forgotten:
    """Find everything of a person and, where ``really``, remove it.

    Run again it completes what was interrupted, and says so where nothing is left to do.

    Raises:
        ConfigError: no such place; a manifest's pseudonym key is not at hand; a manifest or run is being written.
        CorpusError: a manifest that is none, or was altered.
    """
    places.check()
    who = Who.of(person)
    manifests = _manifests(places)
    with ExitStack() as held:
        if really:
            for manifest in manifests:
                held.enter_context(locked(manifest))
        found = [one for path in manifests if (one := find_in_manifest(path, who)) is not None]
        hashes = {hash_ for one in found for hash_ in one.hashes}
        runs = [run for place in places.runs for run in runs_below(location(place))]
        if really:
            for run in runs:
                if run.manifest_hash in hashes:
                    held.enter_context(alone(run.directory))
        actions = list(_actions(places, who, manifests, found, runs))
        learned = [one for one in found if _was_learned_from(one, runs)]
        stores = _stores(places, learned)
        registered = list(_registered(stores, learned))
        if really:
            for store, version, new_hash in registered:
                store.mark_forgotten(version, new_hash)
            for action in actions:
                action.do()
            log.info("forgotten: %d things removed, %d manifests rewritten", len(actions), _num_rewritten(found))
        models = (*_trained(learned, runs), *_tracked(stores, learned), *_versions(learned, registered))
    return Forgotten(
        done=really,
        found=bool(found or actions),
        actions=tuple(actions),
        models=models,
        looked_in=_looked_in(places, manifests),
        notes=_notes(places, models),
    )


def _actions(
    places: Places, who: Who, manifests: Sequence[UPath], found: Sequence[FoundIn], runs: Sequence[Run]
) -> Iterator[Action]:
    audio = {hash_ for one in found for hash_ in one.audio_hashes}
    hashes = sorted({hash_ for one in found for hash_ in one.hashes})
    for store in _feature_stores(places):
        yield from find_in_store(store, audio, hashes)
    folders = [folder for manifest in manifests for folder in (manifest, manifest.parent)]
    folders += [*(location(place) for place in places.runs), *(run.directory for run in runs)]
    pages = find_pages(folders, hashes)
    yield from pages
    ids = {id_ for one in found for id_ in one.interview_ids}
    seen = {str(page.place) for page in pages}
    for place in places.runs:
        yield from (action for action in find_in_files(location(place), who, ids) if str(action.place) not in seen)
    if places.corpus is not None:
        if who.is_pseudonym:
            raise ConfigError("--corpus: raw data bear people's own keys; give the person's key, not the pseudonym")
        for data in _raw_data(places.corpus.absolute(), who.person):
            yield from data.actions()
    for one in found:
        yield from one.actions


def _feature_stores(places: Places) -> list[UPath]:
    """Each once: those named, and those that lie beside runs."""
    stores = [location(store) for store in places.features]
    stores += [store for place in places.runs if (store := location(place) / STORE_DIR).is_dir()]
    return list({str(store): store for store in stores}.values())


def _manifests(places: Places) -> list[UPath]:
    """Each once, those in folders of runs too."""
    named = [location(place) for place in places.manifests]
    inside = [path for place in places.runs for path in manifests_below(location(place))]
    return list({str(path): path for path in [*named, *inside]}.values())


def _raw_data(corpus: CorpusConfig, person: str) -> Iterator[RawData]:
    if isinstance(corpus, CombinedConfig):
        for part in corpus.corpora:
            yield from _raw_data(part, person)
        return
    try:
        module = importlib.import_module(
            f"moodscale.forget.raw.{corpus.kind}" if "." not in corpus.kind else corpus.kind
        )
        find = module.raw_data
    except (ImportError, AttributeError):
        raise ConfigError(
            f"corpus.kind={corpus.kind}: does not say where a person's raw data lie (a function raw_data); remove them "
            "by hand, and leave --corpus out"
        ) from None
    yield find(corpus, person)


def _was_learned_from(one: FoundIn, runs: Sequence[Run]) -> bool:
    """Whether a model may have learned from the person, or was chosen by them: by their label or a pseudo-label."""
    took = {run.manifest_hash for run in runs if run.took_pseudo_labels}
    return was_trained_on(one) or (one.split is None and not took.isdisjoint(one.hashes))


def _split(one: FoundIn) -> str:
    return one.split or "pseudo-labelled"


def _trained(learned: Sequence[FoundIn], runs: Sequence[Run]) -> Iterator[Model]:
    for run in runs:
        for one in learned:
            if run.manifest_hash in one.hashes and (run.took_pseudo_labels or one.split is not None):
                yield Model("run", display(run.directory), run.manifest_hash, _split(one))
                for checkpoint in run.checkpoints:
                    yield Model("checkpoint", f"{run.name}/{checkpoint}", run.manifest_hash, _split(one))
                break


def _stores(places: Places, learned: Sequence[FoundIn]) -> list[LineageStore]:
    """The MLflows to ask; none is opened where nobody can have learned from the person."""
    uris = _tracking_uris(places) if learned else []
    if not uris:
        return []
    from moodscale.registry.lineage import LineageStore  # MLflow takes seconds to import

    return [LineageStore(uri) for uri in uris]


def _registered(
    stores: Sequence[LineageStore], learned: Sequence[FoundIn]
) -> Iterator[tuple[LineageStore, Version, str]]:
    """Versions that learned from the person, with the hash that their manifest has without."""
    new_hash = {hash_: one.new_hash for one in learned for hash_ in one.hashes}
    for store in stores:
        for version in store.versions_of(new_hash):
            yield store, version, new_hash[version.manifest_hash]


def _tracked(stores: Sequence[LineageStore], learned: Sequence[FoundIn]) -> Iterator[Model]:
    """Tracked runs, which hold an adapter each, wherever they ran."""
    split = {hash_: _split(one) for one in learned for hash_ in one.hashes}
    for store in stores:
        for run_id, hash_ in sorted(store.runs_of(sorted(split)).items()):
            yield Model("tracked run", run_id, hash_, split[hash_])


def _tracking_uris(places: Places) -> list[str]:
    uris = [uri for uri in (places.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"),) if uri]
    for place in places.runs:
        directory = location(place)
        if is_local(directory):
            databases = [Path(str(folder)) / "mlflow.db" for folder in (directory, directory.parent)]
            uris += [f"sqlite:///{database}" for database in databases if database.is_file()][:1]
    return list(dict.fromkeys(uris))


def _versions(learned: Sequence[FoundIn], registered: Sequence[tuple[LineageStore, Version, str]]) -> Iterator[Model]:
    split = {hash_: _split(one) for one in learned for hash_ in one.hashes}
    for _, version, _ in registered:
        yield Model("registered version", version.label, version.manifest_hash, split[version.manifest_hash])


def _looked_in(places: Places, manifests: Sequence[UPath]) -> tuple[str, ...]:
    named = [*(f"manifest {display(path)}" for path in manifests), *(f"runs {display(path)}" for path in places.runs)]
    named += [f"features {display(path)}" for path in _feature_stores(places)]
    if places.corpus is not None:
        named.append(f"corpus {places.corpus.kind}")
    return tuple(named)


def _num_rewritten(found: Sequence[FoundIn]) -> int:
    return sum(any(action.kind == "manifest" for action in one.actions) for one in found)


def _notes(places: Places, models: Sequence[Model]) -> tuple[str, ...]:
    notes = []
    if places.corpus is None:
        notes.append("Raw data were not looked at (no --corpus): preparing them again brings the person back.")
    if not _feature_stores(places):
        notes.append(
            "No store of features was looked at (--features): once a manifest is rewritten, theirs are not found."
        )
    return (*notes, _WHAT_STAYS) if models else tuple(notes)
