"""The registered model as MLflow loads it, from the code that was registered with it, in a process that need not have
moodscale installed. Which kind of model it is, its package says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.pyfunc import PythonModel

from moodscale.registry.package import PACKAGE
from moodscale.registry.serving.base import ServedModel, open_model

# MLflow prints the refused input itself where a request does not fit the signature. Ours are people's voices and words.
os.environ.setdefault("MLFLOW_DISABLE_SCHEMA_DETAILS", "true")


class RegisteredModel(PythonModel):  # type: ignore[misc]
    """Whatever kind of model the package holds. Research use; not a medical device."""

    served: ServedModel

    def load_context(self, context: Any) -> None:
        """Check the package in full, then build the model.

        Raises:
            ValueError: a file that changed or does not belong, an adapter that does not fit, another base model.
            ConfigError: a device that is not there, or a recipe that is refused.
        """
        self.served = open_model(Path(context.artifacts[PACKAGE]), context.model_config)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answer a request: a DataFrame, a list of dictionaries or one dictionary, by the model's signature.

        Raises:
            ValueError: naming the row or file that cannot be scored, and never what is in it.
        """
        del context, params
        return self.served.answer(model_input)
