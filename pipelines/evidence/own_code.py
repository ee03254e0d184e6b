"""Whether what runs when MLflow loads a version is this installation's own code.

foreign_code(Path("model"))     # "" or "code/serving/pyfunc.py"

A version brings along the code that serves it. Loading it runs that code, so nobody's is loaded here but what is
already on this machine.
"""

from pathlib import Path
from typing import Any, Final

import yaml

from pipelines.runs.register import CODE_PACKAGES, MODEL_CODE, package_folder
from resunet.errors import VersionError

_MLMODEL: Final = "MLmodel"
_CODE: Final = "code"
# All that MLflow's loader does for a version of this platform; what the two numbers are does not matter to it.
_FLAVOUR: Final = {
    "artifacts": {"version": {"path": "artifacts/version", "uri": "artifacts/version"}},
    "code": _CODE,
    "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
    "loader_module": "mlflow.pyfunc.loaders.code_model",
    "model_code_path": MODEL_CODE.name,
    "streamable": False,
}
_ANY: Final = frozenset({"cloudpickle_version", "python_version"})


def foreign_code(model: Path) -> str:
    """What of a version would run that is not this installation's own; empty: nothing.

    Args:
        model: the folder that holds `MLmodel`.

    Raises:
        VersionError: it makes no sense.
    """
    flavours = read_mlmodel(model).get("flavors")
    flavour = flavours.get("python_function") if isinstance(flavours, dict) else None
    if not isinstance(flavour, dict) or {key: flavour[key] for key in flavour if key not in _ANY} != _FLAVOUR:
        return _MLMODEL
    if _other(model / MODEL_CODE.name, MODEL_CODE):
        return MODEL_CODE.name
    known = {package.__name__: package_folder(package) for package in CODE_PACKAGES}
    for path in sorted((model / _CODE).rglob("*")):
        parts = path.relative_to(model / _CODE).parts
        if path.is_file() and (parts[0] not in known or _other(path, known[parts[0]].joinpath(*parts[1:]))):
            return path.relative_to(model).as_posix()
    return ""


def read_mlmodel(model: Path) -> dict[str, Any]:
    """What `MLmodel` says.

    Raises:
        VersionError: it is missing or no mapping.
    """
    try:
        found = yaml.safe_load((model / _MLMODEL).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        told = f"{_MLMODEL} cannot be read ({type(error).__name__}): the version was not made whole"
        raise VersionError(told) from error
    if not isinstance(found, dict):
        raise VersionError(f"{_MLMODEL} holds nothing: the version was not made whole")
    return found


def _other(path: Path, own: Path) -> bool:
    """Whether a file is not, byte for byte, the one that is installed here."""
    return not (own.is_file() and path.is_file() and path.read_bytes() == own.read_bytes())
