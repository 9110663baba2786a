"""Score recordings with a registered model, by its own code in its own process."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.models import Model

from moodscale.config import ConfigError
from moodscale.registry.classifier import PACKAGE
from moodscale.registry.package import open_package, refuse_pickles
from moodscale.registry.recordings import HOW_TO_ASK
from moodscale.registry.register import MODEL_VERSION_TAG
from moodscale.registry.reload import Reloader, Request, score_in_fresh_process
from moodscale.registry.store import RegistryStore

_REFERENCE = re.compile(
    r"^(?:models:/)?(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,199})(?:@(?P<alias>[A-Za-z][A-Za-z0-9_-]{0,99})|/(?P<version>[0-9]{1,9}))$"
)
_CODE_LOADER = "mlflow.pyfunc.loaders.code_model"


def predict_from_registry(
    model: str,
    paths: Sequence[str | Path],
    tracking_uri: str,
    device: str = "auto",
    timeout_s: float = 1800.0,
    reloader: Reloader = score_in_fresh_process,
) -> list[dict[str, Any]]:
    """Score wav files.

    The version's files are fetched and checked before anything of them runs: code and plain data only.

    Args:
        model: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, or the same without ``models:/``.
        device: ``auto``, ``cpu``, ``cuda``…
    Returns:
        one dictionary a file: ``path``, ``probability``, ``depressed``, ``score``, ``num_clips``,
        ``model_version``, and the registry's ``version``.
    Raises:
        ConfigError: the reference is not one, there is no such version, or it was not registered by moodscale.
        ValueError: a file that cannot be scored, or a model that holds a pickle or was changed.
        ReloadError: the model cannot be loaded here.
    """
    if not paths:
        raise ValueError(f"no recording given; {HOW_TO_ASK}")
    store = RegistryStore(tracking_uri)
    version = _find(store, model)
    with tempfile.TemporaryDirectory(prefix="moodscale-predict-") as folder:
        directory = store.download(version, Path(folder))
        check_model_directory(directory)
        absolute = [str(Path(path).expanduser().absolute()) for path in paths]
        request = Request(str(directory), tracking_uri, paths=absolute, device=device)
        rows = reloader(request, timeout_s)
    return [{"path": str(path), **row, "version": str(version.version)} for path, row in zip(paths, rows, strict=True)]


def check_model_directory(directory: Path) -> None:
    """Refuse an MLflow model that is loaded by unpickling, or whose package is not whole.

    Raises:
        ConfigError: it is no model from code.
        ValueError: a pickle, or a file that is missing, changed or not listed.
    """
    refuse_pickles(directory)
    flavor = Model.load(str(directory)).flavors.get("python_function", {})
    if flavor.get("loader_module") != _CODE_LOADER or "python_model" in flavor:
        raise ConfigError(f"{directory}: is no model from code (loader {flavor.get('loader_module')!r}); refused")
    open_package(directory / "artifacts" / PACKAGE)


def _find(store: RegistryStore, model: str) -> ModelVersion:
    match = _REFERENCE.match(model)
    if match is None:
        raise ConfigError(f"model={model[:200]!r} is not of the form models:/NAME@ALIAS or models:/NAME/VERSION")
    version = store.find(match["name"], match["version"], match["alias"])
    if MODEL_VERSION_TAG not in version.tags:
        raise ConfigError(
            f"version {version.version} of {version.name} was not registered by moodscale; only those are loaded"
        )
    return version
