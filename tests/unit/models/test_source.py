"""Where a base model may come from, and what is refused before anything is opened or fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from moodscale.config import Config, ConfigError, validate
from moodscale.models.source import ModelSource

HUB_ID = "Qwen/Qwen2-Audio-7B-Instruct"


def test_random_weights_need_nothing_else() -> None:
    source = validate(ModelSource, {"source": "random"})
    assert source.is_random
    assert not source.is_local


def test_a_hub_id_with_a_revision_is_taken() -> None:
    source = validate(ModelSource, {"source": HUB_ID, "revision": "0a09522"})
    assert (source.is_random, source.is_local, source.location) == (False, False, HUB_ID)


def test_a_hub_id_without_a_revision_is_refused() -> None:
    with pytest.raises(ConfigError, match="name its revision"):
        validate(ModelSource, {"source": HUB_ID})


@pytest.mark.parametrize("value", [True, False, "yes"])
def test_remote_code_is_refused_however_it_is_set(value: object) -> None:
    with pytest.raises(ConfigError, match="trust_remote_code is refused"):
        validate(ModelSource, {"source": HUB_ID, "revision": "main", "trust_remote_code": value})


def test_remote_code_is_refused_inside_an_experiments_section() -> None:
    class Section(Config):
        model: ModelSource

    with pytest.raises(ConfigError, match=r"model.*trust_remote_code is refused"):
        validate(Section, {"model": {"source": "random", "trust_remote_code": True}})


@pytest.mark.parametrize(
    "source",
    [
        f"{HUB_ID}; rm -rf x",
        "$(id)/model",
        "`id`/model",
        "owner/name|cat",
        "owner/name&",
        "owner/na>me",
        "owner/name\n",
        "owner/name\0",
        "owner/na'me",
        "owner/../name",
        "-owner/name",
        "owner/name/more",
        "name",
        "https://elsewhere.example/owner/name",
        "",
    ],
)
def test_what_is_neither_a_directory_nor_a_hub_id_is_refused(source: str) -> None:
    with pytest.raises(ConfigError, match="source"):
        validate(ModelSource, {"source": source, "revision": "main"})


@pytest.mark.parametrize("source", ["/models/$(id)", "./a;b", "~/`id`", "/models/a|b", "/models/a\nb", "/models/a\n"])
def test_shell_characters_in_a_directory_are_refused(source: str) -> None:
    with pytest.raises(ConfigError, match="do not belong in a path"):
        validate(ModelSource, {"source": source})


def test_a_directory_needs_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert validate(ModelSource, {"source": str(tmp_path)}).is_local
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    assert validate(ModelSource, {"source": "weights"}).is_local


def test_a_home_directory_is_expanded_where_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert validate(ModelSource, {"source": "~/weights"}).location == "/home/someone/weights"


@pytest.fixture
def weights_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that says so if it is imported."""
    package = tmp_path / "some_weights"
    (package / "model" / "v1").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('the package was imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return package


@pytest.mark.parametrize("folder", ["", "/model", "/model/v1"])
def test_a_folder_of_a_package_is_found_without_importing_it(weights_package: Path, folder: str) -> None:
    source = validate(ModelSource, {"source": f"package:some_weights{folder}"})
    assert (source.is_local, source.is_random, source.revision) == (True, False, None)
    assert Path(source.location) == Path(f"{weights_package}{folder}")


@pytest.mark.parametrize(
    "source",
    [
        "package:",
        "package:/etc",
        "package:some_weights/../other",
        "package:some_weights/..",
        "package:some_weights//model",
        "package:some_weights/model/",
        "package:some.weights/model",
        "package:some_weights/.hidden",
        "package:some-weights",
        "package:some_weights/$(id)",
        "package:some_weights/model\n",
    ],
)
def test_what_is_no_plain_folder_of_a_package_is_refused(weights_package: Path, source: str) -> None:
    with pytest.raises(ConfigError, match="plain folder names"):
        validate(ModelSource, {"source": source})


@pytest.mark.parametrize("source", ["package:no_such_package/model", "package:some_weights/absent"])
def test_a_package_or_folder_that_is_not_there_is_named(weights_package: Path, source: str) -> None:
    with pytest.raises(ConfigError, match=source):
        _ = validate(ModelSource, {"source": source}).location
