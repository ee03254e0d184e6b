"""`/status` of a real gateway in a real browser, beside `resunet status` on the same log and registry."""

import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_scene import IMAGE, ROOT, Gateway, GatewayScene
from overview_scene import fill
from page_server import page_server
from waiting import until
from watched_page import Watched, watch

from records.engines import make_engine
from records.failures import read_failures
from serving.access.keys import KeyStore

try:
    from playwright import sync_api
except ImportError:
    sync_api = None

PNG = {"Content-Type": "image/png"}
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def scene(gateway_registry: GatewayScene) -> GatewayScene:
    """A version in Production and another one in Staging."""
    gateway_registry.promote(gateway_registry.add_version())
    gateway_registry.promote(gateway_registry.add_version(), "Staging")
    return gateway_registry


@pytest.fixture(scope="module")
def places(scene: GatewayScene, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A log of which every number is known, and a home, of nobody else's."""
    folder = tmp_path_factory.mktemp("status")
    url = f"sqlite:///{folder}/log.db"
    fill(url, folder / "filled", datetime.now(UTC), slice=EVIL)
    return {"RESUNET_INFERENCE_LOG": url, "RESUNET_HOME": str(folder / "home")}


@pytest.fixture(scope="module")
def gateway(scene: GatewayScene, places: dict[str, str]) -> Iterator[Gateway]:
    with scene.gateway(**places) as running:
        yield running


@pytest.fixture
def visit(browser: "sync_api.Browser") -> Iterator[Any]:
    contexts = []

    def opened(url: str, **settings: Any) -> Watched:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 860}, **settings})
        contexts.append(context)
        return watch(context, url)

    yield opened
    for context in contexts:
        context.close()


def told(environment: dict[str, str], *options: str) -> tuple[int, dict[str, Any]]:
    """What `resunet status --json` exits with and says."""
    command = [str(Path(sys.executable).with_name("resunet")), "status", "--json", *options]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.browser
def test_the_page_shows_what_the_command_tells(
    scene: GatewayScene, places: dict[str, str], gateway: Gateway, visit: Any
) -> None:
    image = base64.b64encode(IMAGE).decode()
    # Answered now: the page and the command count it alike.
    assert gateway.ask({"dataframe_split": {"columns": ["image", "slice"], "data": [[image, EVIL]]}}).status_code == 200
    until(lambda: '"answered">74<' in gateway.http.get("/status").text, every=0.5)
    code, said = told(scene.environment(**places))
    assert (code, said["failures"], said["traffic"]["answered"]) == (3, [], 74)
    watched = visit(f"{gateway.url}/status")
    page = watched.page
    cards = {one.locator("h2").inner_text(): one.locator(".figure").inner_text() for one in page.locator(".card").all()}
    assert cards["Production"] == said["production"]["version"] == gateway.version()
    assert cards["Staging"] == said["staging"]["version"]
    assert cards["Drift"] == said["drift"]["last"]["verdict"] == "drift"
    assert cards["Traffic"].startswith("74 ")
    assert watched.text("refused") == str(said["traffic"]["refused"]) == "5"
    assert watched.text("p") == f"{said['drift']['last']['p_value']:.2g}"
    assert watched.text("measured") == f"{said['dice']['versions'][0]['mean']:.3f}" == "0.850"
    p95 = said["traffic"]["p95_ms"]
    assert watched.text("p95") in (f"{p95:.3g} ms", f"{p95:.0f} ms")
    assert [one.strip() for one in page.locator("#notes li").all_inner_texts()] == said["concerns"]
    # Nothing of others, no complaint, and what a client named is text.
    assert all(asked.startswith((f"{gateway.url}/", "data:")) for asked in watched.asked), watched.asked
    assert watched.said == [] and page.locator("img").count() == 0
    assert EVIL in page.locator("table").first.inner_text()


@pytest.mark.browser
def test_every_chart_has_marks_that_are_seen(gateway: Gateway, visit: Any) -> None:
    page = visit(f"{gateway.url}/status").page
    for name, kinds in {
        "traffic": {"answered", "refused", "failed"},
        "latency": {"p50", "p95"},
        "drift": {"fine", "wrong", "none"},
        "dice": {"estimated", "measured"},
    }.items():
        drawing = page.locator(f"section[aria-labelledby={name}] svg")
        assert drawing.is_visible()
        seen = {kind: drawing.locator(f".mark.{kind}") for kind in kinds}
        assert all(marks.count() > 0 for marks in seen.values()), name
        for marks in seen.values():
            style = marks.first.evaluate("mark => [getComputedStyle(mark).fill, getComputedStyle(mark).stroke]")
            # Black is what a mark is that no rule gives a colour.
            assert style not in (["rgb(0, 0, 0)", "none"], ["none", "none"]), (name, style)
    assert page.locator("section[aria-labelledby=traffic] .mark.answered").count() >= 7, "a bar a day"


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (400, "dark")])
def test_the_page_fits_its_window_and_follows_the_colour_scheme(
    gateway: Gateway, visit: Any, width: int, scheme: str
) -> None:
    page = visit(f"{gateway.url}/status", viewport={"width": width, "height": 800}, color_scheme=scheme).page
    for details in page.locator("summary").all():
        details.click()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(level) for level in re.findall(r"\d+", ground)[:3]) > 380) == (scheme == "light")


@pytest.mark.browser
def test_without_scripts_the_page_is_the_same(gateway: Gateway, visit: Any) -> None:
    page = visit(f"{gateway.url}/status", java_script_enabled=False).page
    assert page.locator(".chart svg").count() == 4


def test_with_keys_the_page_needs_the_scope_metrics(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys" / "keys.json")
    _, reader = store.add("a dashboard", {"metrics"})
    _, clinic = store.add("a clinic", {"predict"})
    with page_server(tmp_path / "locked", store=store) as url:
        refused = httpx.get(f"{url}status")
        assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith("Basic realm=")
        assert httpx.get(f"{url}status", auth=("", clinic)).status_code == 403
        assert httpx.get(f"{url}status", headers={"Authorization": f"Bearer {clinic}"}).status_code == 403
        assert httpx.get(f"{url}status", auth=("anybody", "resunet_wrong")).status_code == 401
        assert httpx.get(f"{url}status", headers={"Authorization": "Basic ???"}).status_code == 401
        for allowed in (
            {"auth": ("anybody", reader)},
            {"headers": {"Authorization": f"Bearer {reader}"}},
            {"headers": {"X-Api-Key": reader}},
        ):
            answer = httpx.get(f"{url}status", **allowed)  # type: ignore[arg-type]
            assert answer.status_code == 200 and "no predictions are logged here" in answer.text
        # A password is a key for this page alone: a browser sends it along unasked.
        assert httpx.get(f"{url}metrics", auth=("anybody", reader)).status_code == 401


@pytest.mark.browser
def test_a_browser_asks_for_the_key_as_a_password(tmp_path: Path, visit: Any) -> None:
    store = KeyStore(tmp_path / "keys" / "keys.json")
    _, reader = store.add("a dashboard", {"metrics"})
    with page_server(tmp_path / "locked", store=store) as url:
        watched = visit(f"{url}status", http_credentials={"username": "me", "password": reader})
        assert watched.page.locator("h1").inner_text() == "resunet"
        assert watched.page.locator(".card .figure").first.inner_text() == "7"


def test_a_database_that_does_not_answer_takes_neither_the_page_nor_answers_down(
    scene: GatewayScene, tmp_path: Path
) -> None:
    dead = {"RESUNET_INFERENCE_LOG": "postgresql://ada:s3cret@127.0.0.1:9/none", "RESUNET_HOME": str(tmp_path)}
    with scene.gateway(**dead) as gateway:
        version = gateway.version()
        page = gateway.http.get("/status")
        assert (
            page.status_code == 200 and "traffic, drift, trend, dice, alerts, jobs: it cannot be read now" in page.text
        )
        assert f'<p class="figure">{version}</p>' in page.text and "127.0.0.1:9" not in page.text
        assert gateway.version() == version
        assert "the status page lacks" in gateway.words() and "s3cret" not in gateway.words()


@pytest.fixture(scope="module")
def nobody(scene: GatewayScene) -> str:
    """A model of which nothing is live."""
    scene.client.create_registered_model("nobody")
    return "nobody"


def failed(url: str, model: str) -> dict[tuple[str, int], int]:
    """What the database has of the last hours, by route and status."""
    now, engine = datetime.now(UTC), make_engine(url)
    try:
        found = read_failures(engine, model, now - timedelta(hours=3), now)
    finally:
        engine.dispose()
    sums: dict[tuple[str, int], int] = {}
    for one in found:
        sums[one.path, one.status] = sums.get((one.path, one.status), 0) + one.requests
    return sums


def test_requests_that_several_processes_failed_are_counted_and_shown_and_probes_are_not(
    scene: GatewayScene, nobody: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    places = {"RESUNET_INFERENCE_LOG": url, "RESUNET_HOME": str(tmp_path / "home")}
    options = ("--wait", "--workers", "2", "-m", f"models:/{nobody}/Production")
    with scene.gateway(*options, **places) as gateway:
        for _ in range(10):
            # Each on a connection of its own, so that both processes have some.
            answer = httpx.post(f"{gateway.url}/segment", content=IMAGE, headers=PNG, trust_env=False)
            assert answer.status_code == 503
        infer = f"{gateway.url}/v2/models/{nobody}/infer"
        assert httpx.post(infer, json={"inputs": []}, trust_env=False).status_code == 503
        for probe in ("/health", "/v2/health/ready", f"/v2/models/{nobody}/ready"):
            assert gateway.http.get(probe).status_code == 503
        assert gateway.http.get("/nothing/here").status_code == 404
        wanted = {("/segment", 503): 10, ("/v2/models/{name}/infer", 503): 1}
        until(lambda: failed(url, nobody) == wanted, lambda: f"{failed(url, nobody)} {gateway.words()}", every=0.2)
        words = "11 requests failed (11 with 503)"
        until(lambda: f'id="failed">{words}<' in gateway.http.get("/status").text, gateway.words, every=0.5)
        page = gateway.http.get("/status").text
        assert f"<li>{words} since " in page and "<td>503</td><td>/segment</td><td>10</td>" in page
        code, said = told(scene.environment(**places), "--model", nobody)
        assert (code, said["failures"], said["traffic"]["failed"]) == (3, [], 11)
        assert any(one.startswith(words) for one in said["concerns"])
        assert gateway.ask().status_code == 503
    # What was counted last is there after a clean stop.
    assert failed(url, nobody) == wanted | {("/invocations", 503): 1}


def test_a_database_that_is_away_holds_up_no_failure_and_gets_the_counts_when_it_is_back(
    scene: GatewayScene, nobody: str, tmp_path: Path
) -> None:
    mounted = tmp_path / "volume" / "mounted"
    url = f"sqlite:///{mounted}/log.db"
    places = {"RESUNET_INFERENCE_LOG": url, "RESUNET_HOME": str(tmp_path / "home")}
    with scene.gateway("--wait", "-m", f"models:/{nobody}/Production", **places) as gateway:
        for _ in range(3):
            assert gateway.ask().status_code == 503
        until(lambda: "counts of failed requests wait" in gateway.words(), gateway.words)
        mounted.mkdir(parents=True)
        until(lambda: failed(url, nobody) == {("/invocations", 503): 3}, gateway.words, every=0.5)
