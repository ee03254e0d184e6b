"""What a version takes and gives: loaded as MLflow does, in a process of its own, and asked.

That runs the code that the version brings along, with the rights of whoever measures. So it is run only where it is
this installation's own, byte for byte, or where somebody who is trusted signed it.
"""

import json
import os
import subprocess
import sys
from typing import Any, Final

from pipelines.evidence.own_code import foreign_code, read_mlmodel
from pipelines.evidence.subject import Version
from records.signing import verify
from records.trust import Trust
from registry.evidence import InputContract
from resunet.errors import VersionError

_SECONDS: Final = 300
# All that the process is told of its surroundings: a version brings its own code along, which should find no password
# here and log no prediction.
_TOLD: Final = frozenset(
    {"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "SYSTEMROOT"}
)


def contract(version: Version, trust: Trust | None) -> InputContract:
    """Give the version good and bad input, if its code may be run.

    Args:
        trust: whom to believe; None believes nobody's code but this installation's.
    """
    why_not = _why_not(version, trust)
    found = {"example": "", "refused": {}} if why_not else _ask(version)
    return InputContract(**schemas(version), **found, not_run=why_not)


def schemas(version: Version) -> dict[str, str]:
    """`inputs`, `outputs` and `params` of a version's signature, each as its JSON; empty where it has none."""
    signature = read_mlmodel(version.model).get("signature") or {}
    return {name: str(signature.get(name) or "") for name in ("inputs", "outputs", "params")}


def _why_not(version: Version, trust: Trust | None) -> str:
    """Why a version's code is not run here; empty: it may be."""
    foreign = foreign_code(version.model)
    if not foreign:
        return ""
    if trust is None:
        return f"its code is not that of this installation ({foreign}), and nobody is trusted here"
    try:
        verify(version.model, trust)
    except VersionError as error:
        return f"its code is not that of this installation ({foreign}): {error}"
    return ""


def _ask(version: Version) -> dict[str, Any]:
    command = [sys.executable, "-m", "pipelines.evidence.probe", str(version.model)]
    environment = {name: value for name, value in os.environ.items() if name in _TOLD}
    # Compiled files in the version's folder would not be in its list.
    environment |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return _not_loaded(f"nothing came of it in {_SECONDS} s")
    try:
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return _not_loaded(f"its process ended with exit code {done.returncode}")
    return found


def _not_loaded(why: str) -> dict[str, Any]:
    return {"example": f"it does not load: {why}", "refused": {}}
