"""What a version asks for and brings along: pins, pickles by their content, and what an audit database says."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audit_database import audit_answers, no_audit_database  # noqa: F401
from image_files import saved
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file

from pipelines.evidence.dependencies import dependencies
from pipelines.evidence.pickles import pickled_files
from pipelines.evidence.subject import Version
from registry.evidence import Dependencies

PINS = "numpy==2.4.6\nopenvino==2026.4.1; platform_machine == 'x86_64'\npsycopg[binary] == 3.3.9  # comment\n"
# Harmless here, but it names a callable, as every pickle that does harm does.
LOADED = OrderedDict(weights=[1.0, 2.0])


def measured(folder: Path, requirements: str = PINS) -> Dependencies:
    folder.mkdir(exist_ok=True)
    (folder / "requirements.txt").write_text(requirements)
    return dependencies(Version("version 7", folder, "sha256:x"))


def test_pins_with_markers_extras_and_comments_are_pins(tmp_path: Path) -> None:
    found = measured(tmp_path)
    assert len(found.pinned) == 3 and not found.unpinned and not found.pickles


@pytest.mark.parametrize(
    "line",
    [
        "torch",
        "torch>=2",
        "torch==2.*",
        "torch~=2.13",
        "torch!=2.12",
        "torch @ https://example.invalid/torch.whl#sha256=0",
        "git+https://example.invalid/torch.git@main",
        "-e ../mine",
        "-r more.txt",
        "--extra-index-url https://example.invalid/simple",
        "./torch.whl",
    ],
)
def test_a_line_that_pins_nothing_is_found(tmp_path: Path, line: str) -> None:
    found = measured(tmp_path, f"{PINS}{line}\n")
    assert found.unpinned == [line] and len(found.pinned) == 3


def test_a_pin_that_goes_on_over_lines_with_hashes_is_one(tmp_path: Path) -> None:
    found = measured(tmp_path, "numpy==2.4.6 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n")
    assert (found.pinned, found.unpinned) == (["numpy==2.4.6"], [])


def test_what_conda_would_install_counts_too(tmp_path: Path) -> None:
    (tmp_path / "conda.yaml").write_text("dependencies:\n- python=3.11.7\n- pip:\n  - numpy==2.4.6\n  - torch>2\n")
    assert measured(tmp_path).unpinned == ["torch>2"]


def test_what_the_other_environments_would_install_counts_too(tmp_path: Path) -> None:
    """`--env-manager virtualenv` and `uv` read python_env.yaml, and conda its own packages."""
    build = ["pip==23.2.1", "setuptools", "wheel", "evil-builder", "ninja==1.13.0"]
    more = ["-r requirements.txt", "torch", "--extra-index-url https://example.invalid/simple", "numpy==2.4.6"]
    lines = ["python: 3.11.7", "build_dependencies:", *(f"- {one}" for one in build), "dependencies:"]
    (tmp_path / "python_env.yaml").write_text("\n".join([*lines, *(f"- {one}" for one in more)]) + "\n")
    (tmp_path / "conda.yaml").write_text("dependencies:\n- python=3.11.7\n- pip<=23\n- libtiff\n- openssl=3.5.0\n")
    assert measured(tmp_path).unpinned == [
        "torch",
        "--extra-index-url https://example.invalid/simple",
        "evil-builder (to build with)",
        "libtiff (of conda)",
    ]


@pytest.mark.parametrize("name", ["uv.lock", "pyproject.toml"])
def test_a_file_that_uv_takes_in_place_of_the_requirements_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    assert measured(tmp_path).unpinned == [f"anything: {name} is read in place of the rest"]


def test_other_files_of_requirements_than_those_that_are_read_are_found(tmp_path: Path) -> None:
    environment = "{conda: conda.yaml, virtualenv: other.yaml}"
    (tmp_path / "MLmodel").write_text(f"flavors:\n  python_function:\n    env: {environment}\n")
    assert measured(tmp_path).unpinned == ["anything: MLmodel names other files of requirements"]
    (tmp_path / "MLmodel").write_text(
        "flavors: {python_function: {env: " + environment.replace("other", "python_env") + "}}"
    )
    assert measured(tmp_path).unpinned == []


def test_no_requirements_at_all_pin_nothing(tmp_path: Path) -> None:
    found = dependencies(Version("version 7", tmp_path, "sha256:x"))
    assert found.pinned == [] and "no requirements.txt" in found.unpinned[0]


def _zipped(content: bytes, name: str = "inner") -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("other", "text")
            archive.writestr(name, content)
        return file.getvalue()


def _npy(array: NDArray[Any]) -> bytes:
    with io.BytesIO() as file:
        np.save(file, array, allow_pickle=True)
        return file.getvalue()


def _torch() -> bytes:
    import torch

    with io.BytesIO() as file:
        torch.save({"weights": torch.zeros(2)}, file)
        return file.getvalue()


PICKLES: dict[str, Callable[[], bytes]] = {
    **{f"protocol {number}": lambda number=number: pickle.dumps(LOADED, number) for number in range(6)},
    "one that calls and then breaks off": lambda: b"cos\nsystem\n(S'id'\ntR",
    "one that calls and goes on as nonsense": lambda: b"cos\nsystem\n(S'id'\ntRc!!\n!!\n.",
    "gzip": lambda: gzip.compress(pickle.dumps(LOADED)),
    "bz2": lambda: bz2.compress(pickle.dumps(LOADED)),
    "xz": lambda: lzma.compress(pickle.dumps(LOADED)),
    "lzma": lambda: lzma.compress(pickle.dumps(LOADED), lzma.FORMAT_ALONE),
    "zlib": lambda: zlib.compress(pickle.dumps(LOADED)),
    "zip": lambda: _zipped(pickle.dumps(LOADED)),
    "a zip in a zip": lambda: _zipped(_zipped(pickle.dumps(LOADED, 0))),
    "a member of a zip by its name": lambda: _zipped(b"nothing", "archive/data.pkl"),
    "an archive of torch": _torch,
    "an array of objects": lambda: _npy(np.array([{"a": 1}], object)),
    "a structured array with objects": lambda: _npy(np.array([(1, "a")], [("n", "i4"), ("o", object)])),
    "npz with objects": lambda: _zipped(_npy(np.array([None], object)), "mask.npy"),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickled_file_is_found_whatever_its_name(tmp_path: Path, kind: str) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "notes.txt").write_bytes(PICKLES[kind]())
    assert measured(tmp_path).pickles == ["artifacts/notes.txt"]


@pytest.mark.parametrize("name", ["model.pkl", "a/b.PT", "weights.joblib"])
def test_a_file_that_loaders_would_unpickle_is_found_by_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("text")
    assert pickled_files(tmp_path) == [name]


def test_files_of_a_version_are_none(tmp_path: Path) -> None:
    import pandas as pd
    from version_factory import ROOT, write_version

    write_version(tmp_path / "version")
    save_file({"weights": np.random.default_rng(0).normal(size=500)}, tmp_path / "weights.safetensors")
    pd.DataFrame({"a": ["x", None]}).to_parquet(tmp_path / "manifest.parquet")
    np.savez(tmp_path / "numbers.npz", a=np.arange(3), b=np.array(["text"]))
    for kind in ("PNG", "JPEG", "TIFF", "BMP"):
        (tmp_path / f"image.{kind}").write_bytes(saved(Image.new("RGB", (40, 30)), kind))
    (tmp_path / "MLmodel").write_text("artifact_path: model\nflavors:\n  python_function: {}\n")
    (tmp_path / "cut.zip").write_bytes(_zipped(b"text")[:-10])
    (tmp_path / "empty").write_bytes(b"")
    for place, path in enumerate([*ROOT.glob("*/*.py"), *ROOT.glob("docs/*"), *ROOT.glob("*.*")]):
        if path.is_file():
            (tmp_path / f"{place} {path.name}").write_bytes(path.read_bytes())
    assert pickled_files(tmp_path) == []


# As pip-audit 2.10.1 answered, of three packages: one is vulnerable, one is not, one is in no database.
ANSWER = {
    "dependencies": [
        {
            "name": "jinja2",
            "version": "2.10",
            "vulns": [{"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"], "aliases": ["CVE-2019-10906"]}],
        },
        {"name": "numpy", "version": "2.4.6", "vulns": []},
        {"name": "mine", "skip_reason": "Dependency not found on PyPI and could not be audited: mine (1.0)"},
    ],
    "fixes": [],
}


def test_what_the_audit_database_says_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit_answers(monkeypatch, tmp_path / "path", f"print(json.dumps({ANSWER!r}))\nsys.exit(1)")
    found = measured(tmp_path / "model", "jinja2==2.10\nnumpy==2.4.6\nmine==1.0\n")
    assert found.vulnerabilities is not None
    (known,) = found.vulnerabilities
    assert (known.package, known.version, known.id, known.fixed_in) == ("jinja2", "2.10", "PYSEC-2019-217", ["2.10.1"])
    assert "mine" in found.not_audited and "numpy" not in found.not_audited


def test_a_database_that_knows_no_package_has_cleared_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = "print(json.dumps({'dependencies': [{'name': p, 'skip_reason': 'not found'} for p in asked]}))"
    audit_answers(monkeypatch, tmp_path / "path", answers)
    found = measured(tmp_path / "model", "numpy==2.4.6\nmine==1.0\n")
    assert found.vulnerabilities is None and "none of them" in found.not_audited


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("sys.exit('ConnectionError: it is away')", "it is away"),
        ("print('no JSON')", "could be asked"),
        ("print('[]')", "could be asked"),
    ],
)
def test_a_database_that_cannot_be_asked_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: str
) -> None:
    audit_answers(monkeypatch, tmp_path / "path", script)
    found = measured(tmp_path / "model")
    assert found.vulnerabilities is None and told in found.not_audited


def test_without_pip_audit_it_is_said_what_to_install(tmp_path: Path) -> None:
    found = measured(tmp_path)
    assert found.vulnerabilities is None and "pip install 'resunet-lifecycle[audit]'" in found.not_audited


def test_a_package_with_a_pin_for_each_platform_is_asked_about_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "asked.txt"
    script = f"open({str(log)!r}, 'a').write(json.dumps(asked) + '\\n')\n"
    script += "names = [p.split('=')[0] for p in asked]\nassert len(names) == len(set(names))\n"
    script += "print(json.dumps({'dependencies': [{'name': n, 'version': '1', 'vulns': []} for n in names]}))"
    audit_answers(monkeypatch, tmp_path / "path", script)
    found = measured(tmp_path / "model", "a==1; sys_platform == 'linux'\nA==2; sys_platform == 'darwin'\nb==3\n")
    assert found.vulnerabilities == []
    assert [json.loads(line) for line in log.read_text().splitlines()] == [["a==1", "b==3"], ["A==2"]]
