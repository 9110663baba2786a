"""The YAML chain, overrides, and messages that name file, field, value and fix."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ConfigDict

from moodscale.config import Config, ConfigError, load_config


class Optim(Config):
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)


class Phase(Config):
    schedule: str
    epochs: int = 1


class Run(Config):
    name: str
    optim: Optim = Optim()
    phases: tuple[Phase, ...] = ()
    note: str | None = None


def write(directory: Path, name: str, text: str) -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    return write(tmp_path, "run.yaml", "name: a\nphases:\n  - {schedule: linear, epochs: 2}\n  - {schedule: cosine}\n")


def test_defaults_of_the_classes_fill_what_no_file_says(run_file: Path) -> None:
    run = load_config(Run, run_file)
    assert run.optim == Optim()
    assert run.phases == (Phase(schedule="linear", epochs=2), Phase(schedule="cosine", epochs=1))


def test_a_file_overrules_its_chain_of_parents_field_by_field(tmp_path: Path) -> None:
    write(tmp_path, "base/root.yaml", "name: root\noptim: {lr: 1.0, betas: [0.1, 0.2]}\nnote: from root\n")
    write(tmp_path, "base/middle.yaml", "defaults: root.yaml\nname: middle\noptim: {lr: 2.0}\n")
    leaf = write(tmp_path, "runs/leaf.yaml", "defaults: ../base/middle.yaml\nname: leaf\n")
    run = load_config(Run, leaf)
    assert (run.name, run.note) == ("leaf", "from root")
    assert run.optim == Optim(lr=2.0, betas=(0.1, 0.2))


def test_a_list_in_a_child_replaces_the_parents(tmp_path: Path) -> None:
    write(tmp_path, "parent.yaml", "name: a\nphases: [{schedule: linear}, {schedule: cosine}]\n")
    child = write(tmp_path, "child.yaml", "defaults: parent.yaml\nphases: [{schedule: constant}]\n")
    assert load_config(Run, child).phases == (Phase(schedule="constant"),)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optim.lr=1e-4", Run(name="a", optim=Optim(lr=1e-4))),
        ("optim.lr=5", Run(name="a", optim=Optim(lr=5.0))),
        ("name=b", Run(name="b")),
        ("note=x=y", Run(name="a", note="x=y")),
        ("note=null", Run(name="a", note=None)),
        ("optim.betas=[0.5, 0.6]", Run(name="a", optim=Optim(betas=(0.5, 0.6)))),
        ("optim.betas.1=0.7", Run(name="a", optim=Optim(betas=(0.9, 0.7)))),
        ("phases=[{schedule: linear, epochs: 3}]", Run(name="a", phases=(Phase(schedule="linear", epochs=3),))),
    ],
)
def test_an_override_sets_one_field_in_yaml_syntax(tmp_path: Path, override: str, expected: Run) -> None:
    path = write(tmp_path, "run.yaml", "name: a\noptim: {betas: [0.9, 0.999]}\n")
    assert load_config(Run, path, [override]) == expected


def test_an_override_reaches_into_a_list(run_file: Path) -> None:
    run = load_config(Run, run_file, ["phases.1.epochs=5", "phases.0.schedule=constant"])
    assert run.phases == (Phase(schedule="constant", epochs=2), Phase(schedule="cosine", epochs=5))


def test_an_override_replaces_a_whole_list(run_file: Path) -> None:
    assert load_config(Run, run_file, ["phases=[{schedule: constant}]"]).phases == (Phase(schedule="constant"),)


def test_the_last_of_two_overrides_holds(run_file: Path) -> None:
    assert load_config(Run, run_file, ["name=b", "name=c"]).name == "c"


@pytest.mark.parametrize("override", ["name", "=3", "phases.9.epochs=1", "phases.x.epochs=1", "optim.lr=[1"])
def test_an_override_that_cannot_be_applied_is_named(run_file: Path, override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Run, run_file, [override])
    assert repr(override) in str(caught.value)


def test_every_problem_has_a_line_with_file_field_value_and_fix(tmp_path: Path) -> None:
    path = write(tmp_path, "run.yaml", "name: a\noptim: {lr: fast, lrr: 1.0}\nphases: [{epochs: 2}]\n")
    with pytest.raises(ConfigError) as caught:
        load_config(Run, path)
    first, *lines = str(caught.value).splitlines()
    assert str(path) in first
    assert "3 problem(s)" in first
    by_field = {line.split()[0].rstrip(":"): line for line in lines}
    assert by_field.keys() == {"optim.lr", "optim.lrr", "phases.0.schedule"}
    assert "got 'fast'" in by_field["optim.lr"]
    assert "number" in by_field["optim.lr"]
    assert "unknown key: remove it or check its spelling" in by_field["optim.lrr"]
    assert "required" in by_field["phases.0.schedule"].lower()


def test_an_unknown_key_from_an_override_is_refused_too(run_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"optim\.learning_rate.*unknown key"):
        load_config(Run, run_file, ["optim.learning_rate=1"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: [a\n", "not readable as YAML"),
        ("- a\n- b\n", "must be a mapping"),
        ("name: a\ndefaults: [x.yaml, y.yaml]\n", "must name one file"),
        ("name: a\ndefaults: absent.yaml\n", "absent.yaml: no such configuration file"),
        ("name: ${nowhere}\n", "nowhere"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = write(tmp_path, "run.yaml", text)
    with pytest.raises(ConfigError, match=complaint) as caught:
        load_config(Run, path)
    assert str(tmp_path) in str(caught.value)


def test_parents_in_a_circle_are_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path, "one.yaml", "defaults: two.yaml\n")
    path = write(tmp_path, "two.yaml", "defaults: one.yaml\n")
    with pytest.raises(ConfigError, match=r"circle: two\.yaml → one\.yaml"):
        load_config(Run, path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml: no such configuration file"):
        load_config(Run, tmp_path / "nothing.yaml")


def test_an_empty_file_lacks_its_required_fields(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name"):
        load_config(Run, write(tmp_path, "run.yaml", ""))


def test_a_section_cannot_be_changed_after_it_was_made(run_file: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_config(Run, run_file).name = "other"  # type: ignore[misc]


def test_a_fingerprint_follows_the_content_and_nothing_else(run_file: Path) -> None:
    plain, same = load_config(Run, run_file), load_config(Run, run_file, ["name=a"])
    other = load_config(Run, run_file, ["optim.lr=2e-3"])
    assert plain.fingerprint() == same.fingerprint() != other.fingerprint()
    assert Run.model_validate(plain.to_json()).fingerprint() == plain.fingerprint()


class Part(Config):
    """Any component's section."""

    model_config = ConfigDict(frozen=True, extra="allow")
    kind: str


class Parts(Config):
    part: Part
    more: Part | None = None


def test_another_kind_takes_no_settings_of_the_one_before(tmp_path: Path) -> None:
    write(tmp_path, "parent.yaml", "part: {kind: stratified, seed: 3}\nmore: {kind: a, x: 1}\n")
    child = write(tmp_path, "child.yaml", "defaults: parent.yaml\npart: {kind: official}\nmore: {kind: a, y: 2}\n")
    assert load_config(Parts, child).to_json() == {"part": {"kind": "official"}, "more": {"kind": "a", "x": 1, "y": 2}}
    replaced = load_config(Parts, child, ["more={kind: b, z: 3}", "part={kind: official, seed: 1}"])
    assert replaced.to_json() == {"part": {"kind": "official", "seed": 1}, "more": {"kind": "b", "z": 3}}
