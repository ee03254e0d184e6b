"""What a version's own environment holds, at the versions that this release pins: no torch, no full MLflow.

    model_requirements(Path("pyproject.toml"))          # ["SQLAlchemy==…", …, "mlflow-skinny==…"]

`mlflow-skinny` brings what `mlflow models serve` runs (FastAPI, uvicorn); pandas is the scoring protocol's.
Measured: an environment of 785 MB, of which model-signing and what it needs, for servers that trust a key, are
30. pyarrow would add 150 MB, only to accept Parquet bodies.
"""

import re
import tomllib
from pathlib import Path

from resunet.errors import SettingsError

_PACKAGES = (
    "cryptography",  # only where masks are sealed; pyOpenSSL brings it along anyway
    "filelock",
    "model-signing",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "openvino",
    "pandas",
    "pillow",
    "psycopg",
    "pydantic",
    "pydantic-settings",
    "pyOpenSSL",
    "PyYAML",
    "SQLAlchemy",
)


def model_requirements(pyproject: Path) -> list[str]:
    """The pip requirements to log with a version, sorted.

    Args:
        pyproject: the project's `pyproject.toml`, the one place where versions are pinned.

    Raises:
        SettingsError: the file is missing, or does not pin a package that serving needs.
    """
    try:
        project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
        lists = [project["dependencies"], *project["optional-dependencies"].values()]
        listed = {_name(line): line for requirements in lists for line in requirements}
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            f"{pyproject.name} cannot be read: run this from the project's folder, or name its file"
        ) from error
    absent = [name for name in (*_PACKAGES, "mlflow") if "==" not in listed.get(name.lower(), "")]
    if absent:
        raise SettingsError(f"{pyproject.name} does not pin {', '.join(absent)} with ==: add it")
    skinny = re.sub(r"^mlflow(\[[^]]*\])?", "mlflow-skinny", listed["mlflow"])
    return sorted([*(listed[name.lower()] for name in _PACKAGES), skinny], key=str.lower)


def _name(requirement: str) -> str:
    return re.split(r"[\[=<>!~; ]", requirement, maxsplit=1)[0].lower()
