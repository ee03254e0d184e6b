"""The environment that `mlflow models serve` builds for a version: its size, and whether torch is in it.

    python -m benchmarks.environment                        # from the package index, 1 to 3 minutes
    python -m benchmarks.environment --env-manager uv
    python -m benchmarks.environment --smoke                # lists what would be installed

MLflow itself builds it, as it does before it serves: with virtualenv, its default, which needs pyenv, or with uv. It
lies in a temporary folder, is made of the requirements that are logged with every version, and is deleted.
"""

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serving.requirements import model_requirements

LIMIT_MB = 900
LARGEST = 8
# What each of MLflow's managers calls.
NEEDS = {"virtualenv": "pyenv", "uv": "uv"}
PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def build(root: Path, requirements: Sequence[str], manager: str) -> Path:
    """Have MLflow build the environment of a model with these requirements, and return its folder in `root`."""
    # Not needed to list requirements, and they take seconds.
    import mlflow

    from pipelines.runs.register import MODEL_CODE

    model = root / "model"
    mlflow.pyfunc.save_model(model, python_model=str(MODEL_CODE), pip_requirements=list(requirements))
    command = [sys.executable, "-m", "mlflow", "models", "prepare-env", "-m", str(model), "--env-manager", manager]
    subprocess.run(command, check=True, env={**os.environ, "MLFLOW_ENV_ROOT": str(root / "environments")})
    (interpreter,) = (root / "environments").rglob("bin/python")
    return interpreter.parent.parent


def site_packages(folder: Path) -> Path:
    """Where the environment in `folder` keeps its packages."""
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))


def megabytes(root: Path) -> float:
    """Bytes of all files below `root`, links not followed, in units of 10^6."""
    return sum(path.lstat().st_size for path in root.rglob("*") if path.is_symlink() or path.is_file()) / 1e6


def packages(folder: Path) -> set[str]:
    """Names of the distributions installed in `folder`."""
    return {d.metadata["Name"].lower() for d in importlib.metadata.distributions(path=[str(site_packages(folder))])}


def smoke(requirements: Sequence[str], console: Console) -> int:
    """List the requirements, and look for torch among them."""
    table = Table("requirement", title="Requirements of a version")
    for requirement in requirements:
        table.add_row(escape(requirement))
    console.print(table)
    return int(any(requirement.lower().startswith("torch") for requirement in requirements))


def main(given: Sequence[str] | None = None) -> int:
    """Build, weigh, delete, and say whether the figure holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env-manager", choices=list(NEEDS), default="virtualenv", help="of `mlflow models serve`")
    parser.add_argument("--smoke", action="store_true", help="builds nothing; only looks for torch in the requirements")
    options = parser.parse_args(given)
    console = Console()
    requirements = model_requirements(PYPROJECT)
    if options.smoke:
        return smoke(requirements, console)
    needed = NEEDS[options.env_manager]
    if shutil.which(needed) is None:
        parser.error(f"--env-manager {options.env_manager} needs {needed} on PATH, as `mlflow models serve` does")
    with tempfile.TemporaryDirectory(prefix="resunet-environment-") as name:
        started = time.perf_counter()
        folder = build(Path(name), requirements, options.env_manager)
        seconds = time.perf_counter() - started
        size, installed = megabytes(folder), packages(folder)
        parts = sorted(((megabytes(part), part.name) for part in site_packages(folder).iterdir()), reverse=True)
    torch_free = "torch" not in installed
    small = size < LIMIT_MB
    title = f"Environment of a version, built by {options.env_manager} in {seconds:.0f} s"
    table = Table("", "", "must be", title=title)
    table.add_row("size", f"{size:.0f} MB", f"< {LIMIT_MB} MB {'✓' if small else '✗'}")
    table.add_row("torch", "absent" if torch_free else "present", f"absent {'✓' if torch_free else '✗'}")
    table.add_row("packages", str(len(installed)), "")
    table.add_section()
    for weight, part in parts[:LARGEST]:
        table.add_row(part, f"{weight:.0f} MB", "")
    console.print(table)
    return 0 if torch_free and small else 1


if __name__ == "__main__":
    sys.exit(main())
