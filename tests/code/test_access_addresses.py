"""Where a request comes from, and where a server may listen."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resunet.errors import SettingsError
from serving.access.addresses import canonical, is_loopback, is_typed_here, network
from serving.access.binding import check_binding

LOOPBACK = ["127.0.0.1", "127.255.3.4", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::FFFF:7f00:1", "LocalHost"]
PUBLIC = [
    *("0.0.0.0", "::", "", " ", "::ffff:0.0.0.0", "10.0.0.1", "192.168.1.1", "::ffff:10.0.0.1", "fe80::1%eth0"),
    *("segment.example", "localhost.example", "localhost.", "127.0.0.1.example", "ip6-localhost"),
    # What a system's resolver takes for 0.0.0.0 or 127.0.0.1, and this does not guess at.
    *("0", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "127.0.0.1 ", "[::1]", "127.0.0.1%lo", "*", "0.0.0.0:80"),
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_this_machine_alone_needs_no_keys(host: str) -> None:
    assert is_loopback(host)
    assert check_binding(host, has_keys=False, tls=False, allow_public=False) is None


@pytest.mark.parametrize("host", PUBLIC)
def test_every_other_address_needs_keys(host: str) -> None:
    with pytest.raises(SettingsError, match=r"keys add.*127\.0\.0\.1"):
        check_binding(host, has_keys=False, tls=True, allow_public=False)
    assert check_binding(host, has_keys=True, tls=True, allow_public=False) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1"])
def test_a_public_address_warns_of_what_is_open(host: str) -> None:
    open_to_all = check_binding(host, has_keys=False, tls=False, allow_public=True)
    assert open_to_all is not None and "no API key is needed" in open_to_all
    in_the_clear = check_binding(host, has_keys=True, tls=False, allow_public=False)
    assert in_the_clear is not None and "unencrypted" in in_the_clear
    assert check_binding(host, has_keys=True, tls=False, allow_public=True) == in_the_clear
    assert check_binding(host, has_keys=False, tls=True, allow_public=True) is not None


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.one_of(st.text(max_size=30), st.ip_addresses().map(str)))
def test_only_what_is_certainly_loopback_is_bound_without_keys(host: str) -> None:
    certain = host.lower() == "localhost" or host.startswith("127.") or host == "::1"
    try:
        check_binding(host, has_keys=False, tls=True, allow_public=False)
    except SettingsError:
        return
    assert certain


@pytest.mark.parametrize(
    ("address", "one"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        (None, "unknown"),
        ("", "unknown"),
        ("/run/gateway.sock", "unknown"),
    ],
)
def test_one_address_has_one_text(address: str | None, one: str) -> None:
    assert canonical(address) == one


def test_a_machine_with_a_whole_network_of_addresses_is_counted_once() -> None:
    assert network("2001:db8::1") == network("2001:db8::ffff:1") != network("2001:db8:0:1::1")
    assert network("10.0.0.1") == "10.0.0.1" != network("10.0.0.2")
    assert network("::1") == "::1" and network("unknown") == "unknown"


Pairs = list[tuple[bytes, bytes]]


@pytest.mark.parametrize("host", [b"127.0.0.1:8000", b"localhost", b"[::1]:8000", b"LOCALHOST:8000"])
def test_a_connection_of_this_machine_to_itself_is_typed_here(host: bytes) -> None:
    own = b"http://" + host
    for more in ([], [(b"origin", own)], [(b"sec-fetch-site", b"same-origin"), (b"origin", own)]):
        assert is_typed_here([(b"host", host), *more], "127.0.0.1")
        assert not is_typed_here([(b"host", host), *more], "10.0.0.1")
        assert not is_typed_here([(b"host", host), *more], None)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"host", b"")],
        [(b"host", b"[")],
        [(b"host", b"rebound.example")],
        [(b"host", b"localhost.rebound.example")],
        [(b"host", b"localhost"), (b"host", b"localhost")],
        [(b"host", b"localhost"), (b"X-Forwarded-For", b"127.0.0.1")],
        [(b"host", b"localhost"), (b"forwarded", b"for=127.0.0.1")],
        [(b"host", b"localhost"), (b"via", b"1.1 proxy")],
        [(b"host", b"localhost"), (b"origin", b"https://site.example")],
        [(b"host", b"localhost"), (b"origin", b"null")],
        [(b"host", b"localhost:8000"), (b"origin", b"http://localhost:9000")],
        [(b"host", b"localhost"), (b"sec-fetch-site", b"cross-site")],
        [(b"host", b"localhost"), (b"sec-fetch-site", b"same-site")],
    ],
)
def test_a_proxy_or_a_web_site_in_a_browser_here_is_not_typed_here(headers: Pairs) -> None:
    assert not is_typed_here(headers, "127.0.0.1")
