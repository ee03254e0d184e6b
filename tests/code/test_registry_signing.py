"""Making keys, and signing with a key, a certificate or Sigstore."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from authority import DAY, WEB_SERVER, Holder, make_root, now
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from local_sigstore import LocalSigstore
from pydantic import SecretStr
from typer.testing import CliRunner

from pipelines.servers import free_port
from records.digests import verify_digests, write_digests
from records.trust import Trust
from registry.cli import app
from registry.signing import SIGNATURE_FILE, Signer, SigningSettings, check_private_key, keygen, sign, verify
from resunet.errors import SettingsError, StoreError, VersionError

TOKEN = "hunter2.hunter2.hunter2"


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


def test_a_folder_that_takes_no_keys_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/foo")):
        with pytest.raises(SettingsError, match=r"no keys can be written to .*Name a folder"):
            keygen(folder)
    monkeypatch.chdir(tmp_path)
    for name in ("", " "):
        told = CliRunner().invoke(app, ["keygen", name]).exception
        assert isinstance(told, SettingsError) and "is empty" in str(told)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert CliRunner().invoke(app, ["keygen", "."]).exit_code == 0  # who says so means it
    assert len(list(tmp_path.glob("*.pem"))) == 2


@pytest.mark.parametrize("half", ["missing", "swapped", "junk"])
def test_a_wrong_key_file_is_named_and_its_content_is_not(
    model: Path, keys: tuple[Path, Path], tmp_path: Path, half: str
) -> None:
    junk = tmp_path / "junk.pem"
    if half == "junk":
        junk.write_text("hunter2")
    private, public = (keys[1], keys[0]) if half == "swapped" else (junk, junk)
    for call, key in ((sign, private), (verify, public)):
        told = "cannot be read" if half == "missing" else "in PEM"
        with pytest.raises(SettingsError, match=told) as caught:
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


def test_who_signs_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SigningSettings.load().signer is None
    monkeypatch.setenv("RESUNET_SIGNING_KEY", "key.pem")
    assert SigningSettings.load().signer == Signer(Path("key.pem"))
    monkeypatch.setenv("RESUNET_SIGNING_CERTIFICATE", "certificates.pem")
    assert SigningSettings.load().signer == Signer(Path("key.pem"), Path("certificates.pem"))
    monkeypatch.delenv("RESUNET_SIGNING_KEY")
    with pytest.raises(SettingsError, match="RESUNET_SIGNING_CERTIFICATE is set without RESUNET_SIGNING_KEY"):
        _ = SigningSettings.load().signer
    monkeypatch.setenv("RESUNET_SIGNING_SIGSTORE", "1")
    with pytest.raises(SettingsError, match="choose one"):
        _ = SigningSettings.load().signer
    monkeypatch.delenv("RESUNET_SIGNING_CERTIFICATE")
    monkeypatch.setenv("RESUNET_SIGNING_TOKEN", TOKEN)
    monkeypatch.setenv("RESUNET_SIGSTORE_TRUST_CONFIG", "sigstore.json")
    settings = SigningSettings.load()
    signer = settings.signer
    assert signer is not None and signer.key is None and signer.trust_config == Path("sigstore.json")
    assert signer.token.get_secret_value() == TOKEN and TOKEN not in f"{settings!r} {signer!r}"
    monkeypatch.setenv("RESUNET_SIGNING_SIGSTORE", "hunter2")
    with pytest.raises(SettingsError, match="RESUNET_SIGNING_SIGSTORE is not usable") as caught:
        SigningSettings.load()
    assert "hunter2" not in str(caught.value)


def unlike(root: Holder, folder: Path, what: str) -> Signer:
    """A key with a certificate that cannot sign with it."""
    issue: dict[str, Holder] = {
        "another key": root.issue("ada@example.org"),
        "a web server": root.issue("ada@example.org", usages=WEB_SERVER),
        "run out": root.issue("ada@example.org", start=now() - 20 * DAY, days=10),
        "not yet": root.issue("ada@example.org", start=now() + DAY),
        "no certificate": root.issue("ada@example.org"),
        "not there": root.issue("ada@example.org"),
    }
    key, certificates = issue[what].write(folder)
    if what == "another key":
        key = keygen(folder / "other")[0]
    elif what == "no certificate":
        certificates.write_text("hunter2")
    elif what == "not there":
        certificates.unlink()
    return Signer(key, certificates)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("another key", r"the first certificate of .*certificates\.pem is not that of the key"),
        ("a web server", "is not for signing code"),
        ("run out", r"is valid from \d{4}-.* not today"),
        ("not yet", r"is valid from \d{4}-.* not today"),
        ("no certificate", "holds no certificate"),
        ("not there", "cannot be read"),
    ],
)
def test_a_certificate_that_cannot_sign_is_found_out_without_signing(tmp_path: Path, what: str, told: str) -> None:
    root = make_root()
    Signer(*root.issue("ada@example.org").write(tmp_path / "good")).check()
    with pytest.raises(SettingsError, match=f"RESUNET_SIGNING_CERTIFICATE: .*{told}") as caught:
        unlike(root, tmp_path / "bad", what).check()
    assert "hunter2" not in str(caught.value)


def test_a_signature_by_a_certificate_verifies_with_its_root(model: Path, tmp_path: Path) -> None:
    root = make_root()
    (tmp_path / "roots.pem").write_bytes(root.pem())
    between = root.issue("Issuing authority", authority=True, usages=None)
    sign(model, Signer(*between.issue("ada@example.org").write(tmp_path / "ada", between)))
    assert verify(model, Trust(certificates=tmp_path / "roots.pem")) == "certificate of ada@example.org"
    # Without the authority in between nobody finds the way to the root.
    sign(model, Signer(*between.issue("ada@example.org").write(tmp_path / "ada")))
    with pytest.raises(VersionError, match="does not lead to a trusted one"):
        verify(model, Trust(certificates=tmp_path / "roots.pem"))


def test_a_certificate_of_another_key_signs_nothing(model: Path, tmp_path: Path) -> None:
    before = (model / SIGNATURE_FILE).read_bytes()
    with pytest.raises(SettingsError, match="is not that of the key"):
        sign(model, unlike(make_root(), tmp_path / "bad", "another key"))
    assert (model / SIGNATURE_FILE).read_bytes() == before


@pytest.fixture
def no_workload(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody to sign as, and no network: a proxy on a port where nothing listens."""
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "SIGSTORE_ID_TOKEN", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))


def test_sigstore_without_anybody_to_sign_as_is_found_out_before_training(no_workload: None, model: Path) -> None:
    for call in (Signer().check, lambda: sign(model, Signer())):
        with pytest.raises(SettingsError, match=r"(nobody to sign as|identity cannot be had).*RESUNET_SIGNING_TOKEN"):
            call()


def test_sigstore_that_cannot_be_reached_signs_nothing_and_tells_no_token(
    no_workload: None, model: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = (model / SIGNATURE_FILE).read_bytes()
    with pytest.raises(StoreError, match=r"Sigstore cannot be reached \(TUFError\), so nothing was signed") as caught:
        sign(model, Signer(token=SecretStr(TOKEN)))
    assert (model / SIGNATURE_FILE).read_bytes() == before
    told = capfd.readouterr()
    assert TOKEN not in f"{caught.value} {told.out} {told.err} {caplog.text}"


def test_a_sigstore_of_ones_own_that_is_away_signs_nothing(no_workload: None, model: Path, tmp_path: Path) -> None:
    config = LocalSigstore().write_trust_config(tmp_path / "sigstore.json", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StoreError, match=r"Sigstore cannot be reached \(NetworkError\), so nothing was signed"):
        sign(model, Signer(token=SecretStr(TOKEN), trust_config=config))
    config.write_text("{}")
    with pytest.raises(SettingsError, match=r"RESUNET_SIGSTORE_TRUST_CONFIG: .*sigstore\.json cannot be used"):
        sign(model, Signer(token=SecretStr(TOKEN), trust_config=config))


def test_importing_the_registry_loads_neither_torch_nor_the_signing_library() -> None:
    heavy = ("torch", "model_signing")
    code = f"import sys, registry.checking, registry.desk; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
