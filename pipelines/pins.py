"""Versions are pinned once, in pyproject.toml; what repeats them is written and checked here.

python -m pipelines pins --write      # conda.yaml from pyproject.toml
"""

import tomllib
from pathlib import Path

import yaml

from resunet.errors import SettingsError

PROJECT = Path(__file__).resolve().parent.parent
PYTHON = "3.11.7"


def project_pins(pyproject: Path = PROJECT / "pyproject.toml") -> list[str]:
    """The core requirements, one exact pin each.

    Raises:
        SettingsError: a requirement without an exact version.
    """
    with pyproject.open("rb") as file:
        requirements: list[str] = tomllib.load(file)["project"]["dependencies"]
    loose = [requirement for requirement in requirements if "==" not in requirement]
    if loose:
        raise SettingsError(f"not pinned to a version in {pyproject.name}: {', '.join(loose)}")
    return requirements


def conda_environment(pins: list[str]) -> str:
    """The text of conda.yaml: python and pip pins only, so that conda, uv, virtualenv and local all accept it."""
    environment = {
        "name": "resunet",
        "channels": ["conda-forge"],
        "dependencies": [f"python={PYTHON}", "pip", {"pip": pins}],
    }
    head = "# Written by `python -m pipelines pins --write` from pyproject.toml; a test holds them equal.\n"
    return head + yaml.safe_dump(environment, sort_keys=False, width=200)
