"""The words for what does not verify name the files, whatever bytes their digests have."""

from pathlib import Path

import pytest

from records.digests import write_digests
from records.signing import verify
from registry.signing import keygen, sign
from resunet.errors import VersionError


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return keygen(tmp_path / "keys")


def test_every_altered_file_is_named_whatever_its_digest(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    root = tmp_path / "model"
    root.mkdir()
    (root / "MLmodel").write_text("flavors: {}\n")
    (root / "model.onnx").write_bytes(b"made")
    write_digests(root)
    sign(root, keys[0])
    for number in range(60):  # about a third of all digests hold a quote
        (root / "model.onnx").write_bytes(f"altered {number}".encode())
        write_digests(root)
        with pytest.raises(VersionError) as caught:
            verify(root, keys[1])
        assert "altered: digests.json, model.onnx. Do not use it" in str(caught.value)


def test_unsigned_files_are_named_unless_somebody_else_looks_for_them(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    root = tmp_path / "model"
    root.mkdir()
    (root / "MLmodel").write_text("flavors: {}\n")
    write_digests(root)
    sign(root, keys[0])
    (root / "extra.py").write_text("import os\n")
    with pytest.raises(VersionError, match=r"not signed: extra\.py"):
        verify(root, keys[1])
    verify(root, keys[1], ignore_unsigned=True)
    (root / "MLmodel").write_text("flavors: {other: {}}\n")
    with pytest.raises(VersionError, match="altered: MLmodel"):
        verify(root, keys[1], ignore_unsigned=True)
