"""The package: whole and plain, or not opened."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import moodscale
from moodscale.config import ConfigError
from moodscale.models.lora import ADAPTER_FILE
from moodscale.registry.package import (
    MODEL_FILE,
    REQUIREMENTS,
    base_fingerprint,
    copy_code,
    open_package,
    refuse_pickles,
    requirements,
)
from moodscale.registry.versions import Registered
from tiny_registry import Trained, load, stored_model


@pytest.fixture
def model_copy(trained: Trained, registered: Registered, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stored_model(trained.uri, registered.name), tmp_path / "model"))


@pytest.fixture
def package(model_copy: Path) -> Path:
    return model_copy / "artifacts" / "package"


def change(package: Path, **values: Any) -> None:
    facts = json.loads((package / MODEL_FILE).read_text())
    (package / MODEL_FILE).write_text(json.dumps({**facts, **values}))


def test_a_whole_package_is_opened(package: Path, trained: Trained) -> None:
    facts = open_package(package)
    assert facts.model_version == trained.model_version
    assert facts.recipe == trained.job.recipe
    assert facts.clip_s == 2.0


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "ran")


def pickled_adapter(package: Path, ran: Path) -> None:
    (package / ADAPTER_FILE).write_bytes(pickle.dumps(Payload(ran)))


def torch_adapter(package: Path, ran: Path) -> None:
    torch.save({"payload": Payload(ran)}, package / ADAPTER_FILE)


def pickled_asset(package: Path, ran: Path) -> None:
    (package / "assets" / "tokenizer.json").write_bytes(pickle.dumps(Payload(ran)))


def extra_pickle(package: Path, ran: Path) -> None:
    (package / "assets" / "extra.pkl").write_bytes(pickle.dumps(Payload(ran), protocol=0))


def extra_code(package: Path, ran: Path) -> None:
    (package / "assets" / "modeling.py").write_text(f"open({str(ran)!r}, 'w')")


def linked_file(package: Path, ran: Path) -> None:
    target = package / "assets" / "tokenizer_config.json"
    target.rename(ran.with_suffix(".json"))
    target.symlink_to(ran.with_suffix(".json"))


@pytest.mark.parametrize(
    "damage", [pickled_adapter, torch_adapter, pickled_asset, extra_pickle, extra_code, linked_file]
)
def test_what_is_no_plain_data_is_refused_and_does_not_run(
    model_copy: Path, package: Path, tmp_path: Path, damage: Callable[[Path, Path], None]
) -> None:
    damage(package, tmp_path / "ran")
    with pytest.raises(ValueError, match="refused, not opened"):
        load(model_copy)
    assert not (tmp_path / "ran").exists()


def test_a_small_safetensors_header_is_not_taken_for_a_pickle(package: Path) -> None:
    # Eight bytes of header length come first, and 0x0280 looks like a pickle's first two.
    header = b"{}".ljust(0x280)
    (package / ADAPTER_FILE).write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match="hash mismatch"):
        open_package(package)


def test_a_file_that_changed_is_missing_or_unlisted_is_named(package: Path) -> None:
    template = package / "assets" / "chat_template.jinja"
    text = template.read_text()
    template.write_text(text + " ")
    with pytest.raises(ValueError, match=r"chat_template\.jinja: hash mismatch"):
        open_package(package)
    template.unlink()
    with pytest.raises(ValueError, match=r"chat_template\.jinja: missing"):
        open_package(package)
    template.write_text(text)
    (package / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"notes\.txt: not listed"):
        open_package(package)


def test_another_base_model_is_refused_at_load(model_copy: Path, package: Path) -> None:
    facts = json.loads((package / MODEL_FILE).read_text())
    facts["recipe"]["model"]["init_seed"] = 1
    change(package, recipe=facts["recipe"])
    with pytest.raises(ValueError, match="the base model's weights are not those that tiny@"):
        load(model_copy)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"source": "owner/name", "revision": "main", "trust_remote_code": True}, "trust_remote_code is refused"),
        ({"source": "owner/name; rm -rf ~", "revision": "main"}, "neither"),
        ({"source": "./$(touch ran)"}, "do not belong in a path"),
        ({"source": "owner/name"}, "name its revision"),
    ],
)
def test_remote_code_and_shell_characters_are_refused(
    model_copy: Path, package: Path, source: dict[str, Any], said: str
) -> None:
    recipe = json.loads((package / MODEL_FILE).read_text())["recipe"]
    change(package, recipe={**recipe, "model": source})
    with pytest.raises(ConfigError, match=said):
        load(model_copy)


def test_another_format_or_no_json_is_refused(package: Path) -> None:
    change(package, format=99)
    with pytest.raises(ConfigError, match="not of format 2 but of 99"):
        open_package(package)
    (package / MODEL_FILE).write_text("{")
    with pytest.raises(ValueError, match="not readable as JSON"):
        open_package(package)
    (package / MODEL_FILE).unlink()
    with pytest.raises(ValueError, match=r"no readable model\.json"):
        open_package(package)


@pytest.mark.parametrize("name", ["python_model.pkl", "weights.bin", "data.txt"])
def test_a_model_directory_with_a_pickle_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / name).write_bytes(pickle.dumps([1]))
    with pytest.raises(ValueError, match="refused, and not opened"):
        refuse_pickles(tmp_path)


def test_an_archive_is_refused_whatever_its_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "weights.json", "w") as archive:
        archive.writestr("data.pkl", b"x")
    with pytest.raises(ValueError, match="refused"):
        refuse_pickles(tmp_path)


def test_the_fingerprint_sees_base_weights_and_not_adapters() -> None:
    model = nn.Linear(40, 40)
    adapter = nn.Parameter(torch.zeros(3))
    model.weight.requires_grad_(False)
    model.bias.requires_grad_(False)
    model.adapter = adapter
    before = base_fingerprint(model)
    with torch.no_grad():
        adapter.add_(1)
    assert base_fingerprint(model) == before
    with torch.no_grad():
        model.weight.mul_(1.001)
    assert base_fingerprint(model) != before


def test_the_code_that_goes_along_is_source_only(tmp_path: Path) -> None:
    copied = copy_code(tmp_path)
    assert copied.name == "moodscale"
    assert {path.suffix for path in copied.rglob("*") if path.is_file()} == {".py", ".html", ".css"}
    assert sum(path.stat().st_size for path in copied.rglob("*")) < 3e6


def test_requirements_are_pinned_and_serve_machines_with_and_without_gpus() -> None:
    pins = requirements()
    assert len(pins) == len(REQUIREMENTS)
    assert all(pin.count("==") == 1 and "+" not in pin for pin in pins)


def _imports(module: str, seen: set[str], outside: set[str]) -> None:
    """Modules of moodscale that ``module`` imports, however deep, and what they import from elsewhere."""
    if module in seen:
        return
    root = Path(moodscale.__file__).parent.parent
    path = root.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not file.is_file():
        return
    seen.add(module)
    if "." in module:
        _imports(module.rpartition(".")[0], seen, outside)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "moodscale":
                _imports(name, seen, outside)
            else:
                outside.add(name.split(".")[0])


def test_everything_that_scoring_imports_is_among_the_requirements() -> None:
    seen: set[str] = set()
    outside: set[str] = set()
    servings = sorted(
        path.stem for path in (Path(moodscale.__file__).parent / "registry" / "serving").glob("[a-z]*.py")
    )
    for entry in ("moodscale.registry.pyfunc_model", *(f"moodscale.registry.serving.{name}" for name in servings)):
        _imports(entry, seen, outside)
    for recipe in ("qwen2_audio", "transcript_severity"):
        _imports(f"moodscale.recipes.{recipe}", seen, outside)
    assert seen >= {"moodscale.models.qwen2_audio", "moodscale.registry.serving.conversation"}
    assert "moodscale.train" not in seen, "scoring needs neither Ray nor DeepSpeed"
    outside -= {"liger_kernel"}  # optional: without it the stock modules score
    outside -= {"presidio_analyzer", "presidio_anonymizer", "spacy"}  # imported where transcripts are deidentified
    installed = metadata.packages_distributions()
    wanted = {installed[name][0].lower().replace("_", "-") for name in outside - sys.stdlib_module_names}
    # mlflow is three distributions in one namespace.
    wanted = {"mlflow" if name.startswith("mlflow") else name for name in wanted}
    assert wanted <= set(REQUIREMENTS), sorted(wanted - set(REQUIREMENTS))
