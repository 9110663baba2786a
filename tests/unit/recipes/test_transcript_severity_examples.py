"""Interviews of a manifest as examples: who, whose words, which labels, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from moodscale.config import ConfigError
from moodscale.prepare.manifest import Manifest
from moodscale.recipes.base import TRAINING_LABELS
from moodscale.schema import Split
from tiny_transcripts import prepared, recipe_config

TOTALS = (2, 7, 12, 17, 3, 9, 25, None, 4, 6, 8, 1, None)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return prepared(tmp_path_factory.mktemp("manifest") / "manifest", TOTALS)


def labels(manifest: Manifest, numbers: tuple[int, ...], **changes: Any) -> pa.Table:
    known = {
        row["person"]: row
        for row in pa.concat_tables(
            [manifest.interviews(Split.TRAIN), manifest.interviews(Split.VALIDATION), manifest.unlabelled()]
        ).to_pylist()
    }
    rows = []
    for number in numbers:
        person = f"conv:u{number:02d}"
        own = known[person]
        rows.append(
            {
                "corpus": own["corpus"],
                "interview_id": own["interview_id"],
                "person": person,
                "instrument": "PHQ-9",
                "total": 6.5,
                "items": None,
                "weight": 0.25,
                **changes,
            }
        )
    return pa.Table.from_pylist(rows, schema=TRAINING_LABELS)


def test_an_interview_of_the_split_is_an_example(manifest: Manifest) -> None:
    made = recipe_config().build().examples(manifest, Split.TRAIN)
    assert made.persons == ("conv:u00", "conv:u01", "conv:u02", "conv:u03", "conv:u06", "conv:u08", "conv:u09")
    assert made.strata.tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert made.num_strata == 5
    assert made.weights.tolist() == [1.0] * 7
    first = made.table.to_pylist()[2]
    assert first["total"] == 12.0
    assert first["items"] == [3, 3, 3, 3, 0, 0, 0, 0, 0]
    assert (first["split"], first["instrument"], first["num_turns"]) == ("train", "PHQ-9", 2)
    assert [turn["text"] for turn in first["turns"]] == ["told by 2", "more more more"]
    assert made.unit_ids[2] == f"{first['corpus']}:{first['interview_id'].removeprefix(first['corpus'] + ':')}"
    assert len(set(made.unit_ids)) == 7


def test_lengths_order_the_examples_and_end_where_the_context_does(manifest: Manifest) -> None:
    whole = recipe_config().build().examples(manifest, Split.TRAIN)
    assert whole.lengths is not None
    assert whole.lengths.tolist() == sorted(whole.lengths.tolist())
    assert whole.lengths[0] == len("told by 0") + len("more ".strip())
    short = recipe_config(context={"budget_tokens": 8}).build().examples(manifest, Split.TRAIN)
    assert short.lengths is not None
    assert short.lengths.max() == 8 * 5


def test_the_control_holds_no_word_of_a_user(manifest: Manifest) -> None:
    made = recipe_config(speech="interviewer").build().examples(manifest, Split.TRAIN)
    words = {turn["text"].split()[0] for row in made.table.to_pylist() for turn in row["turns"]}
    assert words == {"asked"}


def test_people_without_a_label_can_be_scored(manifest: Manifest) -> None:
    made = recipe_config().build().examples(manifest, None)
    assert made.persons == ("conv:u07", "conv:u12")
    assert made.table["total"].to_pylist() == [None, None]
    assert made.table["instrument"].to_pylist() == ["PHQ-9", "PHQ-9"]


@pytest.mark.parametrize("split", [Split.TRAIN, None])
def test_labels_of_elsewhere_decide_who_is_trained_on_and_how(manifest: Manifest, split: Split | None) -> None:
    made = recipe_config().build().examples(manifest, split, labels=labels(manifest, (7, 1)))
    assert made.persons == ("conv:u07", "conv:u01")
    assert made.table["total"].to_pylist() == [6.5, 6.5]
    assert made.table["items"].to_pylist() == [None, None]
    assert made.weights.tolist() == [0.25, 0.25]
    assert made.strata.tolist() == [1, 1]


def test_a_label_of_somebody_held_out_is_refused_by_id(manifest: Manifest) -> None:
    with pytest.raises(ConfigError, match="u04"):
        recipe_config().build().examples(manifest, None, labels=labels(manifest, (1, 4)))


def test_labels_for_a_held_out_split_are_refused(manifest: Manifest) -> None:
    with pytest.raises(ConfigError, match="held out"):
        recipe_config().build().examples(manifest, Split.VALIDATION, labels=labels(manifest, (1,)))


def test_another_instrument_is_refused_by_setting(manifest: Manifest) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.instrument=PHQ-8.*PHQ-9"):
        recipe_config(instrument="PHQ-8").build().examples(manifest, Split.TRAIN)
    with pytest.raises(ConfigError, match=r"recipe\.instrument=PHQ-9.*PHQ-8"):
        recipe_config().build().examples(manifest, None, labels=labels(manifest, (1,), instrument="PHQ-8"))


def test_a_manifest_without_words_names_the_setting_that_keeps_them(tmp_path: Path) -> None:
    silent = prepared(tmp_path / "manifest", TOTALS[:8], transcripts="none")
    with pytest.raises(ConfigError, match=r"prepare\.transcripts"):
        recipe_config().build().examples(silent, Split.TRAIN)


def test_interviews_without_a_usable_turn_are_left_out_and_counted(
    manifest: Manifest, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Manifest.turns_of

    def muted(self: Manifest, interviews: pa.Table) -> pa.Table:
        rows = original(self, interviews).to_pylist()
        silent = [{**row, "text": " "} if row["person"] == "conv:u02" else row for row in rows]
        return pa.Table.from_pylist(silent, schema=original(self, interviews).schema)

    monkeypatch.setattr(Manifest, "turns_of", muted)
    with caplog.at_level(logging.WARNING):
        made = recipe_config().build().examples(manifest, Split.TRAIN)
    assert "conv:u02" not in made.persons
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 7 interviews have no turn of recipe.speech=participant and are left out"
    ]


def test_reading_the_test_split_is_counted_once(tmp_path: Path) -> None:
    own = prepared(tmp_path / "manifest", TOTALS[:8])
    recipe_config().build().examples(own, Split.TEST, reader="evaluate")
    assert own.num_test_reads() == 1
