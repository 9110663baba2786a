"""The few figures by which training chooses a checkpoint: cheap, without intervals, on validation rows only."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from moodscale.evaluate.severity.figures import everybody, moment_samples
from moodscale.evaluate.severity.units import TOTAL, build_severities
from moodscale.schema import Split


def severity_selection_metrics(table: pa.Table) -> dict[str, float]:
    """Figures of one validation pass: ``loss`` (the mean squared error), ``mae``, ``rmse`` and ``pearson_r``.

    ``pearson_r`` is left out where predictions or labels are all the same.

    Args:
        table: rows in the Prediction schema, all of the validation split; those of target ``total`` are judged.
    Raises:
        ValueError: a row of another split (a checkpoint chosen on test rows would flatter every figure after it),
            no row of target ``total``, or a prediction that is not a number.
    """
    others = set(table["split"].to_pylist()) - {str(Split.VALIDATION)}
    if others:
        raise ValueError(f"split={sorted(others)}: checkpoints are chosen on validation rows only")
    frame = table.select(["person", "unit_id", "target", "label", "score"]).to_pandas()
    rows = frame[frame["target"] == TOTAL]
    if rows.empty:
        found = ", ".join(sorted(frame["target"].unique())) or "no rows"
        raise ValueError(f"target={TOTAL!r} has no rows (found: {found}); predict totals to choose by their error")
    bad = ~np.isfinite(rows[["label", "score"]].to_numpy(dtype=np.float64)).all(axis=1)
    if bad.any():
        raise ValueError(f"score: {int(bad.sum())} of {len(rows)} totals are not finite; the model has diverged")
    units = build_severities(rows)
    found_by_name = moment_samples(units, everybody(units))
    figures = {"loss": float(found_by_name["rmse"][0] ** 2)}
    for name in ("mae", "rmse", "pearson_r"):
        if np.isfinite(found_by_name[name][0]):
            figures[name] = float(found_by_name[name][0])
    return figures
