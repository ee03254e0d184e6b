"""The text of an API key: `resunet_<id>_<secret>`, which scanners for leaked secrets can recognise.

    identity, token = new_token()       # 12 hexadecimal digits, public; the token with 256 random bits, secret
    token_id(token) == identity
    digest(token)                       # all that is ever kept of it

Why a fast hash: slow ones (bcrypt, Argon2) make up for secrets that can be guessed. This one is 256 bits from the
system's generator: nobody tries 2^255 of them, whatever a try costs, so SHA-256 is as safe. A slow hash would cost
every request milliseconds, and let whoever sends wrong keys keep the processor busy.
"""

import hashlib
import re
import secrets
from typing import Final

PREFIX: Final = "resunet_"
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_TOKEN: Final = re.compile(rf"{PREFIX}([0-9a-f]{{{2 * _ID_BYTES}}})_[0-9a-f]{{{2 * _SECRET_BYTES}}}")
_ID: Final = re.compile(rf"[0-9a-f]{{{2 * _ID_BYTES}}}")


def new_token() -> tuple[str, str]:
    """A new public id and the token that holds it and a new secret."""
    identity = secrets.token_hex(_ID_BYTES)
    return identity, f"{PREFIX}{identity}_{secrets.token_hex(_SECRET_BYTES)}"


def token_id(text: str) -> str | None:
    """The public id in a token; None for what is no token."""
    found = _TOKEN.fullmatch(text)
    return found[1] if found else None


def is_id(text: str) -> bool:
    """Whether a text has the form of an id."""
    return _ID.fullmatch(text) is not None


def digest(token: str) -> str:
    """SHA-256 of the whole token, 64 hexadecimal digits: the secret holds only together with its id."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
