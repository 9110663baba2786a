"""The script that MLflow runs to get the model: a model from code, so that nothing is ever unpickled."""

import mlflow.models

from moodscale.registry.pyfunc import RegisteredModel

mlflow.models.set_model(RegisteredModel())
