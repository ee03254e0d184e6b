"""The public keys that a signature may be checked with: one file, one key after another.

key = chosen(Path("trusted.pem"), {"hint": "1f0c…"})
key.name                                                 # "key 1f0c…", the beginning of the sha256 of its PEM

More than one is for the time in which a new key signs and versions that an old one signed still serve.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resunet.errors import SettingsError, VersionError

_BLOCK = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
_CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})


@dataclass(frozen=True)
class PublicKey:
    """One key.

    Attributes:
        pem: in the form that its sha256, the `hint` in a signature, is computed of.
        alone: the file that holds this key and no other; None where there are several.
    """

    pem: bytes
    alone: Path | None = None

    @property
    def hint(self) -> str:
        return hashlib.sha256(self.pem).hexdigest()

    @property
    def name(self) -> str:
        """A short name for people."""
        return f"key {self.hint[:12]}"

    @contextmanager
    def file(self) -> Iterator[Path]:
        """A file that holds the key alone, while the block runs."""
        if self.alone is not None:
            yield self.alone
            return
        with tempfile.NamedTemporaryFile(suffix=".pub.pem") as file:
            file.write(self.pem)
            file.flush()
            yield Path(file.name)


def public_keys(path: Path) -> list[PublicKey]:
    """Read all keys of a file.

    Raises:
        SettingsError: it cannot be read, or something in it is not an elliptic public key in PEM.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    try:
        blocks = _BLOCK.findall(path.read_bytes())
    except OSError as error:
        raise SettingsError(
            f"the trusted key {path} cannot be read ({error.strerror}); `python -m registry keygen` makes a pair"
        ) from error
    try:
        keys = [load_pem_public_key(block) for block in blocks]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SettingsError(bad_key(path, "public")) from error
    if not keys or not all(isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES for key in keys):
        raise SettingsError(bad_key(path, "public"))
    alone = path if len(keys) == 1 else None
    return [PublicKey(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), alone) for key in keys]


def chosen(path: Path, named: Any) -> PublicKey:
    """The key of a file that a signature names.

    Args:
        named: the signature's `publicKey`, of which `hint` is read.

    Raises:
        SettingsError: as of `public_keys`.
        VersionError: it names another one, or none.
    """
    hint = named.get("hint") if isinstance(named, dict) else None
    for key in public_keys(path):
        if key.hint == hint:
            return key
    raise VersionError("the version was signed with another key than the trusted one; it is not to be used")


def bad_key(path: Path, half: str) -> str:
    """The words for a key file that is no such."""
    return f"{path} is not the {half} half of a P-256 key in PEM; `python -m registry keygen` makes a pair"
