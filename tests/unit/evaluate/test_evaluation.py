"""The whole evaluation: the paper's figures, the operating point, baselines, and what is said where data lack."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from moodscale.evaluate.baselines import Prevalence
from moodscale.evaluate.calibration import best_threshold, choose_operating_point, fit_temperature
from moodscale.evaluate.config import EvaluateConfig
from moodscale.evaluate.evaluate import EvaluationContext, evaluate
from moodscale.evaluate.reference import PAPER_TABLES
from moodscale.evaluate.table import to_predictions
from moodscale.evaluate.units import Scored, logit

Tables = Callable[..., pd.DataFrame]
QUICK = EvaluateConfig(num_bootstrap=100)


@pytest.mark.parametrize("row", PAPER_TABLES["qwen2_audio"].rows, ids=lambda row: row.model)
def test_the_papers_table_is_reproduced_from_its_matrices(from_matrix: Tables, row) -> None:  # type: ignore[no-untyped-def]
    found = evaluate(from_matrix((row.tp, row.fn, row.fp, row.tn)), QUICK).to_json()
    for metric in ("accuracy", "balanced_accuracy", "f1", "recall"):
        assert round(found["clip"][metric], 3) == getattr(row, metric)
    assert found["clip"]["confusion"] == {"tp": row.tp, "fn": row.fn, "fp": row.fp, "tn": row.tn}
    assert round(found["baselines"]["majority"]["accuracy"], 3) == 0.700
    assert found["threshold"] == 0.5
    assert found["temperature"] == 1.0
    assert any("Threshold 0.5: the table has no validation rows" in note for note in found["notes"])


def test_the_result_is_plain_json_without_nan(simulate: Tables) -> None:
    found = evaluate(simulate(num_participants=6, num_validation=0), QUICK).to_json()
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text) == found
    assert found["clip"]["ci"]["auc"][0] <= found["clip"]["auc"] <= found["clip"]["ci"]["auc"][1]
    assert {"majority_vote", "ci", "brier", "num"} <= set(found["participant"])


def test_equal_inputs_give_equal_results_in_any_row_order(simulate: Tables) -> None:
    table = simulate()
    one, other = evaluate(table, QUICK).to_json(), evaluate(table.sample(frac=1.0, random_state=1), QUICK).to_json()
    assert one["participant"]["ci"]["auc"] == pytest.approx(other["participant"]["ci"]["auc"])
    assert one["guard"]["verdict"] == other["guard"]["verdict"]


def test_labels_of_the_evaluated_rows_choose_nothing(simulate: Tables) -> None:
    table = simulate(seed=5)
    flipped = table.copy()
    test = flipped["split"] == "test"
    flipped.loc[test, "label"] = 1 - flipped.loc[test, "label"]
    one, other = evaluate(table, QUICK), evaluate(flipped, QUICK)
    assert one.operating_point == other.operating_point
    assert one.operating_point.threshold_source == "validation"


def test_scores_of_the_evaluated_rows_choose_nothing(simulate: Tables) -> None:
    table = simulate(seed=5)
    changed = table.copy()
    changed.loc[changed["split"] == "test", "score"] = 0.5
    assert evaluate(table, QUICK).operating_point == evaluate(changed, QUICK).operating_point


def test_a_fixed_threshold_is_used_at_both_levels(simulate: Tables) -> None:
    found = evaluate(simulate(), EvaluateConfig(num_bootstrap=0, threshold=0.37)).operating_point
    assert (found.clip, found.participant, found.threshold_source) == (0.37, 0.37, "config")


def test_a_validation_split_of_one_class_is_not_used(simulate: Tables) -> None:
    table = simulate()
    table = table[(table["split"] == "test") | (table["label"] == 0)]
    found = evaluate(table, QUICK)
    assert found.operating_point.threshold_source == "default"
    assert any("0 depressed of 14 participants" in note for note in found.notes)


def test_the_temperature_that_was_planted_is_found(simulate: Tables) -> None:
    frame = to_predictions(simulate(num_validation=400, effect=2.0)).frame
    validation = frame[frame["split"] == "validation"]
    sharper = validation.assign(score=1.0 / (1.0 + np.exp(-3.0 * logit(validation["score"].to_numpy()))))
    assert fit_temperature(sharper) == pytest.approx(3.0 * fit_temperature(validation), rel=1e-3)


def test_useless_validation_scores_flatten_the_probabilities_and_say_so(simulate: Tables) -> None:
    table = simulate()
    table["score"] = 1.0 - table["score"]
    point = choose_operating_point(to_predictions(table).frame.query("split == 'validation'"), QUICK)
    assert point.temperature == 20.0
    assert any("next to no information" in note for note in point.notes)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "f1", "accuracy"])
def test_no_threshold_on_a_fine_grid_does_better(simulate: Tables, metric: str) -> None:
    from sklearn import metrics as sk

    score = {"balanced_accuracy": sk.balanced_accuracy_score, "f1": sk.f1_score, "accuracy": sk.accuracy_score}[metric]
    frame = to_predictions(simulate(effect=1.0, num_validation=0)).frame
    label, value = frame["label"].to_numpy() == 1, frame["score"].to_numpy()
    chosen = best_threshold(Scored(value, label, np.arange(len(value)), len(value)), metric)
    reached = score(label, value >= chosen)
    assert reached >= max(score(label, value >= level) for level in np.linspace(0.02, 0.98, 97)) - 1e-12


def test_of_equally_good_thresholds_the_middle_of_the_widest_gap_is_taken() -> None:
    separated = Scored(np.array([0.1, 0.2, 0.6, 0.7]), np.array([False, False, True, True]), np.arange(4), 4)
    assert best_threshold(separated, "balanced_accuracy") == pytest.approx(0.4)


def test_the_participants_score_is_the_mean_and_the_vote_is_the_majority() -> None:
    table = pd.DataFrame(
        {
            "person": ["a"] * 3 + ["b"] * 3 + ["c", "d"],
            "unit_id": range(8),
            "label": [1, 1, 1, 0, 0, 0, 1, 0],
            "score": [0.55, 0.55, 0.1, 0.0, 0.4, 0.95, 0.9, 0.1],
        }
    )
    found = evaluate(table, QUICK).to_json()["participant"]
    assert found["confusion"] == {"tp": 1, "fn": 1, "fp": 0, "tn": 2}
    assert found["majority_vote"]["confusion"] == {"tp": 2, "fn": 0, "fp": 0, "tn": 2}


def test_the_constants_are_set_from_training_rows_when_there_are_any(simulate: Tables) -> None:
    table = simulate()
    train = simulate(seed=9, num_validation=0).assign(split="train")
    train["person"], train["unit_id"] = "train:" + train["person"], "train-" + train["unit_id"]
    train["label"] = 1 - train["label"]
    baselines = evaluate(pd.concat([table, train]), QUICK).to_json()["baselines"]
    assert baselines["majority"]["source"] == "train"
    assert baselines["majority"]["participant"]["answer"] == "depressed"
    assert baselines["majority"]["participant"]["accuracy"] == pytest.approx(0.3)
    assert baselines["prevalence"]["participant"]["probability"] == pytest.approx(0.7)
    assert baselines["prevalence"]["participant"]["brier"] == pytest.approx(0.3 * 0.3**2 + 0.7 * 0.7**2)


def test_a_known_training_prevalence_is_used(simulate: Tables) -> None:
    context = EvaluationContext(train_prevalence=Prevalence(clip=0.2, participant=0.25, source="manifest"))
    baselines = evaluate(simulate(), QUICK, context).to_json()["baselines"]
    assert baselines["prevalence"]["source"] == "manifest"
    assert baselines["prevalence"]["participant"]["probability"] == 0.25


def test_length_baselines_take_their_direction_from_validation(simulate: Tables) -> None:
    table = simulate(num_participants=40)
    depressed_speak_less = np.where(table["label"] == 1, 2.0, 9.0)
    table["duration_s"] = np.where(table["split"] == "test", depressed_speak_less, 11.0 - depressed_speak_less)
    length = evaluate(table, QUICK).to_json()["baselines"]["length"]["duration_s"]
    assert length["higher_is_depressed"] is True
    assert length["direction_source"] == "validation"
    assert not length["optimistic"]
    assert length["auc"] < 0.1


def test_length_baselines_without_validation_are_marked_optimistic(simulate: Tables) -> None:
    found = evaluate(simulate(num_validation=0, effect=0.0), QUICK).to_json()
    for baseline in found["baselines"]["length"].values():
        assert baseline["optimistic"]
        assert baseline["auc"] >= 0.5
    assert any("optimistic" in note for note in found["notes"])


def test_what_needs_absent_columns_is_skipped_and_said(from_matrix: Tables) -> None:
    found = evaluate(from_matrix((4, 4, 4, 8)), QUICK)
    assert found.by_gender == {}
    assert found.baselines.length == {}
    text = " ".join(found.notes)
    for name in ("gender is absent", "duration_s skipped", "num_turns skipped", "num_clips skipped"):
        assert name in text


def test_figures_by_gender_are_those_of_the_gender_alone(simulate: Tables) -> None:
    table = simulate(num_participants=40)
    by_gender = evaluate(table, QUICK.model_copy(update={"threshold": 0.5, "calibrate": False})).to_json()["by_gender"]
    women = table[(table["gender"] == "female") & (table["split"] == "test")]
    alone = evaluate(women, QUICK).to_json()
    assert set(by_gender) == {"female", "male"}
    assert by_gender["female"]["participant"]["auc"] == alone["participant"]["auc"]
    assert by_gender["female"]["clip"]["confusion"] == alone["clip"]["confusion"]


def test_other_readings_of_the_model_are_reported(simulate: Tables) -> None:
    table = simulate(num_validation=0)
    table["score_normalised"] = 1.0 - table["score"]
    table["answer"] = np.where(table["score"] > 0.5, "depressed", "not_depressed")
    table.loc[0:4, "answer"] = "unparsable"
    found = evaluate(table, QUICK).to_json()
    variants = found["variants"]
    assert variants["score_normalised"]["clip"]["auc"] == pytest.approx(1.0 - found["clip"]["auc"])
    assert variants["answer"]["num_unparsable"] == 5
    parsed = (table["answer"] == "depressed").to_numpy() == (table["label"] == 1).to_numpy()
    parsed[:5] = False
    assert variants["answer"]["accuracy"] == pytest.approx(parsed.mean())


def test_a_person_with_two_labels_counts_once_for_each_and_is_pointed_out() -> None:
    table = pd.DataFrame(
        {
            "person": list("aabbcd"),
            "unit_id": range(6),
            "label": [0, 1, 0, 0, 1, 1],
            "score": [0.2, 0.8, 0.3, 0.1, 0.7, 0.6],
        }
    )
    found = evaluate(table, QUICK)
    assert found.participant.counts["num"] == 5
    assert "two_labels" in {warning.code for warning in found.guard.warnings}


def test_a_split_or_unit_that_is_not_there_is_named(simulate: Tables) -> None:
    with pytest.raises(ValueError, match=r"split has no 'train' \(found: test, validation\)"):
        evaluate(simulate(), QUICK, EvaluationContext(split="train"))
    with pytest.raises(ValueError, match=r"unit has no 'item' \(found: clip\)"):
        evaluate(simulate(), EvaluateConfig(unit="item"))


def test_clips_are_evaluated_where_other_units_stand_beside_them(simulate: Tables) -> None:
    table = simulate()
    interviews = table.drop_duplicates("person").assign(unit="interview", score=0.5)
    found = evaluate(pd.concat([table.assign(unit="clip"), interviews]), QUICK)
    assert found.clip.counts["num"] == int((table["split"] == "test").sum())
    assert any("another unit" in note for note in found.notes)


def test_evaluating_the_validation_split_says_that_it_is_optimistic(simulate: Tables) -> None:
    found = evaluate(simulate(), QUICK, EvaluationContext(split="validation"))
    assert any("very rows that are evaluated" in note for note in found.notes)


def test_a_thousand_clips_take_seconds(simulate: Tables) -> None:
    table = simulate(num_participants=47, num_clips=21)
    # Processor time: the machine may be busy with other tests.
    started = time.process_time()
    evaluate(table, EvaluateConfig(num_bootstrap=2000))
    assert (table["split"] == "test").sum() > 800
    assert time.process_time() - started < 10.0


def test_evaluating_loads_no_model_framework() -> None:
    code = (
        "import sys, moodscale.evaluate, moodscale.evaluate.report;"
        "print(sorted({'ray', 'torch', 'transformers', 'mlflow'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
