"""The list of a version's files: any changed, missing or added byte is noticed."""

import json
from pathlib import Path

import pytest

from records.digests import list_files, read_digests, verify_digests, version_digest, write_digests
from resunet.errors import VersionError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "a version"
    (root / "code" / "serving").mkdir(parents=True)
    (root / "MLmodel").write_text("flavors: {}\n")
    (root / "model.onnx").write_bytes(bytes(range(256)) * 40)
    (root / "code" / "serving" / "größe.py").write_text("pass\n")
    return root


def test_an_untouched_version_is_accepted_with_its_digest(root: Path) -> None:
    digest = write_digests(root)
    assert digest.startswith("sha256:")
    assert verify_digests(root) == digest == version_digest(read_digests(root))
    assert list(list_files(root)) == ["MLmodel", "code/serving/größe.py", "model.onnx"]


def test_the_digest_depends_on_names_and_content_alone(root: Path, tmp_path: Path) -> None:
    digest = write_digests(root)
    moved = root.rename(tmp_path / "elsewhere")
    (moved / "MLmodel").touch()
    assert verify_digests(moved) == digest
    (moved / "MLmodel").rename(moved / "mlmodel")
    assert write_digests(moved) != digest


@pytest.mark.parametrize("position", [0, 5000, -1])
def test_a_flipped_bit_is_named(root: Path, position: int) -> None:
    write_digests(root)
    data = bytearray((root / "model.onnx").read_bytes())
    data[position] ^= 1
    (root / "model.onnx").write_bytes(data)
    with pytest.raises(VersionError, match=r"changed: 'model\.onnx'"):
        verify_digests(root)


def test_a_missing_file_is_named(root: Path) -> None:
    write_digests(root)
    (root / "MLmodel").unlink()
    with pytest.raises(VersionError, match="missing: 'MLmodel'"):
        verify_digests(root)


@pytest.mark.parametrize("name", ["evil.py", "code/registered_model_meta", "code/model.sig", "code/digests.json"])
def test_an_unlisted_file_is_named(root: Path, name: str) -> None:
    write_digests(root)
    (root / name).write_text("import os\n")
    with pytest.raises(VersionError, match=f"not listed: '{name}'"):
        verify_digests(root)


def test_all_that_is_wrong_is_told_at_once(root: Path) -> None:
    write_digests(root)
    (root / "MLmodel").write_text("other")
    (root / "model.onnx").rename(root / "other.onnx")
    with pytest.raises(VersionError, match=r"changed.*MLmodel.*missing.*model\.onnx.*not listed.*other\.onnx"):
        verify_digests(root)


@pytest.mark.parametrize("name", ["registered_model_meta", "model.sig"])
def test_what_is_added_after_the_list_does_not_matter(root: Path, name: str) -> None:
    digest = write_digests(root)
    (root / name).write_text("added")
    assert verify_digests(root) == digest


@pytest.mark.parametrize("target", ["model.onnx", "code", "nowhere"])
def test_links_are_refused(root: Path, target: str) -> None:
    write_digests(root)
    (root / "link").symlink_to(root / target)
    with pytest.raises(VersionError, match="'link' is a link"):
        verify_digests(root)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", json.dumps({"format_version": 2, "files": {}}), '{"format_version":1,"files":[]}'],
)
def test_a_list_that_is_not_one_is_refused(root: Path, content: str) -> None:
    (root / "digests.json").write_text(content)
    with pytest.raises(VersionError, match=r"digests\.json"):
        verify_digests(root)


def test_a_version_without_a_list_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(VersionError, match=r"digests\.json is missing"):
        verify_digests(root)
    with pytest.raises(VersionError, match="not a folder"):
        list_files(tmp_path / "nowhere")
