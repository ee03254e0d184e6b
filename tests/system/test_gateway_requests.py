"""Requests to the whole application, run in this process: what one request does to the others, and what it leaves."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from gateway_scene import IMAGE
from page_server import page_server

from serving.gateway.desk import Visit
from serving.gateway.forms import Form, read_form
from serving.gateway.routes import segment

DEADLINE_S = 60.0
FORM = {"image": ("a.png", IMAGE, "image/png")}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with page_server(tmp_path_factory.mktemp("asked")) as url:
        yield url


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=DEADLINE_S, trust_env=False) as http:
        yield http


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def test_while_a_form_is_read_others_are_answered(
    http: httpx.Client, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def slowly(content_type: str, body: bytes) -> Form:
        begun.set()
        assert goes_on.wait(DEADLINE_S)
        return read_form(content_type, body)

    monkeypatch.setattr(segment, "read_form", slowly)
    form = pool.submit(http.post, "/segment", files=FORM)
    try:
        assert begun.wait(DEADLINE_S)
        assert http.get("/health", timeout=10).json()["requests"] == 1  # it has its place meanwhile
    finally:
        goes_on.set()
    assert form.result(DEADLINE_S).status_code == 200


def test_a_form_s_body_is_gone_once_its_image_is_there(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    here, while_segmented = list[int](), list[int]()

    class Watched(bytes):
        def __del__(self) -> None:
            here.clear()

    body, work = Visit.body, segment._segment

    async def watched(visit: Visit) -> bytes:
        here.append(1)
        return Watched(await body(visit))

    def look(*given: Any) -> Any:
        while_segmented.append(len(here))
        return work(*given)

    monkeypatch.setattr(Visit, "body", watched)
    monkeypatch.setattr(segment, "_segment", look)
    assert http.post("/segment", files=FORM).status_code == 200
    assert while_segmented == [0]
