"""Signatures of version directories, in the OpenSSF model-signing format.

    private, public = keygen(Path("keys"))
    sign(model_root, private)     # writes model_root/model.sig
    verify(model_root, public)    # raises VersionError, naming the file

The signature covers every file, the list of digests included, except itself and the `registered_model_meta`
that MLflow adds on download. A public key that came with the model proves nothing: keep it outside.
"""

import os
from pathlib import Path

from records.signing import SIGNATURE_FILE, bad_key, hashing_config, verify, without_root
from resunet.errors import SettingsError, VersionError

PRIVATE_KEY_FILE = "signing_key.pem"
PUBLIC_KEY_FILE = "signing_key.pub.pem"

__all__ = ["SIGNATURE_FILE", "check_private_key", "keygen", "sign", "verify"]


def keygen(folder: Path) -> tuple[Path, Path]:
    """Make a P-256 key pair; the private half is readable by its owner alone.

    Args:
        folder: where the two PEM files go; made when missing.

    Returns:
        the paths of the private and of the public key.

    Raises:
        SettingsError: one of the two is there already; a key is never overwritten.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder.mkdir(parents=True, exist_ok=True)
    private, public = folder / PRIVATE_KEY_FILE, folder / PUBLIC_KEY_FILE
    for path in (private, public):
        if path.exists() or path.is_symlink():
            raise SettingsError(f"{path} exists; keys are never overwritten, choose another folder")
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    open_half = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for path, content, mode in ((private, secret, 0o600), (public, open_half, 0o644)):
        # O_EXCL: of two commands at once one wins; the mode is there before the first byte is.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    return private, public


def check_private_key(path: Path, setting: str = "the private key") -> None:
    """See that versions can be signed with a key, before hours are spent on one.

    Args:
        path: PEM of the private half.
        setting: what the path came from, for the message.

    Raises:
        SettingsError: there is no such file, it cannot be read, or it is no private P-256 key without a password.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise SettingsError(
            f"{setting}: {path} cannot be read ({error.strerror}); `python -m registry keygen` makes a pair"
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{setting}: {bad_key(path, 'private')}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SettingsError(f"{setting}: {bad_key(path, 'private')}")


def sign(root: Path, private_key: Path) -> Path:
    """Sign all files under `root`.

    Args:
        root: a model directory, complete: what is added later is refused by `verify`.
        private_key: PEM of an elliptic key.

    Returns:
        the path of the signature, `root/model.sig`.

    Raises:
        SettingsError: the key cannot be read or is of another kind.
        VersionError: the directory holds what cannot be signed, such as a symbolic link.
    """
    from model_signing import signing

    try:
        config = signing.Config()  # type: ignore[no-untyped-call]
        config.use_elliptic_key_signer(private_key=private_key)
    except (OSError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(bad_key(private_key, "private")) from error
    signature = root / SIGNATURE_FILE
    try:
        config.set_hashing_config(hashing_config()).sign(root, signature)
    except ValueError as error:
        raise VersionError(f"{without_root(error, root)} It cannot be signed; remove it") from error
    return signature
