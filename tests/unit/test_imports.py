"""What a verb pays before it has read its configuration."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {
    "datasets",
    "deepspeed",
    "librosa",
    "mlflow",
    "pandas",
    "peft",
    "ray",
    "scipy",
    "sklearn",
    "torch",
    "transformers",
}


def test_a_configuration_is_read_before_any_library_that_takes_seconds_is_imported() -> None:
    code = (
        "import sys\n"
        "import moodscale.verbs, moodscale.recipes.qwen2_audio, moodscale.corpora.daic_woz\n"
        "import moodscale.prepare.driver, moodscale.train.driver, moodscale.features.driver\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert HEAVY & set(done.stdout.split()) == set()
