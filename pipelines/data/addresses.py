"""Which addresses a file may be fetched from, and which of them can be trusted without a checksum."""

from urllib.parse import urlsplit

import httpx

from resunet.errors import SettingsError


def check_address(url: str) -> None:
    """Refuse what is no address of a file.

    Raises:
        SettingsError: it is not http or https, names no host, or cannot be read as an address at all.
    """
    if not url.startswith(("http://", "https://")):
        raise SettingsError("the address must begin with http:// or https://")
    try:
        # Both readers are used on the way, and each has its own idea of what is malformed.
        host = urlsplit(url).hostname and httpx.URL(url).host
    except (httpx.InvalidURL, ValueError):
        # Without their words: these may repeat a password that is part of the address.
        raise SettingsError("the address is malformed: its host, port or a character in it; correct --url") from None
    if not host:
        raise SettingsError("the address names no host; correct --url")


def check_trusted(request: httpx.Request) -> None:
    """Refuse to ask where anyone on the way can change the answer, but for this machine itself.

    Raises:
        SettingsError: the address is such a one.
    """
    url = request.url
    if url.scheme == "http" and url.host not in ("127.0.0.1", "localhost"):
        raise SettingsError(
            f"on the way of an http:// address ({url.host}) anyone can change what arrives; give https:// or the "
            "--sha256, also where an address redirects to it"
        )
