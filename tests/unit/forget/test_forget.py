from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from moodscale.config import ConfigError, validate
from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.features.plan import part_name
from moodscale.features.record import Record
from moodscale.features.store import FeatureStore, Part
from moodscale.forget.forget import Forgotten, Places, forget
from moodscale.forget.manifests import FORGOTTEN_FILE, UNDER_WAY_FILE
from moodscale.forget.who import Who, mention
from moodscale.prepare.audio import read_clip
from moodscale.prepare.build import build_manifest, locked
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from moodscale.prepare.pseudonyms import KEY_FILE_VARIABLE, KEY_VARIABLE, pseudonyms_from_environment
from moodscale.schema import CorpusError, Split
from moodscale.storage import location
from moodscale.train.lock import alone
from moodscale.verbs.data import inspect
from tiny_daic import Session, people, write_corpus

KEY = bytes(range(32)).hex()
PERSON, OTHER = "daic:7614183", "daic:7604183"
STORE_KEY = "log_mel-0123456789abcdef"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (KEY_VARIABLE, KEY_FILE_VARIABLE, "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)


class World:
    """A corpus, a manifest, a run on it with predictions and reports, and a store of features."""

    def __init__(self, root: Path, pseudonymise: bool = False, archives: bool = False) -> None:
        self.root = root
        sessions = people(8, duration_s=20.0)
        for index, session in enumerate(sessions):
            session.id = f"76{index}4183"
            # Each their own recording: equal ones would be shared.
            session.audio = np.random.default_rng(index).uniform(-0.4, 0.4, (320_000, 1)).astype(np.float32)
        sessions[1].rows = [(0.5, 9.0, "Participant", "xxx well"), (10.0, 19.0, "Ellie", "so")]
        sessions.append(Session("7884183", folder=False))
        self.corpus = DaicWozConfig(path=str(write_corpus(root / "corpus", sessions, archives=archives)))
        self.manifest = root / "runs" / "tiny" / "manifest"
        settings = {"clip_s": 2, "transcripts": "as_is", "pseudonymise": pseudonymise}
        self.hash = build_manifest(self.corpus, validate(PrepareConfig, settings), self.manifest).hash
        self.opened = Manifest.open(self.manifest)
        self.rows = [row for split in Split for row in self.opened.interviews(split).to_pylist()]
        self._write_run(root / "runs" / "tiny", self.hash)
        self._write_run(root / "runs" / "elsewhere", "0" * 32)
        self._write_store()

    @property
    def places(self) -> Places:
        return Places(
            manifests=(str(self.manifest),),
            runs=(str(self.root / "runs"),),
            features=(str(self.root / "store"),),
            corpus=self.corpus,
        )

    def audio_hash(self, person: str) -> str:
        return str(next(row for row in self.rows if row["person"] == person)["recordings"][0]["audio_hash"])

    def _write_run(self, run: Path, manifest_hash: str) -> None:
        (run / "checkpoints" / "step-00000003").mkdir(parents=True)
        (run / "train.json").write_text(json.dumps({"job": {}, "manifest": manifest_hash}))
        predictions = pa.table(
            {
                "person": [row["person"] for row in self.rows],
                "unit_id": [f"{row['corpus']}:{row['interview_id']}" for row in self.rows],
                "score": [0.5] * len(self.rows),
            }
        ).replace_schema_metadata({"moodscale": "made from"})
        pq.write_table(predictions, run / "predictions.parquet")
        (run / "report.html").write_text("<p>auc 0.5</p>")
        named = "\n".join(f"{row['person']},0.5" for row in self.rows)
        (run / "worst.csv").write_text(f"person,score\n{named}\n")
        (run / "worst.html").write_text(f"<p>{named}</p>")
        cache = self.manifest / "features" / "abcd"
        for split in Split:
            for clip in self.opened.clips(split).to_pylist():
                from moodscale.recipes.clips import ClipLoader

                path = ClipLoader({}, lambda waveform: waveform, str(cache))._cached_path(clip)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"cached")

    def _write_store(self) -> None:
        store = FeatureStore(self.root / "store", STORE_KEY)
        store.describe({"window_samples": 16_000})
        parts = {}
        for row in self.rows:
            for index in range(2):
                name = part_name(row["recordings"][0]["audio_hash"], index)
                parts[name] = store.write(name, Part.of(np.ones((4, 2)), 100.0, 0), {})
        Record(self.hash, tuple(str(split) for split in Split), parts, {"video": ("daic_woz:7614183",)}).write(store)
        every = tuple(str(split) for split in Split)
        Record("e" * 32, every, parts, {}).write(store)
        others = {name: facts for name, facts in parts.items() if self.audio_hash(self.rows[1]["person"]) not in name}
        Record("f" * 32, every, others, {}).write(store)

    def write_pages(self) -> list[Path]:
        """Data reports: in the manifest, beside it, and under a name of somebody's own in the storage folder."""
        places = [None, self.manifest.parent / "beside.html", self.root / "runs" / "our data.html"]
        return [
            Path(str(inspect([str(self.manifest)], None if place is None else str(place), min_cell=1).page))
            for place in places
        ]

    def folders(self) -> dict[str, bytes]:
        """Every file's name and content, Parquet decoded."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            if path.is_file():
                found[str(path)] = path.read_bytes()
                if path.suffix == ".parquet":
                    found[str(path)] += json.dumps(pq.read_table(path).to_pylist()).encode()
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_nothing_of_the_person_is_left_anywhere_and_everybody_else_is(world: World) -> None:
    pages = world.write_pages()
    assert all(b"7614183" in page.read_bytes() for page in pages)
    (world.root / "runs" / "tiny" / "clips.log").write_text(
        "slow: daic_woz:7614183:3\nslow: daic_woz:76141833:3\nslow: daic_woz:7604183:3\n"
    )
    before = world.folders()
    result = forget(PERSON, world.places, really=True)
    after = world.folders()
    assert not [page for page in pages if page.exists()]
    assert (world.root / "runs" / "tiny" / "clips.log").read_text().splitlines() == [
        "slow: daic_woz:76141833:3",
        "slow: daic_woz:7604183:3",
    ]
    assert [name for name, content in after.items() if PERSON.encode() in content or "7614183" in name] == []
    assert [name for name, content in after.items() if re.search(rb"7614183(?!3:)", content)] == []
    assert sum(OTHER.encode() in content for content in after.values()) == sum(
        OTHER.encode() in content
        for name, content in before.items()
        if not name.endswith("worst.html") and Path(name) not in pages
    )
    gone = {action.kind: action.number for action in result.actions}
    assert {
        "data report",
        "features",
        "records",
        "predictions",
        "reports",
        "raw files",
        "raw rows",
        "manifest",
    } <= gone.keys()
    assert gone["features"] == 2
    assert gone["records"] == 2
    store = world.root / "store" / STORE_KEY
    hash_ = world.audio_hash(PERSON)
    assert not (store / hash_[:2] / hash_).exists()
    assert [file.name for file in (store / "manifests").iterdir()] == ["f" * 32 + ".json"]
    predictions = pq.read_table(world.root / "runs" / "tiny" / "predictions.parquet")
    assert (predictions.num_rows, predictions.schema.metadata) == (7, {b"moodscale": b"made from"})
    label_table = world.root / "corpus" / "train_split_Depression_AVEC2017.csv"
    lines = before[str(label_table)].splitlines(keepends=True)
    assert after[str(label_table)] == b"".join(line for line in lines if b"7614183" not in line)


def test_the_manifest_is_a_manifest_again_with_a_hash_of_its_own(world: World) -> None:
    forget(PERSON, world.places, really=True)
    manifest = Manifest.open(world.manifest)
    assert manifest.hash != world.hash
    assert PERSON not in manifest.people("train")
    clips = manifest.clips("train").to_pylist()
    assert {clip["person"] for clip in clips} == set(world.opened.people("train")) - {PERSON}
    assert read_clip(manifest.roots, clips[0]).shape == (32_000,)
    assert manifest.facts["summary"]["num_people"] == 7
    assert manifest.facts["summary"]["hash"] == manifest.hash
    assert not [line for line in manifest.ledger().to_pylist() if line["interview_id"] == "7614183"]
    assert [line for line in manifest.ledger().to_pylist() if line["interview_id"] == "7884183"]
    (line,) = [json.loads(text) for text in (world.manifest / FORGOTTEN_FILE).read_text().splitlines()]
    assert (line["old_hash"], line["new_hash"], line["split"]) == (world.hash, manifest.hash, "train")
    assert line["at"].startswith("20")
    assert len(list((world.manifest / "features").rglob("*.npy"))) == sum(
        manifest.clips(split).num_rows for split in Split
    )


def test_without_yes_it_is_only_shown(world: World) -> None:
    before = world.folders()
    shown = forget(PERSON, world.places)
    assert (shown.done, shown.found) == (False, True)
    assert world.folders() == before
    done = forget(PERSON, world.places, really=True)
    assert [action.to_json() for action in done.actions] == [action.to_json() for action in shown.actions]


def test_models_of_every_manifest_that_had_the_person_are_named(world: World) -> None:
    first = forget(OTHER, world.places, really=True)
    second = forget(PERSON, world.places, really=True)
    for result in (first, second):
        assert [(model.kind, model.manifest_hash, model.split) for model in result.models] == [
            ("run", world.hash, "train"),
            ("checkpoint", world.hash, "train"),
        ]
    assert any("stay" in note for note in second.notes)
    test_person = world.opened.people("test")[0]
    assert forget(test_person, world.places).models == ()


def test_run_again_it_changes_nothing_and_names_the_models_still(world: World) -> None:
    first = forget(PERSON, world.places, really=True)
    before = world.folders()
    second = forget(PERSON, world.places, really=True)
    assert (second.found, second.actions, second.models) == (True, (), first.models)
    assert world.folders() == before


def test_who_is_nowhere_is_said_to_be_nowhere(world: World) -> None:
    result = forget("daic:761418", world.places, really=True)
    assert (result.found, result.actions) == (False, ())
    assert any("manifest" in place for place in result.looked_in)
    assert Manifest.open(world.manifest).hash == world.hash


class Killed(BaseException):
    """As SIGKILL would: no handler of an ordinary error runs."""


def test_killed_anywhere_and_run_again_it_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from moodscale.forget import manifests, runs
    from moodscale.forget.raw import base

    whole = World(tmp_path / "whole")
    forget(PERSON, whole.places, really=True)
    expected = _comparable(whole)
    template = World(tmp_path / "template")
    template.write_pages()
    num_killed = 0
    for at in range(1, 40):
        root = tmp_path / "interrupted"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(template.root, root)
        interrupted = _moved(template, root)
        countdown = at

        def dying(write: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal countdown
                countdown -= 1
                if countdown == 0:
                    raise Killed
                return write(*arguments, **named)

            return call

        with monkeypatch.context() as patch:
            for module in (manifests, runs, base):
                for name in ("write_bytes", "write_table"):
                    if hasattr(module, name):
                        patch.setattr(module, name, dying(getattr(module, name)))
            patch.setattr(UPath, "unlink", dying(UPath.unlink))
            try:
                forget(PERSON, interrupted.places, really=True)
            except Killed:
                num_killed += 1
        again = forget(PERSON, interrupted.places, really=True)
        assert again.found
        assert _comparable(interrupted) == expected, f"interrupted at {at}"
        assert again.models == forget(PERSON, interrupted.places).models != ()
        assert not (interrupted.manifest / UNDER_WAY_FILE).exists()
        Manifest.open(interrupted.manifest)
        if countdown > 0:
            break
    assert num_killed >= 12


def _moved(world: World, root: Path) -> World:
    moved = World.__new__(World)
    moved.__dict__.update(world.__dict__)
    moved.root, moved.manifest = root, root / "runs" / "tiny" / "manifest"
    moved.corpus = DaicWozConfig(path=str(root / "corpus"))
    return moved


def _comparable(world: World) -> dict[str, bytes]:
    """All content apart from times, salts and the places themselves."""
    found = {}
    for name, content in world.folders().items():
        relative = str(Path(name).relative_to(world.root))
        if relative.endswith((FORGOTTEN_FILE, "lock", "manifest.json", "summary.html", "test_reads.jsonl")):
            continue
        found[relative] = content
    found["hash"] = Manifest.open(world.manifest).hash.encode()
    return found


def test_somebody_elses_interrupted_forgetting_is_not_mixed_with_this_one(world: World) -> None:
    (world.manifest / UNDER_WAY_FILE).write_text(
        json.dumps(
            {"old_hash": world.hash, "new_hash": "x", "split": "train", "how": "scrypt", "salt": "", "digest": ""}
        )
    )
    with pytest.raises(CorpusError, match="forgetting somebody else was interrupted"):
        forget(PERSON, world.places, really=True)


def test_an_altered_manifest_gets_no_new_hash(world: World) -> None:
    path = world.manifest / "interviews.parquet"
    rows = pq.read_table(path)
    pq.write_table(rows.slice(1), path)
    with pytest.raises(CorpusError, match="altered"):
        forget(PERSON, world.places, really=True)


def test_a_manifest_or_a_run_that_is_being_written_is_left_alone(world: World) -> None:
    before = world.folders()
    with locked(location(world.manifest)), pytest.raises(CorpusError, match="another job is making this manifest"):
        forget(PERSON, world.places, really=True)
    with alone(world.root / "runs" / "tiny"), pytest.raises(ConfigError, match="is being trained already"):
        forget(PERSON, world.places, really=True)
    after = {name: content for name, content in world.folders().items() if not name.endswith("lock")}
    assert after == {name: content for name, content in before.items() if not name.endswith("lock")}


def test_pseudonymous_people_are_found_with_the_key_or_by_their_pseudonym(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    world = World(tmp_path, pseudonymise=True, archives=True)
    names = pseudonyms_from_environment()
    person = names.person(PERSON)
    own = world.manifest / "recordings" / f"{world.audio_hash(person)}.wav"
    assert own.is_file()
    result = forget(PERSON, world.places, really=True)
    assert result.found
    assert not own.exists()
    after = world.folders()
    assert [name for name, content in after.items() if person.encode() in content or b"7614183" in content] == []
    assert names.interview("daic_woz", "7614183").encode() not in b"".join(after.values())
    other = names.person(OTHER)
    monkeypatch.delenv(KEY_VARIABLE)
    without_raw = Places(manifests=world.places.manifests, runs=world.places.runs)
    with pytest.raises(ConfigError, match=f"pseudonyms of the key {names.key_id}; set MOODSCALE_PSEUDONYM_KEY"):
        forget(OTHER, without_raw)
    with pytest.raises(ConfigError, match="give the person's key"):
        forget(other, world.places)
    assert forget(other, without_raw, really=True).found
    assert other not in Manifest.open(world.manifest).people("train")
    assert any("Raw data were not looked at" in note for note in forget(other, without_raw).notes)


def test_a_mistyped_place_is_no_clean_place(world: World) -> None:
    with pytest.raises(ConfigError, match=r"--features .*/nowhere: no such folder"):
        forget(PERSON, Places(manifests=(str(world.manifest),), features=(str(world.root / "nowhere"),)))
    with pytest.raises(ConfigError, match="nowhere to look"):
        forget(PERSON, Places(features=(str(world.root / "store"),)))
    with pytest.raises(ConfigError, match="PERSON is a person's key such as daic:300"):
        forget("300", world.places)


def test_registered_versions_are_marked_once_and_stay(world: World) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{world.root / 'runs' / 'mlflow.db'}"
    client = MlflowClient(uri, uri)
    client.create_registered_model("tiny")
    for hash_ in (world.hash, "0" * 32):
        client.create_model_version("tiny", str(world.root), tags={"moodscale.manifest_hash": hash_})

    def mark(version: str) -> dict[str, Any]:
        tags = client.get_model_version("tiny", version).tags
        content: dict[str, Any] = json.loads(tags.get("moodscale.forgotten", "{}"))
        return content

    shown: Forgotten = forget(PERSON, world.places)
    assert mark("1") == {}
    assert [model.name for model in shown.models if model.kind == "registered version"] == ["models:/tiny/1"]
    forget(PERSON, world.places, really=True)
    forget(PERSON, world.places, really=True)
    assert (mark("1")["count"], mark("2")) == (1, {})
    assert mark("1")["at"].startswith("20")
    forget(OTHER, world.places, really=True)
    assert mark("1")["count"] == 2
    assert client.get_model_version("tiny", "1").status == "READY"


def test_an_ensemble_with_a_member_that_learned_from_the_person_is_named(world: World) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{world.root / 'runs' / 'mlflow.db'}"
    client = MlflowClient(uri, uri)
    client.create_registered_model("both")
    for hash_ in (world.hash, "0" * 32):
        member = json.dumps({"name": "models:/one/1", "manifest_hash": hash_})
        tags = {"moodscale.manifest_hash": "1" * 32, "moodscale.member.0": member}
        client.create_model_version("both", str(world.root), tags=tags)
    models = forget(PERSON, world.places).models
    assert [model.name for model in models if model.kind == "registered version"] == ["models:/both/1"]


def test_a_forgotten_pseudonym_is_found_again_without_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    world = World(tmp_path, pseudonymise=True)
    name = pseudonyms_from_environment().person(PERSON)
    places = Places(manifests=world.places.manifests, runs=world.places.runs)
    first = forget(PERSON, places, really=True)
    assert name not in (world.manifest / FORGOTTEN_FILE).read_text()
    monkeypatch.delenv(KEY_VARIABLE)
    again = forget(name, places, really=True)
    assert (again.found, again.actions, again.models) == (True, (), first.models)
    assert not forget("p:0123456789abcdef", places).found


def test_the_store_beside_the_runs_counts_as_looked_at(world: World) -> None:
    only_manifest = Places(manifests=world.places.manifests)
    assert any("No store of features" in note for note in forget(PERSON, only_manifest).notes)
    shutil.move(world.root / "store", world.root / "runs" / "features")
    result = forget(PERSON, Places(runs=world.places.runs))
    assert not any("No store of features" in note for note in result.notes)
    assert f"features {world.root}/runs/features" in result.looked_in
    assert {"features", "records"} <= {action.kind for action in result.actions}


def test_a_name_is_told_in_whatever_way_a_file_writes_it() -> None:
    name = "conv:Lü Ann & co"
    pattern = mention((name,))
    for text in (name, json.dumps({"person": name}), f"<td>{html.escape(name)}</td>", f"{name}:3"):
        assert pattern.search(text.encode())
    assert not pattern.search(f"{name}2 x{name}".encode())
    assert Who.of(name).person == name
