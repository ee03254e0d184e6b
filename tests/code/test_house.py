"""The house in order: directions of imports, one command for everything, nothing that names this machine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
FOLDERS = ("pipelines", "registry", "serving", "monitoring", "records")


def _tracked() -> list[Path]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True).stdout
    return [PROJECT / name for name in names.decode().split("\0") if name]


def test_imports_run_one_way() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    found = subprocess.run([linter], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_a_loaded_model_has_imported_no_torch() -> None:
    code = "import sys, serving.pyfunc, records.inference; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 0


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_is_a_command_and_resunet_mounts_it(folder: str) -> None:
    for command in ([sys.executable, "-m", folder], [Path(sys.executable).with_name("resunet"), folder]):
        shown = subprocess.run([*command, "--help"], cwd=PROJECT, capture_output=True, text=True, check=False)
        assert shown.returncode == 0, shown.stderr
        assert "Usage" in shown.stdout


def test_no_tracked_file_holds_a_path_of_a_machine_or_is_large() -> None:
    here = re.compile(rf"{re.escape(str(PROJECT.parent))}/|/root/|/home/\w+/")
    for path in _tracked():
        assert path.stat().st_size < 600_000, path
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".txt", ""} and path != Path(__file__):
            found = here.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{path}: {found}"
