"""The house in order: directions of imports, one command for everything, nothing that names this machine."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from needed import needed

PROJECT = Path(__file__).resolve().parents[2]
FOLDERS = ("pipelines", "registry", "serving", "monitoring", "records")


def _tracked() -> list[Path]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True).stdout
    return [PROJECT / name for name in names.decode().split("\0") if (PROJECT / name).is_file()]


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


def test_every_link_between_the_pages_leads_somewhere() -> None:
    pages = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
    links = [
        (page, link) for page in pages for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    ]
    near = [(page, link) for page, link in links if not re.match(r"\w+:", link)]
    assert len(near) > 10
    lost = [f"{page.name}: {link}" for page, link in near if not _leads_somewhere(page, link)]
    assert lost == []


def _leads_somewhere(page: Path, link: str) -> bool:
    """Whether the file is there, and in it the heading that comes after #."""
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    if not target.exists() or not anchor:
        return target.exists()
    headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
    return anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_tracked_file_holds_a_path_of_a_machine_or_is_large() -> None:
    here = re.compile(rf"{re.escape(str(PROJECT.parent))}/|/root/|/home/\w+/")
    for path in _tracked():
        assert path.stat().st_size < 600_000, path
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".txt", ""} and path != Path(__file__):
            found = here.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{path}: {found}"


def test_what_ci_has_to_have_is_not_skipped_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="install it"):
        needed("there_is_no_such_module", "install it")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="install it"):
        needed("there_is_no_such_module", "install it")
    assert needed("json", "install it") is json


def test_nobodys_own_settings_reach_the_tests() -> None:
    names = {name for name in os.environ if name.startswith("RESUNET_")}
    assert "RESUNET_HOME" in names and names <= {"RESUNET_HOME", "RESUNET_REQUIRE_NUCLEI"}
