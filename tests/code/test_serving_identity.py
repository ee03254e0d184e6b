"""What is served is what was made: a version with other files does not load, and is named in the log by its bytes."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.pyfunc.model import PythonModelContext
from version_factory import ROOT, write_version

from records.digests import DIGESTS_FILE, verify_digests, write_digests
from registry.signing import SIGNATURE_FILE, keygen, sign
from resunet.errors import SettingsError, VersionError
from serving.identity import Identity, is_compiled, verified_identity
from serving.pyfunc import SegmentationModel

INNER = "artifacts/version"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A signed model folder as it is stored, and the public key."""
    private, public = keygen(tmp_path_factory.mktemp("keys"))
    root = tmp_path_factory.mktemp("made") / "model"
    write_version(root / INNER)
    (root / "MLmodel").write_text("flavors: {}\n")
    (root / "model_code.py").write_text("import serving\n")
    shutil.copytree(ROOT / "serving", root / "code/serving", ignore=shutil.ignore_patterns("__pycache__"))
    write_digests(root)
    sign(root, private)
    return root, public


@pytest.fixture
def model(made: tuple[Path, Path], tmp_path: Path) -> Path:
    """The same as MLflow downloads it."""
    root = tmp_path / "downloaded"
    shutil.copytree(made[0], root)
    (root / "registered_model_meta").write_text("model_name: resunet\nmodel_version: 7\n")
    return root


def load(model: Path) -> SegmentationModel:
    loaded = SegmentationModel()
    loaded.load_context(PythonModelContext({"version": str(model / INNER)}, None))
    return loaded


def test_a_version_is_who_its_note_says_with_the_digest_of_its_bytes(model: Path) -> None:
    assert load(model).identity == Identity("resunet", "7", verify_digests(model))


def test_a_folder_outside_a_model_is_unregistered(made: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(made[0] / INNER, tmp_path / "version")
    assert verified_identity(tmp_path / "version") == Identity("unregistered", "unregistered", "")
    with pytest.raises(VersionError, match="bare folder"):
        verified_identity(tmp_path / "version", made[1])


def _flip(name: str) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        content = bytearray((model / name).read_bytes())
        content[len(content) // 2] ^= 1
        (model / name).write_bytes(content)

    return change


def _add(name: str) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_bytes(b"added")

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_flip(f"{INNER}/model.onnx"), r"changed: 'artifacts/version/model\.onnx'"),
        (_flip(f"{INNER}/version.json"), r"changed: 'artifacts/version/version\.json'"),
        (_flip("code/serving/engine.py"), r"changed: 'code/serving/engine\.py'"),
        (
            lambda model: (model / INNER / "golden_input.png").unlink(),
            r"missing: 'artifacts/version/golden_input\.png'",
        ),
        (_add(f"{INNER}/extra.onnx"), r"not listed: 'artifacts/version/extra\.onnx'"),
        (_add("code/sitecustomize.py"), r"not listed: 'code/sitecustomize\.py'"),
        (_add("code/serving/__pycache__/nobody.cpython-311.pyc"), r"not listed: .*nobody"),
        (_add(f"{INNER}/__pycache__/model.so"), r"not listed: .*model\.so"),
        (lambda model: (model / DIGESTS_FILE).unlink(), r"digests\.json is missing"),
    ],
)
def test_a_version_with_other_files_does_not_load(model: Path, change: Callable[[Path], object], named: str) -> None:
    change(model)
    with pytest.raises(VersionError, match=named):
        load(model)


def test_what_python_writes_beside_the_version_s_own_code_is_no_change(
    model: Path, made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(model)], check=True)
    assert list(model.rglob("*.pyc"))
    (model / "code/serving/__pycache__/engine.cpython-311.pyc.140737").write_bytes(b"of a worker that imports just now")
    monkeypatch.setenv("RESUNET_TRUSTED_KEY", str(made[1]))
    assert load(model).identity.version == "7"


def test_compiled_is_only_what_belongs_to_a_listed_source() -> None:
    listed = {"code/serving/engine.py", "model_code.py"}
    for good in ("code/serving/__pycache__/engine.cpython-311.pyc", "__pycache__/model_code.cpython-311.opt-1.pyc"):
        assert is_compiled(good, listed)
    for bad in (
        "code/serving/__pycache__/other.cpython-311.pyc",
        "code/serving/engine.cpython-311.pyc",
        "code/serving/__pycache__/engine.so",
        "code/serving/__pycache__/engine.py",
        "__pycache__/engine.cpython-311.pyc",
        "code/serving/__pycache__",
    ):
        assert not is_compiled(bad, listed)


def test_with_a_trusted_key_only_what_it_signed_is_loaded(
    model: Path, made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESUNET_TRUSTED_KEY", str(made[1]))
    load(model)
    # Somebody who may write the list as well makes it fit; the signature does not.
    _flip(f"{INNER}/golden_input.png")(model)
    write_digests(model)
    with pytest.raises(VersionError, match=r"altered: .*digests\.json"):
        load(model)
    other, _ = keygen(tmp_path / "other")
    (model / SIGNATURE_FILE).unlink()
    sign(model, other)
    with pytest.raises(VersionError, match="another key"):
        load(model)
    (model / SIGNATURE_FILE).unlink()
    with pytest.raises(VersionError, match="not signed"):
        load(model)
    monkeypatch.setenv("RESUNET_TRUSTED_KEY", str(tmp_path / "nowhere.pem"))
    with pytest.raises((SettingsError, VersionError)):
        load(model)


def test_the_signing_library_is_asked_for_only_where_a_key_is_set(
    model: Path, made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    load(model)
    monkeypatch.setenv("RESUNET_TRUSTED_KEY", str(made[1]))
    with pytest.raises(SettingsError, match="pip install model-signing"):
        load(model)
