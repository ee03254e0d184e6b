"""What is written in several places says the same: pins, and the parameters of a training."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml

from pipelines.cli import app
from pipelines.pins import conda_environment, project_pins
from pipelines.runs.train import TrainOptions
from pipelines.training.settings import FitSettings
from resunet.errors import SettingsError
from serving.requirements import model_requirements

PROJECT = Path(__file__).resolve().parents[2]
PROMISED = {
    *("data", "where", "architecture", "width", "epochs", "max_minutes"),
    *("crop", "batch_size", "seed", "folds", "model_name"),
    *("patience", "slices", "learning_rate"),
}


def _name(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[=; ]", requirement, maxsplit=1)[0]).lower()


def _version(requirement: str) -> str:
    return requirement.partition("==")[2].partition(";")[0].strip()


def _pyproject() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    return project


def _entry_point(name: str) -> dict[str, Any]:
    entry: dict[str, Any] = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"][name]
    return entry


def _options(command: str) -> dict[str, click.Option]:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return {str(option.name): option for option in group.commands[command].params}  # type: ignore[misc]


def test_conda_yaml_is_what_the_command_prints() -> None:
    command = [sys.executable, "-m", "pipelines", "pins"]
    printed = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True, text=True).stdout
    assert (PROJECT / "conda.yaml").read_text() == printed
    assert printed == conda_environment(_pyproject()["dependencies"])


def test_conda_yaml_is_accepted_by_every_environment_manager() -> None:
    environment = yaml.safe_load((PROJECT / "conda.yaml").read_text())
    python, pip, pins = environment["dependencies"]
    # uv and virtualenv take a python version and pip requirements, nothing that only conda could install.
    assert re.fullmatch(r"python=3\.\d+\.\d+", python) and pip == "pip"
    assert pins["pip"] == _pyproject()["dependencies"]


def test_constraints_agree_with_every_pin() -> None:
    lines = (PROJECT / "constraints.txt").read_text().split()
    constraints = {_name(line): _version(line) for line in lines}
    assert len(constraints) == len(lines) and all(constraints.values())
    project = _pyproject()
    pins = [*project["dependencies"], *(pin for extra in project["optional-dependencies"].values() for pin in extra)]
    assert len(pins) > 20
    assert {_name(pin): constraints.get(_name(pin)) for pin in pins} == {_name(pin): _version(pin) for pin in pins}


def test_a_requirement_without_an_exact_version_is_refused_by_name(tmp_path: Path) -> None:
    loose = tmp_path / "pyproject.toml"
    loose.write_text('[project]\ndependencies = ["numpy==2.0", "rich>=15"]\n')
    with pytest.raises(SettingsError, match="rich>=15"):
        project_pins(loose)


def test_a_version_needs_no_torch_to_be_served() -> None:
    names = {_name(requirement) for requirement in model_requirements(PROJECT / "pyproject.toml")}
    assert "onnxruntime" in names and "mlflow-skinny" in names
    assert not names & {"torch", "mlflow", "lightning-fabric", "onnx", "onnxscript", "matplotlib", "evidently"}


def test_mlflow_run_takes_every_parameter_that_is_promised() -> None:
    assert set(_entry_point("train")["parameters"]) >= PROMISED


@pytest.mark.parametrize("name", ["train", "prepare", "evaluate"])
def test_mlflow_run_has_the_defaults_of_the_command(name: str) -> None:
    options, entry = _options(name), _entry_point(name)
    for parameter, declared in entry["parameters"].items():
        if not options[parameter].required:
            assert declared["default"] == options[parameter].default, parameter
    assert set(re.findall(r"--([a-z-]+) ", entry["command"])) == {p.replace("_", "-") for p in entry["parameters"]}
    for parameter in entry["parameters"]:
        assert f"--{parameter.replace('_', '-')} {{{parameter}}}" in entry["command"]


def test_the_command_has_the_defaults_of_the_settings() -> None:
    options = _options("train")
    for setting, field in FitSettings.model_fields.items():
        if setting in options:
            assert options[setting].default == field.default, setting
    for option in ("data", "where", "groups", "slices", "folds", "model_name", "parent", "resume"):
        assert options[option].default == getattr(TrainOptions(), option), option
    hidden = {name for name, option in options.items() if option.hidden}
    assert set(options) - hidden <= set(FitSettings.model_fields) | set(TrainOptions.__dataclass_fields__)
