from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
import scipy.io

from moodscale.corpora.reading.features import FORMATS, FrameBlock, check_features, num_columns, read_frames
from moodscale.schema import CorpusError


def read(data: bytes, format: str, **options: Any) -> FrameBlock:
    blocks = list(read_frames(io.BytesIO(data), format, name="300_X.csv", **options))
    return FrameBlock(
        np.concatenate([block.values for block in blocks]),
        np.concatenate([block.valid for block in blocks]),
        np.concatenate([block.times_s for block in blocks]),
    )


def row(*values: object, delimiter: str = ",") -> bytes:
    return delimiter.join(str(value) for value in values).encode() + b"\n"


def matrix(values: np.ndarray[Any, Any], packed: bool = False, key: str = "feature") -> bytes:
    sink = io.BytesIO()
    scipy.io.savemat(sink, {"before": np.zeros((2, 2)), key: values}, do_compression=packed)
    return sink.getvalue()


def test_covarep_without_voice_is_not_valid() -> None:
    found = read(row(120.5, 1, *range(72)) + row(0, 0, *range(72)), "daic_woz.covarep")
    assert found.values.shape == (2, 74)
    assert found.values.dtype == np.float32
    assert found.valid.tolist() == [True, False]
    assert found.values[0, 0] == 120.5
    assert not found.values[1].any()
    assert found.times_s.tolist() == [0.0, 0.01]


@pytest.mark.parametrize("kind", ["daic_woz.clnf_aus", "daic_woz.clnf_features3d", "edaic.openface", "openface.spaced"])
def test_a_face_table_keeps_features_alone_and_marks_frames_without_a_face(kind: str) -> None:
    data = b"frame, face_id, timestamp, confidence, success, gaze_0_x, AU01_r\n"
    data += b"1, 0, 0, 0.9, 1, 0.5, -2\n2, 0, 0.033, 0.1, 0, 7, 7\n"
    data += b"3, 0, 0.066, 0.9, 1, nan, 1\n4, 0, 0.1, 0.9, 1, 1e999, 1\n"
    found = read(data, kind)
    assert found.values.tolist() == [[0.5, -2.0], [0, 0], [0, 0], [0, 0]]
    assert found.valid.tolist() == [True, False, False, False]
    assert found.times_s.tolist() == [0, 0.033, 0.066, 0.1]
    assert check_features(io.BytesIO(data), kind).columns == ("gaze_0_x", "AU01_r")


@pytest.mark.parametrize("kind", ["edaic.egemaps", "edaic.mfcc"])
def test_opensmile_is_separated_by_semicolons_and_names_are_no_feature(kind: str) -> None:
    found = read(b"name;frameTime;Loudness;mfcc1\n'unknown';0.00;1.5;2\n'unknown';0.01;inf;2\n", kind)
    assert (found.values.tolist(), found.valid.tolist()) == ([[1.5, 2.0], [0, 0]], [True, False])
    assert found.times_s.tolist() == [0, 0.01]


@pytest.mark.parametrize("header", [b"", b"name,timeStamp,w0,w1\n"])
@pytest.mark.parametrize("kind", ["edaic.boaw", "edaic.bovw"])
def test_bags_of_words_are_read_with_and_without_a_header(kind: str, header: bytes) -> None:
    found = read(header + b"'300',0.0,1,2\n'300',1.0,3,4\n", kind)
    assert (found.values.tolist(), found.times_s.tolist()) == ([[1, 2], [3, 4]], [0, 1])


def test_spectrogram_networks_are_read() -> None:
    found = read(b"name,timeStamp,neuron_0,neuron_1\n300_AUDIO.wav,0,1,2\n300_AUDIO.wav,1,3,4\n", "edaic.cnn_csv")
    assert (found.values.tolist(), found.times_s.tolist()) == ([[1, 2], [3, 4]], [0, 1])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", "u1", "<i2"])
def test_a_matlab_matrix_is_read_as_scipy_wrote_it(packed: bool, dtype: str) -> None:
    values = np.random.default_rng(0).integers(0, 200, (37, 2048)).astype(dtype)
    data = matrix(values, packed)
    found = read(data, "edaic.mat", rows_per_block=10, duration_s=74)
    np.testing.assert_array_equal(found.values, values.astype(np.float32))
    np.testing.assert_allclose(found.times_s, np.arange(37) * 2)
    assert num_columns(io.BytesIO(data), "edaic.mat") == 2048


@pytest.mark.parametrize("packed", [False, True])
def test_a_truncated_matrix_is_named_wherever_it_ends(packed: bool) -> None:
    data = matrix(np.random.default_rng(0).normal(size=(9, 20)), packed)
    for kept in [*range(0, 300, 7), len(data) - 5]:
        with pytest.raises(CorpusError, match=r"300_X\.csv: (is|holds|element)"):
            read(data[:kept], "edaic.mat")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.array([[1, {}]], dtype=object), "not a matrix of real numbers"),
        (np.ones((2, 2)) * 1j, "not a matrix of real numbers"),
        (np.ones((2, 2, 2)), "has the shape"),
        (np.ones((0, 5)), "has the shape"),
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(values: Any, problem: str) -> None:
    with pytest.raises(CorpusError, match=problem):
        read(matrix(values), "edaic.mat")
    with pytest.raises(CorpusError, match="no matrix called 'feature'"):
        read(matrix(np.ones((2, 2)), key="other"), "edaic.mat")


def matlab_head(shape: tuple[int, int], num_bytes: int) -> bytes:
    head = struct.pack("<IIII", 6, 8, 6, 0) + struct.pack("<IIii", 5, 8, *shape)
    return head + struct.pack("<II", 1, 7) + b"feature\0" + struct.pack("<II", 9, num_bytes)


@pytest.mark.parametrize(
    ("shape", "num_bytes", "problem"),
    [
        ((2**31 - 1, 2**31 - 1), 0xFFFFFFF8, "has the shape"),
        ((2**20, 2**9), 0xFFFFFFF8, "has the shape"),
        ((1000, 1000), 0xFFFFFFF8, "contradicts itself"),
        ((-5, 3), 120, "has the shape"),
        ((2**14, 2**13), 2**30, "is cut off"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_matrix_that_claims_gigabytes_is_refused(
    shape: tuple[int, int], num_bytes: int, problem: str, packed: bool
) -> None:
    element = matlab_head(shape, num_bytes) + bytes(1000)
    if packed:
        element = zlib.compress(struct.pack("<II", 14, len(element)) + element)
    data = b"x".ljust(124) + b"\0\1IM" + struct.pack("<II", 15 if packed else 14, len(element)) + element
    with pytest.raises(CorpusError, match="unpacks from" if packed and problem == "is cut off" else problem):
        read(data, "edaic.mat")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (row(*range(5)) + row(1, 2, "canary", 4, 5), "300_X.csv: row 2, column 3 is not a number"),
        (row(*range(5)) + row(1, 2, "1_0", 4, 5), "300_X.csv: row 2, column 3 is not a number"),
        (row(*range(5)) * 3 + row(1, 2), "300_X.csv: row 4 has 2 column(s) where 5 are expected"),
        (row(*range(6)), "300_X.csv: row 1 has 6 column(s), 5 expected"),
        (b"", "300_X.csv: is empty"),
        (b"\n\r\n  \n", "300_X.csv: is empty"),
        (row(*range(5)) + b"\0" * 500, "300_X.csv: row 2"),
        (b"1" * 3_000_000, "300_X.csv: line 1 is longer"),
        (row(*range(5)) + b"1," * 3_000_000, "300_X.csv: line 2 is longer"),
    ],
)
def test_a_damaged_table_is_named_by_row_and_column_and_no_cell_is_quoted(data: bytes, problem: str) -> None:
    with pytest.raises(CorpusError) as error:
        read(data, "daic_woz.formant")
    assert problem in str(error.value)
    assert "canary" not in str(error.value)


def test_a_blank_cell_is_a_failed_frame_and_keeps_its_place() -> None:
    found = read(b"1,2,3,4,5\r\n1,2,,4,5\r\n1,2,-1.#IND,4,5\r\n5,4,3,2,1", "daic_woz.formant")
    assert found.valid.tolist() == [True, False, False, True]
    assert found.times_s.tolist() == pytest.approx([0, 0.01, 0.02, 0.03])


def test_a_file_of_another_kind_is_told_by_its_header() -> None:
    with pytest.raises(CorpusError, match="no column 'timestamp'"):
        read(b"a,b,c\n1,2,3\n", "edaic.openface")
    with pytest.raises(CorpusError, match="no column that is a feature"):
        read(b"frame,timestamp,success\n1,2,3\n", "edaic.openface")
    with pytest.raises(CorpusError, match=r"format='x' is not one of"):
        read(b"", "x")


def test_a_check_looks_at_the_first_rows_only() -> None:
    good, bad = row(*range(5)) * 100, row(*"abcde")
    assert check_features(io.BytesIO(good + bad), "daic_woz.formant").num_columns == 5
    with pytest.raises(CorpusError, match="row 3, column 1"):
        check_features(io.BytesIO(good[:20] + bad), "daic_woz.formant", name="300_FORMANT.csv")
    with pytest.raises(CorpusError, match="has no rows"):
        check_features(io.BytesIO(b"frame,timestamp,success,x\n"), "edaic.openface")


def test_memory_does_not_grow_with_the_file() -> None:
    line = row(*["0.12345"] * 74)

    def peak(num_rows: int) -> int:
        stream = io.BytesIO(line * num_rows)
        tracemalloc.start()
        for _ in read_frames(stream, "daic_woz.covarep"):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(20_000) < 1.1 * peak(5_000)


def test_every_format_refuses_rubbish_by_name() -> None:
    for format in FORMATS:
        for data in (b"", b"\0" * 1000, b"\xff\xfe" + b"rubbish" * 50):
            with pytest.raises(CorpusError, match=r"300_X\.csv: "):
                read(data, format)
