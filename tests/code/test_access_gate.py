"""The gate: who is let in, who is told what, and that no word of it holds a secret."""

import io
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path

import pytest
from access_scene import NOON, HandClock, bearer
from hypothesis import given, settings
from hypothesis import strategies as st

from resunet.errors import ResunetError
from serving.access.gate import Caller, Gate
from serving.access.keys import KeyStore, keys_path
from serving.access.limits import Limits, Rate
from serving.access.scopes import SCOPES, Scope
from serving.errors import (
    KEYS_MESSAGE,
    ForbiddenError,
    KeysError,
    LimitedError,
    UnauthorisedError,
    headers_of,
    status_of,
)

HERE = [(b"host", b"127.0.0.1:8000")]
FAR = "10.0.0.1"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store(tmp_path: Path, clock: HandClock) -> KeyStore:
    return KeyStore(keys_path(tmp_path / "home"), clock.moment)


@pytest.fixture
def gate(store: KeyStore, clock: HandClock) -> Gate:
    return Gate(store, Limits(failures=Rate(0.1, burst=3), clock=clock), clock.moment)


def test_a_key_lets_its_caller_in_for_its_scopes(gate: Gate, store: KeyStore) -> None:
    key, token = store.add("clinic", {"predict", "labels"})
    caller = gate.admit(bearer(token), "labels", FAR)
    assert (caller.id, caller.name) == (key.id, "clinic") and caller.scopes == {"predict", "labels"}
    assert gate.admit([(b"x-api-key", token.encode())], "predict", None) == caller
    with pytest.raises(ForbiddenError, match="the scope metrics") as refused:
        gate.admit(bearer(token), "metrics", FAR)
    assert status_of(refused.value) == 403
    assert 'scope="metrics"' in headers_of(refused.value)["WWW-Authenticate"]


def test_an_admin_may_do_everything(gate: Gate, store: KeyStore) -> None:
    _, token = store.add("operator", {"admin"})
    assert {gate.admit(bearer(token), scope, FAR).name for scope in SCOPES} == {"operator"}


def test_no_key_and_a_wrong_key_are_401_with_a_hint(gate: Gate, store: KeyStore) -> None:
    _, token = store.add("clinic", {"predict"})
    with pytest.raises(UnauthorisedError, match="brings none") as none:
        gate.admit(HERE, "predict", "127.0.0.1")
    with pytest.raises(UnauthorisedError, match="not known, was revoked or has expired") as wrong:
        gate.admit(bearer(token[:-1] + ("1" if token[-1] == "0" else "0")), "predict", FAR)
    assert status_of(none.value) == status_of(wrong.value) == 401
    assert headers_of(none.value) == {"WWW-Authenticate": 'Bearer realm="resunet"'}
    assert headers_of(wrong.value) == {"WWW-Authenticate": 'Bearer realm="resunet", error="invalid_token"'}


def test_a_key_that_is_revoked_or_expires_is_refused_at_once(gate: Gate, store: KeyStore, clock: HandClock) -> None:
    _, revoked = store.add("revoked", {"predict"})
    _, expiring = store.add("expiring", {"predict"}, NOON + timedelta(seconds=60))
    assert {gate.admit(bearer(token), "predict", FAR).name for token in (revoked, expiring)} == {"revoked", "expiring"}
    store.revoke("revoked")
    clock.seconds += 60
    for token in (revoked, expiring):
        with pytest.raises(UnauthorisedError):
            gate.admit(bearer(token), "predict", FAR)


@pytest.mark.parametrize("without", ["no store", "an empty store"])
def test_without_keys_a_caller_is_its_address_and_admin_is_typed_here(store: KeyStore, without: str) -> None:
    gate = Gate(None if without == "no store" else store, Limits())
    for address, one in ((FAR, FAR), ("::ffff:10.0.0.1", FAR), (None, "unknown"), ("2001:db8::1", "2001:db8::1")):
        caller = gate.admit(HERE, "predict", address)
        assert (caller.id, caller.name, caller.by_key) == (one, one, False)
        assert caller.scopes == {"predict", "probabilities", "labels", "metrics"}
        with pytest.raises(ForbiddenError, match="the scope admin"):
            gate.admit(HERE, "admin", address)
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert gate.admit(HERE, "admin", address).scopes == set(SCOPES)
    with pytest.raises(ForbiddenError):
        gate.admit([(b"host", b"rebound.example")], "admin", "127.0.0.1")


def test_the_first_key_closes_the_gate_to_those_without_at_once(gate: Gate, store: KeyStore) -> None:
    assert gate.admit(HERE, "admin", "127.0.0.1").id == "127.0.0.1"
    store.add("clinic", {"predict"})
    for scope in SCOPES[:2]:
        with pytest.raises(UnauthorisedError):
            gate.admit(HERE, scope, "127.0.0.1")
    store.revoke("clinic")
    with pytest.raises(UnauthorisedError):
        gate.admit(HERE, "predict", "127.0.0.1")


def test_failed_authentications_are_limited_by_address_and_shut_no_key_out(
    gate: Gate, store: KeyStore, clock: HandClock
) -> None:
    _, token = store.add("clinic", {"predict"})
    attempts = (bearer("resunet_guess"), HERE, [(b"authorization", b"Basic YTpi")])
    for attempt in attempts:
        with pytest.raises(UnauthorisedError):
            gate.admit(attempt, "predict", "2001:db8::1")
    for attempt in attempts:
        with pytest.raises(LimitedError, match="send the request again in 10 s") as limited:
            gate.admit(attempt, "predict", "2001:db8::2")
        assert (status_of(limited.value), headers_of(limited.value)) == (429, {"Retry-After": "10"})
    with pytest.raises(UnauthorisedError):
        gate.admit(attempts[0], "predict", FAR)
    assert gate.admit(bearer(token), "predict", "2001:db8::1").name == "clinic"
    clock.seconds += 10
    with pytest.raises(UnauthorisedError):
        gate.admit(attempts[0], "predict", "2001:db8::1")


def test_each_key_has_its_own_share_of_requests(store: KeyStore, clock: HandClock) -> None:
    gate = Gate(store, Limits(Rate(0.5, burst=2), clock=clock), clock.moment)
    (_, busy), (_, quiet) = store.add("busy", {"predict"}), store.add("quiet", {"predict"})
    for _ in range(2):
        gate.admit(bearer(busy), "predict", FAR)
    for scope in ("predict", "admin"):
        with pytest.raises(LimitedError) as limited:
            gate.admit(bearer(busy), scope, FAR)
        assert limited.value.retry_after == 2
    assert gate.admit(bearer(quiet), "predict", FAR).name == "quiet"
    clock.seconds += 2
    assert gate.admit(bearer(busy), "predict", FAR).name == "busy"


def test_a_refused_scope_uses_the_share_up_too(store: KeyStore, clock: HandClock) -> None:
    gate = Gate(store, Limits(Rate(0.5, burst=1), clock=clock), clock.moment)
    _, token = store.add("clinic", {"predict"})
    with pytest.raises(ForbiddenError):
        gate.admit(bearer(token), "admin", FAR)
    with pytest.raises(LimitedError):
        gate.admit(bearer(token), "predict", FAR)


def test_pixels_are_charged_and_a_debt_is_waited_for(clock: HandClock) -> None:
    gate = Gate(None, Limits(megapixels=Rate(10, burst=50), clock=clock))
    caller = gate.admit(HERE, "predict", FAR)
    gate.charge(caller, 100_000_000)
    with pytest.raises(LimitedError, match="pixels") as limited:
        gate.charge(caller, 1)
    assert limited.value.retry_after == 6
    with pytest.raises(LimitedError):
        gate.admit(HERE, "predict", FAR)
    gate.charge(gate.admit(HERE, "predict", "10.0.0.2"), 100_000_000)
    clock.seconds += 6
    gate.charge(gate.admit(HERE, "predict", FAR), 1)


def test_a_damaged_file_lets_nobody_in_and_tells_its_path_to_the_log_alone(
    gate: Gate, store: KeyStore, caplog: pytest.LogCaptureFixture
) -> None:
    _, token = store.add("clinic", {"predict"})
    store.path.write_text("{")
    with caplog.at_level(logging.ERROR):
        for headers in (bearer(token), bearer(token), HERE):
            with pytest.raises(KeysError) as refused:
                gate.admit(headers, "predict", "127.0.0.1")
            assert str(refused.value) == KEYS_MESSAGE and status_of(refused.value) == 503
            assert str(store.path) not in "".join(traceback.format_exception(refused.value))
    assert [str(store.path) in line for line in caplog.messages] == [True]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[KeyStore, list[str]]:
    """A store, and the tokens of a valid and of a revoked key in it."""
    store = KeyStore(keys_path(tmp_path_factory.mktemp("home")))
    tokens = [store.add(name, {"predict"})[1] for name in ("valid", "revoked")]
    store.revoke("revoked")
    return store, tokens


FORMS = [b"%s", b"Bearer %s", b"Bearer %s ", b"Basic %s", b"bearer%s", b"Bearer %s, %s", b"%s" * 4]
# Of which token, in which header, and how many characters of it are missing.
SENT = st.tuples(
    st.sampled_from([b"authorization", b"x-api-key", b"host"]),
    st.sampled_from(FORMS),
    st.integers(0, 1),
    st.integers(0, 3),
)


@contextmanager
def _all_that_is_said() -> Iterator[io.StringIO]:
    """What is printed or logged, at any level."""
    stream = io.StringIO()
    handler, root = logging.StreamHandler(stream), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with redirect_stdout(stream), redirect_stderr(stream):
            yield stream
    finally:
        root.setLevel(before)
        root.removeHandler(handler)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(sent=st.lists(SENT, max_size=3), scope=st.sampled_from(SCOPES))
def test_nothing_that_is_said_holds_a_part_of_a_secret(
    known: tuple[KeyStore, list[str]], sent: list[tuple[bytes, bytes, int, int]], scope: Scope
) -> None:
    store, tokens = known
    gate = Gate(store, Limits(Rate(1, 1), failures=Rate(1, 1)))
    headers = [(name, form.replace(b"%s", tokens[which][: 85 - cut].encode())) for name, form, which, cut in sent]
    with _all_that_is_said() as stream:
        for _ in range(2):
            try:
                print(gate.admit(headers, scope, FAR))
            except ResunetError as error:
                for each in filter(None, (error, error.__cause__, error.__context__)):
                    print(repr(each), vars(each), *traceback.format_exception(each), headers_of(error))
        print(gate, vars(gate), vars(store))
    said = stream.getvalue()
    assert "KeyStore" in said
    secrets = [token[-64:] for token in tokens]
    assert not any(secret[start : start + 10] in said for secret in secrets for start in range(54))


def test_a_caller_has_a_key_s_scopes_spelt_out(gate: Gate, store: KeyStore) -> None:
    key, token = store.add("operator", {"admin"})
    assert gate.admit(bearer(token), "admin", FAR) == Caller(key.id, "operator", frozenset(SCOPES), key.id, by_key=True)
