"""The file of keys among several processes, some of which are killed, and in the hands of an editor."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from serving.access import keyfile
from serving.access.keys import KeyStore, keys_path
from serving.errors import KeysError

ADD = """
import sys
from pathlib import Path
from serving.access.keys import KeyStore
store = KeyStore(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    print(store.add(f"{sys.argv[2]}{number}", {"predict"})[1], flush=True)
"""

# The system ends the process at the byte where the limit lies: in the middle of the write.
DIE_WRITING = """
import resource, signal, sys
from pathlib import Path
from serving.access.keys import KeyStore
path = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size // 2, hard))
KeyStore(path).add("late", {"predict"})
"""


def start(script: str, *arguments: str) -> "subprocess.Popen[str]":
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return keys_path(tmp_path / "home")


def test_processes_that_add_keys_at_once_lose_none(path: Path) -> None:
    running = [start(ADD, str(path), name, "20") for name in ("a", "b")]
    for process in running:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    tokens = []
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        told, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        tokens += told.split()
    store, now = KeyStore(path), datetime.now(UTC)
    found = {key.name for token in tokens if (key := store.find(token, now))}
    assert found == {f"{name}{number}" for name in "ab" for number in range(20)} == {key.name for key in store.list()}


def test_a_process_that_dies_in_the_middle_of_a_write_leaves_the_old_file_whole(path: Path) -> None:
    store = KeyStore(path)
    tokens = [store.add(name, {"predict"})[1] for name in ("first", "second", "third")]
    before = path.read_bytes()
    process = start(DIE_WRITING, str(path))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGXFSZ, errors
    assert path.read_bytes() == before
    # What it left behind stands in nobody's way.
    left = {each.name for each in path.parent.iterdir()} - {"keys.json", "keys.lock"}
    assert left == {"keys.json.part"}
    tokens.append(store.add("fourth", {"predict"})[1])
    assert [key.name for token in tokens if (key := store.find(token, datetime.now(UTC)))] == [
        *("first", "second", "third", "fourth")
    ]
    assert {each.name for each in path.parent.iterdir()} == {"keys.json", "keys.lock"}


def test_kill_9_at_any_moment_loses_no_key_that_was_told(path: Path) -> None:
    told: list[str] = []
    for round_, seen in enumerate((1, 3, 8)):
        process = start(ADD, str(path), f"r{round_}-", "100000")
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        try:
            lines = [process.stdout.readline() for _ in range(seen + 1)]
        finally:
            process.kill()
        # A line that was being written when the end came is no token.
        rest = process.communicate(timeout=60)[0].splitlines(keepends=True)
        told += [line.strip() for line in lines[1:] + rest if line.endswith("\n")]
        store = KeyStore(path)
        lost = [token for token in told if store.find(token, datetime.now(UTC)) is None]
        assert lost == [] and len(told) <= len(store.list()) <= len(told) + round_ + 1


def test_the_file_is_its_owners_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        KeyStore(path).add("clinic", {"predict"})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {
        "keys.json": 0o600,
        "keys.lock": 0o600,
    }


@pytest.mark.parametrize(
    "content",
    ["", "\0", "{", "[]", "{}", '{"format": 2, "keys": []}', '{"format": 1, "keys": [{}]}', '{"format": 1, "keys": 0}'],
)
def test_a_damaged_file_is_an_error_and_never_no_keys(path: Path, content: str) -> None:
    store = KeyStore(path)
    _, token = store.add("clinic", {"predict"})
    path.write_text(content)
    for each in (store, KeyStore(path)):
        asked: list[Callable[[], object]] = [each.list, partial(getattr, each, "configured")]
        asked += [partial(each.find, token, datetime.now(UTC)), partial(each.add, "other", {"predict"})]
        asked += [partial(each.revoke, "clinic")]
        for do in asked:
            with pytest.raises(KeysError, match="damaged"):
                do()
    assert path.read_text() == content


@pytest.mark.parametrize(
    "change",
    [
        {"scopes": ["everything"]},
        {"scopes": []},
        {"created": "2026-11-21T12:00:00"},
        {"expires": "soon"},
        {"name": "\x1b[2J"},
        {"id": "x"},
        {"colour": "red"},
    ],
)
def test_a_key_that_was_edited_into_nonsense_is_an_error(path: Path, change: dict[str, object]) -> None:
    store = KeyStore(path)
    store.add("clinic", {"predict"})
    stored = json.loads(path.read_text())
    stored["keys"][0]["key"] |= change
    path.write_text(json.dumps(stored))
    with pytest.raises(KeysError, match="damaged") as told:
        store.list()
    assert stored["keys"][0]["sha256"] not in str(told.value) and "\x1b" not in str(told.value)


def test_two_keys_of_one_id_are_an_error(path: Path) -> None:
    store = KeyStore(path)
    store.add("clinic", {"predict"})
    stored = json.loads(path.read_text())
    stored["keys"] *= 2
    path.write_text(json.dumps(stored))
    with pytest.raises(KeysError, match="damaged"):
        store.list()


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_may_write_is_not_believed(path: Path, mode: int) -> None:
    store = KeyStore(path)
    _, token = store.add("clinic", {"predict"})
    path.chmod(mode)
    with pytest.raises(KeysError, match="chmod 600"):
        store.find(token, datetime.now(UTC))
    path.chmod(0o600)
    assert store.find(token, datetime.now(UTC)) is not None


def test_a_folder_that_others_may_write_gets_no_keys(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.parent.chmod(0o777)
    with pytest.raises(KeysError, match="chmod 700"):
        KeyStore(path).add("clinic", {"predict"})
    assert not path.exists()


def test_a_file_that_is_none_is_told_with_what_to_do(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(KeysError, match=r"cannot be read.*RESUNET_HOME"):
        KeyStore(path).list()


def test_another_writer_that_does_not_end_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "LOCK_SECONDS", 0.0)
    with keyfile.locked(path), pytest.raises(KeysError, match="another change of keys"):
        KeyStore(path).add("clinic", {"predict"})
    KeyStore(path).add("clinic", {"predict"})


def test_two_writes_within_one_tick_of_the_clock_differ(path: Path) -> None:
    store = KeyStore(path)
    store.add("clinic", {"predict"})
    ahead = 2**62
    os.utime(path, ns=(ahead, ahead))
    store.add("laboratory", {"predict"})
    assert path.stat().st_mtime_ns > ahead


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody")
def test_a_key_that_root_adds_leaves_the_file_its_owners(path: Path) -> None:
    store = KeyStore(path)
    store.add("clinic", {"predict"})
    os.chown(path, 12345, 12345)
    store.add("laboratory", {"predict"})
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12345)
