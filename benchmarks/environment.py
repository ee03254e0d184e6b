"""The environment that `mlflow models serve` builds for a version: its size, and whether torch is in it.

    python -m benchmarks.environment            # installs it from the package index, 1 to 3 minutes
    python -m benchmarks.environment --smoke    # lists what would be installed

It is built in a temporary folder, from the requirements that are logged with every version, and deleted.
"""

import importlib.metadata
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.rounds import arguments
from serving.requirements import model_requirements

LIMIT_MB = 900
LARGEST = 8
PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def build(folder: Path, requirements: Sequence[str]) -> None:
    """Make a virtual environment with the requirements in it."""
    venv.create(folder, with_pip=True)
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*command, *requirements], check=True)


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
    options = arguments(__doc__, given)
    console = Console()
    requirements = model_requirements(PYPROJECT)
    if options.smoke:
        return smoke(requirements, console)
    with tempfile.TemporaryDirectory(prefix="resunet-environment-") as name:
        folder = Path(name) / "environment"
        started = time.perf_counter()
        build(folder, requirements)
        seconds = time.perf_counter() - started
        size, installed = megabytes(folder), packages(folder)
        parts = sorted(((megabytes(part), part.name) for part in site_packages(folder).iterdir()), reverse=True)
    torch_free = "torch" not in installed
    small = size < LIMIT_MB
    table = Table("", "", "must be", title=f"Environment of a version, built in {seconds:.0f} s")
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
