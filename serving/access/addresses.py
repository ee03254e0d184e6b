"""Where a request comes from: this machine, or any other.

is_loopback("127.0.0.1"), is_loopback("::ffff:127.0.0.1"), is_loopback("localhost")
canonical("::FFFF:10.0.0.1")        # "10.0.0.1"
network("2001:db8::1")              # "2001:db8::/64", what rates are counted by
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import urlsplit

RawHeaders = Iterable[tuple[bytes, bytes]]
UNKNOWN: Final = "unknown"
_SITE_BITS: Final = 64
# Whoever adds one of these stands between the client and this server.
_OF_PROXIES: Final = frozenset(
    {
        *(b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"true-client-ip", b"cf-connecting-ip"),
        *(b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-server"),
    }
)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine as seen from itself: 127.0.0.0/8, ::1, the same mapped to IPv6, or `localhost`.

    No other name counts, whatever it resolves to now, and no short or numeric form of an address, such as `127.1`.
    """
    if host.lower() == "localhost":
        return True
    address = _parsed(host)
    return address is not None and address.is_loopback


def canonical(address: str | None) -> str:
    """One text for one address: an IPv4 address mapped to IPv6 is that address, a zone is left out.

    Args:
        address: of a connection; None or no address, as for a Unix socket: `unknown`.
    """
    found = _parsed(address or "")
    return UNKNOWN if found is None else str(found)


def network(address: str) -> str:
    """What rates of an address are counted by: itself, or for IPv6 its /64, all of which one machine may use."""
    found = _parsed(address)
    if not isinstance(found, IPv6Address) or found.is_loopback:
        return address
    return str(IPv6Network((found, _SITE_BITS), strict=False))


def is_typed_here(headers: RawHeaders, address: str | None) -> bool:
    """Whether a person or program on this machine asks, by a connection of its own.

    A loopback address alone does not say so: it is also that of a proxy on this machine, for all of its clients, and of
    a browser here that runs the page of any web site. So nothing may name a proxy, the host asked for has to be
    loopback too (else a name of somebody else's points here), and a browser has to be on a page of this server's own.

    Args:
        headers: of the request, as ASGI gives them.
        address: of the connection.
    """
    if not is_loopback(address or ""):
        return False
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(value)
    if _OF_PROXIES & found.keys() or len(found.get(b"host", [])) != 1:
        return False
    host = found[b"host"][0].decode("latin-1")
    origins = {value.decode("latin-1") for value in found.get(b"origin", [])}
    sites = set(found.get(b"sec-fetch-site", []))
    return (
        is_loopback(host_name(host))
        and origins <= {f"http://{host}", f"https://{host}"}
        and sites <= {b"same-origin", b"none"}
    )


def host_name(host: str) -> str:
    """The name or address in a Host header, without its port; empty where there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _parsed(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or IPv6Address(int(address))
