"""Whether a version directory is what was signed, in the OpenSSF model-signing format; `registry.signing` signs.

    signer = verify(model_root, trust)      # "key 1f0c…"; raises VersionError, naming the file
    digest = verify_files(model_root, trust)    # against the list of files, and the list against a signature

The signature covers every file, the list of digests included, except itself and the `registered_model_meta`
that MLflow adds on download. What came with the model proves nothing: `trust` comes from outside (`records.trust`). The
library is imported when it is needed only: who trusts nobody needs none.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from records import certificates, public_keys
from records.digests import SIGNATURE_FILE, verify_digests
from records.trust import Trust
from resunet.errors import SettingsError, StoreError, VersionError

_ADDED_ON_DOWNLOAD = "registered_model_meta"
_KINDS: Final = {"publicKey": "a key", "x509CertificateChain": "a certificate", "certificate": "Sigstore"}
_UNTOLD: Final = (
    "so nothing was found out about the signature: try again, or set RESUNET_SIGSTORE_TRUST_CONFIG to a file with "
    "its roots, which needs no network"
)
_BESIDE: Final = frozenset({"tlogEntries", "timestampVerificationData"})


def verify_files(root: Path, trust: Trust | None) -> str:
    """Compare a version's files with their list, and them with a signature where one is asked for.

    Args:
        root: a model directory, as downloaded.
        trust: whose signature counts; None asks for none.

    Returns:
        the version's digest.

    Raises:
        VersionError, SettingsError, StoreError: as `verify_digests` and `verify`.
    """
    digest = verify_digests(root)
    if trust is not None:
        verify(root, trust)
    return digest


def verify(root: Path, trust: Trust | Path, *, ignore_unsigned: bool = False) -> str:
    """Check that `root` holds exactly the files that somebody who is trusted signed.

    Args:
        root: a model directory, as downloaded.
        trust: whose signature counts; a path is that of a public key (PEM).
        ignore_unsigned: look at the signed files alone, for who has compared the directory with its signed list
            of files (see `records.digests`); files that come and go meanwhile do not matter then.

    Returns:
        who signed, in a few words.

    Raises:
        SettingsError: what is trusted cannot be read or is of another kind, or the library is not installed.
        StoreError: Sigstore's roots cannot be fetched now: nothing was found out.
        VersionError: no signature, somebody else's, or a file that was changed, removed or added: it is named.
    """
    trust = Trust(keys=trust) if isinstance(trust, Path) else trust
    try:
        from model_signing import verifying
    except ImportError as error:
        raise SettingsError(
            f"signatures are asked for, and {error.name} is not installed to check them with: pip install "
            "model-signing pyOpenSSL"
        ) from error

    signature = root / SIGNATURE_FILE
    for name in (SIGNATURE_FILE, _ADDED_ON_DOWNLOAD):
        if (root / name).is_dir() or (root / name).is_symlink():
            # An ignored path is ignored with all below it, so a folder of that name would hide files.
            raise VersionError(f"{name} is a folder or a link where a file belongs: the version was altered")
    if not signature.is_file():
        raise VersionError(f"{SIGNATURE_FILE} is missing: the version is not signed; sign it when it is made")
    config = verifying.Config()  # type: ignore[no-untyped-call]
    signer = _choose_verifier(config, *_material(signature), trust)
    config.set_ignore_unsigned_files(ignore_unsigned).set_hashing_config(hashing_config())
    _run(config, root, signature)
    return signer()


def _material(signature: Path) -> tuple[str, Any]:
    """What the signature says to check it with, and of what kind that is; not to be believed yet."""
    try:
        material = json.loads(signature.read_bytes())["verificationMaterial"]
        # The library knows some of these by a second name too: it has to look at what is looked at here.
        (kind,) = set(material) - _BESIDE
        return _KINDS[kind] and kind, material[kind]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise VersionError(_unreadable(error)) from error


def _choose_verifier(config: Any, kind: str, material: Any, trust: Trust) -> Callable[[], str]:
    """Prepare the library for the kind of signature that there is, if that kind is trusted.

    Returns:
        what tells who signed, once the signature was found to hold.
    """
    if kind == "publicKey" and trust.keys is not None:
        key = public_keys.chosen(trust.keys, material)
        with key.file() as path:
            config.use_elliptic_key_verifier(public_key=path)
        return lambda: key.name
    if kind == "x509CertificateChain" and trust.certificates is not None:
        chain = certificates.der_chain(material)
        config.use_certificate_verifier(certificate_chain=[certificates.roots(trust.certificates)])
        return lambda: certificates.named(chain[0], trust.identity)
    if kind == "certificate" and trust.issuer:
        _use_sigstore(config, trust)
        return lambda: f"{trust.identity} by Sigstore, vouched for by {trust.issuer}"
    raise VersionError(
        f"the version was signed with {_KINDS[kind]}, and what is trusted is {trust.told}; it is not to be used"
    )


def _use_sigstore(config: Any, trust: Trust) -> None:
    try:
        config.use_sigstore_verifier(
            identity=trust.identity, oidc_issuer=trust.issuer, trust_config=trust.sigstore_config
        )
    except Exception as error:
        raise sigstore_problem(error, trust.sigstore_config, _UNTOLD) from error


def sigstore_problem(error: Exception, trust_config: Path | None, so: str) -> SettingsError | StoreError:
    """What is wrong with Sigstore's roots or services: a setting, or they are away.

    Args:
        trust_config: file with them; None: the public instance.
        so: what follows when they are away.
    """
    from sigstore.errors import NetworkError, TUFError
    from sigstore.oidc import IssuerError

    if trust_config is not None and not isinstance(error, (NetworkError, TUFError, IssuerError)):
        return SettingsError(
            f"RESUNET_SIGSTORE_TRUST_CONFIG: {trust_config} cannot be used ({type(error).__name__}); it is the "
            "client trust configuration (JSON) of a Sigstore instance"
        )
    return StoreError(f"Sigstore cannot be reached ({type(error).__name__}), {so}")


def _run(config: Any, root: Path, signature: Path) -> None:
    from cryptography.exceptions import InvalidSignature
    from OpenSSL.crypto import X509StoreContextError
    from sigstore.errors import VerificationError

    try:
        config.verify(root, signature)
    except InvalidSignature as error:
        raise VersionError(f"{SIGNATURE_FILE} does not hold: it or its key was altered") from error
    except X509StoreContextError as error:
        raise VersionError(
            f"the certificate that signed the version does not lead to a trusted one ({error}); it is not to be used"
        ) from error
    except VerificationError as error:
        raise VersionError(f"{SIGNATURE_FILE} does not hold for Sigstore: {error}; it is not to be used") from error
    except ValueError as error:
        raise VersionError(_refusal(error, root)) from error
    except Exception as error:
        # A signature file is input like any other; the library lets parse errors of several kinds through.
        raise VersionError(_unreadable(error)) from error


def hashing_config() -> Any:
    """What a signature covers: all files but itself and MLflow's note."""
    from model_signing import hashing

    # The default ignores .git* too, and with it any file somebody puts under such a name.
    config = hashing.Config()  # type: ignore[no-untyped-call]
    return config.set_ignored_paths(paths=[SIGNATURE_FILE, _ADDED_ON_DOWNLOAD], ignore_git_paths=False)


def without_root(error: ValueError, root: Path) -> str:
    """The library's words, without the paths of this machine."""
    return str(error).split(". This behavior")[0].replace(f"{root}/", "").rstrip(".") + "."


def _unreadable(error: Exception) -> str:
    return f"{SIGNATURE_FILE} is not a signature that can be read ({type(error).__name__})"


_FINDINGS: Final = (
    ("not signed:", r"Extra files found in model '[^']*': ([^\"]*?)(?=['\"][,\]])"),
    ("missing:", r"Missing files in model '[^']*': ([^\"]*?)(?=['\"][,\]])"),
    ("altered:", r"Hash mismatch for '([^']*)'"),
)


def _refusal(error: ValueError, root: Path) -> str:
    # The library prints a list of its findings, and Python escapes quotes in some, by the bytes of their digests.
    text = str(error).replace("\\'", "'")
    parts = [f"{what} {', '.join(found)}" for what, pattern in _FINDINGS if (found := re.findall(pattern, text))]
    if not parts:
        return f"{SIGNATURE_FILE} does not hold: {without_root(error, root)}"
    return f"the version's files are not those that were signed: {'; '.join(parts)}. Do not use it"
