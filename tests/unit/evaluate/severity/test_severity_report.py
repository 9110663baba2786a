"""The severity page is one offline file, says its verdict first, shows a dash for what is missing, leaks no markup."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from html_pages import assert_stands_alone
from moodscale.evaluate.config import SeverityConfig
from moodscale.evaluate.report.context import ReportContext
from moodscale.evaluate.report.severity import write_severity_report
from moodscale.evaluate.severity.compare import compare_models
from moodscale.evaluate.severity.evaluate import SeverityContext, evaluate_severity

Tables = Callable[..., pd.DataFrame]
QUICK = SeverityConfig(num_bootstrap=60)
HISTORY = [(step, "train/loss", 1.0 / (step + 1)) for step in range(50)] + [(25, "validation/mae", 3.7)]
ROUNDS = {
    "rounds": [
        {
            "round": 1,
            "labeller": "lexicon",
            "num_true": 61,
            "num_pseudo": 183,
            "num_left_out": 19,
            "label_shift": None,
            "agreement": {"num": 60, "mae": 4.44, "pearson_r": 0.31},
            "validation": {"mae": 3.33, "rmse": 5.1, "pearson_r": 0.6},
            "improved": True,
        },
        {
            "round": 2,
            "labeller": "model",
            "num_true": 61,
            "num_pseudo": 183,
            "num_left_out": None,
            "label_shift": {"mean": -0.25, "mean_abs": 1.5, "max_abs": 6.0, "num_changed": 120},
            "agreement": None,
            "validation": {"mae": 3.11, "rmse": None, "pearson_r": None},
            "improved": None,
        },
    ],
    "stopped": "no round improved on the second",
    "best_round": 2,
}
ENSEMBLE = {
    "members": [
        {"name": "first", "model_version": "3", "recipe": "text", "weight": 0.75, "validation": {"mae": 3.21}},
        {"name": "second", "model_version": None, "recipe": None, "weight": None, "validation": None},
    ],
    "weighting": "validation",
    "calibration": {"kind": "linear", "slope": 1.05, "intercept": -0.4},
    "interval": {"level": 0.9, "half_width": 27.0},
}


def page(path: Path, table: pd.DataFrame, context: SeverityContext | None = None, **more: Any) -> str:
    facts = {name: more.pop(name) for name in ("title", "facts", "approximations", "history") if name in more}
    evaluation = evaluate_severity(table, QUICK, context)
    written = write_severity_report(evaluation, table, ReportContext(**facts), path / "severity.html", **more)
    return written.read_text(encoding="utf-8")


@pytest.fixture
def full(simulate: Tables, tmp_path: Path) -> str:
    table = simulate(items=True)
    rival = table.assign(score=table["score"].where(table["target"] != "total", 6.0))
    return page(
        tmp_path,
        table,
        SeverityContext(rivals={"TF-IDF + ridge": rival}),
        history=HISTORY,
        facts={"manifest": "abc", "versions": {"numpy": "2"}},
        approximations=("no speaker column",),
        rounds=ROUNDS,
        ensemble=ENSEMBLE,
        comparisons=[compare_models(table, rival, ("ensemble", "true labels alone"), config=QUICK)],
    )


def test_the_page_asks_for_nothing_outside_and_runs_no_script(full: str) -> None:
    assert_stands_alone(full)


def test_the_sections_stand_in_order_with_the_verdict_first(full: str) -> None:
    order = [
        "Severity guard: pass",
        "not a medical device",
        "Mean absolute error",
        ">Predicted and reported<",
        ">Bland–Altman<",
        ">Calibration<",
        "Beside the baselines",
        ">Paired differences<",
        ">AUC by threshold<",
        ">Severity bands<",
        ">By gender<",
        ">By item<",
        "Pseudo-label rounds",
        ">Ensemble<",
        "Learning curves",
        "Beside the paper",
        "Data and run",
        "What is approximate",
        "Intended use and limits",
    ]
    found = [full.index(text) for text in order]
    assert found == sorted(found)


def test_every_chart_is_well_formed_and_named(full: str) -> None:
    charts = re.findall(r"<svg.*?</svg>", full, re.DOTALL)
    names = [ElementTree.fromstring(chart).attrib["aria-label"] for chart in charts]
    assert len(names) == 10
    assert all(names)
    assert not any("nan" in chart for chart in charts)


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_rounds_and_ensemble_are_shown_with_a_dash_for_what_is_missing(full: str) -> None:
    rounds = text_of(full[full.index("Pseudo-label rounds") : full.index(">Ensemble<")])
    assert "1 lexicon 61 183 19 – – – – 4.44 r 0.31, n 60 3.33" in rounds
    assert "2 (taken) model 61 183 – −0.25 1.50 6.00 120 – r –, n – 3.11 RMSE –, r – –" in rounds
    assert "no round improved on the second" in rounds
    ensemble = text_of(full[full.index(">Ensemble<") : full.index("Learning curves")])
    assert "first 3 text 0.750 3.210" in ensemble
    assert "second – – – – – –" in ensemble
    assert "−0.40 + 1.050" in ensemble
    # No error can be above 27 points.
    assert "(100 %)" in ensemble


@pytest.mark.parametrize("rounds", [{}, {"rounds": None}, {"rounds": [{}], "stopped": None, "best_round": None}])
@pytest.mark.parametrize("ensemble", [{}, {"members": None, "calibration": None}, {"members": [{}]}])
def test_nothing_but_dashes_is_a_page_too(
    simulate: Tables, tmp_path: Path, rounds: dict[str, Any], ensemble: dict[str, Any]
) -> None:
    html = page(tmp_path, simulate(num_people=10), rounds=rounds, ensemble=ensemble)
    assert "Best round: –" in html
    assert "Weights: –" in html


def test_the_papers_figures_stand_beside_ours(full: str) -> None:
    beside = text_of(full[full.index("Beside the paper") : full.index("Data and run")])
    assert "PHQ-9 842 2.6 4.0 0.80 0.91 above 0.87 3 to 24" in beside
    assert "Ours, PHQ-9 80" in beside


def test_a_failing_verdict_leads_with_its_reasons(simulate: Tables, tmp_path: Path) -> None:
    html = page(tmp_path, simulate().assign(score=9.0))
    assert html.index("Severity guard: fail") < html.index("Why it fails") < html.index("Mean absolute error (points)")
    assert "should not be used" in html
    assert "undefined" in html


def test_each_unit_is_a_dot_in_the_scatter(simulate: Tables, tmp_path: Path) -> None:
    table = simulate(num_people=25)
    html = page(tmp_path, table)
    scatter = next(chart for chart in re.findall(r"<svg.*?</svg>", html, re.DOTALL) if "Predicted total by" in chart)
    assert len(re.findall(r'class="strip-dot', scatter)) == int((table["split"] == "test").sum())


def test_without_rounds_ensemble_and_items_their_sections_are_absent(simulate: Tables, tmp_path: Path) -> None:
    html = page(tmp_path, simulate())
    for heading in ("Pseudo-label rounds", ">Ensemble<", ">By item<", "Learning curves", "What is approximate"):
        assert heading not in html


def test_skipped_thresholds_are_said(simulate: Tables, tmp_path: Path) -> None:
    table = simulate(num_people=12, seed=2)
    html = page(tmp_path, table[table["label"] < 20])
    assert "0 person(s) at or above 24" in html


def test_yes_no_comparisons_have_their_own_table(simulate: Tables, tmp_path: Path) -> None:
    table = simulate(splits=("test",))
    binary = table.assign(target="depressed", label=(table["label"] >= 10) * 1.0, score=table["score"] / 27)
    both = compare_models(binary, binary, ("one", "other"), target="depressed", config=QUICK)
    html = page(tmp_path, table, comparisons=[both])
    assert "one − other" in text_of(html[html.index("Depressed or not") :])


def test_markup_in_names_is_text(simulate: Tables, tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"
    table = simulate(num_people=12)
    table["person"] += attack
    table["gender"] += attack
    html = page(
        tmp_path,
        table,
        SeverityContext(rivals={attack: table}),
        title=attack,
        facts={attack: {attack: attack}},
        rounds={"rounds": [{"round": 1, "labeller": attack}], "stopped": attack},
        ensemble={"members": [{"name": attack}], "weighting": attack, "calibration": {"kind": attack}},
        history=[(0, f"train/{attack}", 1.0)],
    )
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_a_second_report_replaces_the_first_and_leaves_nothing_behind(simulate: Tables, tmp_path: Path) -> None:
    page(tmp_path, simulate(num_people=10), title="first")
    assert "<h1>second</h1>" in page(tmp_path, simulate(num_people=10), title="second")
    assert [file.name for file in tmp_path.iterdir()] == ["severity.html"]
