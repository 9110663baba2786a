"""The command line: exit codes, one message instead of a traceback, and the figures that the paper printed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from moodscale import cli

RECIPES = Path(__file__).parents[2] / "jobs" / "configs" / "recipes"
PUBLISHED = RECIPES / "qwen2_audio_daic_woz.yaml"
DEMO = RECIPES / "qwen2_audio_demo.yaml"

TABLE_1 = {
    "base": ((195, 80, 443, 200), {"accuracy": 0.430, "balanced_accuracy": 0.510, "f1": 0.427, "recall": 0.709}),
    "phase 1": ((48, 227, 147, 496), {"accuracy": 0.593, "balanced_accuracy": 0.473, "f1": 0.204, "recall": 0.175}),
    "phase 2": ((32, 243, 133, 510), {"accuracy": 0.590, "balanced_accuracy": 0.455, "f1": 0.145, "recall": 0.116}),
}
"""Confusion matrices (TP, FN, FP, TN) of 918 clips, and the figures printed beside them."""


@pytest.fixture(autouse=True)
def _stdout_stays_pytests(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own a verb takes stdout for its result alone (the last test); here pytest captures it."""
    monkeypatch.setattr(cli, "_claim_stdout", lambda: None)


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``moodscale ARGUMENTS``."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    code = caught.value.code
    return (0 if code is None else int(code)), shown.out, shown.err


def result(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    values: dict[str, Any] = json.loads(out.splitlines()[-1])
    return values


def table_of(matrix: tuple[int, int, int, int]) -> pd.DataFrame:
    tp, fn, fp, tn = matrix
    label, score = [1] * (tp + fn) + [0] * (fp + tn), [1] * tp + [0] * fn + [1] * fp + [0] * tn
    keys = [f"p{row}" for row in range(len(label))]
    return pd.DataFrame({"person": keys, "unit_id": keys, "label": label, "score": score})


@pytest.mark.parametrize("model", TABLE_1)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_papers_matrices_give_its_figures_and_fail_the_guard(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str, suffix: str
) -> None:
    matrix, printed = TABLE_1[model]
    path = tmp_path / f"predictions{suffix}"
    table = table_of(matrix)
    if suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)
    shown = result(capsys, "evaluate", "--predictions", path)
    assert {name: round(shown["clip"][name], 3) for name in printed} == printed
    assert round(shown["baselines"]["majority"]["accuracy"], 3) == 0.700
    assert shown["guard"]["verdict"] == "fail"
    assert shown["guard"]["reasons"]
    assert Path(shown["report"]).is_file()


def test_a_plan_of_the_published_configuration_has_the_papers_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    shown = result(capsys, "plan", PUBLISHED)
    assert (shown["trainable_params"], shown["total_params"]) == (27_210_752, 8_424_305_664)


def test_a_plan_without_json_is_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "plan", DEMO)
    assert code == 0
    assert not out.lstrip().startswith("{")
    assert "H100" in out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["plan", PUBLISHED, "optim.lr=fast"], "optim.lr (got 'fast')"),
        (["plan", PUBLISHED, "optim.learning_rate=1"], "optim.learning_rate (got 1): unknown key"),
        (["plan", PUBLISHED, "recipe.model.trust_remote_code=true"], "trust_remote_code is refused"),
        (["plan", PUBLISHED, "recipe.kind=../evil"], "is not a name"),
        (["plan", PUBLISHED, "train.micro_batch=3"], "effective_batch=8 is not a multiple"),
        (["plan", PUBLISHED, "nonsense"], "'nonsense' is not of the form section.field=value"),
        (["train", "nowhere.yaml"], "nowhere.yaml: no such configuration file"),
        (["evaluate"], "--predictions FILE"),
        (["plan", PUBLISHED, "--utilisation", "2"], "utilisation=2.0"),
    ],
)
def test_a_users_mistake_exits_2_with_one_message_and_no_traceback(
    capsys: pytest.CaptureFixture[str], arguments: list[str | Path], complaint: str
) -> None:
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 2
    assert complaint in err
    assert "error: " in err
    assert "Traceback" not in err + out
    assert "{" not in out, "no result where no work was done"


def test_training_without_a_manifest_exits_2_and_says_how_to_make_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = run(capsys, "train", DEMO, f"storage_path={tmp_path}")
    assert code == 2
    assert "moodscale prepare" in err
    assert "Traceback" not in err


def test_predictions_that_cannot_be_read_exit_2_by_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    pd.DataFrame({"person": ["a"], "score": [0.5]}).to_csv(path, index=False)
    code, _, err = run(capsys, "evaluate", "--predictions", path)
    assert code == 2
    assert "unit_id" in err
    assert "label" in err
    assert run(capsys, "evaluate", "--predictions", tmp_path / "absent.csv")[0] == 2


@pytest.mark.parametrize("arguments", [["no-such-verb"], ["plan"], ["plan", PUBLISHED, "--no-such-option"]])
def test_a_command_that_does_not_exist_exits_2(capsys: pytest.CaptureFixture[str], arguments: list[str | Path]) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert "Traceback" not in err


def test_help_says_what_it_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert "Not a medical device" in " ".join(out.split())
    for verb in ("synthesize", "prepare", "train", "evaluate", "register", "predict", "plan", "doctor"):
        assert verb in out


@pytest.mark.slow
def test_in_a_process_of_its_own_stdout_is_the_result_alone(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    table_of(TABLE_1["base"][0]).to_csv(path, index=False)
    entry = "import sys; from moodscale.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", entry, "evaluate", "--predictions", str(path), "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    assert json.loads(line)["guard"]["verdict"] == "fail"
    failed = subprocess.run(
        [sys.executable, "-c", entry, "evaluate", "--predictions", str(tmp_path / "absent.csv")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (failed.returncode, failed.stdout) == (2, "")
    assert "absent.csv" in failed.stderr
    assert "Traceback" not in failed.stderr


def totals(path: Path, noise: float, seed: int) -> Path:
    """Forty people's totals, and what a model said of them; the same people whatever the model."""
    label = np.random.default_rng(0).integers(0, 25, 40)
    said = np.clip(label + np.random.default_rng(seed).normal(0, noise, 40), 0, 27)
    lines = ["person,unit_id,unit,target,instrument,label,score,split"]
    lines += [f"p{i},u{i},interview,total,PHQ-9,{label[i]},{said[i]:.3f},test" for i in range(40)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_two_tables_of_the_same_people_are_compared_pair_by_pair(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good, poor = totals(tmp_path / "good.csv", 1.0, 1), totals(tmp_path / "poor.csv", 6.0, 2)
    shown = result(capsys, "evaluate", "--predictions", good, "--against", poor)
    [comparison] = shown["comparisons"]
    assert (comparison["first"], comparison["second"]) == ("good", "poor")
    assert comparison["differences"]["mae"]["better"] == "first"
    assert comparison["differences"]["mae"]["ci"][1] < 0
    other = result(capsys, "evaluate", "--predictions", poor, "--against", poor)["comparisons"][0]
    assert other["differences"]["mae"]["difference"] == 0


def test_tables_of_other_people_are_not_compared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    one, two = totals(tmp_path / "one.csv", 1.0, 1), totals(tmp_path / "two.csv", 1.0, 2)
    two.write_text(two.read_text().replace("p7,u7,", "p99,u99,"))
    code, _, err = run(capsys, "evaluate", "--predictions", one, "--against", two)
    assert code == 2
    assert "u99" in err
    assert run(capsys, "evaluate", "--against", two)[0] == 2
