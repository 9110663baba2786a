"""Whatever happens to bytes, times and cells: a reader repairs, quarantines or refuses, and shows no words."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from upath import UPath

from broken import BASES, CANARY, SAID, write_bases
from broken_reader import corpus_config, observe
from broken_transcripts import DAIC, EDAIC
from moodscale.config import validate
from moodscale.corpora.base import MANIFEST_ROOT
from moodscale.corpora.reading.labels import read_label
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.interview import prepare_interview
from moodscale.schema import CorpusError, Instrument

# The same examples on every run: what fails here fails for everybody.
few = settings(
    max_examples=50, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
many = settings(few, max_examples=60)

DURATION_S = 12.0

Damage = Callable[[bytes], bytes]


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """One to three edits: bytes turned, put in, taken out, said twice, or all that follows cut off."""
    edits = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["turn", "insert", "remove", "repeat", "cut", "zero"]),
                st.floats(0, 1),
                st.integers(1, 64),
                st.binary(min_size=1, max_size=16),
            ),
            min_size=1,
            max_size=3,
        )
    )

    def damage(data: bytes) -> bytes:
        for what, where, length, more in edits:
            at = round(where * len(data))
            part = data[at : at + length]
            if what == "turn":
                part = bytes(byte ^ more[place % len(more)] for place, byte in enumerate(part))
            elif what == "zero":
                part = bytes(len(part))
            elif what == "insert":
                part = more + part
            elif what == "remove":
                part = b""
            elif what == "repeat":
                part *= 2
            data = data[:at] + part + (b"" if what == "cut" else data[at + length :])
        return data

    return damage


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    write_bases(folder)
    return folder


@pytest.mark.parametrize("kind", BASES)
def test_a_damaged_file_of_any_kind_never_ends_a_reader_and_no_words_get_out(
    kind: str, bases: Path, tmp_path: Path
) -> None:
    files = sorted(path.relative_to(bases / kind) for path in (bases / kind).rglob("*") if path.is_file())

    @few
    @given(st.sampled_from(files), damages())
    def check(file: Path, damage: Damage) -> None:
        shutil.rmtree(tmp_path / "one", ignore_errors=True)
        root = tmp_path / "one" / "corpus"
        shutil.copytree(bases / kind, root)
        (root / file).write_bytes(damage((root / file).read_bytes()))
        outcome = observe(kind, root, tmp_path / "one")
        assert not outcome.crash, file
        assert not any(word in outcome.told for word in CANARY.split()), file

    check()


seconds = st.one_of(
    st.floats(-20, 40).map(lambda value: f"{value:.3f}"),
    st.floats(allow_nan=True, allow_infinity=True).map(repr),
    st.text(st.characters(codec="utf-8", exclude_characters='\t\r\n"\0,'), max_size=5),
)
words = st.one_of(
    st.just(SAID), st.text(st.characters(codec="utf-8", exclude_characters='\t\r\n"\0,'), min_size=1, max_size=20)
)
rows = st.lists(st.tuples(seconds, seconds, words), max_size=12)


@pytest.mark.parametrize("kind", ["daic", "edaic"])
def test_turns_of_any_transcript_are_in_order_and_within_the_recording_and_clips_share_nothing(
    kind: str, bases: Path, tmp_path: Path
) -> None:
    root = tmp_path / "corpus"
    shutil.copytree(bases / kind, root)
    header, tab, line = {
        "daic": ("start_time\tstop_time\tspeaker\tvalue", "\t", "{0}\t{1}\tParticipant\t{2}"),
        "edaic": ("Start_Time,End_Time,Text,Confidence", ",", "{0},{1},{2},0.9"),
    }[kind]
    path = root / (DAIC if tab == "\t" else EDAIC)
    id_ = "500" if kind == "daic" else "600"
    config = validate(PrepareConfig, {"clip_s": 0.5, "transcripts": "as_is", "tail": "pad", "min_tail_s": 0.1})

    @many
    @given(rows)
    def check(said: list[tuple[str, str, str]]) -> None:
        path.write_text("\n".join([header, *(line.format(*row) for row in said)]) + "\n", encoding="utf-8")
        corpus = corpus_config(kind, root).open(unpack_to=UPath(tmp_path / "audio"))
        interview = corpus.read(id_).interview
        if interview is None:
            return
        for turn in interview.turns:
            assert 0 <= turn.start_s < turn.stop_s <= DURATION_S
        assert all(one.start_s <= two.start_s for one, two in pairwise(interview.turns))
        roots = {**corpus.roots, MANIFEST_ROOT: UPath(tmp_path)}
        clips = prepare_interview(corpus, id_, config, roots).clips
        segments = [segment for clip in clips for segment in clip.segments]
        assert all(one[2] <= two[1] for one, two in pairwise(segments))
        assert all(0 <= start < stop <= DURATION_S * 16_000 for _, start, stop in segments)

    check()


cells = st.one_of(
    st.integers(-3, 30).map(str),
    st.sampled_from(["", "NaN", "1e308", "-0", "3.0", "0x2", "1_0", "inf", SAID]),
    st.text(max_size=6),
)


@settings(few, max_examples=300)
@given(st.fixed_dictionaries(dict.fromkeys(("total", "binary", *(f"item_{n}" for n in range(1, 9))), cells)))
def test_a_row_of_labels_is_a_label_within_its_ranges_or_refused_by_the_fields_name(row: dict[str, str]) -> None:
    items = tuple(name for name in row if name.startswith("item_"))
    try:
        label: Any = read_label(row, Instrument.PHQ8, "total", "binary", items).label
    except CorpusError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert any(name in said for name in ("total", *items))
        assert CANARY not in said
        return
    assert 0 <= label.total <= 24
    assert len(label.items) in (0, 8)
    assert all(answer is None or 0 <= answer <= 3 for answer in label.items)
    known = [answer for answer in label.items if answer is not None]
    if len(known) == 8 and sum(known) != label.total:
        assert int(float(row["total"])) == label.total, "where they disagree both are kept as they are"
