"""The papers' own figures, by recipe, for the table that stands beside ours."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperRow:
    """One printed row and the confusion matrix it was recomputed from."""

    model: str
    accuracy: float
    balanced_accuracy: float
    f1: float
    recall: float
    tp: int
    fn: int
    fp: int
    tn: int


@dataclass(frozen=True)
class PaperTable:
    """A paper's table.

    Attributes:
        level: which of our levels it compares with, ``clip`` or ``participant``.
        remark: what a reader must know before comparing.
    """

    source: str
    level: str
    remark: str
    rows: tuple[PaperRow, ...]


PAPER_TABLES = {
    "qwen2_audio": PaperTable(
        source="Qwen2-Audio for depression detection on DAIC-WOZ, Table 1",
        level="clip",
        remark=(
            "918 test clips, 275 of them depressed. What the paper prints as AUC score is the mean of sensitivity and "
            "specificity of yes/no answers, so it stands here as balanced accuracy; a ranking AUC was not published. "
            "Always answering not depressed has accuracy 0.700, above all three rows."
        ),
        rows=(
            PaperRow("Base model", 0.430, 0.510, 0.427, 0.709, tp=195, fn=80, fp=443, tn=200),
            PaperRow("After phase 1", 0.593, 0.473, 0.204, 0.175, tp=48, fn=227, fp=147, tn=496),
            PaperRow("After phase 2", 0.590, 0.455, 0.145, 0.116, tp=32, fn=243, fp=133, tn=510),
        ),
    )
}


@dataclass(frozen=True)
class SeverityPaperRow:
    """What a paper prints of one regression model; ``None`` where it does not."""

    model: str
    num: int
    mae: float
    rmse: float
    pearson_r: float
    auc_at_10: float
    auc_above: float | None = None
    """Every AUC from ``first_threshold`` to ``last_threshold`` is above this."""
    first_threshold: int | None = None
    last_threshold: int | None = None


@dataclass(frozen=True)
class SeverityPaperTable:
    """A paper's figures of predicted totals. ``remark``: what a reader must know before comparing."""

    source: str
    remark: str
    rows: tuple[SeverityPaperRow, ...]


SEVERITY_PAPER_TABLE = SeverityPaperTable(
    source="Qwen3.5-27B regression of PHQ-9 totals on conversations with an assistant",
    remark=(
        "842 test users; trained on 6,283 users, 3,111 of them with true labels and the others with pseudo-labels. "
        "Those conversations are not public."
    ),
    rows=(
        SeverityPaperRow(
            "The paper's best model",
            num=842,
            mae=2.6,
            rmse=4.0,
            pearson_r=0.80,
            auc_at_10=0.91,
            auc_above=0.87,
            first_threshold=3,
            last_threshold=24,
        ),
    ),
)
"""Beside every report of predicted totals: there is one such paper, and the recipe that reproduces it is not the only
one whose totals are of interest beside it."""
