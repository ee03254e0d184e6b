import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from records.digests import verify_digests, write_digests
from registry.signing import SIGNATURE_FILE, check_private_key, keygen, sign, verify
from resunet.errors import SettingsError, VersionError


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return keygen(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def model(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    root = tmp_path / "a model"
    (root / "artifacts/version").mkdir(parents=True)
    (root / "MLmodel").write_text("flavors: {}\n")
    (root / "artifacts/version/model.onnx").write_bytes(bytes(range(256)))
    write_digests(root)
    sign(root, keys[0])
    return root


def test_a_signed_model_verifies_also_after_mlflow_downloaded_it(model: Path, keys: tuple[Path, Path]) -> None:
    verify(model, keys[1])
    (model / "registered_model_meta").write_text("model_name: resunet\n")
    model = model.rename(model.parent / "elsewhere")
    verify(model, keys[1])
    verify_digests(model)


def flip(root: Path) -> None:
    path = root / "artifacts/version/model.onnx"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def add(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("import os\n")

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (flip, r"altered: artifacts/version/model\.onnx"),
        (lambda root: (root / "digests.json").write_text("{}"), r"altered: digests\.json"),
        (lambda root: (root / "MLmodel").unlink(), "missing: MLmodel"),
        (add("code.py"), r"not signed: code\.py"),
        (add(".gitignore"), r"not signed: \.gitignore"),
        (add(".git/hook"), r"not signed: \.git/hook"),
        (add("registered_model_meta/code.py"), "registered_model_meta is a folder"),
        (lambda root: (root / "link").symlink_to("MLmodel"), "'link' because it is a symlink"),
    ],
    ids=["flip", "list", "missing", "added", "gitignore", "git", "hidden", "link"],
)
def test_any_change_is_refused_by_name(
    model: Path, keys: tuple[Path, Path], change: Callable[[Path], object], named: str
) -> None:
    change(model)
    with pytest.raises(VersionError, match=named) as caught:
        verify(model, keys[1])
    assert str(model) not in str(caught.value)


def test_several_changes_are_all_named(model: Path, keys: tuple[Path, Path]) -> None:
    flip(model)
    add("a.py")(model)
    add("b.py")(model)
    (model / "MLmodel").unlink()
    with pytest.raises(VersionError, match=r"not signed: a\.py, b\.py; missing: MLmodel; altered: artifacts/version"):
        verify(model, keys[1])


def test_another_keys_signature_is_refused(model: Path, tmp_path: Path) -> None:
    _, other = keygen(tmp_path / "other")
    with pytest.raises(VersionError, match="another key"):
        verify(model, other)


def test_no_signature_or_a_damaged_one_is_refused(model: Path, keys: tuple[Path, Path]) -> None:
    signature = model / SIGNATURE_FILE
    whole = signature.read_bytes()
    for content in (
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        whole[:-20],
        whole.replace(b'"payload":"', b'"payload":"AA'),
    ):
        signature.write_bytes(content)
        with pytest.raises(VersionError, match=r"model\.sig"):
            verify(model, keys[1])
    signature.unlink()
    with pytest.raises(VersionError, match=r"model\.sig is missing"):
        verify(model, keys[1])


def test_the_private_key_is_private_and_never_overwritten(tmp_path: Path) -> None:
    private, public = keygen(tmp_path / "keys")
    before = private.read_bytes(), public.read_bytes()
    assert private.stat().st_mode & 0o777 == 0o600
    with pytest.raises(SettingsError, match="never overwritten"):
        keygen(tmp_path / "keys")
    private.unlink()
    with pytest.raises(SettingsError, match="never overwritten"):
        keygen(tmp_path / "keys")
    assert not private.exists()
    assert public.read_bytes() == before[1]


@pytest.mark.parametrize("half", ["missing", "swapped", "junk"])
def test_a_wrong_key_file_is_named_and_its_content_is_not(
    model: Path, keys: tuple[Path, Path], tmp_path: Path, half: str
) -> None:
    junk = tmp_path / "junk.pem"
    if half == "junk":
        junk.write_text("hunter2")
    private, public = (keys[1], keys[0]) if half == "swapped" else (junk, junk)
    for call, key in ((sign, private), (verify, public)):
        with pytest.raises(SettingsError, match="in PEM") as caught:
            call(model, key)
        assert "hunter2" not in str(caught.value)


def test_a_key_that_cannot_sign_is_found_out_without_signing(keys: tuple[Path, Path], tmp_path: Path) -> None:
    check_private_key(keys[0])
    private = load_pem_private_key(keys[0].read_bytes(), None)
    pem, pkcs8 = Encoding.PEM, PrivateFormat.PKCS8
    other = ec.generate_private_key(ec.SECP384R1())
    contents = {
        "locked": private.private_bytes(pem, pkcs8, BestAvailableEncryption(b"secret")),
        "another curve": other.private_bytes(pem, pkcs8, NoEncryption()),
        "public": keys[1].read_bytes(),
        "junk": b"hunter2",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SettingsError, match=rf"RESUNET_SIGNING_KEY: .*{name} is not the private half"):
            check_private_key(tmp_path / name, "RESUNET_SIGNING_KEY")
    for unreadable in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SettingsError, match="cannot be read"):
            check_private_key(unreadable)


def test_importing_the_registry_loads_neither_torch_nor_the_signing_library() -> None:
    code = "import sys, registry.cli; print([m for m in ('torch', 'model_signing') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
