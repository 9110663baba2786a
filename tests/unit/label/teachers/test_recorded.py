"""Answers from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moodscale.config import ConfigError
from moodscale.label.ask import label_transcripts
from moodscale.label.teachers.recorded import RecordedConfig
from moodscale.schema import CorpusError, Instrument
from spoken import transcript

ITEMS = [1, 2, 0, 3, 1, 0, 2, 1, 0]
ROW: dict[str, Any] = {"unit_id": "u1", "items": ITEMS, "total": 10, "confidence": 0.8}


def write(path: Path, *rows: Any) -> RecordedConfig:
    file = path / "answers.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return RecordedConfig(path=str(file))


def test_rows_are_given_to_their_units_and_a_unit_without_one_has_no_answer(tmp_path: Path) -> None:
    asked = [transcript("u1"), transcript("u2"), transcript("u3")]
    partly = {"unit_id": "u2", "items": [*ITEMS[:8], None], "total": 11.5, "confidence": 0}
    found = label_transcripts(write(tmp_path, ROW, "", partly), asked, tmp_path / "answers")
    assert found.answers["u1"].items == tuple(ITEMS)
    assert (found.answers["u2"].items[8], found.answers["u2"].total) == (None, 11.5)
    assert found.refused == {"u3": "not_recorded"}


def test_totals_alone_and_columns_will_do(tmp_path: Path) -> None:
    columns = {f"item_{number}": [score, None] for number, score in enumerate(ITEMS, start=1)}
    table = pa.table(
        {"unit_id": ["u1", "u2"], "total": [10.0, 17.0], "confidence": [0.8, None], "note": ["x", "y"]} | columns
    )
    pq.write_table(table, tmp_path / "answers.parquet")
    config = RecordedConfig(path=str(tmp_path / "answers.parquet"), default_confidence=0.5)
    found = label_transcripts(config, [transcript("u1"), transcript("u2")], tmp_path / "answers")
    assert found.answers["u1"].items == tuple(ITEMS)
    assert found.answers["u2"].items == (None,) * 9
    assert (found.answers["u2"].total, found.answers["u2"].confidence) == (17.0, 0.5)


def test_another_files_answers_are_other_answers(tmp_path: Path) -> None:
    asked = [transcript("u1")]
    label_transcripts(write(tmp_path, ROW), asked, tmp_path / "answers")
    changed = write(tmp_path, ROW | {"items": [0] * 9, "total": 0})
    assert label_transcripts(changed, asked, tmp_path / "answers").answers["u1"].total == 0


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"unit_id": None}, "unit_id"),
        ({"unit_id": 7}, "unit_id"),
        ({"items": [1, 2]}, "items"),
        ({"items": "abc"}, "items"),
        ({"items": [*ITEMS[:2], 4, *ITEMS[3:]]}, "item_3"),
        ({"items": [*ITEMS[:2], "secret words", *ITEMS[3:]]}, "item_3"),
        ({"items": [*ITEMS[:2], True, *ITEMS[3:]]}, "item_3"),
        ({"total": 28}, "total"),
        ({"total": "secret words"}, "total"),
        ({"total": 11}, "total"),
        ({"confidence": 1.5}, "confidence"),
        ({"confidence": None}, "confidence"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_file_row_and_field(
    tmp_path: Path, row: dict[str, Any], field: str
) -> None:
    config = write(tmp_path, ROW | {"unit_id": "u0"}, ROW | row)
    with pytest.raises(CorpusError, match=rf"answers.jsonl, row 2, {field}: ") as caught:
        config.open()
    assert "secret words" not in str(caught.value)


@pytest.mark.parametrize("line", ['{"unit_id": "secret words', "[1]", "{" * 100_000])
def test_a_line_that_is_no_row_is_named_and_not_shown(tmp_path: Path, line: str) -> None:
    with pytest.raises(CorpusError, match=r"answers.jsonl, row 2: ") as caught:
        write(tmp_path, ROW, line).open()
    assert "secret words" not in str(caught.value)


def test_a_unit_twice_an_empty_file_and_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="row 2, unit_id"):
        write(tmp_path, ROW, ROW).open()
    with pytest.raises(ConfigError, match="holds no row"):
        write(tmp_path).open()
    with pytest.raises(ConfigError, match="cannot be read"):
        RecordedConfig(path=str(tmp_path / "none.jsonl")).open()
    (tmp_path / "answers.csv").write_text("unit_id,total\n")
    with pytest.raises(ConfigError, match=r"\.jsonl or \.parquet"):
        RecordedConfig(path=str(tmp_path / "answers.csv")).open()


def test_scores_of_one_questionnaire_are_not_given_for_another(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PHQ-8"):
        label_transcripts(write(tmp_path, ROW), [transcript("u1", instrument=Instrument.PHQ8)], tmp_path / "answers")
