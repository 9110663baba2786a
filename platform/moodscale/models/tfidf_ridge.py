"""Totals from counted words: what every larger model has to beat.

TF-IDF of words and pairs of words, and of characters where a script puts no spaces between words, into a ridge
regression. Its one setting, how much is shrunk, is chosen by cross-validation within the training people.

No word of a text is in an error, a log or an attribute that outlives the call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold

Floats = NDArray[np.float64]

ALPHAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_DEFAULT_ALPHA = 1.0
_NUM_FOLDS = 5
_MAX_FEATURES = 100_000
_RARE_FROM = 50
"""Texts from which on a term of one text alone is left out."""
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, Japanese, Chinese."""
_RUN = re.compile(rf"([{_UNSPACED}]+)|([^\W{_UNSPACED}]+)")


def tfidf_ridge(
    train_texts: Sequence[str],
    train_totals: Sequence[float],
    texts: Sequence[str],
    max_total: float,
    seed: int,
    validation: tuple[Sequence[str], Sequence[float]] | None = None,
    groups: Sequence[str] | None = None,
) -> Floats:
    """Predict the totals of ``texts``.

    Args:
        train_texts: T texts, one a questionnaire.
        train_totals: their T totals, 0 to ``max_total``.
        texts: N texts to score. One without a known word gets about the training mean.
        max_total: the questionnaire's largest total; predictions are clipped to 0 and this.
        seed: of the folds. Equal arguments give equal predictions.
        validation: texts and totals of other people by which the shrinkage is chosen, instead of cross-validation.
        groups: the person of each training text, who stays within one fold; by default each text is another person's.
    Returns:
        (N,) predicted totals.
    Raises:
        ValueError: numbers of texts, totals and groups that differ, no training text, a total out of range, or
            training texts without a word.
    """
    totals = _checked(train_texts, train_totals, max_total, "train")
    if groups is not None and len(groups) != len(totals):
        raise ValueError(f"groups: {len(groups)} given for {len(totals)} train_texts; name the person of each text")
    people = np.arange(len(totals)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if validation is not None:
        others = _checked(validation[0], validation[1], max_total, "validation")
        errors = _squared_errors(train_texts, totals, validation[0], others, max_total)
        alpha = ALPHAS[_best(errors)]
    else:
        alpha = _cross_validated(train_texts, totals, people, max_total, seed)
    if not len(texts):
        return np.empty(0)
    _check_texts(texts, "texts")
    [predicted] = _fit_predict(train_texts, totals, texts, (alpha,), max_total)
    return np.asarray(predicted, dtype=np.float64)


def terms(text: str) -> Iterator[str]:
    """Words and pairs of neighbouring words; one to three neighbouring characters of a script without spaces."""
    before = None
    for found in _RUN.finditer(text.lower()):
        unspaced, word = found.groups()
        if word is not None:
            yield word
            if before is not None:
                yield f"{before} {word}"
            before = word
            continue
        before = None
        for size in (1, 2, 3):
            yield from (unspaced[start : start + size] for start in range(len(unspaced) - size + 1))


def _cross_validated(
    texts: Sequence[str], totals: Floats, people: NDArray[np.intp], max_total: float, seed: int
) -> float:
    """The shrinkage with the least squared error on people who were left out."""
    num_people = len(np.unique(people))
    if num_people < 2:
        return _DEFAULT_ALPHA
    folds = GroupKFold(min(_NUM_FOLDS, num_people), shuffle=True, random_state=seed)
    errors = np.zeros(len(ALPHAS))
    for kept, left_out in folds.split(totals, groups=people):
        inside, outside = [texts[index] for index in kept], [texts[index] for index in left_out]
        if any(True for text in inside for _ in terms(text)):
            errors += _squared_errors(inside, totals[kept], outside, totals[left_out], max_total)
    return ALPHAS[_best(errors)]


def _best(errors: Floats) -> int:
    """The least error; of equal ones the strongest shrinkage, which promises the least."""
    return int(np.flatnonzero(errors <= errors.min() + 1e-9)[-1])


def _squared_errors(
    train_texts: Sequence[str], train_totals: Floats, texts: Sequence[str], totals: Floats, max_total: float
) -> Floats:
    """(alphas,) summed over the texts."""
    predicted = _fit_predict(train_texts, train_totals, texts, ALPHAS, max_total)
    return np.asarray(((predicted - totals) ** 2).sum(axis=1), dtype=np.float64)


def _fit_predict(
    train_texts: Sequence[str], train_totals: Floats, texts: Sequence[str], alphas: Sequence[float], max_total: float
) -> Floats:
    """(alphas, N) clipped predictions."""
    vectoriser = TfidfVectorizer(
        analyzer=terms,
        min_df=2 if len(train_texts) >= _RARE_FROM else 1,
        max_features=_MAX_FEATURES,
        sublinear_tf=True,
    )
    try:
        train = vectoriser.fit_transform(train_texts)
    except ValueError:
        # The library's own message is about its settings; none of these is ours to give.
        raise ValueError(
            f"train_texts: {len(train_texts)} texts share no word; give texts as they were said or written"
        ) from None
    scored = vectoriser.transform(texts)
    rows = [
        Ridge(alpha=alpha, solver="sparse_cg", tol=1e-6).fit(train, train_totals).predict(scored) for alpha in alphas
    ]
    return np.asarray(np.clip(np.stack(rows), 0.0, max_total), dtype=np.float64)


def _checked(texts: Sequence[str], totals: Sequence[float], max_total: float, name: str) -> Floats:
    values = np.asarray(totals, dtype=np.float64)
    if not len(texts):
        raise ValueError(f"{name}_texts is empty; give at least one text with its total")
    if len(texts) != len(values):
        raise ValueError(f"{name}: {len(texts)} texts and {len(values)} totals; give one total a text")
    bad = ~((values >= 0) & (values <= max_total))
    if bad.any():
        index = int(np.flatnonzero(bad)[0])
        raise ValueError(f"{name}_totals[{index}] is outside 0 to {max_total:g}; check the label table")
    _check_texts(texts, f"{name}_texts")
    return values


def _check_texts(texts: Sequence[str], name: str) -> None:
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"{name}[{index}] is a {type(text).__name__}; give strings, empty where nothing was said")
