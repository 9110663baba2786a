"""The report is one file that asks nobody for anything, says the verdict first and leaks no markup."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from html_pages import assert_stands_alone
from moodscale.evaluate.config import EvaluateConfig
from moodscale.evaluate.evaluate import evaluate
from moodscale.evaluate.report.context import ReportContext
from moodscale.evaluate.report.svg import nice_ticks
from moodscale.evaluate.report.write import write_report

Tables = Callable[..., pd.DataFrame]
QUICK = EvaluateConfig(num_bootstrap=60)
HISTORY = [(step, "train/loss", 1.0 / (step + 1)) for step in range(50)] + [(25, "validation/auc", 0.7)]


def page(path: Path, table: pd.DataFrame, **context: object) -> str:
    written = write_report(evaluate(table, QUICK), table, ReportContext(**context), path / "report.html")  # type: ignore[arg-type]
    return written.read_text(encoding="utf-8")


def test_the_page_asks_for_nothing_outside_and_runs_no_script(simulate: Tables, tmp_path: Path) -> None:
    html = page(tmp_path, simulate(), recipe="qwen2_audio", history=HISTORY, facts={"git": "abc", "v": {"torch": "2"}})
    assert_stands_alone(html)


def test_the_sections_stand_in_order_with_the_verdict_first(simulate: Tables, tmp_path: Path) -> None:
    html = page(tmp_path, simulate(), recipe="qwen2_audio", history=HISTORY, facts={"manifest": "sha"})
    order = [
        "Collapse guard: pass",
        "not a medical device",
        "Participant AUC",
        ">ROC<",
        ">Precision and recall<",
        ">Reliability<",
        ">Confusion<",
        "Probabilities by participant",
        ">By gender<",
        "Beside the baselines",
        "Learning curves",
        "Beside the paper",
        "Data and run",
        "Intended use and limits",
    ]
    found = [html.index(text) for text in order]
    assert found == sorted(found)


def test_a_failing_verdict_leads_with_its_reasons(from_matrix: Tables, tmp_path: Path) -> None:
    html = page(tmp_path, from_matrix((48, 227, 147, 496)), recipe="qwen2_audio")
    assert html.index("Collapse guard: fail") < html.index("Why it fails") < html.index("Participant AUC</div>")
    assert "should not be used" in html
    assert "0.593" in html


def test_every_chart_is_well_formed_and_named(simulate: Tables, tmp_path: Path) -> None:
    html = page(tmp_path, simulate(), history=HISTORY)
    charts = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(charts) == 7
    for chart in charts:
        root = ElementTree.fromstring(chart)
        assert root.attrib["aria-label"]
        assert "nan" not in chart


def test_each_participant_has_a_mean_and_all_clips(simulate: Tables, tmp_path: Path) -> None:
    table = simulate(num_participants=20)
    html = page(tmp_path, table)
    assert len(re.findall(r'class="mean-dot', html)) == 20
    assert len(re.findall(r'class="clip-dot', html)) == int((table["split"] == "test").sum())


def test_hundreds_of_participants_get_a_dot_each_without_names(simulate: Tables, tmp_path: Path) -> None:
    html = page(tmp_path, simulate(num_participants=300, num_clips=2))
    assert len(re.findall(r'class="strip-dot', html)) == 300
    assert 'class="mean-dot' not in html


def test_what_is_approximate_is_said_where_something_is(simulate: Tables, tmp_path: Path) -> None:
    assert "What is approximate" not in page(tmp_path, simulate())
    html = page(tmp_path, simulate(), approximations=("edaic: no speaker column, so <other> speech is in it",))
    assert "What is approximate" in html
    assert "edaic: no speaker column, so &lt;other&gt; speech is in it" in html


def test_markup_in_keys_and_facts_is_text(simulate: Tables, tmp_path: Path) -> None:
    table = simulate(num_participants=12, effect=3.0)
    attack = "<script>alert(1)</script>"
    table["person"] = table["person"] + attack
    table["gender"] = table["gender"] + attack
    html = page(
        tmp_path,
        table,
        title=attack,
        facts={attack: attack, "group" + attack: {attack: attack}},
        history=[(0, f"train/{attack}", 1.0), (1, f"{attack}/loss", 2.0)],
    )
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_a_table_of_one_class_still_gets_a_report(tmp_path: Path) -> None:
    table = pd.DataFrame({"person": list("abc"), "unit_id": list("123"), "label": [0, 0, 0], "score": [0.2, 0.3, 0.4]})
    html = page(tmp_path, table)
    assert "each class needs" in html
    assert ">ROC<" not in html


def test_a_second_report_replaces_the_first_and_leaves_nothing_behind(simulate: Tables, tmp_path: Path) -> None:
    page(tmp_path, simulate(), title="first")
    html = page(tmp_path, simulate(), title="second")
    assert "<h1>second</h1>" in html
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_without_history_recipe_and_facts_their_sections_are_absent(simulate: Tables, tmp_path: Path) -> None:
    html = page(tmp_path, simulate())
    assert "Learning curves" not in html
    assert "Beside the paper" not in html


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (0.0, 198.0), (-3.2, 4.7), (0.0, 5e-5), (1.0, 1.0), (99_990.0, 100_010.0)]
)
def test_ticks_are_few_and_within_the_limits(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 1 <= len(ticks) <= 6
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
