"""``kind`` → class: one file imported, subclass fields kept through a dump, bad names refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import SerializeAsAny

from moodscale.config import Component, Config, ConfigError, by_kind, load_config, validate
from moodscale.config.lookup import find_component


class Voice(Component):
    """The base of the components that a test package offers."""

    volume: float = 1.0


class Choir(Config):
    voice: Annotated[SerializeAsAny[Voice], by_kind("test_voices", Voice)]


class CarelessChoir(Config):
    """The same without ``SerializeAsAny``: what the class exists to avoid."""

    voice: Annotated[Voice, by_kind("test_voices", Voice)]


@pytest.fixture(autouse=True)
def voices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with two voices, a module with none, one with two, and one that does not import."""
    package = tmp_path / "test_voices"
    package.mkdir()
    (package / "__init__.py").write_text("")
    header = "from voice_base import Voice\n"
    modules = {
        "alto": f"{header}class Alto(Voice):\n    kind: str = 'alto'\n    vibrato_hz: float = 5.0\n",
        "bass": f"{header}class Bass(Voice):\n    kind: str = 'bass'\n",
        "nobody": f"{header}",
        "duet": f"{header}class A(Voice):\n    pass\nclass B(Voice):\n    pass\n",
        "broken": "import a_package_that_is_not_installed\n",
    }
    for name, text in modules.items():
        (package / f"{name}.py").write_text(text)
    (tmp_path / "their_plugin").mkdir()
    (tmp_path / "their_plugin" / "__init__.py").write_text("")
    (tmp_path / "their_plugin" / "tenor.py").write_text(
        f"{header}class Tenor(Voice):\n    kind: str = 'their_plugin.tenor'\n    falsetto: bool = False\n"
    )
    monkeypatch.setitem(sys.modules, "voice_base", sys.modules[__name__])
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [n for n in sys.modules if n.partition(".")[0] in ("test_voices", "their_plugin")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def test_a_kind_becomes_its_own_class_with_its_own_fields() -> None:
    choir = validate(Choir, {"voice": {"kind": "alto", "vibrato_hz": 6, "volume": 0.5}})
    assert type(choir.voice).__name__ == "Alto"
    assert choir.voice.model_dump() == {"kind": "alto", "vibrato_hz": 6.0, "volume": 0.5}


def test_a_subclass_keeps_its_fields_through_a_dump_and_back() -> None:
    choir = validate(Choir, {"voice": {"kind": "alto", "vibrato_hz": 6}})
    dumped = json.loads(json.dumps(choir.to_json()))
    assert dumped["voice"]["vibrato_hz"] == 6.0
    again = validate(Choir, dumped)
    assert again == choir
    assert again.fingerprint() == choir.fingerprint()


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_without_serialize_as_any_the_fields_would_be_lost() -> None:
    # Holds the trap in place: should pydantic change, the rule for polymorphic fields can go.
    careless = validate(CarelessChoir, {"voice": {"kind": "alto", "vibrato_hz": 6}})
    assert "vibrato_hz" not in careless.to_json()["voice"]


def test_a_dotted_kind_names_an_outside_plug_in() -> None:
    choir = validate(Choir, {"voice": {"kind": "their_plugin.tenor", "falsetto": True}})
    assert choir.to_json()["voice"] == {"kind": "their_plugin.tenor", "falsetto": True, "volume": 1.0}


def test_only_the_named_module_is_imported() -> None:
    validate(Choir, {"voice": {"kind": "bass"}})
    assert "test_voices.bass" in sys.modules
    assert "test_voices.alto" not in sys.modules


@pytest.mark.parametrize("kind", ["../alto", "alto;rm", "Alto", "", ".alto", "alto.", "al to", "alto\n", "_alto", 3])
def test_what_is_not_a_name_is_refused_before_any_import(kind: object) -> None:
    with pytest.raises(ConfigError, match="is not a name"):
        validate(Choir, {"voice": {"kind": kind}})


@pytest.mark.parametrize("kind", ["soprano", "their_plugin.nowhere", "no_such_package.tenor"])
def test_an_absent_module_is_named(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"there is no module .*check the spelling"):
        validate(Choir, {"voice": {"kind": kind}})


@pytest.mark.parametrize(("kind", "count"), [("nobody", 0), ("duet", 2)])
def test_a_module_must_define_exactly_one_component(kind: str, count: int) -> None:
    with pytest.raises(ConfigError, match=f"defines {count} subclasses of Voice, expected one"):
        find_component("test_voices", Voice, kind)


def test_a_component_whose_own_import_is_missing_says_which() -> None:
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_installed"):
        find_component("test_voices", Voice, "broken")


def test_a_mapping_without_kind_says_so() -> None:
    with pytest.raises(ConfigError, match=r"voice.*has no 'kind'"):
        validate(Choir, {"voice": {"volume": 2}})


def test_an_unknown_key_of_a_component_is_named_with_its_kind(voices: Path) -> None:
    path = voices / "choir.yaml"
    path.write_text("voice: {kind: alto, vibrato: 3}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(Choir, path)
    assert "alto" in str(caught.value)
    assert "vibrato: 3" not in str(caught.value), "the message shows fields, not a dump of the file"
    assert "vibrato (got 3): unknown key" in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_object_that_is_made_already_passes_as_it_is() -> None:
    alto = find_component("test_voices", Voice, "alto")()
    assert Choir(voice=alto).voice is alto


def test_reading_configuration_imports_no_framework() -> None:
    script = "import sys, moodscale.config; print({'torch', 'ray', 'mlflow', 'transformers'} & sys.modules.keys())"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "set()"
