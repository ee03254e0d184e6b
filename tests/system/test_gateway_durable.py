"""What was answered is in the log, whatever dies: the gateway under load, or the database; over HTTPS too."""

import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from certificate_files import write_certificate
from gateway_scene import DEADLINE_S, IMAGE, Gateway, GatewayScene
from needed import missing
from records_databases import patiently
from records_rows import stored_ids
from waiting import until

PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayScene]:
    scene = GatewayScene(tmp_path_factory.mktemp("durable"))
    scene.start_tracking()
    scene.promote(scene.add_version())
    yield scene
    scene.stop_tracking()


class Clients:
    """Ask until told to stop, and remember whom was answered."""

    def __init__(self, gateway: Gateway, name: str, count: int = 4) -> None:
        self.answered: list[str] = []
        self.failed: list[str] = []
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(gateway.url, f"{name} {one}")) for one in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)

    def _ask(self, url: str, name: str) -> None:
        number = 0
        with httpx.Client(base_url=url, timeout=DEADLINE_S, trust_env=False) as http:
            while not self._ended.is_set():
                number += 1
                headers = PNG | {"X-Request-Id": f"{name} {number}"}
                try:
                    answer = http.post("/segment", content=IMAGE, headers=headers)
                except httpx.HTTPError:
                    return  # the gateway is gone
                if answer.status_code == 200:
                    self.answered.append(answer.headers["X-Request-Id"])
                else:
                    self.failed.append(answer.text)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_answered_before_a_kill_under_load_is_in_the_log_once(
    scene: GatewayScene, tmp_path: Path, workers: int
) -> None:
    url, home = f"sqlite:///{tmp_path / 'log.db'}", str(tmp_path / "home")
    where = {"RESUNET_INFERENCE_LOG": url, "RESUNET_HOME": home}
    with scene.gateway("--workers", str(workers), **where) as gateway:
        clients = Clients(gateway, "killed")
        until(lambda: len(clients.answered) >= 40, gateway.words, DEADLINE_S)
        gateway.kill()
        clients.end()
    with scene.gateway(**where) as gateway:  # whoever starts next delivers
        wanted = set(clients.answered)
        until(lambda: wanted <= set(stored_ids(url)), gateway.words, DEADLINE_S, every=0.5)
    stored = stored_ids(url)
    assert len(stored) == len(set(stored)) and not clients.failed


def test_while_postgresql_is_away_every_answer_is_kept_and_delivered_once(
    scene: GatewayScene, tmp_path: Path, postgres: Any, postgres_url: str
) -> None:
    where = {"RESUNET_INFERENCE_LOG": postgres_url, "RESUNET_HOME": str(tmp_path / "home")}
    with scene.gateway(**where) as gateway:
        clients = Clients(gateway, "kept")
        until(lambda: len(clients.answered) >= 20, gateway.words, DEADLINE_S)
        postgres.stop()
        before = len(clients.answered)
        until(lambda: len(clients.answered) >= before + 60, gateway.words, DEADLINE_S)
        patiently(postgres.start)
        clients.end()
        wanted = sorted(clients.answered)
        until(lambda: len(stored_ids(postgres_url)) >= len(wanted), gateway.words, DEADLINE_S, every=0.5)
        assert stored_ids(postgres_url) == wanted and not clients.failed


@pytest.mark.parametrize("workers", [1, 2])
def test_over_https_it_answers_and_plain_http_gets_nothing(scene: GatewayScene, tmp_path: Path, workers: int) -> None:
    certificate, key = write_certificate(tmp_path)
    flags = ("--tls-certificate", str(certificate), "--tls-key", str(key), "--workers", str(workers))
    trusting = ssl.create_default_context(cafile=str(certificate))
    with scene.gateway(*flags, trusting=trusting) as gateway:
        answer = gateway.http.post("/segment", content=IMAGE, headers=PNG | {"Host": "gateway.example"})
        assert answer.status_code == 200 and answer.url.scheme == "https"
        assert "max-age" in answer.headers["Strict-Transport-Security"]
        with pytest.raises(httpx.HTTPError):
            httpx.get(gateway.url.replace("https", "http") + "/health", timeout=5, trust_env=False)
        with pytest.raises(httpx.ConnectError):
            httpx.get(gateway.url + "/health", timeout=5, trust_env=False)  # signed by nobody it knows


def test_under_wrk_s_load_nothing_fails_and_every_answer_has_its_row(scene: GatewayScene, tmp_path: Path) -> None:
    wrk = shutil.which("wrk") or missing("no wrk to load the gateway with: apt-get install wrk")
    url, image, script = f"sqlite:///{tmp_path / 'log.db'}", tmp_path / "image.png", tmp_path / "post.lua"
    image.write_bytes(IMAGE)
    script.write_text(
        f'local file = io.open("{image}", "rb")\n'
        'wrk.method, wrk.body = "POST", file:read("*a")\n'
        'wrk.headers["Content-Type"] = "image/png"\n'
    )
    where = {"RESUNET_INFERENCE_LOG": url, "RESUNET_HOME": str(tmp_path / "home")}
    with scene.gateway(**where) as gateway:
        load = ["-t", "2", "-c", "8", "-d", "3s", "--timeout", "30s", "-s", str(script)]
        command = [wrk, *load, f"{gateway.url}/segment"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
        assert "Non-2xx" not in done.stdout and "Socket errors" not in done.stdout, done.stdout
        (count,) = [int(line.split()[0]) for line in done.stdout.splitlines() if "requests in" in line]
        assert count > 0
        # wrk goes while requests are under way, and counts none of them.
        until(lambda: len(stored_ids(url)) >= count, gateway.words, DEADLINE_S, every=0.5)
    stored = stored_ids(url)
    assert len(stored) == len(set(stored)) <= count + 8
