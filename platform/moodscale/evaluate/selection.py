"""The few figures by which training chooses a checkpoint: cheap, without intervals, on validation rows only."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from sklearn import metrics as sk

from moodscale.schema import Split


def selection_metrics(table: pa.Table) -> dict[str, float]:
    """Figures of one validation pass; those a class is too small for are left out.

    Args:
        table: clip rows in the Prediction schema, all of the validation split.
    Raises:
        ValueError: a row of another split (a checkpoint chosen on test rows would flatter every figure after it).
    """
    others = set(table["split"].to_pylist()) - {str(Split.VALIDATION)}
    if others:
        raise ValueError(f"split={sorted(others)}: checkpoints are chosen on validation rows only")
    frame = table.select(["person", "label", "score"]).to_pandas()
    clipped = np.clip(frame["score"].to_numpy(float), 1e-7, 1 - 1e-7)
    people = frame.groupby("person").agg(label=("label", "first"), score=("score", "mean"))
    figures = {"loss": float(sk.log_loss(frame["label"], clipped, labels=[0.0, 1.0]))}
    if people["label"].nunique() == 2:
        figures["participant_auc"] = float(sk.roc_auc_score(people["label"], people["score"]))
        figures["participant_balanced_accuracy"] = float(
            sk.balanced_accuracy_score(people["label"], people["score"] >= 0.5)
        )
        figures["clip_auc"] = float(sk.roc_auc_score(frame["label"], frame["score"]))
        figures["clip_average_precision"] = float(sk.average_precision_score(frame["label"], frame["score"]))
    return figures
