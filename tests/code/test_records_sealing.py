"""Sealing masks and images: with which key, under which name, and what a wrong one is told."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from records.sealing import MAGIC, Keyring, SealError, is_sealed, new_key, open_keyring
from records.settings import RecordsSettings
from resunet.errors import SettingsError

PROJECT = Path(__file__).resolve().parents[2]
OLD, NEW = bytes(range(32)), bytes(range(1, 33))
NAME, CONTENT = "mask/" + "a" * 64, b"what a mask shows"


def text_of(key: bytes) -> str:
    return base64.b64encode(key).decode()


def settings(**changes: object) -> RecordsSettings:
    return RecordsSettings.model_validate(changes)


def test_what_was_sealed_is_read_with_its_key_and_shows_nothing() -> None:
    blob = Keyring([OLD]).seal(NAME, CONTENT)
    assert is_sealed(blob) and CONTENT not in blob and OLD not in blob
    assert Keyring([OLD]).unseal(NAME, blob) == CONTENT


def test_a_blob_is_sealed_differently_each_time() -> None:
    keyring = Keyring([OLD])
    assert len({keyring.seal(NAME, CONTENT) for _ in range(100)}) == 100


def test_a_change_of_any_byte_is_noticed() -> None:
    keyring = Keyring([OLD])
    blob = keyring.seal(NAME, CONTENT)
    for place in range(len(MAGIC), len(blob)):
        changed = bytearray(blob)
        changed[place] ^= 1
        with pytest.raises(SealError):
            keyring.unseal(NAME, bytes(changed))
    for cut in range(len(MAGIC), len(blob)):
        with pytest.raises(SealError):
            keyring.unseal(NAME, blob[:cut])


@pytest.mark.parametrize("other", ["mask/" + "b" * 64, "image/" + "a" * 64])
def test_a_blob_in_anothers_place_is_noticed(other: str) -> None:
    keyring = Keyring([OLD])
    with pytest.raises(SealError, match="another one's place"):
        keyring.unseal(other, keyring.seal(NAME, CONTENT))


def test_after_a_rotation_the_new_key_seals_and_both_unseal() -> None:
    before = Keyring([OLD]).seal(NAME, CONTENT)
    both = Keyring([NEW, OLD])
    after = both.seal(NAME, CONTENT)
    assert both.unseal(NAME, before) == both.unseal(NAME, after) == CONTENT
    assert Keyring([NEW]).unseal(NAME, after) == CONTENT


def test_a_key_that_is_missing_is_named_by_its_id_and_no_key_is_shown() -> None:
    blob = Keyring([OLD]).seal(NAME, CONTENT)
    with pytest.raises(SealError, match=r"no key is set.*RESUNET_BLOB_KEY") as none:
        Keyring().unseal(NAME, blob)
    with pytest.raises(SealError, match="not among those that are set") as wrong:
        Keyring([NEW]).unseal(NAME, blob)
    key_id = blob[len(MAGIC) : len(MAGIC) + 8].hex()
    for caught in (none, wrong):
        assert key_id in str(caught.value)
        for key in (OLD, NEW):
            assert text_of(key) not in str(caught.value) and key.hex() not in str(caught.value)


@pytest.mark.parametrize("keys", [[], [OLD]], ids=["no key", "a key"])
def test_a_plain_blob_stays_readable(keys: list[bytes]) -> None:
    assert Keyring(keys).unseal(NAME, CONTENT) == CONTENT


def test_without_a_key_nothing_can_be_sealed() -> None:
    assert not Keyring().seals
    with pytest.raises(SealError, match="new-key"):
        Keyring().seal(NAME, CONTENT)


@pytest.mark.parametrize(
    "given",
    [
        text_of(NEW),
        f"{text_of(NEW)},{text_of(OLD)}",
        f"  {text_of(NEW)} \n{text_of(OLD)}\n",
        base64.urlsafe_b64encode(NEW).decode(),
    ],
    ids=["one", "comma", "lines", "the other alphabet"],
)
def test_keys_are_read_from_the_setting_and_the_first_seals(given: str) -> None:
    blob = open_keyring(settings(blob_key=given)).seal(NAME, CONTENT)
    assert Keyring([NEW]).unseal(NAME, blob) == CONTENT


def test_both_alphabets_of_base64_are_read() -> None:
    key = b"\xff\xfe\xfd" * 10 + b"ab"
    assert set(base64.b64encode(key)) & set(b"+/")
    for given in (base64.b64encode(key), base64.urlsafe_b64encode(key)):
        blob = open_keyring(settings(blob_key=given.decode())).seal(NAME, CONTENT)
        assert Keyring([key]).unseal(NAME, blob) == CONTENT


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# since spring\n{text_of(NEW)}\n\n# before\n{text_of(OLD)}\n")
    keyring = open_keyring(settings(blob_key_file=file))
    assert Keyring([NEW]).unseal(NAME, keyring.seal(NAME, CONTENT)) == CONTENT
    assert keyring.unseal(NAME, Keyring([OLD]).seal(NAME, CONTENT)) == CONTENT


def test_no_setting_is_no_key() -> None:
    assert not open_keyring(settings()).seals


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("s3cret", "key 1"),
        (text_of(OLD[:31]), "key 1"),
        (f"{text_of(OLD)},{text_of(OLD)[:-3]}!!!", "key 2"),
        (" , ", "holds no key"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused_without_being_shown(given: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(given)
    for name, changes in (("BLOB_KEY ", {"blob_key": given}), ("BLOB_KEY_FILE ", {"blob_key_file": file})):
        with pytest.raises(SettingsError, match=f"{told}|{name}") as caught:
            open_keyring(settings(**changes))
        assert told in str(caught.value) and f"RESUNET_{name}" in str(caught.value)
        assert "s3cret" not in str(caught.value) and text_of(OLD)[:20] not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"# nothing\n"], ids=["missing", "no text", "comments"])
def test_a_file_without_keys_is_refused(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    with pytest.raises(SettingsError, match="RESUNET_BLOB_KEY_FILE"):
        open_keyring(settings(blob_key_file=tmp_path / "keys"))


def test_a_key_and_a_file_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unset one"):
        open_keyring(settings(blob_key=text_of(OLD), blob_key_file=tmp_path / "keys"))


def test_a_key_is_in_no_repr() -> None:
    given = settings(blob_key=text_of(OLD))
    for shown in (repr(given), str(given), repr(open_keyring(given)), str(given.model_dump())):
        assert text_of(OLD) not in shown and repr(OLD) not in shown


def test_the_command_prints_a_new_key_and_nothing_else_and_keeps_it_nowhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "records", "new-key"]
    environment = os.environ | {"RESUNET_HOME": str(tmp_path / "home")}
    made = [
        subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60)
        for _ in range(2)
    ]
    for done in made:
        assert (done.returncode, done.stderr) == (0, "")
        assert open_keyring(settings(blob_key=done.stdout)).seals
        assert len(done.stdout.split()) == 1
    assert made[0].stdout != made[1].stdout
    assert not (tmp_path / "home").exists()
    assert new_key() != new_key()


def test_where_cryptography_is_missing_a_key_says_what_to_install_and_no_key_needs_it() -> None:
    script = (
        "import sys\n"
        "sys.modules['cryptography'] = None\n"
        "import records.inference\n"
        "from records.sealing import Keyring\n"
        "from resunet.errors import SettingsError\n"
        "assert Keyring().unseal('mask/a', b'plain') == b'plain'\n"
        "try:\n"
        "    Keyring([bytes(32)])\n"
        "except SettingsError as error:\n"
        "    assert 'pip install cryptography' in str(error)\n"
        "else:\n"
        "    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=PROJECT, check=True, timeout=120)
