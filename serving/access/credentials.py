"""The API key in a request's headers, of which there is one and not two.

token_in([(b"authorization", b"Bearer resunet_…")])
token_in([(b"x-api-key", b"resunet_…")])
"""

import base64
from typing import Final

from serving.access.addresses import RawHeaders
from serving.errors import UnauthorisedError

MAX_BYTES: Final = 256
_AUTHORISATION: Final = b"authorization"
_API_KEY: Final = b"x-api-key"
_HOW: Final = "send the API key as `Authorization: Bearer KEY` or as `X-Api-Key: KEY`"


def token_in(headers: RawHeaders) -> str | None:
    """The token that a request brings; None if it brings none.

    Args:
        headers: as ASGI gives them: pairs of name and value, names in any case.

    Raises:
        UnauthorisedError: a header that comes twice, is longer than a key, or of another scheme than Bearer; or both
            headers, with different keys. The message repeats nothing of them.
    """
    found: dict[bytes, str] = {}
    for name, value in headers:
        name = name.lower()
        if name not in (_AUTHORISATION, _API_KEY):
            continue
        if name in found:
            raise UnauthorisedError(
                f"the header {name.decode()} came twice, and which one counts is not guessed: {_HOW}"
            )
        if len(value) > MAX_BYTES:
            raise UnauthorisedError(f"the header {name.decode()} is longer than any key: {_HOW}")
        found[name] = value.decode("latin-1").strip(" \t")
    tokens = {_of_bearer(text) if name == _AUTHORISATION else text for name, text in found.items()}
    if len(tokens) > 1:
        raise UnauthorisedError(f"the request brings two different keys: {_HOW}, not both")
    return next(iter(tokens), None)


def with_typed_key(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """The same headers, with a password of the scheme Basic as a token; whatever name came with it says nothing.

    For pages that a browser opens by itself: it can ask a person for a password, and for nothing else.
    """
    return [(name, _as_bearer(value) if name.lower() == _AUTHORISATION else value) for name, value in headers]


def _as_bearer(value: bytes) -> bytes:
    scheme, _, encoded = value.partition(b" ")
    if scheme.lower() != b"basic" or len(value) > MAX_BYTES:
        return value
    try:
        _, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except ValueError:
        return value
    return b"Bearer " + password.strip() if colon else value


def _of_bearer(text: str) -> str:
    scheme, _, token = text.partition(" ")
    if scheme.lower() != "bearer":
        raise UnauthorisedError(f"the header authorization is not of the scheme Bearer: {_HOW}")
    return token.strip(" \t")
