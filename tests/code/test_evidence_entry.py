"""`mlflow run . -e evidence` asks what the command asks."""

import re
from pathlib import Path

import typer
import yaml

from pipelines.cli import app

PROJECT = Path(__file__).resolve().parents[2]


def test_mlflow_run_has_the_parameters_and_defaults_of_the_command() -> None:
    entry = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]["evidence"]
    command = typer.main.get_command(app)
    options = {str(one.name): one for one in command.commands["evidence"].params}  # type: ignore[attr-defined]
    hidden = {"by", *(name for name, one in options.items() if getattr(one, "hidden", False))}
    assert set(entry["parameters"]) == set(options) - hidden
    for name, declared in entry["parameters"].items():
        if not options[name].required:
            assert declared["default"] == options[name].default, name
    assert "default" not in entry["parameters"]["version"]
    assert re.findall(r"--([a-z]+) \{(\w+)\}", entry["command"]) == [(name, name) for name in list(options)[2:8]]
    assert "evidence {name} {version} " in entry["command"]
