"""What is wrong with a corpus, in plain words, worst first."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from moodscale.inspect.gather import Gathered
from moodscale.inspect.groups import BANDS, LabelGroup
from moodscale.inspect.overlap import Overlap
from moodscale.schema import Split

MANY = 0.05
"""Share of the interviews from which a defect is more than a few odd files."""
MOST = 0.5
LOW_SNR_DB = 10.0
SHORT = 0.25
"""Of the median interview of its corpus."""
LITTLE_SPEECH, ONLY_SPEECH = 0.10, 0.95
"""Shares of an interview that are the participant's speech."""
CLIPPED = 0.001
"""Share of samples at full scale; single peaks are normal."""
FEW_OF_A_CLASS = 10
"""People: with fewer, an interval of any figure is too wide to compare with."""
CLASS_SHARES_DIFFER = 0.10
LABEL_GAPS_FROM = 20
"""People from which an empty band of severity is worth a word."""


class Level(enum.StrEnum):
    """How bad it is."""

    WRONG = "wrong"
    """Results made from it are not to be trusted."""
    DOUBTFUL = "doubtful"
    """Look at it before training."""
    KNOWN = "known"
    """To keep in mind when reading figures."""


@dataclass(frozen=True)
class Finding:
    """One thing that somebody should know.

    Attributes:
        number: the figure that says how much, e.g. ``3 of 189``; may be empty.
        interviews: those it is about, where they can be named.
    """

    level: Level
    title: str
    number: str
    text: str
    interviews: tuple[str, ...] = ()
    weight: float = 0.0
    """Share of what could be affected: orders findings of one level."""


def find(data: Gathered, labels: Sequence[LabelGroup], overlap: Overlap, min_cell: int) -> tuple[Finding, ...]:
    """Everything, worst first."""
    found = [
        *_overlaps(overlap),
        *_splits(data),
        *_classes(data, labels, min_cell),
        *_class_shares(labels),
        *_label_gaps(data),
        *_left_out(data),
        *_levels(data),
        *_speech(data),
        *_missing(data),
        *_disagreements(data, overlap),
        *_ledger(data),
        *_preparing(data),
        *_known(data),
    ]
    order = list(Level)
    return tuple(sorted(found, key=lambda one: (order.index(one.level), -one.weight)))


def _overlaps(overlap: Overlap) -> Iterator[Finding]:
    if overlap.people:
        text = "the same people are trained on and evaluated on; prepare with one split for all of it"
        yield Finding(Level.WRONG, "People in two splits", str(len(overlap.people)), text, weight=2.0)
    for across, level, what in (
        (True, Level.WRONG, "in different splits: a test would be on audio that was trained on"),
        (False, Level.DOUBTFUL, "in one split: one of the two has somebody else's recording"),
    ):
        if same := [one for one in overlap.recordings if one.across_splits is across]:
            interviews = sorted({interview for one in same for _, _, interview, _ in one.places})
            text = f"equal sample by sample under two person keys, {what}"
            yield Finding(level, "Recordings of two people", str(len(same)), text, tuple(interviews), weight=1.5)


def _splits(data: Gathered) -> Iterator[Finding]:
    for source in data.sources:
        for split in Split:
            if not source.manifest.people(split):
                level = Level.WRONG if split is Split.TRAIN else Level.DOUBTFUL
                verb = "trained" if split is Split.TRAIN else "evaluated"
                text = f"nothing can be {verb} on it{_of(data, source.name)}"
                yield Finding(level, f"Empty {split} split", "0 people", text, weight=1.0)
        if source.num_test_reads:
            text = f"each read makes the next result less independent{_of(data, source.name)}"
            yield Finding(Level.KNOWN, "Test split read before", _times(source.num_test_reads), text, weight=0.2)


def _classes(data: Gathered, labels: Sequence[LabelGroup], min_cell: int) -> Iterator[Finding]:
    depressed = data.labels["depressed"].astype(bool)
    for split in data.label_splits:
        own = data.labels[data.labels["split"] == split.value]
        if own.empty:
            continue
        smaller = min(
            int(own["person"][mask].nunique()) for mask in (depressed.loc[own.index], ~depressed.loc[own.index])
        )
        if smaller == 0:
            text = "it cannot be trained on or evaluated on"
            people = int(own["person"].nunique())
            yield Finding(Level.WRONG, f"One class only in {split}", f"{people} people", text, weight=1.8)
        elif smaller < FEW_OF_A_CLASS:
            groups = [one for one in labels if (one.by, one.group) == ("split", split.value)]
            if smaller < min_cell:
                number = f"fewer than {min_cell}"
            elif any(one.num_depressed is None for one in groups):
                number = f"fewer than {FEW_OF_A_CLASS}"
            else:
                number = str(smaller)
            text = "people in the smaller class: figures on it are as wide as that number is small"
            yield Finding(Level.DOUBTFUL, f"Few of a class in {split}", number, text, weight=0.9)


def _class_shares(labels: Sequence[LabelGroup]) -> Iterator[Finding]:
    """Groups whose shares differ by more than two standard errors of the difference."""
    what = {
        "corpus": "a model can score by telling the corpora apart",
        "gender": "a model can score by telling the voices apart",
        "split": "a threshold chosen on one does not suit the other",
    }
    for by, text in what.items():
        groups = [one for one in labels if one.by == by and one.depressed_share is not None]
        for a, b in combinations(groups, 2):
            first, second = a.depressed_share or 0.0, b.depressed_share or 0.0
            error = math.sqrt(first * (1 - first) / a.num_people + second * (1 - second) / b.num_people)
            if a.instrument == b.instrument or by == "corpus":
                difference = abs(first - second)
                if difference >= CLASS_SHARES_DIFFER and difference > 2 * error:
                    number = f"{first:.0%} and {second:.0%}"
                    title = f"Depressed share differs: {a.group} and {b.group}"
                    yield Finding(Level.DOUBTFUL, title, number, text, weight=difference)


def _label_gaps(data: Gathered) -> Iterator[Finding]:
    train = data.labels[data.labels["split"] == Split.TRAIN.value]
    for instrument, own in train.groupby("instrument"):
        if own["person"].nunique() < LABEL_GAPS_FROM:
            continue
        empty = [f"{low}–{high}" for low, high, _ in BANDS if not own["total"].between(low, high).any()]
        if empty:
            text = f"totals of {', '.join(empty)} ({instrument}): a model cannot learn what it is never shown"
            yield Finding(Level.DOUBTFUL, "Nobody to train on", f"{len(empty)} of {len(BANDS)} bands", text, weight=0.4)


def _left_out(data: Gathered) -> Iterator[Finding]:
    for corpus, own in data.quarantine.groupby("corpus"):
        used = int((data.interviews["corpus"] == corpus).sum())
        named = set(own["interview_id"]) - set(data.interviews["interview_id"])
        share = len(named) / max(used + len(named), 1)
        level = Level.WRONG if share > 2 * MANY else Level.DOUBTFUL
        if named:
            text = f"of {corpus} could not be used: see the quarantine for the reasons"
            number = f"{len(named)} of {used + len(named)}"
            yield Finding(level, "Interviews left out", number, text, tuple(sorted(named)), share)
        if parts := len(own[~own["interview_id"].isin(named)]):
            text = f"recordings, files or rows of interviews of {corpus} that are used without them: see the quarantine"
            yield Finding(Level.DOUBTFUL, "Parts left out", str(parts), text, weight=share)
    for corpus, rows in data.interviews.groupby("corpus"):
        without = rows[rows["split"].isna()]
        if len(without):
            yield _some(rows, without, "Interviews without a label", f"of {corpus} are in no split and are not used")


def _levels(data: Gathered) -> Iterator[Finding]:
    checks: tuple[tuple[str, str, float, Callable[[pd.DataFrame], pd.Series[bool]]], ...] = (
        ("Silent recordings", "every sample is zero", MANY, lambda rows: rows["peak"] == 0),
        ("Clipped recordings", f"{CLIPPED:.1%} or more of the samples are at full scale; loudness is cut off",
         MOST, lambda rows: rows["clipped_fraction"] >= CLIPPED),
        ("Noisy recordings", f"speech is less than {LOW_SNR_DB:g} dB above the quietest tenth (an estimate)",
         MOST, lambda rows: rows["snr_db"] < LOW_SNR_DB),
    )  # fmt: skip
    for corpus, rows in data.recordings.groupby("corpus"):
        for title, text, wrong_from, is_so in checks:
            if len(hit := rows[is_so(rows)]):
                yield _some(rows, hit, title, f"recordings of {corpus}: {text}", wrong_from)


def _speech(data: Gathered) -> Iterator[Finding]:
    recorded = data.interviews[data.interviews["duration_s"] > 0]
    for corpus, rows in recorded.groupby("corpus"):
        share = (rows["participant_s"] + rows["other_s"]) / rows["duration_s"]
        short = rows["duration_s"] < SHORT * rows["duration_s"].median()
        # Where nobody asks, as in answers recorded one by one, everything is the participant's.
        asked = rows["interviewer_s"].sum() > 0
        odd = (share > ONLY_SPEECH) & asked | (share > 1.05)
        num_clips = rows["num_clips"].where(rows["split"].notna())
        for title, hit, text in (
            ("Very short interviews", short, f"are shorter than a quarter of the median of {corpus}"),
            ("Little speech", share < LITTLE_SPEECH, f"of {corpus}: the participant speaks less than a tenth of it"),
            ("Nothing but speech", odd, f"of {corpus}: turns fill more than {ONLY_SPEECH:.0%} of it; check the times"),
            ("No clip", num_clips == 0, f"of {corpus} have a label and too little speech for a clip"),
        ):
            if len(found := rows[hit]):
                yield _some(rows, found, title, f"interviews {text}")


def _missing(data: Gathered) -> Iterator[Finding]:
    for corpus, rows in data.interviews.groupby("corpus"):
        missing = rows["missing"].explode().dropna()
        for kind in sorted(missing.unique()):
            text = f"interviews of {corpus} have no {kind} features: masked, never invented"
            yield _some(rows, rows.loc[missing[missing == kind].index], f"No {kind}", text)
        genders = rows[rows["gender"] == "unknown"]
        if len(genders):
            text = f"interviews of {corpus}: figures by gender leave them out"
            yield _some(rows, genders, "Gender unknown", text, level=Level.KNOWN)


def _disagreements(data: Gathered, overlap: Overlap) -> Iterator[Finding]:
    """People in two corpora who are not the same in both. Where most are not, the keys name different people."""
    num_shared = sum(one.num_people for one in overlap.corpora)
    for defect, title, text in (
        ("total_disagrees", "Totals disagree", "people in two corpora have another total in each"),
        (
            "gender_disagrees",
            "Genders disagree",
            "people in two corpora have another gender in each: is the code understood?",
        ),
    ):
        lines = data.ledger[data.ledger["defect"] == defect]
        if len(lines):
            share = len(lines) / max(num_shared, len(lines))
            level = Level.WRONG if share >= MOST and len(lines) > 1 else Level.DOUBTFUL
            number = f"{len(lines)} of {num_shared}" if num_shared >= len(lines) else str(len(lines))
            yield Finding(level, title, number, text, tuple(sorted(set(lines["interview_id"]))), share)


_LEDGER = {
    "items_do_not_add_up": ("Items do not add up", "labels whose items do not add up to the total"),
    "binary_contradicts_score": (
        "Class contradicted total",
        "labels: the total is believed, and the class follows from it",
    ),
}


def _ledger(data: Gathered) -> Iterator[Finding]:
    for defect, (title, text) in _LEDGER.items():
        lines = data.ledger[data.ledger["defect"] == defect]
        if len(lines):
            level = Level.KNOWN if defect == "binary_contradicts_score" else Level.DOUBTFUL
            interviews = tuple(sorted({one for one in lines["interview_id"] if one}))
            yield Finding(level, title, str(len(lines)), text, interviews, len(lines) / max(len(data.interviews), 1))
    if len(data.ledger):
        kinds, touched = data.ledger["defect"].nunique(), data.ledger["interview_id"].replace("", None).nunique()
        text = f"of {kinds} kinds in {touched} interviews: see the ledger"
        yield Finding(Level.KNOWN, "Repairs and remarks", str(len(data.ledger)), text, weight=0.1)


def _preparing(data: Gathered) -> Iterator[Finding]:
    """What only preparing could see: how many clips the complete corpus gives."""
    for source in data.sources:
        for warning in source.manifest.facts["summary"]["warnings"]:
            if "complete corpus" in warning:
                text = f"{warning}{_of(data, source.name)}"
                yield Finding(Level.DOUBTFUL, "Number of clips", "", text, weight=0.5)


def _known(data: Gathered) -> Iterator[Finding]:
    if data.num_repeated:
        text = "interviews are in several of the manifests; they are counted once, as the first has them"
        yield Finding(Level.KNOWN, "In several manifests", str(data.num_repeated), text, weight=0.3)
    if num := len(data.approximations):
        text = "is not what its name says" if num == 1 else "are not what their names say"
        yield Finding(Level.KNOWN, "Approximate", f"{num} thing{'s' if num > 1 else ''}", f"{text}: see the list")


def _some(
    rows: pd.DataFrame, hit: pd.DataFrame, title: str, text: str, wrong_from: float = MOST, level: Level | None = None
) -> Finding:
    """Some rows of a corpus; wrong where they are that large a share of it and more than one."""
    share = len(hit) / len(rows)
    if level is None:
        level = Level.WRONG if share >= wrong_from and len(hit) > 1 else Level.DOUBTFUL
    named = tuple(sorted(set(hit["interview_id"].astype(str))))
    return Finding(level, title, f"{len(hit)} of {len(rows)}", text, named, share)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _of(data: Gathered, source: str) -> str:
    return f" ({source})" if len(data.sources) > 1 else ""
