"""What a registered model is made of: a directory of JSON and safetensors, checked in full whenever it is opened.

```
model.json            serving, recipe, base, adapter, manifest, versions, operating point, people learned from, and the
                      hash of every other file
adapter.safetensors   the trained weights
assets/               the processor's or tokenizer's files
```

The base model's weights are named, not copied: with their revision, and with a fingerprint of their values.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

import moodscale
from moodscale.config import ConfigError, validate
from moodscale.models.lora import ADAPTER_FILE
from moodscale.recipes.base import Recipe, RecipeConfig
from moodscale.registry.facts import FORMAT, PackageFacts, TrainedFacts
from moodscale.registry.serving.base import serving_of
from moodscale.tracking.environment import code_state, package_versions

MODEL_FILE = "model.json"
ASSETS = "assets"
PACKAGE = "package"
"""Name of the packed directory among the MLflow model's artifacts."""
INTENDED_USE = (
    "Research on interviews and depression severity. Not a medical device: a score is no diagnosis, and must not "
    "decide on anybody's care, work, insurance or rights."
)
REQUIREMENTS = (
    "mlflow",
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "safetensors",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "omegaconf",
    "pyyaml",
    "psutil",
    "scikit-learn",
    "soundfile",
    "soxr",
    "librosa",
    "universal-pathlib",
    "indexed-gzip",
)
"""What scoring imports. Ray and DeepSpeed are not among them."""

_SUFFIXES = frozenset({".json", ".safetensors", ".jinja", ".txt"})
_MAX_MODEL_FILE_BYTES = 4 * 2**20
_FINGERPRINT_VALUES = 256


F = TypeVar("F", bound=PackageFacts)


@dataclass(frozen=True)
class PackageSources:
    """What :func:`pack` writes into ``model.json`` and cannot find out by itself; see :class:`TrainedFacts`."""

    serving: str
    model_version: str
    recipe: RecipeConfig
    base_fingerprint: str
    precision: str
    manifest_hash: str
    operating_point: Mapping[str, Any]
    guard_verdict: str
    trained_people: tuple[str, ...]
    speech: str | None = None
    clip_s: float | None = None


def pack(sources: PackageSources, recipe: Recipe, adapter: Path, directory: Path) -> TrainedFacts:
    """Write the package of a recipe's model into an empty directory.

    Args:
        adapter: the checkpoint's safetensors file.
    Raises:
        ValueError: the recipe left a file behind that is no plain data.
    """
    shutil.copyfile(adapter, directory / ADAPTER_FILE)
    assets = directory / ASSETS
    assets.mkdir()
    recipe.save_assets(assets)
    values = {
        **vars(sources),
        "recipe": sources.recipe.to_json(),
        "operating_point": dict(sources.operating_point),
        "target": recipe.target,
        "base": recipe.base_reference(),
        "adapter_sha256": sha256(directory / ADAPTER_FILE),
    }
    return seal(directory, TrainedFacts, values)


def seal(directory: Path, kind: type[F], values: Mapping[str, Any]) -> F:
    """Write ``model.json`` beside the files of a package, over all of them; nothing may change afterwards.

    Args:
        values: the facts, without those of this machine and of the files.
    Raises:
        ValueError: a file that is no plain data.
    """
    files = _files(directory)
    for path in files.values():
        _check_plain(path)
    own = {
        "format": FORMAT,
        "moodscale_version": moodscale.__version__,
        "code_hash": code_state().code_hash,
        "packages": package_versions(REQUIREMENTS),
        "intended_use": INTENDED_USE,
        "files": {name: sha256(path) for name, path in files.items()},
    }
    facts = validate(kind, {**own, **values}, source=str(directory / MODEL_FILE))
    (directory / MODEL_FILE).write_text(json.dumps(facts.to_json(), indent=1, sort_keys=True), encoding="utf-8")
    return facts


def open_package(directory: Path) -> PackageFacts:
    """Read ``model.json`` and check every file against it, before any of them is used.

    Raises:
        ValueError: a file that is missing, changed, not listed, or no plain data (a pickle, say), named.
        ConfigError: ``model.json`` is of another format, or holds something that is refused (remote code).
    """
    path = directory / MODEL_FILE
    if not path.is_file() or path.stat().st_size > _MAX_MODEL_FILE_BYTES:
        raise ValueError(f"{path}: there is no readable {MODEL_FILE}; register the model again")
    found = {name: file for name, file in _files(directory).items() if name != MODEL_FILE}
    for file in found.values():
        _check_plain(file)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path}: not readable as JSON; register the model again") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found_format = values.get("format") if isinstance(values, dict) else None
        said = f" but of {found_format}" if isinstance(found_format, int) else ""
        raise ConfigError(f"{path}: not of format {FORMAT}{said}; register the model again with this version")
    facts = validate(serving_of(str(values.get("serving"))).facts, values, source=str(path))
    for name in sorted(found.keys() ^ facts.files.keys()):
        raise ValueError(f"{directory / name}: {'missing' if name in facts.files else f'not listed in {MODEL_FILE}'}")
    for name, expected in facts.files.items():
        if sha256(found[name]) != expected:
            raise ValueError(f"{directory / name}: hash mismatch, the file changed after it was packed")
    return facts


def refuse_pickles(directory: Path) -> None:
    """Look through a whole model directory without opening anything as more than bytes.

    Raises:
        ValueError: naming the first file that is a pickle by name or by content.
    """
    for path in _files(directory).values():
        if path.suffix in {".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".npy", ".npz"} or _looks_pickled(path):
            raise ValueError(f"{path}: a pickle can run code when it is loaded; refused, and not opened")


def base_fingerprint(model: nn.Module) -> str:
    """A hash of the frozen weights: every tensor's name and shape, and a sample of its values.

    Equal wherever the same base is loaded in the same precision, whatever files it came from. The sample keeps it
    to seconds for billions of parameters.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad:
            continue
        flat = parameter.detach().reshape(-1)
        step = max(1, flat.numel() // _FINGERPRINT_VALUES)
        digest.update(f"{name}:{tuple(parameter.shape)}\n".encode())
        digest.update(flat[::step].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:32]


def requirements() -> list[str]:
    """Pinned to what is installed. Local labels (``+cpu``) are cut: one pin serves machines with and without GPUs."""
    return [f"{name}=={version.partition('+')[0]}" for name, version in package_versions(REQUIREMENTS).items()]


def copy_code(directory: Path) -> Path:
    """This package's source as it runs now, without caches or anything else that lies in its folder."""
    source = Path(moodscale.__file__).parent
    target = directory / source.name
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.suffix in {".py", ".html", ".css"}:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return target


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _files(directory: Path) -> Mapping[str, Path]:
    return {path.relative_to(directory).as_posix(): path for path in sorted(directory.rglob("*")) if not path.is_dir()}


def _check_plain(path: Path) -> None:
    if path.is_symlink() or path.suffix not in _SUFFIXES or _looks_pickled(path):
        raise ValueError(f"{path}: only {', '.join(sorted(_SUFFIXES))} files belong in a model; refused, not opened")


def _looks_pickled(path: Path) -> bool:
    """A pickle of protocol 2 or later, or a zip archive, which is what torch writes its pickles into."""
    with path.open("rb") as stream:
        head = stream.read(9)
    if path.suffix == ".safetensors" and head[8:] == b"{":
        return False  # eight bytes of header length, whatever they are, then the header
    return (len(head) >= 2 and head[0] == 0x80 and 2 <= head[1] <= 5) or head[:4] == b"PK\x03\x04"
