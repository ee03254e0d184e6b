"""Signatures of version directories, in the OpenSSF model-signing format.

    private, public = keygen(Path("keys"))
    sign(model_root, private)     # writes model_root/model.sig
    verify(model_root, public)    # raises VersionError, naming the file

The signature covers every file, the list of digests included, except itself and the `registered_model_meta`
that MLflow adds on download. A public key that came with the model proves nothing: keep it outside.
`registry.signers` says who signs, `records.trust` who is believed.
"""

import os
from pathlib import Path

from records.digests import SIGNATURE_FILE
from records.signing import hashing_config, verify, without_root
from registry.signers import Signer, SigningSettings, check_private_key
from resunet.errors import SettingsError, StoreError, VersionError

PRIVATE_KEY_FILE = "signing_key.pem"
PUBLIC_KEY_FILE = "signing_key.pub.pem"

__all__ = ["SIGNATURE_FILE", "Signer", "SigningSettings", "check_private_key", "keygen", "sign", "verify"]


def keygen(folder: Path) -> tuple[Path, Path]:
    """Make a P-256 key pair; the private half is readable by its owner alone.

    Args:
        folder: where the two PEM files go; made when missing.

    Returns:
        the paths of the private and of the public key.

    Raises:
        SettingsError: one of the two is there already, a key is never overwritten; or they cannot be written there.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private, public = folder / PRIVATE_KEY_FILE, folder / PUBLIC_KEY_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (private, public):
            if path.exists() or path.is_symlink():
                raise SettingsError(f"{path} exists; keys are never overwritten, choose another folder")
    except OSError as error:
        raise _unwritable(folder, error) from error
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    open_half = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for path, content, mode in ((private, secret, 0o600), (public, open_half, 0o644)):
        try:
            # O_EXCL: of two commands at once one wins; the mode is there before the first byte is.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
        except OSError as error:
            raise _unwritable(folder, error) from error
    return private, public


def _unwritable(folder: Path, error: OSError) -> SettingsError:
    return SettingsError(f"no keys can be written to {folder}: {error.strerror}. Name a folder that you may write to")


def sign(root: Path, signer: Signer | Path) -> Path:
    """Sign all files under `root`.

    Args:
        root: a model directory, complete: what is added later is refused by `verify`.
        signer: who signs; a path is that of a private key (PEM).

    Returns:
        the path of the signature, `root/model.sig`.

    Raises:
        SettingsError: the key cannot be read or is of another kind.
        StoreError: Sigstore cannot be reached, or does not sign.
        VersionError: the directory holds what cannot be signed, such as a symbolic link.
    """
    from model_signing import signing

    signer = Signer(signer) if isinstance(signer, Path) else signer
    config = signing.Config()  # type: ignore[no-untyped-call]
    signer.configure(config)
    signature = root / SIGNATURE_FILE
    try:
        config.set_hashing_config(hashing_config()).sign(root, signature)
    except Exception as error:
        if type(error) is ValueError:
            raise VersionError(f"{without_root(error, root)} It cannot be signed; remove it") from error
        if signer.key is not None:
            raise
        # Without its words: they may quote the token.
        raise StoreError(
            f"Sigstore did not sign the version ({type(error).__name__}): see that it can be reached and that the "
            "identity token is not older than some minutes, and try again"
        ) from None
    return signature
