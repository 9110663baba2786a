"""What an ensemble's settings refuse."""

from __future__ import annotations

import subprocess
import sys

import pytest

from moodscale.config import ConfigError, validate
from moodscale.registry.ensemble_config import EnsembleConfig


@pytest.mark.parametrize("member", ["models:/clips/3", "models:/clips@candidate", "runs:/transcripts_7b"])
def test_a_member_is_a_version_an_alias_or_a_run(member: str) -> None:
    assert EnsembleConfig(members=(member, "runs:/other")).members[0] == member


@pytest.mark.parametrize("member", ["clips", "models:/clips", "models:/clips/one", "runs:/../up", "runs:/a b", ""])
def test_what_names_no_member_is_refused(member: str) -> None:
    with pytest.raises(ConfigError, match="names no member; write models:/NAME/VERSION"):
        validate(EnsembleConfig, {"members": ["runs:/one", member]})


def test_one_member_is_no_ensemble_and_none_counts_twice() -> None:
    with pytest.raises(ConfigError, match="at least two members"):
        validate(EnsembleConfig, {"members": ["runs:/one"]})
    with pytest.raises(ConfigError, match="runs:/one is named twice"):
        validate(EnsembleConfig, {"members": ["runs:/one", "runs:/two", "runs:/one"]})


def test_settings_are_read_without_libraries_that_take_seconds() -> None:
    code = "import sys, moodscale.registry.ensemble_config\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert {"mlflow", "numpy", "pandas", "scipy", "sklearn", "torch"} & set(done.stdout.split()) == set()
