"""Signatures of version directories, in the OpenSSF model-signing format.

    private, public = keygen(Path("keys"))
    sign(model_root, private)     # writes model_root/model.sig
    verify(model_root, public)    # raises VersionError, naming the file

The signature covers every file, the list of digests included, except itself and the `registered_model_meta`
that MLflow adds on download. A public key that came with the model proves nothing: keep it outside.
"""

import os
import re
from pathlib import Path
from typing import Any

from resunet.errors import SettingsError, VersionError

SIGNATURE_FILE = "model.sig"
PRIVATE_KEY_FILE = "signing_key.pem"
PUBLIC_KEY_FILE = "signing_key.pub.pem"
_ADDED_ON_DOWNLOAD = "registered_model_meta"


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
        raise SettingsError(_bad_key(private_key, "private")) from error
    signature = root / SIGNATURE_FILE
    try:
        config.set_hashing_config(_hashing()).sign(root, signature)
    except ValueError as error:
        raise VersionError(f"{_without_root(error, root)} It cannot be signed; remove it") from error
    return signature


def verify(root: Path, public_key: Path) -> None:
    """Check that `root` holds exactly the files that were signed.

    Args:
        root: a model directory, as downloaded.
        public_key: PEM of the public half, from outside the directory.

    Raises:
        SettingsError: the key cannot be read or is of another kind.
        VersionError: no signature, another key's, or a file that was changed, removed or added: it is named.
    """
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    signature = root / SIGNATURE_FILE
    if not signature.is_file():
        raise VersionError(f"{SIGNATURE_FILE} is missing: the version is not signed; sign it when it is made")
    for name in (SIGNATURE_FILE, _ADDED_ON_DOWNLOAD):
        if (root / name).is_dir():
            # An ignored path is ignored with all below it, so a folder of that name would hide files.
            raise VersionError(f"{name} is a folder where a file belongs: the version was altered")
    try:
        config = verifying.Config()  # type: ignore[no-untyped-call]
        config.use_elliptic_key_verifier(public_key=public_key)
    except (OSError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(_bad_key(public_key, "public")) from error
    try:
        config.set_hashing_config(_hashing()).verify(root, signature)
    except InvalidSignature as error:
        raise VersionError(f"{SIGNATURE_FILE} does not hold: it or its key was altered") from error
    except ValueError as error:
        raise VersionError(_refusal(error, root)) from error
    except Exception as error:
        # A signature file is input like any other; the library lets parse errors of several kinds through.
        raise VersionError(f"{SIGNATURE_FILE} is not a signature that can be read ({type(error).__name__})") from error


def _hashing() -> Any:
    from model_signing import hashing

    # The default ignores .git* too, and with it any file somebody puts under such a name.
    config = hashing.Config()  # type: ignore[no-untyped-call]
    return config.set_ignored_paths(paths=[SIGNATURE_FILE, _ADDED_ON_DOWNLOAD], ignore_git_paths=False)


def _bad_key(path: Path, half: str) -> str:
    return f"{path} is not the {half} half of a P-256 key in PEM; `python -m registry keygen` makes a pair"


def _without_root(error: ValueError, root: Path) -> str:
    return str(error).split(". This behavior")[0].replace(f"{root}/", "").rstrip(".") + "."


def _refusal(error: ValueError, root: Path) -> str:
    text = str(error)
    if "Key mismatch" in text:
        return "the version was signed with another key than the trusted one; it is not to be used"
    parts = [
        f"{what} {', '.join(found)}"
        for what, found in (
            ("not signed:", re.findall(r"Extra files found in model '[^']*': ([^\"]*?)(?=['\"][,\]])", text)),
            ("missing:", re.findall(r"Missing files in model '[^']*': ([^\"]*?)(?=['\"][,\]])", text)),
            ("altered:", re.findall(r"Hash mismatch for '([^']*)'", text)),
        )
        if found
    ]
    if not parts:
        return f"{SIGNATURE_FILE} does not hold: {_without_root(error, root)}"
    return f"the version's files are not those that were signed: {'; '.join(parts)}. Do not use it"
