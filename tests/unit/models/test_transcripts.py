"""Whose turns, which of them, and how they are laid into windows."""

from __future__ import annotations

import logging
import pickle
from typing import Any

import numpy as np
import pytest

from moodscale.config import ConfigError, validate
from moodscale.models import transcripts
from moodscale.models.context import ContextSettings
from moodscale.models.text_backbone import byte_tokenizer
from moodscale.models.transcripts import Choice, TranscriptTokens, choose_turns, lay_out, spoken, spread

TURNS = [
    {"speaker": "interviewer", "text": "how are you"},
    {"speaker": "participant", "text": " not well "},
    {"speaker": "participant", "text": "   "},
    {"speaker": "participant", "text": None},
    {"speaker": "unknown", "text": "static"},
    {"speaker": "participant", "text": "I cannot sleep"},
]


def read(speech: str = "participant", turns: Any = TURNS, interview: str = "1", **context: Any) -> str:
    settings = validate(ContextSettings, context or {"budget_tokens": 1000})
    made = TranscriptTokens(byte_tokenizer(), speech, settings, num_special=0)  # type: ignore[arg-type]
    ids = made({"corpus": "test", "interview_id": interview, "turns": turns})
    assert ids.dtype == np.int32
    return str(made.tokenizer.decode(ids))


def test_by_default_the_participant_alone_is_read() -> None:
    assert read() == "not well\nI cannot sleep\n"


def test_the_control_reads_no_word_of_the_participant() -> None:
    assert read("interviewer") == "how are you\n"


def test_with_everybody_each_turn_says_whose_it_is() -> None:
    assert read("everything") == (
        "Interviewer: how are you\nParticipant: not well\nUnknown: static\nParticipant: I cannot sleep\n"
    )


def test_turns_without_words_are_none() -> None:
    assert [turn["text"] for turn in spoken(TURNS, "participant")] == [" not well ", "I cannot sleep"]


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"speaker": "participant", "text": text} for text in texts]


FIVE = turns("aaa", "bbb", "ccc", "ddd", "eee")  # four tokens each, with the line break


@pytest.mark.parametrize(
    ("budget", "choice", "expected"),
    [
        (20, "newest_first", "aaa\nbbb\nccc\nddd\neee\n"),
        (19, "newest_first", "bbb\nccc\nddd\neee\n"),
        (8, "newest_first", "ddd\neee\n"),
        (11, "newest_first", "ddd\neee\n"),
        (20, "uniform", "aaa\nbbb\nccc\nddd\neee\n"),
        (12, "uniform", "aaa\nccc\neee\n"),
        (8, "uniform", "aaa\neee\n"),
    ],
)
def test_whole_turns_are_chosen_within_the_budget_in_the_order_of_time(budget: int, choice: str, expected: str) -> None:
    assert read(turns=FIVE, budget_tokens=budget, choice=choice) == expected


def test_the_newest_turns_have_no_gap_and_the_spread_ones_may() -> None:
    mixed = turns("aaa", "b" * 9, "ccc")
    assert read(turns=mixed, budget_tokens=10, choice="newest_first") == "ccc\n"
    assert read(turns=mixed, budget_tokens=10, choice="uniform") == "aaa\nccc\n"


def test_many_turns_are_encoded_no_further_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_tokenizer()
    seen: list[int] = []

    class Counting:
        def __call__(self, texts: list[str], **options: Any) -> Any:
            seen.append(len(texts))
            return tokenizer(texts, **options)

    made = TranscriptTokens(Counting(), "participant", ContextSettings(budget_tokens=40), 0)
    ids = made({"corpus": "test", "interview_id": "1", "turns": turns(*(f"{i:03d}" for i in range(1000)))})
    assert tokenizer.decode(ids).split() == [f"{i:03d}" for i in range(990, 1000)]
    assert sum(seen) < 100


def test_a_single_turn_that_is_too_long_is_cut_and_said_by_count_alone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcripts, "_reported", set())
    secret = turns("ever so secret a thing")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert read(turns=secret, interview="77", budget_tokens=8) == "ever so "
    assert [record.getMessage() for record in caplog.records] == [
        "interview test:77: a turn of 23 tokens was cut to the 8 that fit"
    ]


def test_choosing_stops_where_the_budget_is_used_up() -> None:
    assert choose_turns(iter([(4, 3), (3, 3), (2, 9), (1, 1)]), 8, skips=False) == Choice((3, 4))
    assert choose_turns(iter([(4, 3), (3, 3), (2, 9), (1, 1)]), 8, skips=True) == Choice((1, 3, 4))
    assert choose_turns(iter([(0, 9)]), 8, skips=True) == Choice((0,), 8)
    assert choose_turns(iter([]), 8, skips=True) == Choice(())


@pytest.mark.parametrize("num", [1, 2, 3, 5, 64, 100])
def test_an_even_spread_visits_everything_once(num: int) -> None:
    assert sorted(spread(num)) == list(range(num))


def test_the_loader_travels_to_data_workers() -> None:
    made = TranscriptTokens(byte_tokenizer(), "participant", ContextSettings(budget_tokens=100), 1)
    row = {"corpus": "test", "interview_id": "1", "turns": TURNS}
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(made))(row), made(row))  # noqa: S301
    assert "sleep" not in repr(made)


# --- windows ----------------------------------------------------------------------------------------------------------


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def test_one_window_is_padded_on_the_right_under_a_mask() -> None:
    found = lay_out([ids(5, 6), ids(7)], 10, ([1], [2]), pad=0)
    assert found.input_ids.tolist() == [[1, 5, 6, 2], [1, 7, 2, 0]]
    assert found.mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert found.num_windows.tolist() == [1, 1]


def test_long_examples_become_windows_of_nearly_equal_length() -> None:
    found = lay_out([ids(*range(10, 17)), ids(3)], 5, ([1], [2]), pad=0)
    assert found.num_windows.tolist() == [3, 1]
    assert found.input_ids.tolist() == [[1, 10, 11, 12, 2], [1, 13, 14, 2, 0], [1, 15, 16, 2, 0], [1, 3, 2, 0, 0]]


def test_what_the_loader_keeps_fits_the_windows() -> None:
    context = ContextSettings(window_tokens=10, max_windows=3)
    made = TranscriptTokens(byte_tokenizer(), "participant", context, num_special=2)
    assert made.budget == 24
    tokens = made({"corpus": "test", "interview_id": "1", "turns": turns("x" * 100)})
    found = lay_out([tokens], 10, ([1], [2]), pad=0)
    assert found.input_ids.shape == (3, 10)
    assert found.mask.all()


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"budget_tokens": 100, "window_tokens": 10, "max_windows": 2},
        {"window_tokens": 10},
        {"max_windows": 2},
        {"budget_tokens": 100, "max_windows": 2},
    ],
)
def test_a_context_is_a_budget_or_windows(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="window_tokens and max_windows"):
        validate(ContextSettings, wrong)
