"""What a verb pays before it has read its configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"datasets", "deepspeed", "librosa", "mlflow", "peft", "ray", "scipy", "sklearn", "torch", "transformers"}
CONFIGS = sorted((Path(__file__).parents[2] / "jobs" / "configs" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_is_read_before_any_library_that_takes_seconds_is_imported(config: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "import moodscale.cli, moodscale.verbs.data, moodscale.verbs.evaluating, moodscale.verbs.registering\n"
        "from moodscale.config import load_config\n"
        "from moodscale.experiment import Experiment\n"
        "load_config(Experiment, Path(sys.argv[1]), [])\n"
        "print(*sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert HEAVY & set(done.stdout.split()) == set()
