"""Whether a version directory is what was signed, in the OpenSSF model-signing format; `registry.signing` signs.

    verify(model_root, public_key)      # raises VersionError, naming the file

The signature covers every file, the list of digests included, except itself and the `registered_model_meta`
that MLflow adds on download. A public key that came with the model proves nothing: keep it outside. The library is
imported when it is needed only: who trusts no key needs none.
"""

import re
from pathlib import Path
from typing import Any

from resunet.errors import SettingsError, VersionError

SIGNATURE_FILE = "model.sig"
_ADDED_ON_DOWNLOAD = "registered_model_meta"


def verify(root: Path, public_key: Path, *, ignore_unsigned: bool = False) -> None:
    """Check that `root` holds exactly the files that were signed.

    Args:
        root: a model directory, as downloaded.
        public_key: PEM of the public half, from outside the directory.
        ignore_unsigned: look at the signed files alone, for who has compared the directory with its signed list
            of files (see `records.digests`); files that come and go meanwhile do not matter then.

    Raises:
        SettingsError: the key cannot be read or is of another kind.
        VersionError: no signature, another key's, or a file that was changed, removed or added: it is named.
    """
    try:
        from cryptography.exceptions import InvalidSignature
        from model_signing import verifying
    except ImportError as error:
        raise SettingsError(
            f"a trusted key is set, and {error.name} is not installed to check signatures with: pip install "
            "model-signing pyOpenSSL"
        ) from error

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
        raise SettingsError(bad_key(public_key, "public")) from error
    try:
        config.set_ignore_unsigned_files(ignore_unsigned).set_hashing_config(hashing_config()).verify(root, signature)
    except InvalidSignature as error:
        raise VersionError(f"{SIGNATURE_FILE} does not hold: it or its key was altered") from error
    except ValueError as error:
        raise VersionError(_refusal(error, root)) from error
    except Exception as error:
        # A signature file is input like any other; the library lets parse errors of several kinds through.
        raise VersionError(f"{SIGNATURE_FILE} is not a signature that can be read ({type(error).__name__})") from error


def hashing_config() -> Any:
    """What a signature covers: all files but itself and MLflow's note."""
    from model_signing import hashing

    # The default ignores .git* too, and with it any file somebody puts under such a name.
    config = hashing.Config()  # type: ignore[no-untyped-call]
    return config.set_ignored_paths(paths=[SIGNATURE_FILE, _ADDED_ON_DOWNLOAD], ignore_git_paths=False)


def bad_key(path: Path, half: str) -> str:
    """The words for a key file that is no such."""
    return f"{path} is not the {half} half of a P-256 key in PEM; `python -m registry keygen` makes a pair"


def without_root(error: ValueError, root: Path) -> str:
    """The library's words, without the paths of this machine."""
    return str(error).split(". This behavior")[0].replace(f"{root}/", "").rstrip(".") + "."


def _refusal(error: ValueError, root: Path) -> str:
    # The library prints a list of its findings, and Python escapes quotes in some, by the bytes of their digests.
    text = str(error).replace("\\'", "'")
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
        return f"{SIGNATURE_FILE} does not hold: {without_root(error, root)}"
    return f"the version's files are not those that were signed: {'; '.join(parts)}. Do not use it"
