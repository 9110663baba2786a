"""Broken recordings and broken manifests, through the real main."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from moodscale.prepare.manifest import Manifest
from moodscale.prepare.tables import SCHEMAS, content_hash
from synthesised import NewRunner, Whole
from tiny_daic import Session, people, talk, write_corpus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CANARY = "my grandmother's blue kettle sings at midnight"


def riff(claimed_bytes: int, samples: int = 16_000) -> bytes:
    """A wav whose header claims more than follows."""
    data = np.zeros(samples, "<i2").tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 0xFFFFFFFF, b"WAVE", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16,
                       b"data", claimed_bytes)  # fmt: skip
    return head + data


def broken_corpus(path: Path) -> dict[str, str]:
    """Sixteen sound sessions and one of each broken kind; what is wrong by session."""
    silent_nan = np.full((16_000 * 30, 1), np.nan, np.float32)
    broken: dict[str, dict[str, Any]] = {
        "601": {"audio": b""},
        "602": {"audio": riff(16_000 * 60)},
        "603": {"audio": riff(0xFFFFFFF0)},
        "604": {"audio": silent_nan, "subtype": "FLOAT"},
        "605": {"audio": b"ID3\x03 not a wav at all" * 100},
    }
    fine = [
        Session("611", rate_hz=44_100, channels=2, score=15),
        Session("612", rate_hz=8_000),
        Session("613", subtype="PCM_24"),
    ]
    sessions = [*people(16), *fine, *(Session(number, **changes) for number, changes in broken.items())]
    said = [(start, stop, who, CANARY) for start, stop, who, _ in talk(30.0)]
    sessions.append(Session("606", rows=[*said[:2], (9.0, f"{CANARY} 12", "Participant", CANARY), *said[3:]]))
    sessions.append(Session("614", rows=said, score=15))
    write_corpus(path, sessions)
    return dict.fromkeys([*broken, "606"], "")


def test_broken_recordings_are_left_out_with_a_reason_and_the_rest_is_converted(
    new_runner: NewRunner, tmp_path: Path
) -> None:
    broken = broken_corpus(tmp_path / "corpus")
    runner = new_runner("broken", corpus__path=str(tmp_path / "corpus"), prepare__max_quarantined_fraction=0.3)
    done = runner.run("prepare")
    assert done.code == 0, done.text
    manifest = Manifest.open(runner.directory / "runs" / "tiny" / "manifest")
    reasons = {row["interview_id"]: row["reason"] for row in manifest.quarantine().to_pylist()}
    assert broken.keys() - {"606"} <= reasons.keys()
    assert all(len(reason) > 10 for reason in reasons.values())
    kept = {
        row["interview_id"] for split in ("train", "validation", "test") for row in manifest.clips(split).to_pylist()
    }
    assert {"611", "612", "613", "614"} <= kept
    assert not kept & (broken.keys() - {"606"})
    written = "".join(path.read_bytes().decode("latin-1") for path in runner.directory.rglob("*") if path.is_file())
    assert CANARY not in written

    strict = runner.run("prepare", "prepare.max_quarantined_fraction=0.1", "name=strict")
    assert strict.code == 2
    assert "max_quarantined_fraction=0.1" in strict.err
    assert "601" in strict.err
    assert CANARY not in strict.text
    assert not (runner.directory / "runs" / "strict" / "manifest").exists()


@pytest.mark.parametrize("rehash", [False, True], ids=["altered", "altered and hashed again"])
def test_a_person_in_two_splits_is_refused_before_anything_trains(
    new_runner: NewRunner, whole_run: Whole, tmp_path: Path, rehash: bool
) -> None:
    manifest = tmp_path / "manifest"
    shutil.copytree(whole_run.manifest, manifest)
    clips = pq.read_table(manifest / "clips.parquet").to_pylist()
    schema = pq.read_schema(manifest / "clips.parquet")
    moved = next(row for row in clips if row["split"] == "test")
    moved["split"] = "train"
    pq.write_table(
        type(pq.read_table(manifest / "clips.parquet")).from_pylist(clips, schema=schema), manifest / "clips.parquet"
    )
    if rehash:
        facts = json.loads((manifest / "manifest.json").read_text())
        tables = {name: pq.read_table(manifest / f"{name}.parquet") for name in SCHEMAS}
        facts["hash"] = content_hash(tables, facts["settings"])
        (manifest / "manifest.json").write_text(json.dumps(facts))
    runner = new_runner("tampered", manifest=str(manifest))
    for verb in ("train", "evaluate"):
        done = runner.run(verb)
        assert done.code == 2, done.text
    done = runner.run("train")
    assert (moved["person"] in done.err and "one split only" in done.err) if rehash else "altered" in done.err
    assert not (runner.directory / "runs" / "tiny" / "checkpoints").exists()
