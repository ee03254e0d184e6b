"""The key in a request's headers: one is found, two are not guessed between, and none is ever repeated."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.access.credentials import MAX_BYTES, token_in, with_typed_key
from serving.access.tokens import new_token
from serving.errors import UnauthorisedError

_, TOKEN = new_token()
_, OTHER = new_token()
GIVEN = TOKEN.encode(), OTHER.encode()
Pair = tuple[bytes, bytes]

NAMES = st.sampled_from([b"authorization", b"Authorization", b"x-api-key", b"X-API-KEY", b"host", b"cookie"])
VALUES = st.one_of(
    st.binary(max_size=MAX_BYTES + 20),
    st.tuples(
        st.sampled_from([b"", b"Bearer ", b"bearer  ", b"Basic ", b"Bearer\t", b" Bearer "]),
        st.sampled_from(
            [TOKEN.encode(), OTHER.encode(), TOKEN.encode() + b", Bearer " + OTHER.encode(), b"x" * MAX_BYTES]
        ),
    ).map(b"".join),
)


@pytest.mark.parametrize(
    "pair",
    [
        (b"authorization", b"Bearer " + TOKEN.encode()),
        (b"Authorization", b"bearer   " + TOKEN.encode() + b" "),
        (b"x-api-key", TOKEN.encode()),
        (b"X-Api-Key", b" " + TOKEN.encode() + b"\t"),
    ],
)
def test_a_key_is_found_in_either_header(pair: Pair) -> None:
    assert token_in([(b"host", b"segment.example"), pair, (b"accept", b"*/*")]) == TOKEN


def test_a_request_without_a_key_has_none() -> None:
    assert token_in([]) is None
    assert token_in([(b"host", b"segment.example"), (b"cookie", TOKEN.encode())]) is None


def test_one_key_in_both_headers_is_one_key() -> None:
    assert token_in([(b"authorization", b"Bearer " + TOKEN.encode()), (b"x-api-key", TOKEN.encode())]) == TOKEN


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ([(b"authorization", b"Bearer " + TOKEN.encode()), (b"x-api-key", OTHER.encode())], "two different keys"),
        ([(b"x-api-key", TOKEN.encode()), (b"X-API-Key", TOKEN.encode())], "x-api-key came twice"),
        (
            [(b"authorization", b"Bearer " + TOKEN.encode()), (b"Authorization", b"Basic YTpi")],
            "authorization came twice",
        ),
        ([(b"x-api-key", b"x" * (MAX_BYTES + 1))], "longer than any key"),
        ([(b"authorization", b"Basic " + TOKEN.encode())], "scheme Bearer"),
        ([(b"authorization", TOKEN.encode())], "scheme Bearer"),
        ([(b"authorization", b"")], "scheme Bearer"),
    ],
)
def test_what_is_not_plainly_one_key_is_refused(headers: list[Pair], told: str) -> None:
    with pytest.raises(UnauthorisedError, match=told):
        token_in(headers)


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=5))
def test_whatever_is_sent_is_one_key_or_none_or_an_error_that_repeats_nothing(headers: list[Pair]) -> None:
    bearing = [value for name, value in headers if name.lower() in (b"authorization", b"x-api-key")]
    names = [name.lower() for name, _ in headers if name.lower() in (b"authorization", b"x-api-key")]
    try:
        token = token_in(headers)
    except UnauthorisedError as error:
        said = f"{error} {error!r} {error.challenge} {error.__cause__} {error.__context__}"
        assert bearing
        assert not any(secret[-64:][:8] in said for secret in (TOKEN, OTHER))
        return
    assert len(names) == len(set(names)) and all(len(value) <= MAX_BYTES for value in bearing)
    assert (token is None) == (not bearing)
    assert token is None or all(token.encode("latin-1") in value for value in bearing)


def basic(text: bytes) -> Pair:
    return b"Authorization", b"Basic " + base64.b64encode(text)


@pytest.mark.parametrize("name", [b"", b"ada", b"a name with spaces"])
def test_a_key_that_was_typed_as_a_password_is_found_where_that_is_allowed(name: bytes) -> None:
    headers = [(b"host", b"segment.example"), basic(name + b":" + TOKEN.encode())]
    assert token_in(with_typed_key(headers)) == TOKEN
    with pytest.raises(UnauthorisedError, match="scheme Bearer"):
        token_in(headers)


@pytest.mark.parametrize(
    "value", [b"Basic", b"Basic ???", b"Basic " + base64.b64encode(b"no colon"), b"Basic " + b"QQ==" * MAX_BYTES, b""]
)
def test_what_is_no_password_is_refused_as_before(value: bytes) -> None:
    with pytest.raises(UnauthorisedError):
        token_in(with_typed_key([(b"authorization", value)]))


@given(st.lists(st.tuples(NAMES, VALUES), max_size=4))
@settings(max_examples=300, deadline=None)
def test_no_header_breaks_the_reading_of_passwords(headers: list[Pair]) -> None:
    assert [name for name, _ in with_typed_key(headers)] == [name for name, _ in headers]
    assert with_typed_key([pair for pair in headers if not pair[1].lower().startswith(b"basic")]) == [
        pair for pair in headers if not pair[1].lower().startswith(b"basic")
    ]
