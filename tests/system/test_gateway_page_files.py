"""The files of the pages as a server sends them, and as a package installs them."""

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from page_server import page_server

from serving.page.router import assets

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with page_server(tmp_path_factory.mktemp("version")) as url:
        yield url


def test_every_file_of_the_pages_is_sent_under_a_policy_without_inline_code(url: str) -> None:
    for path, asset in assets().items():
        answer = httpx.get(url.rstrip("/") + path)
        assert (answer.status_code, answer.content) == (200, asset.content)
        policy = dict(part.split(maxsplit=1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] in ("'none'", "'self'") and "unsafe" not in str(policy)
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["img-src"] == "'self' blob: data:"
        if "swagger" in path:
            continue
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", answer.text), path
        if answer.headers["content-type"].startswith("text/html"):
            assert not re.search(r"<style|<script(?![^>]* src=)|\son\w+=|\sstyle=", answer.text), path


def test_a_file_that_the_browser_has_is_not_sent_again(url: str) -> None:
    first = httpx.get(url + "page/page.js")
    assert first.headers["cache-control"] == "no-cache"
    for tags in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
        again = httpx.get(url + "page/page.js", headers={"If-None-Match": tags})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    other = httpx.get(url + "page/page.js", headers={"If-None-Match": '"other"'})
    assert other.content == first.content


def test_an_installed_package_has_the_pages(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(PROJECT / name, source / name)
    for path in PROJECT.glob("*/__init__.py"):
        if path.parent.name != "tests":
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path.parent, source / path.parent.name, ignore=ignored)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*build, "-w", tmp_path, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    packed = {name.rpartition("/")[2] for name in names if name.startswith("serving/page/static/")}
    assert "serving/page/status.html" in names
    assert packed == {path.name for path in (PROJECT / "serving/page/static").iterdir()} and len(packed) == 7
