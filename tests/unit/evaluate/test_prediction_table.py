"""What the reader accepts, and how it says no."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moodscale.evaluate.table import read_predictions, to_predictions
from moodscale.schema import PREDICTION_SCHEMA

CANARY = "I have not slept since Tuesday"


def write_csv(path: Path, text: str) -> Path:
    file = path / "predictions.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_csv_of_four_columns_is_enough(tmp_path: Path) -> None:
    found = read_predictions(write_csv(tmp_path, "person,unit_id,label,score\n300,a,0,0.25\n007,b,1,1\n"))
    assert found.frame["person"].tolist() == ["300", "007"]
    assert found.frame["label"].tolist() == [0.0, 1.0]
    assert found.frame["split"].tolist() == ["test", "test"]
    assert found.frame["unit"].tolist() == ["clip", "clip"]
    assert any("unit=clip" in note for note in found.notes)


def test_csv_and_parquet_give_the_same_table(tmp_path: Path) -> None:
    frame = pd.DataFrame({"person": [300, 301], "unit_id": [1, 2], "label": [False, True], "score": [0.2, 0.9]})
    frame.to_parquet(tmp_path / "p.parquet")
    frame.to_csv(tmp_path / "p.csv", index=False)
    one, other = read_predictions(tmp_path / "p.parquet"), read_predictions(tmp_path / "p.csv")
    pd.testing.assert_frame_equal(one.frame, other.frame)


def test_a_full_schema_table_survives_with_its_nullable_columns(tmp_path: Path) -> None:
    row = {
        "person": "daic:300",
        "unit": "clip",
        "unit_id": "300-0",
        "target": "depressed",
        "label": 1.0,
        "score": 0.5,
        "split": "validation",
        "model_version": "7",
        "corpus": None,
        "gender": "Female",
        "duration_s": 10.0,
        "num_turns": None,
        "score_normalised": 0.4,
        "answer": "unparsable",
    }
    pq.write_table(pa.Table.from_pylist([row], schema=PREDICTION_SCHEMA), tmp_path / "p.parquet")
    frame = read_predictions(tmp_path / "p.parquet").frame
    assert set(frame.columns) == set(PREDICTION_SCHEMA.names)
    assert frame["gender"].iloc[0] == "female"
    assert pd.isna(frame["num_turns"].iloc[0])


@pytest.mark.parametrize("labels", [[0, 1], [0.0, 1.0], [False, True], ["0", "1"], ["false", "True"], ["0.0", "1.0"]])
def test_labels_may_be_integers_booleans_floats_or_their_text(labels: list[object]) -> None:
    frame = pd.DataFrame({"person": ["a", "b"], "unit_id": ["1", "2"], "label": labels, "score": [0.1, 0.2]})
    assert to_predictions(frame).frame["label"].tolist() == [0.0, 1.0]


def test_a_person_read_as_float_is_the_same_person() -> None:
    frame = pd.DataFrame({"person": [300.0, 300.0], "unit_id": ["1", "2"], "label": [1, 1], "score": [0.1, 0.2]})
    assert to_predictions(frame).frame["person"].tolist() == ["300", "300"]


def test_extra_columns_are_ignored_with_a_note(tmp_path: Path) -> None:
    text = f"person,unit_id,label,score,site,{CANARY}\n1,a,0,0.5,x,y\n"
    found = read_predictions(write_csv(tmp_path, text))
    assert "site" not in found.frame.columns
    note = next(note for note in found.notes if "ignored" in note)
    assert "site" in note
    assert CANARY not in note


def test_extra_columns_of_a_parquet_file_are_noted_too(tmp_path: Path) -> None:
    frame = pd.DataFrame({"person": ["a"], "unit_id": ["1"], "label": [1], "score": [0.1], "site": ["x"]})
    frame.to_parquet(tmp_path / "p.parquet")
    assert any("site" in note for note in read_predictions(tmp_path / "p.parquet").notes)


@pytest.mark.parametrize(
    ("rows", "column", "row", "fix"),
    [
        ("1,a,0,0.5,test\n2,b,2,0.5,test", "label", 2, "write 1 for depressed"),
        ("1,a,0,0.5,test\n2,b,1,1.5,test", "score", 2, "from 0 to 1"),
        ("1,a,0,0.5,test\n2,b,1,-0.1,test", "score", 2, "from 0 to 1"),
        ("1,a,0,0.5,test\n2,b,1,nan,test", "score", 2, "give every row a number"),
        ("1,a,,0.5,test\n2,b,1,0.5,test", "label", 1, "give every row a number"),
        ("1,a,0,0.5,test\n2,b,1,inf,test", "score", 2, "finite"),
        (f"1,a,{CANARY},0.5,test", "label", 1, "finite"),
        (",a,0,0.5,test", "person", 1, "give every row a value"),
        ("1,a,0,0.5,test\n2,b,1,0.5,dev", "split", 2, "validation"),
        ("1,a,0,0.5,test\n2,b,1,0.5,test\n1,a,0,0.5,test", "unit_id", 3, "row 1 has it already"),
        ("1,a,0,0.5,train\n2,b,1,0.5,test\n1,c,0,0.5,test", "person", 3, "split by person"),
    ],
)
def test_a_mistake_is_named_with_file_column_row_and_fix(
    tmp_path: Path, rows: str, column: str, row: int, fix: str
) -> None:
    file = write_csv(tmp_path, f"person,unit_id,label,score,split\n{rows}\n")
    with pytest.raises(ValueError) as caught:
        read_predictions(file)
    message = str(caught.value)
    assert str(file) in message
    assert f"column {column}, row {row} " in message
    assert fix in message
    assert CANARY not in message


def test_missing_required_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"column label, score is missing .*required are person"):
        read_predictions(write_csv(tmp_path, "person,unit_id\n1,a\n"))


def test_a_semicolon_file_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="something else than commas"):
        read_predictions(write_csv(tmp_path, "person;unit_id;label;score\n1;a;0;0.5\n"))


def test_words_in_the_answer_column_are_refused_and_not_repeated(tmp_path: Path) -> None:
    file = write_csv(tmp_path, f"person,unit_id,label,score,answer\n1,a,0,0.5,{CANARY}\n")
    with pytest.raises(ValueError, match="not an answer's class") as caught:
        read_predictions(file)
    assert CANARY not in str(caught.value)


def test_the_repr_of_a_table_shows_no_rows() -> None:
    frame = pd.DataFrame({"person": ["secret-key"], "unit_id": ["1"], "label": [1], "score": [0.1]})
    assert "secret-key" not in repr(to_predictions(frame))


@pytest.mark.parametrize("name", ["p.pkl", "p.json", "p"])
def test_other_file_types_are_not_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04")
    with pytest.raises(ValueError, match=r"\.parquet or \.csv"):
        read_predictions(tmp_path / name)


def test_a_missing_or_broken_file_is_a_plain_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_predictions(tmp_path / "absent.csv")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ValueError, match="not readable as Parquet"):
        read_predictions(tmp_path / "torn.parquet")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match="not readable as CSV"):
        read_predictions(tmp_path / "empty.csv")
    with pytest.raises(ValueError, match="no rows"):
        read_predictions(write_csv(tmp_path, "person,unit_id,label,score\n"))


def test_the_same_unit_may_be_scored_for_two_targets() -> None:
    frame = pd.DataFrame(
        {
            "person": ["a", "a"],
            "unit_id": ["1", "1"],
            "label": [1.0, 17.0],
            "score": [0.5, 12.5],
            "target": ["depressed", "total"],
        }
    )
    assert len(to_predictions(frame).frame) == 2
