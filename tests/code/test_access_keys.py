"""API keys: what a store lets in, what it keeps, and what it says."""

import hmac
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from access_scene import NOON

from resunet.errors import SettingsError
from serving.access import keyfile
from serving.access.keys import KeyStore, keys_path
from serving.access.scopes import SCOPES, Scope, effective
from serving.access.tokens import digest
from serving.errors import KeysError

LATER = NOON + timedelta(days=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return keys_path(tmp_path / "home")


@pytest.fixture
def store(path: Path) -> KeyStore:
    return KeyStore(path, lambda: NOON)


def test_a_token_finds_its_key_and_nothing_else_does(store: KeyStore) -> None:
    key, token = store.add("clinic", {"predict", "labels"}, LATER)
    other, others = store.add("clinic", {"admin"})
    assert store.find(token, NOON) == key and store.find(others, NOON) == other
    assert (key.name, key.created, key.expires) == ("clinic", NOON, LATER) and key.scopes == {"predict", "labels"}
    secret, wrong = token.rpartition("_")[2], others.rpartition("_")[2]
    for text in (
        "",
        token[:-1],
        token + "0",
        token.upper(),
        secret,
        key.id,
        f"resunet_{key.id}_{wrong}",
        "\ud800",
        "é",
    ):
        assert store.find(text, NOON) is None, text
    assert store.find(token.replace(key.id, "0" * 12), NOON) is None


def test_a_token_can_be_recognised_and_two_are_never_alike(store: KeyStore) -> None:
    tokens = {store.add("clinic", {"predict"})[1] for _ in range(20)}
    assert len({token.rpartition("_")[2] for token in tokens}) == len(tokens) == 20
    assert all(re.fullmatch("resunet_[0-9a-f]{12}_[0-9a-f]{64}", token) for token in tokens)


def test_a_key_ends_at_the_moment_it_expires(store: KeyStore) -> None:
    key, token = store.add("clinic", {"predict"}, LATER)
    assert store.find(token, LATER - timedelta(microseconds=1)) == key
    assert store.find(token, LATER) is None
    assert store.list() == (key,)


def test_a_revoked_key_is_refused_and_still_listed(store: KeyStore) -> None:
    key, token = store.add("clinic", {"predict"})
    kept, stays = store.add("laboratory", {"predict"})
    ended = store.revoke("clinic")
    assert ended.revoked == NOON and ended.id == key.id
    assert store.find(token, NOON) is None and store.find(stays, NOON) == kept
    assert store.list() == (ended, kept)
    assert store.revoke(key.id) == ended
    with pytest.raises(SettingsError, match="keys list"):
        store.revoke("clinic")


def test_a_name_of_several_keys_is_not_guessed(store: KeyStore) -> None:
    (old, _), (new, token) = store.add("clinic", {"predict"}), store.add("clinic", {"predict"})
    with pytest.raises(SettingsError, match=f"{old.id}, {new.id}"):
        store.revoke("clinic")
    store.revoke(old.id)
    assert store.find(token, NOON) == new
    assert store.revoke("clinic").id == new.id


def test_a_leaked_token_is_enough_to_revoke_it(store: KeyStore) -> None:
    key, token = store.add("clinic", {"predict"})
    assert store.revoke(token).id == key.id
    assert store.find(token, NOON) is None


def test_revoking_the_last_key_opens_nothing(store: KeyStore, path: Path) -> None:
    assert not store.configured
    store.add("clinic", {"predict"})
    store.revoke("clinic")
    assert store.configured and KeyStore(path).configured


@pytest.mark.parametrize("left", [None, '{"format": 1, "keys": []}'], ids=["deleted", "emptied"])
def test_keys_that_vanish_while_a_process_runs_open_nothing(store: KeyStore, path: Path, left: str | None) -> None:
    key, token = store.add("clinic", {"predict"})
    assert store.find(token, NOON) == key
    whole = path.read_bytes()
    path.unlink()
    if left is not None:
        path.write_text(left)
    for _ in range(2):
        with pytest.raises(KeysError, match="holds none now"):
            store.find(token, NOON)
        with pytest.raises(KeysError, match="holds none now"):
            _ = store.configured
    path.write_bytes(whole)
    assert store.find(token, NOON) == key


def test_keys_that_vanished_before_a_store_was_made_open_nothing_in_it(store: KeyStore, path: Path) -> None:
    assert not store.look()
    key, token = KeyStore(path).add("clinic", {"predict"})
    assert store.look()
    whole = path.read_bytes()
    path.unlink()
    assert store.look()
    fresh = KeyStore(path, required=store.look())
    for ask in (lambda: fresh.configured, lambda: fresh.find(token, NOON)):
        with pytest.raises(KeysError, match="holds none now"):
            ask()
    path.write_bytes(whole)
    assert fresh.configured and fresh.find(token, NOON) == key


def test_what_another_process_changes_is_seen_at_the_next_look_up(store: KeyStore, path: Path) -> None:
    assert store.list() == ()
    other = KeyStore(path)
    key, token = other.add("clinic", {"predict"})
    assert store.find(token, NOON) == key
    other.revoke(key.id)
    assert store.find(token, NOON) is None


def test_a_file_that_did_not_change_is_not_read_again(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    _, token = store.add("clinic", {"predict"})
    reads = []

    def counted(path: Path) -> tuple[keyfile.Stamp | None, tuple[keyfile.Entry, ...]]:
        reads.append(path)
        return keyfile.read(path)

    monkeypatch.setattr("serving.access.keys.read", counted)
    for _ in range(50):
        store.find(token, NOON)
        store.find("nobody", NOON)
    assert len(reads) == 1


def test_an_unknown_id_costs_the_same_work(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    _, token = store.add("clinic", {"predict"})
    _, ended = store.add("ended", {"predict"})
    store.revoke("ended")
    work: list[str] = []
    for name, plain in (("digest", digest), ("hmac.compare_digest", hmac.compare_digest)):

        def counted(*given: str, name: str = name, plain: Callable[..., object] = plain) -> object:
            work.append(name)
            return plain(*given)

        monkeypatch.setattr(f"serving.access.keys.{name}", counted)
    wrong = token[:-64] + "0" * 64
    for text in (token, wrong, "resunet_" + "0" * 12 + "_" + "0" * 64, ended, "no token"):
        work.clear()
        store.find(text, NOON)
        assert work == ["digest", "hmac.compare_digest"], text


def test_no_secret_is_kept_or_shown(store: KeyStore, path: Path) -> None:
    key, token = store.add("clinic", {"predict"})
    secret = token.rpartition("_")[2]
    seen = path.read_text() + repr(key) + str(key) + repr(store.list()) + repr(store) + repr(store.__dict__)
    assert not any(secret[start : start + 8] in seen for start in range(len(secret) - 8))
    for which in (f"resunet_{key.id}_{secret[:-1]}", f"Bearer {token}", secret):
        with pytest.raises(SettingsError) as refused:
            store.revoke(which)
        assert secret[:8] not in str(refused.value)
    with pytest.raises(SettingsError) as refused:
        store.add(token, {"predict"})
    assert secret[:8] not in str(refused.value)


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "two\nlines", "\x1b[2J", "‮cilinic", "0123456789ab", "resunet_x"])
def test_a_name_that_could_mislead_is_refused(store: KeyStore, path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="name"):
        store.add(name, {"predict"})
    assert not path.exists()


@pytest.mark.parametrize("expires", [NOON, NOON - timedelta(days=1), LATER.replace(tzinfo=None)])
def test_a_key_that_has_expired_already_is_not_made(store: KeyStore, path: Path, expires: object) -> None:
    with pytest.raises(SettingsError, match="future"):
        store.add("clinic", {"predict"}, expires)  # type: ignore[arg-type]
    assert not path.exists()


@pytest.mark.parametrize("scopes", [set(), {"predict", "root"}, {"resunet_secret"}])
def test_scopes_that_do_not_exist_are_refused_without_repeating_them(store: KeyStore, scopes: set[Scope]) -> None:
    with pytest.raises(SettingsError, match="predict, probabilities, labels, metrics, admin") as refused:
        store.add("clinic", scopes)
    assert "root" not in str(refused.value) and "secret" not in str(refused.value)


def test_admin_includes_every_scope_and_no_other_includes_a_second() -> None:
    assert effective({"admin"}) == set(SCOPES)
    assert all(effective({scope}) == {scope} for scope in SCOPES if scope != "admin")
