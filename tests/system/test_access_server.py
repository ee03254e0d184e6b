"""Keys and headers in a server that runs, while somebody types `python -m serving keys` beside it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving.access.keys import keys_path
from serving.errors import KEYS_MESSAGE

PROJECT = Path(__file__).resolve().parents[2]

# What the gateway does with the gate, and nothing else.
SERVER = """
import asyncio, json, socket, sys
from pathlib import Path
import uvicorn
from resunet.errors import ResunetError
from serving.access.gate import Gate
from serving.access.headers import SecurityHeaders
from serving.access.keys import KeyStore, keys_path
from serving.access.limits import Limits, Rate
from serving.errors import headers_of, status_of

gate = Gate(KeyStore(keys_path(Path(sys.argv[1]))), Limits(failures=Rate(0.001, burst=40)))
go = asyncio.Event()

async def answer(send, status, body, headers=()):
    await send({"type": "http.response.start", "status": status, "headers": [*headers]})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first ", "more_body": True})
        await go.wait()
        await send({"type": "http.response.body", "body": b"second"})
        return
    try:
        caller = gate.admit(scope["headers"], scope["path"][1:], scope["client"][0])
    except ResunetError as error:
        headers = [(name.lower().encode(), value.encode()) for name, value in headers_of(error).items()]
        await answer(send, status_of(error), str(error), headers)
        return
    go.set()
    await answer(send, 200, [caller.id, caller.name])

listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(SecurityHeaders(app), log_level="warning", lifespan="off")).run(sockets=[listener])
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def client(home: Path) -> Iterator[httpx.Client]:
    """A client of a server that nobody restarts."""
    variables = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(home)], stdout=subprocess.PIPE, text=True, env=variables
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            yield client
    finally:
        process.kill()
        process.communicate()


def keys(home: Path, *words: str) -> str:
    """What a command beside the server prints."""
    command = [sys.executable, "-m", "serving", "keys", *words]
    variables = os.environ | {"RESUNET_HOME": str(home), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=PROJECT, env=variables, capture_output=True, text=True, timeout=120, check=True)
    return ran.stdout.strip()


def asked(client: httpx.Client, scope: str, token: str) -> int:
    return client.get(f"/{scope}", headers={"Authorization": f"Bearer {token}"}).status_code


def test_a_running_server_follows_the_keys(client: httpx.Client, home: Path) -> None:
    assert client.get("/admin").json() == ["127.0.0.1", "127.0.0.1"]
    assert client.get("/admin", headers={"Host": "rebound.example"}).status_code == 403
    old = keys(home, "add", "clinic", "--scope", "predict", "--scope", "labels")
    # The very next request.
    refused = client.get("/admin")
    assert refused.status_code == 401 and refused.headers["WWW-Authenticate"].startswith("Bearer")
    new = keys(home, "add", "clinic", "--scope", "predict")
    assert [asked(client, scope, old) for scope in ("predict", "labels", "metrics")] == [200, 200, 403]
    assert client.get("/predict", headers={"X-Api-Key": new}).json()[1] == "clinic"
    keys(home, "revoke", old.split("_")[1])
    assert (asked(client, "predict", old), asked(client, "predict", new)) == (401, 200)
    keys(home, "revoke", "clinic")
    assert (asked(client, "predict", new), client.get("/predict").status_code) == (401, 401)


def test_a_file_that_is_damaged_or_lost_while_it_runs_lets_nobody_in(client: httpx.Client, home: Path) -> None:
    token = keys(home, "add", "clinic", "--scope", "predict")
    assert asked(client, "predict", token) == 200
    whole = keys_path(home).read_bytes()
    keys_path(home).write_bytes(whole[: len(whole) // 2])
    for answer in (client.get("/predict"), client.get("/predict", headers={"X-Api-Key": token})):
        assert (answer.status_code, answer.json()) == (503, KEYS_MESSAGE)
    keys_path(home).unlink()
    assert (client.get("/predict").status_code, asked(client, "predict", token)) == (503, 503)
    keys_path(home).write_bytes(whole)
    assert (client.get("/predict").status_code, asked(client, "predict", token)) == (401, 200)


def test_guessing_is_told_to_wait_and_shuts_no_key_out(client: httpx.Client, home: Path) -> None:
    token = keys(home, "add", "clinic", "--scope", "predict")
    answers = [client.get("/predict", headers={"X-Api-Key": f"guess {number}"}) for number in range(45)]
    assert [answer.status_code for answer in answers] == [401] * 40 + [429] * 5
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 1000
    assert asked(client, "predict", token) == 200


def test_a_header_sent_twice_is_refused(client: httpx.Client, home: Path) -> None:
    token = keys(home, "add", "clinic", "--scope", "predict")
    twice = client.get("/predict", headers=[("X-Api-Key", token), ("X-Api-Key", token)])
    assert twice.status_code == 401 and "twice" in twice.json() and token not in twice.text


def test_a_stream_reaches_its_client_while_it_is_made(client: httpx.Client) -> None:
    with client.stream("GET", "/stream") as answer:
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "Strict-Transport-Security" not in answer.headers
        parts = answer.iter_raw()
        assert next(parts) == b"first "
        # The server makes the rest only after another request, which is sent when the first part is here.
        assert client.get("/predict").status_code == 200
        assert b"".join(parts) == b"second"
