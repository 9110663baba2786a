"""Numbers on disk as the feature extractors write them: text tables, and MATLAB files of one matrix."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv
import scipy.io

_MAT_TEXT_BYTES = 116
_MAT_TEXT = b"MATLAB 5.0 MAT-file, synthesised".ljust(_MAT_TEXT_BYTES)

Columns = Sequence[npt.NDArray[np.generic] | Sequence[str]]


def columns_of(matrix: npt.NDArray[np.float64], decimals: int) -> list[npt.NDArray[np.generic]]:
    """The columns of [T, N], rounded."""
    rounded = np.round(matrix, decimals) + 0.0  # no negative zeros
    return [np.ascontiguousarray(column) for column in rounded.T]


def write_columns(
    path: Path, names: Sequence[str] | None, columns: Columns, delimiter: str = ",", spaced: bool = False
) -> None:
    """Write a text table.

    Args:
        names: the header, one a column; ``None`` writes none.
        columns: one array of T values, or T strings, a column; NaN is written ``nan``.
        spaced: a space after every delimiter, in the header too, as OpenFace has it.
    """
    labels = [f"c{index}" for index in range(len(columns))]
    arrays = [pa.array(column) if isinstance(column, np.ndarray) else pa.array(list(column)) for column in columns]
    sink = io.BytesIO()
    options = pa_csv.WriteOptions(include_header=False, delimiter=delimiter, quoting_style="none")
    pa_csv.write_csv(pa.Table.from_arrays(arrays, names=labels), sink, options)
    written = sink.getvalue()
    if names is not None:
        assert len(names) == len(columns), f"{len(names)} names of {len(columns)} columns"
        written = delimiter.join(names).encode() + b"\n" + written
    if spaced:
        written = written.replace(delimiter.encode(), f"{delimiter} ".encode())
    path.write_bytes(written)


def write_matrix(path: Path, key: str, matrix: npt.NDArray[np.float32]) -> None:
    """Write one matrix as a MATLAB 5 file, without the date that such files begin with: the same bytes every time."""
    sink = io.BytesIO()
    scipy.io.savemat(sink, {key: matrix})
    path.write_bytes(_MAT_TEXT + sink.getvalue()[_MAT_TEXT_BYTES:])
