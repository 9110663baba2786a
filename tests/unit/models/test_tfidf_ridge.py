"""TF-IDF and ridge learns from words, the same way every time, and repeats none of them."""

from __future__ import annotations

import numpy as np
import pytest

from moodscale.models.tfidf_ridge import ALPHAS, terms, tfidf_ridge

CANARY = "zanzibar"
WORDS = [f"word{index}" for index in range(40)]


def written(num: int, seed: int, joined: str = " ", marker: str = "hopeless") -> tuple[list[str], list[float]]:
    """Texts whose totals show in how often one word occurs."""
    rng = np.random.default_rng(seed)
    totals = rng.integers(0, 28, num)
    vocabulary = WORDS if joined else list("天地人山水火風雨木花鳥魚")
    texts = [joined.join([*rng.choice(vocabulary, 20), *[marker] * int(total // 3)]) for total in totals]
    return texts, [float(total) for total in totals]


@pytest.mark.parametrize(("joined", "marker"), [(" ", "hopeless"), ("", "很累")], ids=["words", "no spaces"])
def test_totals_that_show_in_the_words_are_found(joined: str, marker: str) -> None:
    texts, totals = written(80, 0, joined, marker)
    others, truth = written(40, 1, joined, marker)
    predicted = tfidf_ridge(texts, totals, others, 27, seed=0)
    assert np.corrcoef(predicted, truth)[0, 1] > 0.8
    assert np.abs(predicted - truth).mean() < 0.7 * np.abs(np.median(totals) - np.asarray(truth)).mean()


def test_texts_that_carry_nothing_are_answered_with_about_the_mean() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 20)) for _ in range(60)]
    totals = [float(total) for total in rng.integers(0, 28, 60)]
    others = [" ".join(rng.choice(WORDS, 20)) for _ in range(60)]
    predicted = tfidf_ridge(texts, totals, others, 27, seed=0)
    assert predicted.std() < 0.3 * np.std(totals)
    assert predicted.mean() == pytest.approx(np.mean(totals), abs=1.0)


def test_equal_arguments_give_equal_predictions() -> None:
    texts, totals = written(40, 0)
    others, _ = written(10, 1)
    one, other = (tfidf_ridge(texts, totals, others, 27, seed=3) for _ in range(2))
    assert np.array_equal(one, other)


def test_predictions_stay_within_the_questionnaire() -> None:
    texts = ["fine", "fine fine", "hopeless", "hopeless hopeless"] * 5
    totals = [0.0, 0.0, 24.0, 24.0] * 5
    predicted = tfidf_ridge(texts, totals, ["fine " * 50, "hopeless " * 50, "", "never seen"], 24, seed=0)
    assert predicted.min() >= 0.0
    assert predicted.max() <= 24.0
    assert predicted[1] > 15 > 9 > predicted[0]


def test_a_persons_texts_stay_in_one_fold() -> None:
    """Each person repeats a word of their own. It predicts the others of their texts, and so seems worth fitting, only
    where people are torn apart."""
    rng = np.random.default_rng(0)
    people = [f"p{index // 4}" for index in range(120)]
    total_of = {person: float(rng.integers(0, 28)) for person in sorted(set(people))}
    texts = [" ".join([*rng.choice(WORDS, 8), *[f"own{person}"] * 8]) for person in people]
    totals = [total_of[person] for person in people]
    torn = tfidf_ridge(texts, totals, texts, 27, seed=0)
    whole = tfidf_ridge(texts, totals, texts, 27, seed=0, groups=people)
    assert whole.std() < 0.2 * torn.std()


def test_validation_people_choose_the_shrinkage_where_they_are_given() -> None:
    texts, totals = written(60, 0)
    others, truth = written(20, 1)
    useless = (others, [float(np.mean(totals))] * 20)
    shrunk = tfidf_ridge(texts, totals, others, 27, seed=0, validation=useless)
    free = tfidf_ridge(texts, totals, others, 27, seed=0, validation=(others, truth))
    assert shrunk.std() < 0.5 * free.std()
    assert sorted(ALPHAS) == list(ALPHAS)


def test_one_training_person_and_no_texts_are_no_error() -> None:
    assert tfidf_ridge(["a b"], [5.0], ["a", "c"], 27, seed=0) == pytest.approx([5.0, 5.0])
    assert tfidf_ridge(["a b"], [5.0], [], 27, seed=0).shape == (0,)


def test_terms_are_words_pairs_and_neighbouring_characters() -> None:
    assert list(terms("So TIRED today")) == ["so", "tired", "so tired", "today", "tired today"]
    assert list(terms("我很累")) == ["我", "很", "累", "我很", "很累", "我很累"]
    assert list(terms("ok 累 ok")) == ["ok", "累", "ok"]
    assert list(terms("… ?")) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([], [], [CANARY], 27, 0), "train_texts is empty"),
        (([CANARY], [1.0, 2.0], [CANARY], 27, 0), "1 texts and 2 totals"),
        (([CANARY, CANARY], [1.0, 28.0], [CANARY], 27, 0), r"train_totals\[1\] is outside 0 to 27"),
        (([CANARY], [float("nan")], [CANARY], 27, 0), r"train_totals\[0\]"),
        (([CANARY], [3.0], [CANARY, None], 27, 0), r"texts\[1\] is a NoneType"),
        ((["?!", "…"], [3.0, 4.0], [CANARY], 27, 0), "share no word"),
        (([CANARY], [3.0], [CANARY], 27, 0, ([CANARY], [99.0])), r"validation_totals\[0\]"),
        (([CANARY], [3.0], [CANARY], 27, 0, None, ["a", "b"]), "groups: 2 given for 1"),
    ],
)
def test_a_mistake_is_named_without_a_word_of_the_texts(arguments: tuple[object, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        tfidf_ridge(*arguments)  # type: ignore[arg-type]
    assert CANARY not in str(caught.value)
