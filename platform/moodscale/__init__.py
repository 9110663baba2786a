"""moodscale: train, evaluate and register models that estimate depression severity from interviews.

A research and platform tool, not a medical device.
"""

import os as _os

__version__ = "0.1.0"

# Libraries below us report usage to their makers unless told otherwise. This package is imported before any of
# them, in drivers and in workers, so this is the one place that surely runs first. MLflow reads the word "true".
_os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
_os.environ["DO_NOT_TRACK"] = "true"
_os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
_os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
