"""The whole evaluation of totals: what it holds, what it refuses, and what it says where data lack."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from moodscale.config import ConfigError, validate
from moodscale.evaluate.config import EvaluateConfig, SeverityConfig
from moodscale.evaluate.severity.compare import compare_models
from moodscale.evaluate.severity.evaluate import SeverityContext, evaluate_severity
from moodscale.evaluate.severity.selection import severity_selection_metrics
from moodscale.evaluate.table import to_predictions
from moodscale.schema import PREDICTION_SCHEMA

Tables = Callable[..., pd.DataFrame]
QUICK = SeverityConfig(num_bootstrap=100)


def test_the_result_is_plain_json_without_nan(simulate: Tables) -> None:
    table = simulate(items=True)
    rival = table.assign(score=table["score"].where(table["target"] != "total", 6.0))
    found = evaluate_severity(table, QUICK, SeverityContext(rivals={"constant six": rival})).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["ci"]["mae"][0] <= found["mae"] <= found["ci"]["mae"][1]
    assert [entry["name"] for entry in found["baselines"]] == ["training mean", "training median", "constant six"]
    assert list(found["items"]) == [f"item_{number}" for number in range(1, 10)]
    assert [entry["threshold"] for entry in found["thresholds"]] == list(range(3, 25))


def test_two_people_give_json_too(simulate: Tables) -> None:
    table = pd.DataFrame(
        {
            "person": ["a", "b"],
            "unit": "interview",
            "unit_id": ["1", "2"],
            "target": "total",
            "label": [3, 14],
            "score": [5.0, 5.0],
            "instrument": "PHQ-8",
        }
    )
    found = evaluate_severity(table, QUICK).to_json()
    json.dumps(found, allow_nan=False)
    assert found["pearson_r"] is None
    assert found["auc_at_10"] is None
    assert found["calibration"]["slope"] is None
    assert {"too_few_participants"} <= {reason["code"] for reason in found["guard"]["reasons"]}
    assert any("AUC and average precision skipped" in note for note in found["notes"])
    assert any("set from the evaluated rows" in note for note in found["notes"])


def test_equal_inputs_give_equal_results_in_any_row_order(simulate: Tables) -> None:
    table = simulate(items=True)
    one = evaluate_severity(table, QUICK).to_json()
    other = evaluate_severity(table.sample(frac=1.0, random_state=1), QUICK).to_json()
    for name in ("mae", "pearson_r", "ccc", "auc_at_10"):
        assert one[name] == pytest.approx(other[name])
        assert one["ci"][name] == pytest.approx(other["ci"][name])


def test_a_person_with_two_interviews_is_two_units_and_one_person(simulate: Tables) -> None:
    table = simulate(num_people=30, several=1.0)
    found = evaluate_severity(table, QUICK)
    assert (found.figures.num, found.figures.num_persons) == (60, 30)
    assert any("60 units of 30 participants" in note for note in found.notes)


def test_constants_come_from_the_training_rows_of_the_table_first(simulate: Tables) -> None:
    table = simulate()
    train = table.loc[table["split"] == "train", "label"]
    found = evaluate_severity(table, QUICK, SeverityContext(train_totals=[27.0])).baselines
    assert found[0].value == pytest.approx(train.mean())
    assert found[1].value == pytest.approx(train.median())
    assert {entry.source for entry in found} == {"train"}


def test_given_training_totals_are_used_where_the_table_has_none(simulate: Tables) -> None:
    table = simulate(splits=("test", "validation"))
    found = evaluate_severity(table, QUICK, SeverityContext(train_totals=[0, 0, 3, 21])).baselines
    assert [entry.value for entry in found] == [6.0, 1.5]
    assert {entry.source for entry in found} == {"train"}
    assert {entry.source for entry in evaluate_severity(table, QUICK).baselines} == {"validation"}


def test_a_baselines_difference_is_that_of_the_comparison(simulate: Tables) -> None:
    table = simulate()
    rival = table.assign(score=(table["score"] * 0.5 + 4))
    [*_, entry] = evaluate_severity(table, QUICK, SeverityContext(rivals={"half": rival})).baselines
    alone = compare_models(table, rival, ("model", "half"), config=QUICK)
    assert entry.comparison.to_json() == alone.to_json()
    assert entry.figures.values["mae"] == entry.comparison.differences["mae"].second


@pytest.mark.parametrize("totals", [[], [3.0, 28.0], [float("nan")]])
def test_training_totals_out_of_range_are_refused(simulate: Tables, totals: list[float]) -> None:
    with pytest.raises(ValueError, match="train_totals"):
        evaluate_severity(simulate(splits=("test",)), QUICK, SeverityContext(train_totals=totals))


def test_scores_of_other_splits_change_no_figure(simulate: Tables) -> None:
    table = simulate()
    other = table.assign(score=table["score"].where(table["split"] == "test", 0.0))
    assert evaluate_severity(table, QUICK).to_json() == evaluate_severity(other, QUICK).to_json()


def test_a_rival_over_other_units_is_refused_by_name(simulate: Tables) -> None:
    table = simulate()
    with pytest.raises(ValueError, match=r"absent from TF-IDF \+ ridge"):
        evaluate_severity(table, QUICK, SeverityContext(rivals={"TF-IDF + ridge": table.iloc[1:]}))


def test_a_rival_may_not_take_a_baselines_name(simulate: Tables) -> None:
    with pytest.raises(ValueError, match="'training median' is taken"):
        evaluate_severity(simulate(), QUICK, SeverityContext(rivals={"training median": simulate()}))


def test_genders_are_told_apart_and_counted(simulate: Tables) -> None:
    found = evaluate_severity(simulate(), QUICK).by_gender
    assert set(found) == {"female", "male"}
    assert sum(figures.num_persons for figures in found.values()) == 80
    without = evaluate_severity(simulate().drop(columns="gender"), QUICK)
    assert without.by_gender == {}
    assert any("column gender is absent" in note for note in without.notes)


def test_an_items_error_is_the_mean_over_its_rows(simulate: Tables) -> None:
    table = simulate(items=True)
    found = evaluate_severity(table, QUICK).items["item_4"]
    rows = table[(table["target"] == "item_4") & (table["split"] == "test")]
    assert found.estimates.values["mae"] == pytest.approx((rows["score"] - rows["label"]).abs().mean())
    assert found.num == len(rows)


def test_mixed_instruments_are_refused_with_the_fix(simulate: Tables) -> None:
    table = simulate()
    table.loc[table.index[:1], ["instrument", "label", "score"]] = ["PHQ-8", 3.0, 3.0]
    with pytest.raises(ValueError, match=r"PHQ-8 and PHQ-9 .*evaluate one instrument at a time"):
        evaluate_severity(table, QUICK)


def test_an_instrument_that_nobody_names_is_asked_for(simulate: Tables) -> None:
    table = simulate().drop(columns="instrument")
    with pytest.raises(ValueError, match=r"column instrument is empty or absent .*evaluate\.severity\.instrument"):
        evaluate_severity(table, QUICK)
    named = QUICK.model_copy(update={"instrument": "PHQ-9"})
    assert evaluate_severity(table, named).instrument == "PHQ-9"


def test_some_rows_without_an_instrument_are_refused_unless_the_configuration_says(simulate: Tables) -> None:
    table = simulate()
    table.loc[table.index[:2], "instrument"] = ""
    with pytest.raises(ValueError, match="empty in some rows"):
        evaluate_severity(table, QUICK)
    assert evaluate_severity(table, QUICK.model_copy(update={"instrument": "PHQ-9"})).instrument == "PHQ-9"


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("score", 24.5, r"column score, row 2 .*PHQ-8's range 0 to 24; clip"),
        ("score", -0.1, r"column score, row 2 .*PHQ-8's range"),
        ("label", 25.0, r"column label, row 2 .*PHQ-8's range"),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_a_total_outside_the_instruments_range_is_refused_by_row(
    simulate: Tables, column: str, value: float, text: str, named: bool
) -> None:
    table = simulate(instrument="PHQ-8")
    table.loc[1, column] = value
    if not named:
        table = table.drop(columns="instrument")
    with pytest.raises(ValueError, match=text):
        evaluate_severity(table, QUICK.model_copy(update={"instrument": "PHQ-8"}))


def test_items_out_of_range_or_beyond_the_instrument_are_refused(simulate: Tables) -> None:
    table = simulate(items=True, instrument="PHQ-9")
    high = table.copy()
    high.loc[1, "score"] = 3.2
    with pytest.raises(ValueError, match=r"column score, row 2 .*item's range 0 to 3"):
        to_predictions(high)
    with pytest.raises(ValueError, match=r"column target, row \d+ .*item 9, PHQ-8 has 8"):
        to_predictions(table.assign(instrument="PHQ-8").query("label <= 24 and score <= 24"))


@pytest.mark.parametrize("value", ["PHQ", "phq9", "I feel empty"])
def test_an_unknown_instrument_is_refused_and_not_repeated(simulate: Tables, value: str) -> None:
    table = simulate()
    table.loc[3, "instrument"] = value
    with pytest.raises(ValueError, match=r"column instrument, row 4 .*write one of PHQ-8, PHQ-9") as caught:
        to_predictions(table)
    assert f"'{value}'" not in str(caught.value)


def test_a_label_between_two_totals_is_refused_in_the_judged_split_alone(simulate: Tables) -> None:
    table = simulate()
    train = int(table.index[table["split"] == "train"][0])
    table.loc[train, "label"] = 3.5
    evaluate_severity(table, QUICK)
    table.loc[0, "label"] = 3.5
    with pytest.raises(ValueError, match=r"column label, row 1 .*not a whole number"):
        evaluate_severity(table, QUICK)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"target": "depressed", "label": 1, "score": 0.5}, "column target has no 'total'"),
        ({"unit": "clip"}, "column unit has no 'interview'"),
        ({"split": "train"}, "column split has no 'test'"),
    ],
)
def test_a_table_without_such_rows_says_what_it_has(simulate: Tables, change: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        evaluate_severity(simulate().assign(**change), QUICK)


def test_tables_without_the_column_stay_as_they_were() -> None:
    frame = pd.DataFrame({"person": ["a"], "unit_id": ["1"], "label": [1], "score": [0.4]})
    assert "instrument" not in to_predictions(frame).frame.columns
    assert PREDICTION_SCHEMA.names[-1] == "instrument"
    assert PREDICTION_SCHEMA.field("instrument").nullable


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ConfigError, match="first_threshold=12 is above last_threshold=9"):
        validate(SeverityConfig, {"first_threshold": 12, "last_threshold": 9})
    assert validate(EvaluateConfig, {"severity": {"instrument": "PHQ-8"}}).severity.instrument == "PHQ-8"


def selection_table(simulate: Tables, **change: object) -> pa.Table:
    frame = simulate(splits=("validation",), items=True).assign(**change)
    return pa.Table.from_pandas(frame, schema=pa.schema([f for f in PREDICTION_SCHEMA if f.name in frame.columns]))


def test_selection_figures_are_of_the_totals(simulate: Tables) -> None:
    table = selection_table(simulate)
    rows = table.to_pandas().query("target == 'total'")
    found = severity_selection_metrics(table)
    error = rows["score"] - rows["label"]
    assert found["loss"] == pytest.approx((error**2).mean())
    assert found["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    assert found["mae"] == pytest.approx(error.abs().mean())
    assert found["pearson_r"] == pytest.approx(rows["score"].corr(rows["label"]))


def test_selection_leaves_out_what_is_not_defined(simulate: Tables) -> None:
    assert set(severity_selection_metrics(selection_table(simulate, score=2.0))) == {"loss", "mae", "rmse"}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"split": "test"}, "validation rows only"),
        ({"target": "item_1"}, "no rows"),
        ({"score": float("inf")}, "not finite"),
    ],
)
def test_selection_refuses_what_must_choose_nothing(simulate: Tables, change: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        severity_selection_metrics(selection_table(simulate, **change))


def test_no_model_library_is_imported() -> None:
    code = (
        "import sys\n"
        "import moodscale.evaluate.report.severity, moodscale.evaluate.severity.selection\n"
        "print(*({'torch', 'ray', 'mlflow', 'transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == []
