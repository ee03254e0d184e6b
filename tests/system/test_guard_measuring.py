"""What a guarded server has measured: one process a version, whatever becomes of the server that started it."""

import fcntl
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import psutil
import pytest
from guarded_server import GuardedServer, guarded_server

STARTED = "registry.guard.measurer"
ENDS_SECONDS = 200


@contextmanager
def nobodys_turn(home: Path) -> Iterator[None]:
    """While another measurement runs, as it were."""
    folder = home / "measuring"
    folder.mkdir(exist_ok=True)
    with (folder / "turn.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield


def measure(server: GuardedServer, name: str, version: str) -> str:
    answer = server.decide("check", name, version=version, stage="Production", measure=True)
    assert answer.status == 200, answer
    return str(json.loads(answer.text)["measuring"]["state"])


def progress(server: GuardedServer, name: str, version: str) -> dict[str, str]:
    answer = server.send("GET", f"/api/lifecycle/measuring?{urlencode({'name': name, 'version': version})}")
    assert answer.status == 200, answer
    found: dict[str, str] = json.loads(answer.text)
    return found


def measurers(server: GuardedServer) -> list[psutil.Process]:
    """The processes that measure, of this server's home."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if STARTED in words and any(word.startswith(str(server.folder)) for word in words):
            found.append(process)
    return found


def wait_for(met: Callable[[], bool], seconds: float = ENDS_SECONDS) -> None:
    """Until something is so; fails where it is not in time."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def test_a_version_is_measured_once_at_a_time_and_the_server_may_be_killed_meanwhile(tmp_path: Path) -> None:
    name, twin, other = "--help", "a.b", "a_b"
    own = {"RESUNET_DATA": str(tmp_path / "data"), "RESUNET_NOTIFY": "", "AWS_SECRET_ACCESS_KEY": "not for a version"}
    with guarded_server(tmp_path, environment=own) as server, nobodys_turn(tmp_path / "home"):
        version, twins, others = (server.version(one, measured=False) for one in (name, twin, other))
        assert progress(server, name, version)["state"] == "none"
        assert [measure(server, name, version) for _ in range(3)] == ["running"] * 3
        (first,) = measurers(server)
        assert "AWS_SECRET_ACCESS_KEY" not in first.environ() and "RESUNET_DATABASE" in first.environ()
        wait_for(lambda: "another version is being measured" in progress(server, name, version)["told"])

        # Another name has its own, however alike the two are.
        assert measure(server, twin, twins) == "running"
        assert progress(server, other, others)["state"] == "none"
        (second,) = (process for process in measurers(server) if process.pid != first.pid)
        second.send_signal(signal.SIGKILL)
        wait_for(lambda: progress(server, twin, twins)["state"] == "failed")
        assert measure(server, twin, twins) == "running"
        assert {process.pid for process in measurers(server)} > {first.pid}

        for process in psutil.Process(server.running.process.pid).children(recursive=True):
            if "uvicorn" in process.cmdline():
                process.kill()
        with guarded_server(tmp_path, environment=own) as again:
            assert progress(again, name, version)["state"] == "running"
            assert measure(again, name, version) == "running"
            assert len(measurers(again)) == 2
            for folder in (tmp_path / "home" / "measuring").iterdir():
                assert folder.parent == tmp_path / "home" / "measuring" and "." not in folder.name.removesuffix(".lock")


def test_what_it_ended_with_is_told_without_the_servers_paths(tmp_path: Path) -> None:
    own = {"RESUNET_DATA": str(tmp_path / "data")}
    with guarded_server(tmp_path, environment=own) as server:
        version = server.version("stand-in", measured=False)
        assert measure(server, "stand-in", version) == "running"
        wait_for(lambda: progress(server, "stand-in", version)["state"] != "running")
        ended = progress(server, "stand-in", version)
        # A stand-in for a version cannot be measured: what it says of that is its own matter.
        assert ended["state"] == "failed" and ended["told"].strip()
        assert str(tmp_path) not in ended["told"]
        (folder,) = (one for one in (tmp_path / "home" / "measuring").iterdir() if one.is_dir())
        assert not list(folder.glob("c*"))  # the copies of the two versions
        assert not measurers(server)


@pytest.mark.parametrize(("name", "version"), [("nobody", "1"), ("known", "7"), ("known", "../1"), ("known", "²")])
def test_nobody_asks_for_what_is_not_there(gate_server: GuardedServer, name: str, version: str) -> None:
    if not gate_server.client.search_registered_models("name='known'"):
        gate_server.version("known", measured=False)
    query = urlencode({"name": name, "version": version})
    answer = gate_server.send("GET", f"/api/lifecycle/measuring?{query}")
    assert answer.status == 400 and "there is" in answer.message, answer


def test_without_a_data_set_the_check_says_what_to_set(gate_server: GuardedServer) -> None:
    version = gate_server.version("no data", measured=False)
    answer = gate_server.decide("check", "no data", version=version, stage="Production", measure=True)
    assert answer.status == 400 and "RESUNET_DATA" in answer.message, answer
