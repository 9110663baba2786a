"""What a round does to labels: true ones stay, pseudo ones are blended, cut and weighted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

from moodscale.config import validate
from moodscale.label.answer import Answer
from moodscale.label.config import LabelConfig
from moodscale.label.relabel import folds_of, label_shift, relabelled_row, taught_row, true_row, weighted
from moodscale.schema import Instrument

INTERVIEW = {
    "corpus": "conversations", "interview_id": "u1", "person": "conv:u1", "instrument": "PHQ-9", "total": 7,
    "items": [1, 2, 0, None, 1, 1, 1, 1, 0], "provenance": "questionnaire",
}  # fmt: skip
ITEMS = (1, 2, 0, 3, 1, 0, 0, 0, 0)


def config(**values: Any) -> LabelConfig:
    return validate(LabelConfig, values)


def taught(items: tuple[int | None, ...] = ITEMS, confidence: float = 0.8, person: str = "conv:u2") -> dict[str, Any]:
    interview = {"corpus": "conversations", "interview_id": person[-2:], "person": person, "instrument": None}
    answer = Answer(items, float(sum(item or 0 for item in items)), confidence)
    return taught_row(interview, Instrument.PHQ9, answer, "teacher lexicon")


def test_a_true_label_is_the_questionnaires_own_with_its_gaps() -> None:
    row = true_row(INTERVIEW)
    assert (row["total"], row["weight"], row["provenance"]) == (7.0, 1.0, "questionnaire")
    assert row["items"] == [1, 2, 0, None, 1, 1, 1, 1, 0]


def test_a_true_label_is_never_relabelled() -> None:
    with pytest.raises(ValueError, match="u1 has a true label, which never changes"):
        relabelled_row(true_row(INTERVIEW), 12.0, None, "fold", 2, config())


def test_blending_moves_total_and_items_by_its_share_and_replacing_takes_all() -> None:
    blended = relabelled_row(
        taught(), 15.0, (3.0, 2.0, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0), "fold", 2, config(blend=0.25)
    )
    assert blended["items"][:3] == [1.5, 2.0, 0.5]
    assert blended["total"] == pytest.approx(sum(blended["items"])) == pytest.approx(7 + 0.25 * 8)
    replaced = relabelled_row(taught(), 15.0, None, "fold", 2, config(relabel="replace"))
    assert (replaced["total"], replaced["items"]) == (15.0, None)
    assert [(step["labeller"], step["given"], step["total"]) for step in replaced["chain"]] == [
        ("teacher lexicon", 7.0, 7.0),
        ("fold", 15.0, 15.0),
    ]


def test_items_that_the_teacher_did_not_know_are_not_made_up_by_blending() -> None:
    unknown = taught((1, None, *ITEMS[2:]))
    row = relabelled_row(unknown, 9.0, tuple([1.0] * 9), "fold", 2, config(blend=0.5))
    assert row["items"] is None
    assert row["total"] == pytest.approx(0.5 * 9 + 0.5 * unknown["total"])


def test_the_further_a_model_is_from_the_label_before_the_less_it_is_sure() -> None:
    near = relabelled_row(taught(), 8.0, None, "fold", 2, config())
    far = relabelled_row(taught(), 25.0, None, "fold", 2, config())
    assert near["chain"][-1]["confidence"] == pytest.approx(1 - 1 / 27)
    assert far["chain"][-1]["confidence"] == pytest.approx(1 - 18 / 27)


def test_too_little_confidence_is_left_out_and_true_labels_weigh_one() -> None:
    rows = [true_row(INTERVIEW), taught(confidence=0.9), taught(confidence=0.2, person="conv:u3")]
    kept, num_left_out = weighted(rows, config(min_confidence=0.5, weight=0.5))
    assert [row["weight"] for row in kept] == [1.0, pytest.approx(0.45)]
    assert num_left_out == 1
    kept, _ = weighted(rows, config(weight=0.5, weight_by_confidence=False))
    assert [row["weight"] for row in kept] == [1.0, 0.5, 0.5]


def test_the_shift_counts_pseudo_labels_alone() -> None:
    before = [true_row(INTERVIEW), taught(), taught(person="conv:u3")]
    after = [before[0], relabelled_row(before[1], 13.0, None, "fold", 2, config(blend=0.5)), before[2]]
    assert label_shift(before, after) == {"mean": 1.5, "mean_abs": 1.5, "max_abs": 3.0, "num_changed": 1}
    assert label_shift([], after)["mean"] is None


@given_any(st.sets(st.integers(0, 500), min_size=8, max_size=60), st.integers(2, 5), st.integers(0, 9))
def test_folds_hold_everybody_once_and_are_dealt_evenly_over_both_kinds(
    numbers: set[int], num_folds: int, seed: int
) -> None:
    people = [f"p{number}" for number in sorted(numbers)]
    pseudo = frozenset(people[::3])
    folds = folds_of(people, pseudo, num_folds, seed)
    assert set(folds) == set(people)
    assert folds == folds_of(list(reversed(people)), pseudo, num_folds, seed)
    for group in (pseudo, set(people) - pseudo):
        sizes = [sum(folds[person] == fold for person in group) for fold in range(num_folds)]
        assert max(sizes) - min(sizes) <= 1
