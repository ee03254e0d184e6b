"""`python -m serving keys`: the token alone on stdout, one sentence when something is wrong."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from access_scene import NOON

from records.console import run
from resunet.errors import SettingsError
from serving.access.cli import parse_expiry
from serving.access.keys import KeyStore, keys_path
from serving.cli import app

PROJECT = Path(__file__).resolve().parents[2]
Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> KeyStore:
    return KeyStore(keys_path(home))


@pytest.fixture
def typed(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Run `python -m serving keys …` in this process: exit code, stdout, stderr."""
    monkeypatch.setenv("RESUNET_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def command(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["serving", "keys", *words])
        with pytest.raises(SystemExit) as ended:
            run(app)
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return command


def test_the_token_goes_to_stdout_alone_and_works(typed: Typed, store: KeyStore) -> None:
    code, out, told = typed("add", "clinic [bold]", "--scope", "predict", "--scope", "labels", "--expires", "90d")
    assert code == 0 and out.count("\n") == 1
    now = datetime.now(UTC)
    key = store.find(out.strip(), now)
    assert key is not None and key.scopes == {"predict", "labels"} and key.name == "clinic [bold]"
    assert key.expires is not None and timedelta(days=89) < key.expires - now < timedelta(days=90)
    assert key.id in told and "clinic [bold]" in told and "labels, predict" in told
    assert out.strip()[-64:][:8] not in told


def test_a_token_can_be_piped(home: Path, store: KeyStore) -> None:
    command = f"'{sys.executable}' -m serving keys add clinic --scope predict | cat"
    ran = subprocess.run(["bash", "-c", command], cwd=PROJECT, env=_variables(home), capture_output=True, text=True)
    key = store.find(ran.stdout.removesuffix("\n"), datetime.now(UTC))
    assert key is not None and key.expires is None
    assert key.id in ran.stderr


def test_a_token_that_could_not_be_printed_is_good_for_nothing(home: Path, store: KeyStore) -> None:
    command = [sys.executable, "-m", "serving", "keys", "add", "clinic", "--scope", "predict"]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(command, cwd=PROJECT, env=_variables(home), stdout=full, stderr=subprocess.PIPE, text=True)
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert "could not be printed" in line
    assert [key.revoked is not None for key in store.list()] == [True]


def test_the_folder_of_keys_is_made_its_owners_alone(typed: Typed, home: Path) -> None:
    (home / "gateway").mkdir(parents=True)
    (home / "gateway").chmod(0o775)
    assert typed("add", "clinic", "--scope", "predict")[0] == 0
    assert (home / "gateway").stat().st_mode & 0o777 == 0o700
    assert keys_path(home).stat().st_mode & 0o777 == 0o600


def test_list_shows_every_key_and_no_token(typed: Typed, store: KeyStore) -> None:
    now = datetime.now(UTC)
    valid, token = store.add("clinic [bold]", {"predict", "labels"}, now + timedelta(days=30))
    expired, _ = KeyStore(store.path, lambda: now - timedelta(days=2)).add("old", {"admin"}, now - timedelta(days=1))
    revoked, _ = store.add("gone", {"metrics"})
    store.revoke("gone")
    code, out, told = typed("list")
    assert (code, told) == (0, "")
    rows = {key.id: next(line for line in out.splitlines() if key.id in line) for key in (valid, expired, revoked)}
    assert "clinic [bold]" in rows[valid.id] and "labels, predict" in rows[valid.id] and "valid" in rows[valid.id]
    assert "expired" in rows[expired.id] and "revoked" in rows[revoked.id] and "never" in rows[revoked.id]
    assert token[-64:][:8] not in out


def test_without_keys_list_says_what_that_means(typed: Typed, home: Path) -> None:
    code, out, told = typed("list")
    assert (code, out) == (0, "") and "no keys" in told
    assert not home.exists()


def test_revoke_ends_a_key_by_id_or_name_and_again(typed: Typed, store: KeyStore) -> None:
    key, token = store.add("clinic", {"predict"})
    store.add("laboratory", {"predict"})
    for _ in range(2):
        code, out, told = typed("revoke", key.id)
        assert (code, out) == (0, "") and key.id in told and "clinic" in told
    assert store.find(token, datetime.now(UTC)) is None
    assert typed("revoke", "laboratory")[0] == 0
    assert all(each.revoked for each in store.list())


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("add", "clinic", "--scope", "everything"), ("predict", "admin", "--scope")),
        (("add", " ", "--scope", "predict"), ("name",)),
        (("add", "clinic", "--scope", "predict", "--expires", "soon"), ("--expires", "90d", "2027-01-31")),
        (("add", "clinic", "--scope", "predict", "--expires", "2020-01-01"), ("--expires",)),
        (("revoke", "nobody"), ("keys list",)),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    typed: Typed, store: KeyStore, words: tuple[str, ...], names: tuple[str, ...]
) -> None:
    code, out, told = typed(*words)
    (line,) = told.splitlines()
    assert (code, out) == (2, "") and line.startswith("error: ") and "foreseen" not in line
    assert all(name in line for name in names), line
    assert store.list() == ()


def test_a_damaged_file_is_one_sentence_for_every_command(typed: Typed, store: KeyStore) -> None:
    store.add("clinic", {"predict"})
    store.path.write_text("{")
    for words in (("list",), ("revoke", "clinic"), ("add", "clinic", "--scope", "predict")):
        code, out, told = typed(*words)
        (line,) = told.splitlines()
        assert (code, out) == (2, "") and "damaged" in line and str(store.path) in line


def test_help_teaches(home: Path) -> None:
    def helped(*words: str) -> str:
        command = [sys.executable, "-m", "serving", "keys", *words, "--help"]
        variables = _variables(home) | {"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"}
        ran = subprocess.run(command, cwd=PROJECT, env=variables, capture_output=True, text=True, check=True)
        return ran.stdout

    assert all(word in helped() for word in ("add", "list", "revoke", "keys.json"))
    for command, words in {
        "add": ("probabilities", "90d", "stdout", "Example: python -m serving keys add"),
        "list": ("Example:",),
        "revoke": ("Example:", "no way back"),
    }.items():
        shown = helped(command)
        assert all(word in shown for word in words), shown


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("", None),
        ("90d", NOON + timedelta(days=90)),
        (" 36H ", NOON + timedelta(hours=36)),
        ("2026-11-21", datetime(2026, 11, 22, tzinfo=UTC)),
        ("2027-01-31", datetime(2027, 2, 1, tzinfo=UTC)),
    ],
)
def test_an_expiry_is_a_lifetime_or_a_last_day(text: str, ends: datetime | None) -> None:
    assert parse_expiry(text, NOON) == ends


@pytest.mark.parametrize(
    "text", ["0d", "-1d", "90", "d", "1w", "2026-11-20", "2026-13-01", "9999-12-31", "99999999d", "٣d"]
)
def test_an_expiry_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--expires"):
        parse_expiry(text, NOON)


def _variables(home: Path) -> dict[str, str]:
    return {**os.environ, "RESUNET_HOME": str(home), "OMP_NUM_THREADS": "1"}
