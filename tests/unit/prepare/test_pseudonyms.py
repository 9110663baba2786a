from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from moodscale.config import ConfigError, validate
from moodscale.corpora.combined import CombinedConfig
from moodscale.corpora.conversations import ConversationsConfig
from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.features.sources import read_sources
from moodscale.prepare.audio import read_clip
from moodscale.prepare.build import build_manifest
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from moodscale.prepare.pseudonyms import (
    KEY_FILE_VARIABLE,
    KEY_VARIABLE,
    Pseudonyms,
    pseudonyms_from_environment,
)
from moodscale.schema import CorpusError, Quarantined, Split
from tiny_daic import Session, people, write_corpus

KEY = bytes(range(32)).hex()
OTHER_KEY = bytes(range(7, 39)).hex()


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    monkeypatch.delenv(KEY_FILE_VARIABLE, raising=False)


def settings(**changes: Any) -> PrepareConfig:
    return validate(PrepareConfig, {"clip_s": 2, "pseudonymise": True, **changes})


def sessions() -> list[Session]:
    """Ids that are found by a search for them, and that no time or count looks like."""
    found = people(8, duration_s=20.0)
    for index, session in enumerate(found):
        session.id = f"76{index}4183"
    return found


def corpus_of(root: Path, given: list[Session] | None = None, **changes: Any) -> DaicWozConfig:
    return DaicWozConfig(path=str(write_corpus(root, given or sessions(), **changes)))


def everything_in(manifest: Path) -> list[bytes]:
    """Names and contents of every file, Parquet decoded."""
    found = []
    for path in manifest.rglob("*"):
        found.append(str(path.relative_to(manifest)).encode())
        if path.is_file():
            found.append(path.read_bytes())
            if path.suffix == ".parquet":
                found.append(json.dumps(pq.read_table(path).to_pylist(), ensure_ascii=False).encode())
    return found


@pytest.mark.parametrize("archives", [False, True])
def test_no_original_id_is_anywhere_in_the_manifest_nor_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, archives: bool
) -> None:
    given = sessions()
    given += [
        Session("7994183", audio=b"nothing that can be decoded"),  # quarantined, by its file's name
        Session("7884183", folder=False),  # absent
        Session("7774183", score=15, items=[3] * 8, rows=[(0.5, 9.0, "Participant", "xxx well"), (1.0, 2.0, "", "")]),
    ]
    corpus = corpus_of(tmp_path / "corpus", given, archives=archives)
    caplog.set_level(logging.DEBUG)
    out = tmp_path / "m"
    summary = build_manifest(corpus, settings(max_quarantined_fraction=0.5), out)
    contents = everything_in(out)
    wanted = [*(one.id for one in given), str(tmp_path / "corpus"), KEY]
    assert [name for name in wanted if any(name.encode() in content for content in contents)] == []
    logged = caplog.text + json.dumps(summary.to_json()) + repr(summary)
    assert [name for name in wanted if name in logged] == []
    assert set(summary.ledger) >= {"absent_session", "blank_row", "items_do_not_add_up", "unintelligible_words"}
    assert len(summary.quarantined) == 1
    assert "cannot be decoded" in summary.quarantined[0][1] or "_AUDIO.wav" in summary.quarantined[0][1]
    assert not (out / "unpacked").exists()
    manifest = Manifest.open(out)
    assert set(manifest.facts["roots"]) == {"manifest"}
    assert manifest.facts["pseudonyms"] == {"key_id": pseudonyms_from_environment().key_id}


def test_clips_are_those_of_the_manifest_without_pseudonyms(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", [*sessions(), Session("7774183", rate_hz=44_100, subtype="PCM_24")])
    build_manifest(corpus, settings(pseudonymise=False), tmp_path / "plain")
    build_manifest(corpus, settings(), tmp_path / "hidden")
    plain, hidden = Manifest.open(tmp_path / "plain"), Manifest.open(tmp_path / "hidden")
    names = pseudonyms_from_environment()

    def by_clip(manifest: Manifest, renamed: bool) -> dict[str, bytes]:
        rows = [row for split in Split for row in manifest.clips(split).to_pylist()]
        return {
            f"{row['person'] if renamed else names.person(row['person'])} {row['split']} {row['clip_id'][-4:]}": bytes(
                read_clip(manifest.roots, row).data
            )
            for row in rows
        }

    assert by_clip(hidden, True) == by_clip(plain, False)
    assert len(by_clip(hidden, True)) > 20
    hashes = [{one.audio_hash for one in read_sources(m, tuple(Split)).recordings} for m in (plain, hidden)]
    assert hashes[0] == hashes[1]
    assert {clip["root"] for clip in hidden.clips("train").to_pylist()} == {"manifest"}


def test_what_a_recordings_header_says_is_not_copied(tmp_path: Path) -> None:
    import soundfile

    given = sessions()
    root = write_corpus(tmp_path / "corpus", given)
    wav = root / f"{given[0].id}_P" / f"{given[0].id}_AUDIO.wav"
    samples, rate = soundfile.read(wav, dtype="int16")
    with soundfile.SoundFile(wav, "w", rate, 1, "PCM_16") as file:
        file.title, file.artist = "interview of Josephine Canary", "Josephine Canary"
        file.write(samples)
    assert b"Josephine" in wav.read_bytes()
    build_manifest(DaicWozConfig(path=str(root)), settings(), tmp_path / "m")
    assert not any(b"Josephine" in content for content in everything_in(tmp_path / "m"))


def test_rows_are_not_in_the_corpus_order(tmp_path: Path) -> None:
    given = [Session(f"{700 + n}", score=15 if n % 2 else 3, duration_s=6.0) for n in range(30)]
    shares = {"kind": "stratified", "validation": 0.2, "test": 0.2}
    build_manifest(corpus_of(tmp_path / "corpus", given), settings(splits=shares), tmp_path / "m")
    table = pq.read_table(tmp_path / "m" / "interviews.parquet")
    ids = table["interview_id"].to_pylist()
    names = pseudonyms_from_environment()
    assert ids == sorted(ids)
    assert ids != [names.interview("daic_woz", one.id) for one in given]


def test_one_key_gives_one_person_one_name_in_every_manifest(tmp_path: Path) -> None:
    first = corpus_of(tmp_path / "a", sessions())
    conversations = write_conversations(tmp_path / "c")
    both = CombinedConfig(corpora=(conversations, corpus_of(tmp_path / "b", sessions())))
    shares = {"kind": "stratified", "validation": 0.3, "test": 0.3}
    build_manifest(first, settings(), tmp_path / "m1")
    build_manifest(both, settings(splits=shares), tmp_path / "m2")
    one, two = Manifest.open(tmp_path / "m1"), Manifest.open(tmp_path / "m2")

    def rows(manifest: Manifest) -> set[tuple[str, str]]:
        found = [row for split in Split for row in manifest.interviews(split).to_pylist()]
        return {(row["person"], row["interview_id"]) for row in found if row["corpus"] == "daic_woz"}

    assert rows(one) == rows(two)
    assert len(rows(one)) == 8
    with pytest.raises(CorpusError, match=r"person p:[0-9a-f]{16} is in "):
        one.check_people_disjoint(two)


def test_another_key_is_told_apart_and_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = corpus_of(tmp_path / "corpus")
    build_manifest(corpus, settings(), tmp_path / "m1")
    monkeypatch.setenv(KEY_VARIABLE, OTHER_KEY)
    with pytest.raises(CorpusError, match=r"prepare\.pseudonym_key_id"):
        build_manifest(corpus, settings(), tmp_path / "m1")
    build_manifest(corpus, settings(), tmp_path / "m2")
    one, two = Manifest.open(tmp_path / "m1"), Manifest.open(tmp_path / "m2")
    assert one.facts["pseudonyms"] != two.facts["pseudonyms"]
    assert set(one.people("train")).isdisjoint(two.people("train"))
    with pytest.raises(CorpusError, match="different keys"):
        one.check_people_disjoint(two)
    build_manifest(corpus, settings(pseudonymise=False), tmp_path / "m3")
    with pytest.raises(CorpusError, match="different keys"):
        Manifest.open(tmp_path / "m3").check_people_disjoint(two)


def test_a_second_run_with_the_key_does_nothing_and_the_hash_does_not_depend_on_the_place(tmp_path: Path) -> None:
    one, two = corpus_of(tmp_path / "a"), corpus_of(tmp_path / "b")
    first = build_manifest(one, settings(), tmp_path / "m1")
    assert build_manifest(one, settings(), tmp_path / "m1").reused
    assert build_manifest(two, settings(), tmp_path / "m2").hash == first.hash


def test_a_file_of_splits_names_the_people_as_they_are(tmp_path: Path) -> None:
    given = sessions()
    rows = [f"daic:{one.id},{('train', 'validation', 'test')[index % 3]}" for index, one in enumerate(given)]
    table = tmp_path / "splits.csv"
    table.write_text("\n".join(["person,split", *rows]) + "\n")
    splits = {"kind": "file", "path": str(table)}
    corpus = corpus_of(tmp_path / "corpus", given)
    build_manifest(corpus, settings(splits=splits), tmp_path / "m")
    names = pseudonyms_from_environment()
    assert Manifest.open(tmp_path / "m").people("test") == tuple(
        sorted(names.person(f"daic:{given[index].id}") for index in (2, 5))
    )
    assert not any(str(table).encode() in content for content in everything_in(tmp_path / "m"))
    table.write_text("\n".join(["person,split", *rows[1:]]) + "\n")
    with pytest.raises(ConfigError, match="1 labelled people are not in it") as refused:
        build_manifest(corpus, settings(splits=splits), tmp_path / "n")
    assert given[0].id not in str(refused.value)
    assert names.person(f"daic:{given[0].id}") in str(refused.value)


def write_conversations(root: Path) -> ConversationsConfig:
    """Users with two questionnaires a hundred days apart."""
    root.mkdir()
    days = {"2025-01-10": "2025-01-08", "2025-04-20": "2025-04-18"}
    labels, lines = ["user_id,instrument,administered_at,total"], []
    for number in range(9):
        user = f"quokka{number}"
        for filled_in, began in days.items():
            labels.append(f"{user},PHQ-9,{filled_in},{15 if number % 2 else 4}")
            messages = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "hello"}]
            line = {"user_id": user, "conversation_id": f"{user}-{began}", "started_at": f"{began}T10:00:00Z"}
            lines.append(json.dumps({**line, "messages": messages}))
    lines.append(json.dumps({"user_id": "quokka0", "conversation_id": "q", "started_at": "2020-02-02T10:00:00Z"}))
    (root / "labels.csv").write_text("\n".join([*labels, "quokka1,PHQ-9,2023-03-03,5"]) + "\n")
    (root / "conversations.jsonl").write_text("\n".join(lines) + "\n")
    return ConversationsConfig(path=str(root))


def test_dates_are_moved_by_person_and_the_days_between_them_stay(tmp_path: Path) -> None:
    from datetime import datetime

    shares = {"kind": "stratified", "validation": 0.3, "test": 0.3}
    build_manifest(write_conversations(tmp_path / "c"), settings(splits=shares), tmp_path / "m")
    contents = everything_in(tmp_path / "m")
    for original in (b"2025-01-10", b"2025-04-20", b"2023-03-03", b"quokka"):
        assert not any(original in content for content in contents), original
    rows = pq.read_table(tmp_path / "m" / "interviews.parquet").to_pylist()
    by_person: dict[str, list[datetime]] = {}
    for row in rows:
        by_person.setdefault(row["person"], []).append(datetime.fromisoformat(row["administered_at"]))
    assert {(max(own) - min(own)).days for own in by_person.values()} == {100}
    shifts = {(datetime.fromisoformat("2025-01-10").date() - min(own).date()).days for own in by_person.values()}
    assert len(shifts) > 5
    assert 365 <= min(shifts) <= max(shifts) <= 3650


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (None, "needs a key: set MOODSCALE_PSEUDONYM_KEY"),
        ("my secret pass phrase", "not hexadecimal"),
        ("ab" * 31, "31 bytes, 32 are the fewest"),
        ("00" * 32, "could be guessed"),
    ],
)
def test_a_key_that_could_be_guessed_is_refused_unshown_with_how_to_make_one(
    key: str | None, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    if key is not None:
        monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(ConfigError, match=problem) as refused:
        build_manifest(corpus_of(tmp_path / "corpus"), settings(), tmp_path / "m")
    assert "secrets.token_hex(32)" in str(refused.value)
    assert key is None or key not in str(refused.value)
    assert not (tmp_path / "m").exists()


def test_a_key_file_is_as_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = pseudonyms_from_environment()
    monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "key"))
    with pytest.raises(ConfigError, match="cannot be read as a file of hex digits"):
        pseudonyms_from_environment()
    (tmp_path / "key").write_text(KEY + "\n")
    assert pseudonyms_from_environment() == expected
    assert KEY not in repr(expected)


def test_a_line_keeps_its_numbers_and_loses_its_ids() -> None:
    names = Pseudonyms(bytes(range(32)))
    line = names.line(Quarantined("daic_woz", "300", "300_P.zip", "daic:300: 1,300.5 s of 300.0 s in 300_AUDIO.wav"))
    hidden = names.interview("daic_woz", "300")
    assert line.where == f"{hidden}_P.zip"
    assert line.reason == f"daic:{hidden}: 1,300.5 s of 300.0 s in {hidden}_AUDIO.wav"
