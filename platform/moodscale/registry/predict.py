"""Score recordings or conversations with a registered model, by its own code in its own process."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.models import Model

from moodscale.config import ConfigError
from moodscale.registry.facts import PackageFacts
from moodscale.registry.messages import MESSAGES, read_messages_file
from moodscale.registry.package import PACKAGE, open_package, refuse_pickles
from moodscale.registry.recordings import PATH
from moodscale.registry.reload import Reloader, Request, score_in_fresh_process
from moodscale.registry.serving.base import serving_of
from moodscale.registry.store import RegistryStore
from moodscale.registry.versions import MODEL_VERSION_TAG

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
    """Score files: recordings (wav) with a model of speech, conversations (JSON, see ``registry.messages``) with one
    of transcripts.

    The version's files are fetched and checked before anything of them runs: code and plain data only.

    Args:
        model: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, or the same without ``models:/``.
        device: ``auto``, ``cpu``, ``cuda``…
    Returns:
        one dictionary a file: ``path``, the answer's columns (of speech: ``probability``, ``depressed``, ``score``,
        ``num_clips``, ``model_version``; of transcripts: ``score``, ``low``, ``high``, …), and the registry's
        ``version``.
    Raises:
        ConfigError: the reference is not one, there is no such version, or it was not registered by moodscale.
        ValueError: a file that cannot be scored, or a model that holds a pickle or was changed.
        ReloadError: the model cannot be loaded here.
    """
    if not paths:
        raise ValueError("no recording given; name the files to score: recordings, or conversations as JSON")
    store = RegistryStore(tracking_uri)
    version = find_version(store, model)
    with tempfile.TemporaryDirectory(prefix="moodscale-predict-") as folder:
        directory = store.download(version, Path(folder))
        facts = check_model_directory(directory)
        columns = serving_of(facts.serving).signature().inputs.input_names()
        request = _request(directory, tracking_uri, paths, columns, device)
        rows = reloader(request, timeout_s)
    return [{"path": str(path), **row, "version": str(version.version)} for path, row in zip(paths, rows, strict=True)]


def _request(
    directory: Path, tracking_uri: str, paths: Sequence[str | Path], columns: Sequence[str], device: str
) -> Request:
    """Files by their names: ``.json`` are conversations, anything else is a recording.

    Raises:
        ValueError: both kinds, a kind that the model does not read, or a file that holds no messages.
    """
    absolute = [Path(path).expanduser().absolute() for path in paths]
    kinds = {MESSAGES if path.suffix.lower() == ".json" else PATH for path in absolute}
    if len(kinds) > 1:
        raise ValueError("recordings and conversations (.json) are given; score them one kind at a time")
    if kinds == {MESSAGES}:
        if MESSAGES not in columns:
            raise ValueError(f"{absolute[0].name}: the model reads recordings, and no conversations (.json)")
        texts = [read_messages_file(path) for path in absolute]
        return Request(str(directory), tracking_uri, messages=texts, device=device)
    if PATH not in columns:
        raise ValueError(f"{absolute[0].name}: the model reads conversations, as .json files, and no recordings")
    return Request(str(directory), tracking_uri, paths=[str(path) for path in absolute], device=device)


def in_words(row: Mapping[str, Any]) -> str:
    """One answer of any kind of model, for a person to read."""
    if row.get("num_clips") is not None:
        return f"P(depressed) {row['probability']:.3f} over {row['num_clips']} clips"
    if row.get("instrument"):
        interval = f"{row['low']:.1f} to {row['high']:.1f}"
        return f"{row['instrument']} total {row['score']:.1f} ({interval}), {row['severity_band']}"
    return f"P(depressed) {row['score']:.3f}"


def check_model_directory(directory: Path) -> PackageFacts:
    """Refuse an MLflow model that is loaded by unpickling, or whose package is not whole.

    Raises:
        ConfigError: it is no model from code.
        ValueError: a pickle, or a file that is missing, changed or not listed.
    """
    refuse_pickles(directory)
    flavor = Model.load(str(directory)).flavors.get("python_function", {})
    if flavor.get("loader_module") != _CODE_LOADER or "python_model" in flavor:
        raise ConfigError(f"{directory}: is no model from code (loader {flavor.get('loader_module')!r}); refused")
    return open_package(directory / "artifacts" / PACKAGE)


def find_version(store: RegistryStore, model: str) -> ModelVersion:
    """The version that ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` names.

    Raises:
        ConfigError: it is no such reference, there is no such version, or it was not registered by moodscale.
    """
    match = _REFERENCE.match(model)
    if match is None:
        raise ConfigError(f"model={model[:200]!r} is not of the form models:/NAME@ALIAS or models:/NAME/VERSION")
    version = store.find(match["name"], match["version"], match["alias"])
    if MODEL_VERSION_TAG not in version.tags:
        raise ConfigError(
            f"version {version.version} of {version.name} was not registered by moodscale; only those are loaded"
        )
    return version
