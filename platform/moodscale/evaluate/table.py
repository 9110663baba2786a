"""Reading and checking the Prediction table: every mistake is named with its file, column, row and fix.

Values are quoted only where they are numbers or keys. A table from elsewhere may hold what a person said in a
column it should not, and an error message ends in logs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from moodscale.schema import PREDICTION_DEFAULTS, PREDICTION_REQUIRED, PREDICTION_SCHEMA, Instrument, Split

ANSWERS = ("depressed", "not_depressed", "unparsable")
_KEYS = ("person", "unit", "unit_id", "target", "split", "model_version")
_WORDS = ("corpus", "gender", "answer", "instrument")
_OPTIONAL_NUMBERS = ("duration_s", "num_turns", "score_normalised")
_ITEM = re.compile(r"^item_([1-9])$")
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_.-]{0,39}$")


@dataclass(frozen=True)
class Predictions:
    """A checked Prediction table.

    Attributes:
        frame: one row a scored unit, with every column of ``PREDICTION_SCHEMA`` that the source has and the
            defaults of those it must have; keys are strings, numbers float64.
        source: the file's name, or what the caller calls it.
        notes: what was ignored or assumed.
    """

    frame: pd.DataFrame = field(repr=False)
    source: str
    notes: tuple[str, ...] = ()


def read_predictions(path: str | Path) -> Predictions:
    """Read a Prediction table from Parquet or CSV.

    Args:
        path: ``*.parquet`` or ``*.csv`` (comma-separated, UTF-8, header line).
    Raises:
        ValueError: naming file, column, row and fix, where the table cannot be evaluated.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a Prediction table as .parquet or .csv")
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return to_predictions(*_read_parquet(path))
    if suffix == ".csv":
        return to_predictions(_read_csv(path), source=str(path))
    raise ValueError(f"{path}: files ending in {path.suffix!r} are not read; save the table as .parquet or .csv")


def to_predictions(
    table: Predictions | pa.Table | pd.DataFrame, source: str = "predictions", ignored: tuple[str, ...] = ()
) -> Predictions:
    """Check a table that is already in memory. A ``Predictions`` is returned as it is.

    Args:
        table: columns as in ``PREDICTION_SCHEMA``; only ``PREDICTION_REQUIRED`` must be there.
        source: the name that errors carry.
        ignored: names of further columns that the reader has already left out.
    Raises:
        ValueError: naming source, column, row and fix.
    """
    if isinstance(table, Predictions):
        return table
    given = table.to_pandas(ignore_metadata=True) if isinstance(table, pa.Table) else table
    names = [str(name) for name in given.columns]
    missing = [name for name in PREDICTION_REQUIRED if name not in names]
    if missing:
        hint = "; the header looks separated by something else than commas" if len(names) == 1 else ""
        raise ValueError(
            f"{source}: column {', '.join(missing)} is missing (found: {_shown(names)}){hint}; "
            f"required are {', '.join(PREDICTION_REQUIRED)}"
        )
    if len(set(names)) != len(names):
        raise ValueError(f"{source}: a column name occurs twice (found: {_shown(names)}); keep one")
    if not len(given):
        raise ValueError(f"{source}: the table has no rows; nothing can be evaluated")
    notes = []
    extra = [name for name in names if name not in PREDICTION_SCHEMA.names] + list(ignored)
    if extra:
        notes.append(f"{len(extra)} column(s) outside the Prediction schema ignored: {_shown(extra)}.")
    filled = {name: value for name, value in PREDICTION_DEFAULTS.items() if name not in names}
    if filled:
        notes.append("Columns not given, filled: " + ", ".join(f"{k}={v}" for k, v in filled.items()) + ".")
    frame = _convert(given, filled, source)
    _check_relations(frame, source)
    return Predictions(frame=frame, source=source, notes=tuple(notes))


def _read_parquet(path: Path) -> tuple[pa.Table, str, tuple[str, ...]]:
    try:
        file = pq.ParquetFile(path)
        names = list(file.schema_arrow.names)
        table = file.read(columns=[name for name in names if name in PREDICTION_SCHEMA.names])
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not readable as Parquet ({type(error).__name__}); write the file again") from None
    return table, str(path), tuple(name for name in names if name not in PREDICTION_SCHEMA.names)


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}; save the table as UTF-8") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(
            f"{path}: not readable as CSV ({type(error).__name__}); write a header line and as many "
            "comma-separated values in every row"
        ) from None


def _convert(given: pd.DataFrame, filled: dict[str, str], source: str) -> pd.DataFrame:
    columns: dict[str, Any] = {}
    for name in PREDICTION_SCHEMA.names:
        if name in filled:
            columns[name] = np.full(len(given), filled[name], dtype=object)
        elif name not in given.columns:
            continue
        elif name in _KEYS:
            columns[name] = _keys(given[name], name, source)
        elif name in _WORDS:
            columns[name] = _words(given[name], name, source)
        else:
            columns[name] = _numbers(given[name], name, source, blank_allowed=name in _OPTIONAL_NUMBERS)
    frame = pd.DataFrame(columns).astype({name: object for name in columns if name in _KEYS or name in _WORDS})
    binary = frame["target"].to_numpy() == "depressed"
    label, score = frame["label"].to_numpy(dtype=np.float64), frame["score"].to_numpy(dtype=np.float64)
    bad = binary & (label != 0) & (label != 1)
    if bad.any():
        row = _first(bad)
        raise _error(source, "label", row, f"is {label[row]:g}", "write 1 for depressed and 0 for not depressed")
    bad = binary & ((score < 0) | (score > 1))
    if bad.any():
        row = _first(bad)
        fix = "write the probability of depressed, from 0 to 1"
        raise _error(source, "score", row, f"is {score[row]:g}, outside 0 to 1", fix)
    _check_severities(frame, source)
    return frame


def _check_severities(frame: pd.DataFrame, source: str) -> None:
    """Totals within the range of the instrument that their row names, items among the items that it has."""
    if "instrument" not in frame.columns:
        return
    for instrument in Instrument:
        named = (frame["instrument"] == str(instrument)).to_numpy()
        check_totals(frame[named & (frame["target"] == "total").to_numpy()], instrument, source)
        items = frame.loc[named, "target"].str.extract(_ITEM, expand=False).astype(float).dropna()
        beyond = items[items > instrument.num_items]
        if len(beyond):
            what = f"is item {beyond.iloc[0]:g}, {instrument} has {instrument.num_items}"
            raise _error(source, "target", int(beyond.index[0]), what, "name the instrument that was filled in")
    check_items(frame[frame["target"].str.match(_ITEM)], source)


def check_totals(rows: pd.DataFrame, instrument: Instrument, source: str) -> None:
    """Refuse totals, given or predicted, outside the instrument's range.

    Args:
        rows: rows of a checked table with target ``total``; the index is the row's number, from 0.
    Raises:
        ValueError: naming source, column, row and fix.
    """
    _check_range(rows, float(instrument.max_total), f"{instrument}'s range 0 to {instrument.max_total}", source)


def check_items(rows: pd.DataFrame, source: str) -> None:
    """The same for rows of single items, 0 to 3."""
    _check_range(rows, 3.0, "an item's range 0 to 3", source)


def _check_range(rows: pd.DataFrame, most: float, described: str, source: str) -> None:
    for column, fix in (
        ("label", "check the label table and the column instrument"),
        ("score", "clip the predictions, or check the column instrument"),
    ):
        bad = ~rows[column].between(0.0, most).to_numpy()
        if bad.any():
            raise _error(source, column, int(rows.index[_first(bad)]), f"is outside {described}", fix)


def _check_relations(frame: pd.DataFrame, source: str) -> None:
    allowed = [str(split) for split in Split]
    bad = ~frame["split"].isin(allowed).to_numpy()
    if bad.any():
        raise _error(source, "split", _first(bad), "is not a split", f"write one of {', '.join(allowed)}")
    again = frame.duplicated(["target", "unit", "unit_id"]).to_numpy()
    if again.any():
        row = _first(again)
        key = frame.iloc[row]
        same = (
            (frame["target"] == key["target"]) & (frame["unit"] == key["unit"]) & (frame["unit_id"] == key["unit_id"])
        )
        fix = f"row {_first(same.to_numpy()) + 1} has it already: score every unit once, by one model version"
        raise _error(source, "unit_id", row, "is a duplicate", fix)
    splits = frame.drop_duplicates(["person", "split"])
    twice = splits.duplicated("person").to_numpy()
    if twice.any():
        row = int(splits.index[_first(twice)])
        first = _first((frame["person"] == frame["person"].iloc[row]).to_numpy())
        fix = f"the same person is in {frame['split'].iloc[first]} in row {first + 1}: split by person"
        raise _error(source, "person", row, f"is in {frame['split'].iloc[row]}", fix)


def _keys(values: pd.Series[Any], name: str, source: str) -> Any:
    """Keys as strings: ``300``, ``300.0`` and ``"300"`` are the same person."""
    if pd.api.types.is_float_dtype(values.dtype):
        numbers = values.to_numpy(dtype=np.float64)
        bad = ~np.isfinite(numbers) | (numbers != np.floor(numbers))
        if bad.any():
            raise _error(source, name, _first(bad), "is empty or not a whole number", "write the key as a string")
        return numbers.astype(np.int64).astype(str).astype(object)
    blank = values.isna().to_numpy()
    text = values.astype(object).where(~blank, "").map(lambda value: str(value).strip()).to_numpy(dtype=object)
    blank = text == ""
    if blank.any():
        raise _error(source, name, _first(blank), "is empty", "give every row a value, or leave the column out")
    return text


def _words(values: pd.Series[Any], name: str, source: str) -> Any:
    blank = values.isna().to_numpy()
    text = values.astype(object).where(~blank, "").map(lambda value: str(value).strip())
    if name == "gender":
        text = text.str.lower().replace("", "unknown")
    if name == "answer":
        bad = ~text.isin(["", *ANSWERS]).to_numpy()
        if bad.any():
            fix = f"write one of {', '.join(ANSWERS)} or leave it empty; what was said does not belong here"
            raise _error(source, name, _first(bad), "is not an answer's class", fix)
    if name == "instrument":
        known = [str(instrument) for instrument in Instrument]
        bad = ~text.isin(["", *known]).to_numpy()
        if bad.any():
            raise _error(source, name, _first(bad), "is not an instrument", f"write one of {', '.join(known)}")
    return text.to_numpy(dtype=object)


def _numbers(values: pd.Series[Any], name: str, source: str, *, blank_allowed: bool) -> Any:
    if not pd.api.types.is_numeric_dtype(values.dtype):
        values = values.astype(object)
        text = values.where(~values.isna(), "").map(lambda value: str(value).strip().lower())
        if name == "label":
            text = text.replace({"true": "1", "false": "0"})
        numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
        blank = text.isin(["", "nan", "none", "null", "na"]).to_numpy()
    else:
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        blank = np.isnan(numbers)
    bad = ~np.isfinite(numbers) & ~blank
    if bad.any():
        raise _error(source, name, _first(bad), "is not a finite number", "write a number")
    if blank.any() and not blank_allowed:
        raise _error(source, name, _first(blank), "is empty or NaN", "give every row a number, or leave the row out")
    if name in ("duration_s", "num_turns") and (numbers < 0).any():
        raise _error(source, name, _first(numbers < 0), "is negative", "write zero or more, or leave it empty")
    if name == "score_normalised" and ((numbers < 0) | (numbers > 1)).any():
        row = _first((numbers < 0) | (numbers > 1))
        raise _error(source, name, row, f"is {numbers[row]:g}, outside 0 to 1", "write a probability")
    return numbers


def _error(source: str, column: str, row: int, what: str, fix: str) -> ValueError:
    return ValueError(f"{source}: column {column}, row {row + 1} (the header not counted) {what}; {fix}")


def _first(mask: Any) -> int:
    return int(np.flatnonzero(mask)[0])


def _shown(names: list[str]) -> str:
    """Column names fit to print: a table without a header has data, perhaps words, where the names should be."""
    return ", ".join(name if _NAME.match(name) else "(not a name)" for name in names[:20]) or "none"
