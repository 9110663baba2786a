from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moodscale.config import ConfigError, validate
from moodscale.corpora.cmdc import CmdcConfig
from moodscale.corpora.combined import CombinedConfig
from moodscale.corpora.conversations import ConversationsConfig
from moodscale.corpora.daic_woz import DaicWozConfig
from moodscale.corpora.edaic import EdaicConfig
from moodscale.forget.forget import Places, forget
from moodscale.forget.raw import cmdc, conversations, daic_woz, edaic
from moodscale.forget.raw.base import RawData
from moodscale.prepare.build import build_manifest
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from tiny_cmdc import Person, write_cmdc
from tiny_daic import people, write_corpus


def remove(data: RawData) -> dict[str, int]:
    found = {}
    for action in list(data.actions()):
        found[action.place.name] = action.number
        action.do()
    assert list(data.actions()) == []
    return found


def test_a_session_goes_with_its_doubles_and_no_other_number_does(tmp_path: Path) -> None:
    sessions = people(8, duration_s=4.0)
    sessions[0].id, sessions[1].id = "300", "3001"
    root = write_corpus(tmp_path, sessions, archives=True)
    (root / "300_P").mkdir()
    (root / "300_P" / "300_AUDIO.wav").write_bytes(b"again")
    (root / "._300_P.zip").write_bytes(b"double")
    found = remove(daic_woz.raw_data(DaicWozConfig(path=str(root)), "daic:300"))
    assert found.keys() == {"300_P", "300_P.zip", "._300_P.zip", "train_split_Depression_AVEC2017.csv"}
    assert sorted(path.name for path in root.glob("*300*")) == ["3001_P.zip"]
    assert "3001," in (root / "train_split_Depression_AVEC2017.csv").read_text()
    assert remove(daic_woz.raw_data(DaicWozConfig(path=str(root)), "cmdc:300")) == {}


def test_rows_of_others_stay_byte_for_byte(tmp_path: Path) -> None:
    root = write_corpus(tmp_path, people(8, duration_s=4.0))
    table = (
        b"\xef\xbb\xbfParticipant_ID,Gender,remark\r\n"
        b'300.0,1,"two\r\nlines, quoted"\r\n'
        b'301, male ,caf\xe9 \xe4\xb8\xad "as it was"\r\n'
        b"0300,0,once more\n"
        b"302,0,no line end"
    )
    (root / "labels").mkdir()
    (root / "labels" / "train_split.csv").write_bytes(table)
    (root / "labels" / "of_nobody.csv").write_bytes(b"name,300\n300,300\n")
    assert remove(edaic.raw_data(EdaicConfig(path=str(root)), "daic:300")) == {"train_split.csv": 2}
    left = (root / "labels" / "train_split.csv").read_bytes()
    assert left == (
        b'\xef\xbb\xbfParticipant_ID,Gender,remark\r\n301, male ,caf\xe9 \xe4\xb8\xad "as it was"\r\n302,0,no line end'
    )
    assert (root / "labels" / "of_nobody.csv").read_bytes() == b"name,300\n300,300\n"


def test_edaic_archives_in_data_and_every_label_table(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in (600, 601):
        with tarfile.open(tmp_path / "data" / f"{number}_P.tar.gz", "w:gz"):
            pass
    for name, column in (("Detailed_PHQ8_Labels.csv", "Participant_ID"), ("detailed_lables.csv", "Participant")):
        (tmp_path / name).write_text(f"{column},total\n600,3\n601,4\n")
    found = remove(edaic.raw_data(EdaicConfig(path=str(tmp_path)), "daic:600"))
    assert found == {"600_P.tar.gz": 1, "Detailed_PHQ8_Labels.csv": 1, "detailed_lables.csv": 1}
    assert (tmp_path / "data" / "601_P.tar.gz").is_file()


def test_cmdc_folders_files_elsewhere_and_the_row(tmp_path: Path) -> None:
    root = write_cmdc(tmp_path, [Person("HC01"), Person("HC02"), Person("MDD01", 15)])
    (root / "visual").mkdir()
    for id_ in ("HC01", "HC02"):
        (root / "visual" / f"{id_}.csv").write_text("frame\n")
    config = CmdcConfig(path=str(root), openface_pattern="{corpus}/visual/{person}.csv")
    found = remove(cmdc.raw_data(config, "cmdc:HC01"))
    assert found == {"HC01.csv": 1, "HC01": 12, "SubjectInfo.csv": 1}
    assert [line.split(",")[0] for line in (root / "SubjectInfo.csv").read_text().splitlines()] == [
        "ID",
        "HC02",
        "MDD01",
    ]
    assert (root / "visual" / "HC02.csv").is_file()
    assert not list(root.rglob("HC01*"))


def lines(*users: str) -> list[dict[str, Any]]:
    return [
        {
            "user_id": user,
            "conversation_id": f"{user}-1",
            "started_at": "2025-01-08T10:00:00Z",
            "messages": [{"role": "user", "content": "hello, ann here"}],
        }
        for user in users
    ]


@pytest.mark.parametrize("end", ["jsonl", "jsonl.gz", "parquet"])
def test_a_users_conversations_and_labels_go_from_every_kind_of_file(tmp_path: Path, end: str) -> None:
    given = lines("ann", "anna", "ann", "bob")
    path = tmp_path / f"conversations.{end}"
    labels = [{"user_id": one["user_id"], "instrument": "PHQ-9", "total": "3"} for one in given]
    if end == "parquet":
        pq.write_table(pa.Table.from_pylist(given), path, row_group_size=2)
        pq.write_table(pa.Table.from_pylist(labels), tmp_path / "labels.parquet")
    else:
        broken = '{"user_id": "ann", "conversation_id": "x", oops'
        data = ("\n".join([*(json.dumps(one) for one in given), broken, '{"user_id": "bob", oops']) + "\n").encode()
        path.write_bytes(gzip.compress(data) if end.endswith("gz") else data)
        (tmp_path / "labels.csv").write_text("user_id,instrument,total\nann,PHQ-9,3\nanna,PHQ-9,4\n")
    data = conversations.raw_data(ConversationsConfig(path=str(tmp_path)), "conv:ann")
    found = remove(data)
    assert found[path.name] == (2 if end == "parquet" else 3)
    if end == "parquet":
        assert pq.read_table(path).to_pylist() == [given[1], given[3]]
        assert pq.read_table(tmp_path / "labels.parquet")["user_id"].to_pylist() == ["anna", "bob"]
    else:
        left = gzip.decompress(path.read_bytes()) if end.endswith("gz") else path.read_bytes()
        assert left == f'{json.dumps(given[1])}\n{json.dumps(given[3])}\n{{"user_id": "bob", oops\n'.encode()
        assert (tmp_path / "labels.csv").read_text() == "user_id,instrument,total\nanna,PHQ-9,4\n"


def test_a_person_of_two_corpora_goes_from_both_and_from_their_manifest(tmp_path: Path) -> None:
    given = people(8, duration_s=8.0)
    first = DaicWozConfig(path=str(write_corpus(tmp_path / "a", given)))
    (tmp_path / "c").mkdir()
    users = [f"user{number}" for number in range(8)]
    (tmp_path / "c" / "conversations.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines(*users)))
    rows = [f"{user},PHQ-9,2025-01-10,{15 if number % 2 else 3}" for number, user in enumerate(users)]
    (tmp_path / "c" / "labels.csv").write_text("\n".join(["user_id,instrument,administered_at,total", *rows]) + "\n")
    both = CombinedConfig(corpora=(first, ConversationsConfig(path=str(tmp_path / "c"))))
    splits = {"kind": "stratified", "validation": 0.25, "test": 0.25}
    build_manifest(both, validate(PrepareConfig, {"clip_s": 2, "splits": splits}), tmp_path / "m")
    for person in (f"daic:{given[0].id}", "conv:user3"):
        result = forget(person, Places(manifests=(str(tmp_path / "m"),), corpus=both), really=True)
        assert {"raw rows", "manifest"} <= {action.kind for action in result.actions}
        opened = Manifest.open(tmp_path / "m")
        tables = [pq.read_table(file).to_pylist() for file in opened.path.glob("*.parquet")]
        name = person.partition(":")[2]
        assert name not in json.dumps([tables, opened.facts["people"], opened.facts["summary"]])
    assert "user3" not in (tmp_path / "c" / "conversations.jsonl").read_text()
    assert len(opened.facts["people"]["train"] + opened.facts["people"]["validation"]) >= 8


def test_a_corpus_that_does_not_say_where_its_data_lie_is_refused(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "corpus", people(8, duration_s=4.0))
    config = DaicWozConfig(path=str(root))
    build_manifest(config, validate(PrepareConfig, {"clip_s": 2}), tmp_path / "m")
    strange = config.model_copy(update={"kind": "json"})
    with pytest.raises(ConfigError, match="does not say where a person's raw data lie"):
        forget("daic:500", Places(manifests=(str(tmp_path / "m"),), corpus=strange))
