"""Whose signature counts: keys, certificates and Sigstore, one function for all who ask."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from authority import DAY, WEB_SERVER, Holder, make_root, now
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from local_sigstore import LocalSigstore

from records.digests import SIGNATURE_FILE, write_digests
from records.signing import verify
from records.trust import Trust, TrustSettings
from registry.facts import read_facts
from registry.signing import Signer, keygen, sign
from resunet.errors import SettingsError, StoreError, VersionError

ADA = "ada@example.org"
ISSUER = "https://accounts.example.org"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return keygen(tmp_path / "keys")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder, not signed yet."""
    root = tmp_path / "model"
    root.mkdir()
    (root / "MLmodel").write_text("flavors: {}\n")
    write_digests(root)
    return root


@pytest.fixture(scope="module")
def root() -> Holder:
    return make_root()


def trusting(folder: Path, *roots: Holder, identity: str = "") -> Trust:
    path = folder / "roots.pem"
    path.write_bytes(b"".join(one.pem() for one in roots))
    return Trust(certificates=path, identity=identity)


def signed(model: Path, folder: Path, holder: Holder, *chain: Holder) -> None:
    key, certificates = holder.write(folder, *chain)
    sign(model, Signer(key=key, certificate=certificates))


def edit(model: Path, change: Change) -> None:
    """Change what a signature says to check it with."""
    content = json.loads((model / SIGNATURE_FILE).read_bytes())
    change(content["verificationMaterial"])
    (model / SIGNATURE_FILE).write_text(json.dumps(content))


def test_every_altered_file_is_named_whatever_its_digest(model: Path, keys: tuple[Path, Path]) -> None:
    (model / "model.onnx").write_bytes(b"made")
    write_digests(model)
    sign(model, keys[0])
    for number in range(60):  # about a third of all digests hold a quote
        (model / "model.onnx").write_bytes(f"altered {number}".encode())
        write_digests(model)
        with pytest.raises(VersionError) as caught:
            verify(model, keys[1])
        assert "altered: digests.json, model.onnx. Do not use it" in str(caught.value)


def test_unsigned_files_are_named_unless_somebody_else_looks_for_them(model: Path, keys: tuple[Path, Path]) -> None:
    sign(model, keys[0])
    (model / "extra.py").write_text("import os\n")
    with pytest.raises(VersionError, match=r"not signed: extra\.py"):
        verify(model, keys[1])
    verify(model, keys[1], ignore_unsigned=True)
    (model / "MLmodel").write_text("flavors: {other: {}}\n")
    with pytest.raises(VersionError, match="altered: MLmodel"):
        verify(model, keys[1], ignore_unsigned=True)


def test_while_a_key_is_replaced_both_count_and_the_name_says_which_signed(
    model: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    new_private, new_public = keygen(tmp_path / "new")
    both = tmp_path / "both.pem"
    both.write_bytes(keys[1].read_bytes() + b"# since March\n" + new_public.read_bytes())
    names = set()
    for private, public in ((keys[0], keys[1]), (new_private, new_public)):
        sign(model, private)
        names.add(verify(model, both))
        assert verify(model, both) == verify(model, public)
    assert len(names) == 2 and all(name.startswith("key ") for name in names)
    with pytest.raises(VersionError, match="another key"):
        verify(model, keys[1])
    # One that is broken is not passed over: nobody would notice until it is needed.
    both.write_bytes(both.read_bytes() + b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    with pytest.raises(SettingsError, match=r"both\.pem is not the public half"):
        verify(model, both)


def test_a_signature_that_names_no_key_is_nobodys(model: Path, keys: tuple[Path, Path]) -> None:
    sign(model, keys[0])
    edit(model, lambda material: material["publicKey"].clear())
    with pytest.raises(VersionError, match="another key"):
        verify(model, keys[1])


def test_a_certificate_that_leads_to_a_trusted_root_counts(model: Path, tmp_path: Path, root: Holder) -> None:
    between = root.issue("Issuing authority", authority=True, usages=None)
    signed(model, tmp_path / "ada", between.issue(ADA), between)
    assert verify(model, trusting(tmp_path, make_root("Another"), root)) == f"certificate of {ADA}"
    assert verify(model, trusting(tmp_path, root, identity=ADA)) == f"certificate of {ADA}"
    with pytest.raises(
        VersionError, match=rf"a certificate of {ADA}, .*and bob@example.org is the one that is trusted"
    ):
        verify(model, trusting(tmp_path, root, identity="bob@example.org"))
    with pytest.raises(VersionError, match="does not lead to a trusted one"):
        verify(model, trusting(tmp_path, make_root("Another")))
    (model / "MLmodel").write_text("flavors: {other: {}}\n")
    with pytest.raises(VersionError, match="altered: MLmodel"):
        verify(model, trusting(tmp_path, root))


def test_a_certificate_that_has_run_out_still_vouches_for_what_it_signed(
    model: Path, tmp_path: Path, root: Holder
) -> None:
    signed(model, tmp_path / "ada", root.issue(ADA, start=now() - 20 * DAY, days=10))
    assert verify(model, trusting(tmp_path, root)) == f"certificate of {ADA}"


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=["P-256", "P-384"])
def test_certificates_of_other_curves_count_too(
    model: Path, tmp_path: Path, root: Holder, curve: ec.EllipticCurve
) -> None:
    signed(model, tmp_path / "ada", root.issue(ADA, curve=curve))
    assert verify(model, trusting(tmp_path, root)) == f"certificate of {ADA}"


def test_a_web_servers_certificate_signs_no_version(model: Path, tmp_path: Path, root: Holder) -> None:
    signed(model, tmp_path / "web", root.issue(ADA, usages=WEB_SERVER))
    with pytest.raises(VersionError, match=f"certificate of {ADA} that signed the version is not for signing code"):
        verify(model, trusting(tmp_path, root))


def test_a_certificate_without_any_usage_signs_no_version(model: Path, tmp_path: Path, root: Holder) -> None:
    signed(model, tmp_path / "none", root.issue(ADA, usages=None, digital_signature=False))
    with pytest.raises(VersionError, match="cannot be used for signing"):
        verify(model, trusting(tmp_path, root))
    signed(model, tmp_path / "plain", root.issue(ADA, usages=None))
    assert verify(model, trusting(tmp_path, root))


def test_who_has_a_certificate_cannot_issue_another(model: Path, tmp_path: Path, root: Holder) -> None:
    ada = root.issue(ADA)
    signed(model, tmp_path / "bob", ada.issue("bob@example.org"), ada)
    with pytest.raises(VersionError, match="does not lead to a trusted one"):
        verify(model, trusting(tmp_path, root))


def test_the_certificate_that_is_looked_at_is_the_one_that_signed(model: Path, tmp_path: Path, root: Holder) -> None:
    """The library reads a field by two names: what is good under one may not hide what is under the other."""
    web, ada = root.issue("web@example.org", usages=WEB_SERVER), root.issue(ADA)
    signed(model, tmp_path / "web", web)

    def hide(material: dict[str, Any]) -> None:
        signer = material.pop("x509CertificateChain")
        material["x509_certificate_chain"] = signer
        material["x509CertificateChain"] = {
            "certificates": [{"rawBytes": base64.b64encode(_der(ada)).decode()}],
        }

    def hide_within(material: dict[str, Any]) -> None:
        (first, *_) = material["x509CertificateChain"]["certificates"]
        first["raw_bytes"], first["rawBytes"] = first["rawBytes"], base64.b64encode(_der(ada)).decode()

    for change in (hide, hide_within, lambda material: material["x509CertificateChain"].update(certificates=[])):
        signed(model, tmp_path / "web", web)
        edit(model, change)
        with pytest.raises(VersionError, match=r"model\.sig is not a signature that can be read"):
            verify(model, trusting(tmp_path, root))


def _der(holder: Holder) -> bytes:
    return holder.certificate.public_bytes(Encoding.DER)


def test_another_kind_of_signature_than_the_trusted_is_refused_and_each_of_several_counts(
    model: Path, keys: tuple[Path, Path], tmp_path: Path, root: Holder
) -> None:
    certificates = trusting(tmp_path, root)
    everybody = Trust(keys=keys[1], certificates=certificates.certificates, identity=ADA, issuer=ISSUER)
    sign(model, keys[0])
    with pytest.raises(VersionError, match="was signed with a key, and what is trusted is a certificate that leads"):
        verify(model, certificates)
    assert verify(model, everybody).startswith("key ")
    signed(model, tmp_path / "ada", root.issue(ADA))
    with pytest.raises(VersionError, match="was signed with a certificate, and what is trusted is a key of RESUNET"):
        verify(model, keys[1])
    with pytest.raises(VersionError, match=f"what is trusted is {ADA} by Sigstore"):
        verify(model, Trust(identity=ADA, issuer=ISSUER))
    assert verify(model, everybody) == f"certificate of {ADA}"


def test_a_file_without_certificates_trusts_nobody(model: Path, tmp_path: Path, root: Holder) -> None:
    """The library would fall back to the roots of all web servers."""
    signed(model, tmp_path / "ada", root.issue(ADA))
    for content in (b"", b"hunter2", root.pem()[:100]):
        (tmp_path / "roots.pem").write_bytes(content)
        with pytest.raises(SettingsError, match=r"RESUNET_TRUSTED_CERTIFICATES: .*roots\.pem holds no cert") as caught:
            verify(model, Trust(certificates=tmp_path / "roots.pem"))
        assert "hunter2" not in str(caught.value)
    with pytest.raises(SettingsError, match="nowhere cannot be read"):
        verify(model, Trust(certificates=tmp_path / "nowhere"))


def test_what_is_trusted_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TrustSettings().trust is None
    monkeypatch.setenv("RESUNET_TRUSTED_KEY", "key.pem")
    monkeypatch.setenv("RESUNET_TRUSTED_CERTIFICATES", "roots.pem")
    monkeypatch.setenv("RESUNET_TRUSTED_IDENTITY", ADA)
    monkeypatch.setenv("RESUNET_TRUSTED_ISSUER", ISSUER)
    monkeypatch.setenv("RESUNET_SIGSTORE_TRUST_CONFIG", "sigstore.json")
    assert TrustSettings().trust == Trust(Path("key.pem"), Path("roots.pem"), ADA, ISSUER, Path("sigstore.json"))


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"RESUNET_TRUSTED_ISSUER": ISSUER}, "without RESUNET_TRUSTED_IDENTITY"),
        ({"RESUNET_TRUSTED_IDENTITY": ADA}, "not who vouches for it"),
        ({"RESUNET_TRUSTED_KEY": "key.pem", "RESUNET_TRUSTED_IDENTITY": ADA}, "not who vouches for it"),
        ({"RESUNET_TRUSTED_CERTIFICATE": "roots.pem"}, "RESUNET_TRUSTED_CERTIFICATE is no setting"),
    ],
)
def test_settings_that_ask_for_less_than_they_seem_to_are_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], told: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=told):
        _ = TrustSettings().trust


def test_the_gate_reads_who_signed_whatever_the_kind(model: Path, tmp_path: Path, root: Holder) -> None:
    signed(model, tmp_path / "ada", root.issue(ADA))
    assert read_facts("1", model, trusting(tmp_path, root)).signer == f"certificate of {ADA}"
    found = read_facts("1", model, trusting(tmp_path, make_root("Another")))
    assert not found.signer and "does not lead to a trusted one" in found.unsigned


@pytest.fixture
def sigstore_signature(model: Path, keys: tuple[Path, Path]) -> Path:
    """A model with what looks like a signature by Sigstore: enough to ask for its roots."""
    sign(model, keys[0])
    edit(model, lambda material: (material.pop("publicKey"), material.update(certificate={"rawBytes": "AAAA"})))
    return model


def test_sigstore_that_cannot_be_reached_is_no_finding_about_the_version(
    sigstore_signature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a proxy on a port where nothing listens: the network is not asked."""
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    told = r"Sigstore cannot be reached \(TUFError\), so nothing was found out.*RESUNET_SIGSTORE_TRUST_CONFIG"
    with pytest.raises(StoreError, match=told):
        verify(sigstore_signature, Trust(identity=ADA, issuer=ISSUER))
    with pytest.raises(StoreError, match=told):
        read_facts("1", sigstore_signature, Trust(identity=ADA, issuer=ISSUER))


def test_roots_of_sigstore_that_make_no_sense_are_a_setting_to_mend(sigstore_signature: Path, tmp_path: Path) -> None:
    path = tmp_path / "sigstore.json"
    for content in (None, "", "{}", "hunter2"):
        if content is not None:
            path.write_text(content)
        with pytest.raises(SettingsError, match=r"RESUNET_SIGSTORE_TRUST_CONFIG: .*sigstore\.json cannot") as caught:
            verify(sigstore_signature, Trust(identity=ADA, issuer=ISSUER, sigstore_config=path))
        assert "hunter2" not in str(caught.value)


@pytest.fixture(scope="module")
def sigstore() -> LocalSigstore:
    return LocalSigstore()


def vouched(folder: Path, instance: LocalSigstore, identity: str = ADA, issuer: str = ISSUER) -> Trust:
    folder.mkdir(exist_ok=True)
    config = instance.write_trust_config(folder / "sigstore.json")
    return Trust(identity=identity, issuer=issuer, sigstore_config=config)


def test_sigstore_counts_for_the_identity_and_issuer_that_are_trusted_and_for_no_other(
    model: Path, tmp_path: Path, sigstore: LocalSigstore
) -> None:
    sigstore.sign(model, ADA, ISSUER)
    assert verify(model, vouched(tmp_path, sigstore)) == f"{ADA} by Sigstore, vouched for by {ISSUER}"
    assert read_facts("1", model, vouched(tmp_path, sigstore)).signer.startswith(ADA)
    for wrong, told in (
        (vouched(tmp_path, sigstore, identity="bob@example.org"), "do not match bob@example.org"),
        (vouched(tmp_path, sigstore, issuer="https://other.example.org"), f"got '{ISSUER}'"),
        (vouched(tmp_path / "other", LocalSigstore()), "does not hold for Sigstore"),
    ):
        with pytest.raises(VersionError, match=told):
            verify(model, wrong)


def test_what_sigstore_vouched_for_is_named_where_it_was_changed(
    model: Path, tmp_path: Path, sigstore: LocalSigstore
) -> None:
    sigstore.sign(model, ADA, ISSUER)
    (model / "extra.py").write_text("import os\n")
    (model / "MLmodel").write_text("flavors: {other: {}}\n")
    with pytest.raises(VersionError, match=r"not signed: extra\.py; altered: MLmodel"):
        verify(model, vouched(tmp_path, sigstore))
    (model / "extra.py").unlink()
    (model / "MLmodel").write_text("flavors: {}\n")
    verify(model, vouched(tmp_path, sigstore))
    edit(model, lambda material: material["tlogEntries"][0].update(integratedTime="1700000000"))
    with pytest.raises(VersionError, match="does not hold for Sigstore"):
        verify(model, vouched(tmp_path, sigstore))
    edit(model, lambda material: material.update(tlogEntries=[]))
    with pytest.raises(VersionError, match=r"model\.sig is not a signature that can be read"):
        verify(model, vouched(tmp_path, sigstore))
