"""Encryption at rest of masks and images: AES-256-GCM, with a key from the environment.

    keyring = open_keyring(RecordsSettings.load())          # no key is set: nothing is sealed
    blob = keyring.seal("mask/<answer id>", content)
    content = keyring.unseal("mask/<answer id>", blob)

The first key seals, all of them unseal: to rotate, put a new one before the old ones. A sealed blob is a magic, the
id of its key, a random nonce, and the ciphertext with its tag; magic, key id and the blob's name are authenticated, so
that neither a changed blob nor one in another's place is unsealed. Plain blobs are read as they are, with a key or
without: they are of a time before it was set, or of a release before this one. So who can write to a store can put a
plain blob there; it is who can only read, or has a copy, that is kept out. No key is ever part of an error, a log or a
repr. NIST SP 800-38D allows 2^32 blobs a key where nonces are random: rotate before.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resunet.errors import RecordsError, SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from records.settings import RecordsSettings

KEY_BYTES = 32
# No image and no gzip file begins like this.
MAGIC = b"\0resunet-sealed-1\n"
_ID_BYTES, _NONCE_BYTES, _TAG_BYTES = 8, 12, 16
_HEADER_BYTES = len(MAGIC) + _ID_BYTES
_MAKE_ONE = "make one with `python -m records new-key`"


class SealError(RecordsError):
    """A sealed blob that cannot be opened: its key is not set, or it is not as it was sealed."""


class Keyring:
    """Keys that seal and unseal; without one, blobs stay plain. Thread-safe.

    Args:
        keys: of 32 bytes each; the first one seals.

    Raises:
        SettingsError: the package `cryptography` is missing.
    """

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._ciphers: dict[bytes, AESGCM] = {}
        if keys:
            aesgcm = _aesgcm()
            self._ciphers = {_key_id(key): aesgcm(key) for key in keys}

    def __repr__(self) -> str:
        return f"Keyring({len(self._ciphers)} keys)"

    @property
    def seals(self) -> bool:
        """Whether there is a key to seal with."""
        return bool(self._ciphers)

    def seal(self, name: str, content: bytes) -> bytes:
        """Encrypt a blob under its name with the first key.

        Raises:
            SealError: there is no key.
        """
        if not self._ciphers:
            raise SealError(f"no key is set to seal with: {_MAKE_ONE} and set RESUNET_BLOB_KEY")
        key_id, cipher = next(iter(self._ciphers.items()))
        nonce = os.urandom(_NONCE_BYTES)
        header = MAGIC + key_id
        return header + nonce + cipher.encrypt(nonce, content, header + name.encode())

    def unseal(self, name: str, blob: bytes) -> bytes:
        """Decrypt a blob; a plain one is returned as it is.

        Raises:
            SealError: its key is not among ours, or it was changed, or it is another one's.
        """
        if not is_sealed(blob):
            return blob
        header, rest = blob[:_HEADER_BYTES], blob[_HEADER_BYTES:]
        key_id = header[len(MAGIC) :]
        if len(rest) < _NONCE_BYTES + _TAG_BYTES:
            raise SealError("a sealed blob was cut off: delete it, or restore it from a backup")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            held = "no key is set" if not self._ciphers else "it is not among those that are set"
            raise SealError(
                f"a blob is sealed with the key whose id is {key_id.hex()}, and {held}: give that key in "
                "RESUNET_BLOB_KEY or RESUNET_BLOB_KEY_FILE, after the one that new blobs are sealed with"
            )
        from cryptography.exceptions import InvalidTag

        try:
            return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], header + name.encode())
        except InvalidTag:
            raise SealError(
                "a sealed blob is not as it was sealed, or lies in another one's place: delete it, or restore it "
                "from a backup"
            ) from None


def is_sealed(blob: bytes) -> bool:
    """Whether a blob was sealed, with whichever key."""
    return blob.startswith(MAGIC)


def new_key() -> str:
    """Make a key, as RESUNET_BLOB_KEY takes it."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def open_keyring(settings: "RecordsSettings") -> Keyring:
    """The keys that the settings name; an empty keyring where they name none.

    Raises:
        SettingsError: a key makes no sense, the file cannot be read, or the package `cryptography` is missing.
    """
    if settings.blob_key is not None and settings.blob_key_file is not None:
        raise SettingsError("RESUNET_BLOB_KEY and RESUNET_BLOB_KEY_FILE are both set: unset one of them")
    if settings.blob_key is not None:
        return Keyring(_keys(settings.blob_key.get_secret_value(), "RESUNET_BLOB_KEY"))
    if settings.blob_key_file is not None:
        return Keyring(_keys(_content(settings.blob_key_file), "RESUNET_BLOB_KEY_FILE"))
    return Keyring()


def _content(path: Path) -> str:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise SettingsError(
            f"the file that RESUNET_BLOB_KEY_FILE names cannot be read: {error.strerror}; mend its place or its rights"
        ) from None
    except ValueError:
        raise SettingsError(f"the file that RESUNET_BLOB_KEY_FILE names holds no keys: {_MAKE_ONE}") from None
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def _keys(text: str, setting: str) -> list[bytes]:
    """Parse keys that commas, spaces or line ends divide."""
    keys = [_key(word) for word in re.split(r"[\s,]+", text) if word]
    if not keys:
        # Whoever sets it wants blobs sealed: to go on without would be a surprise.
        raise SettingsError(f"{setting} is set but holds no key: {_MAKE_ONE}, or unset it")
    bad = next((number for number, key in enumerate(keys, 1) if key is None), None)
    if bad is not None:
        raise SettingsError(f"key {bad} in {setting} is not {KEY_BYTES} bytes in base64: {_MAKE_ONE}")
    return [key for key in keys if key is not None]


def _key(word: str) -> bytes | None:
    """The key, of either alphabet of base64; None where it is none."""
    try:
        key = base64.b64decode(word.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None


def _key_id(key: bytes) -> bytes:
    """What names a key in the blobs that it sealed, and says nothing about it."""
    return hmac.new(key, b"resunet blob key id", hashlib.sha256).digest()[:_ID_BYTES]


def _aesgcm() -> "type[AESGCM]":
    # Here, not at the top: without a key nobody needs it.
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise SettingsError(
            "masks and images are to be sealed, but the package `cryptography` is not installed: "
            "`pip install cryptography`, or unset RESUNET_BLOB_KEY and RESUNET_BLOB_KEY_FILE"
        ) from None
    return AESGCM
