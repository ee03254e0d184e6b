"""Requests to the whole application, run in this process: what one request does to the others, and what it leaves."""

import base64
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from gateway_scene import IMAGE
from page_server import VERSION, page_server
from waiting import until

from records.labels import Added, Label
from resunet.images import decode_mask
from resunet.masks import encode_png
from serving import service
from serving.access.gate import Gate
from serving.budget import WorkBudget
from serving.errors import BusyError, LimitedError, UnauthorisedError
from serving.gateway.desk import DeskSettings, Visit
from serving.gateway.fleet import Fleet, Way
from serving.gateway.forms import Form, read_form
from serving.gateway.rollouts.twins import Kept, Twin, Twins
from serving.gateway.routes import segment
from serving.request import Row
from serving.rollout.assignment import Assigned, Epoch

DEADLINE_S = 60.0
ENCODED = base64.b64encode(IMAGE).decode()
TABLE = {"dataframe_split": {"columns": ["image"], "data": [[ENCODED]]}}
FORM = {"image": ("a.png", IMAGE, "image/png")}


class Database:
    """Where labels go; it can be away."""

    def __init__(self) -> None:
        self.asked, self.there = 0, threading.Event()
        self.there.set()

    def label(self, label: Label) -> list[Added]:
        self.asked += 1
        assert self.there.wait(DEADLINE_S)
        return []


@pytest.fixture(scope="module")
def database() -> Database:
    return Database()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, database: Database) -> Iterator[str]:
    with page_server(tmp_path_factory.mktemp("asked"), label=database.label) as url:
        yield url


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=DEADLINE_S, trust_env=False) as http:
        yield http


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
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


def test_during_a_rollout_no_pixels_outlive_the_work_on_them(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, offered, held = list[weakref.ref[Any]](), list[Twin](), list[int]()
    decoded, way = service.decode, Fleet.way

    def watched(row: Row) -> Any:
        rgb = decoded(row)
        pixels.append(weakref.ref(rgb))
        return rgb

    def offer(twins: Twins, twin: Twin) -> None:
        held.append(sum(one() is not None for one in pixels))
        offered.append(twin)

    def shadowed(fleet: Fleet, *given: Any) -> Way | None:
        chosen = way(fleet, *given)
        return chosen and Way(chosen.live, Assigned(Epoch("a rollout", 1), "production", 0, shadowed=True))

    monkeypatch.setattr(service, "decode", watched)
    monkeypatch.setattr(Fleet, "way", shadowed)
    monkeypatch.setattr(Twins, "keep", lambda twins, row, mask: Kept(row, mask))
    monkeypatch.setattr(Twins, "offer", offer)
    answer = http.post("/invocations", json={"dataframe_split": {"columns": ["image"], "data": [[ENCODED], [ENCODED]]}})
    until(lambda: len(offered) == 2)
    assert held == [0, 0] and len(pixels) == 2
    masks = [decode_mask(base64.b64decode(row["mask"])) for row in answer.json()["predictions"]]
    assert all(((twin.kept.mask > 0) == (mask > 0)).all() for twin, mask in zip(offered, masks, strict=True))


@pytest.mark.parametrize("form", ["segment", "split", "tensors"])
def test_who_has_sent_too_many_pixels_is_told_twice_how_long_to_wait(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    def refuse(*_given: Any) -> None:
        raise LimitedError("too many pixels", 89.5)

    monkeypatch.setattr(Gate, "charge", refuse)
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [ENCODED]}
    refused = {
        "segment": lambda: http.post("/segment", files=FORM),
        "split": lambda: http.post("/invocations", json=TABLE),
        "tensors": lambda: http.post("/v2/models/resunet/infer", json={"inputs": [tensor]}),
    }[form]()
    assert refused.status_code == 429 and "again in 90 s" in refused.text
    assert refused.headers["Retry-After"] == "90"


def test_labels_that_wait_for_a_database_hold_no_prediction_up(
    http: httpx.Client, pool: ThreadPoolExecutor, database: Database
) -> None:
    label, settings = {"request_id": "a", "dice": 0.5}, DeskSettings(threads=4)
    places, before = settings.label_threads + settings.label_waiting, database.asked
    database.there.clear()
    try:
        waiting = [pool.submit(httpx.post, f"{http.base_url}labels", json=label, timeout=60) for _ in range(places)]
        until(lambda: http.get("/health").json()["requests"] == places)
        until(lambda: database.asked - before == settings.label_threads)
        assert http.post("/segment", files=FORM, timeout=20).status_code == 200
        refused = http.post("/labels", json=label)
        assert refused.status_code == 503 and int(refused.headers["Retry-After"]) > 0
    finally:
        database.there.set()
    assert {one.result(DEADLINE_S).status_code for one in waiting} == {200}
    assert http.post("/labels", json=label).status_code == 200


def test_a_true_mask_is_decoded_when_its_turn_comes(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = list[int]()

    @contextmanager
    def take(_budget: WorkBudget, pixels: int, _deadline: float) -> Iterator[None]:
        taken.append(pixels)
        raise BusyError("no turn came")
        yield

    mask = base64.b64encode(encode_png(np.zeros((30, 40), np.uint8))).decode()
    assert http.post("/labels", json={"request_id": "a", "mask": mask}).status_code == 200
    monkeypatch.setattr(WorkBudget, "take", take)
    assert http.post("/labels", json={"request_id": "a", "mask": mask}).status_code == 503
    assert taken == [30 * 40]


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/health", {}, 200),
        ("GET", "/docs", {}, 200),
        ("POST", "/labels", {"json": {"request_id": "a", "dice": 0.5}}, 200),
        ("POST", "/announce", {"headers": {"X-Forwarded-For": "1.2.3.4"}}, 403),
        ("GET", "/nowhere", {}, 404),
        ("PUT", "/segment", {}, 405),
        ("POST", "/segment", {"files": FORM, "headers": {"Accept": "text/html"}}, 406),
        ("POST", "/segment", {"content": IMAGE}, 415),
        ("GET", "/health", {"headers": {"X-Request-Id": b"\xe4"}}, 400),
        ("GET", "/v2/health/live", {"headers": {"X-Request-Id": "x" * 300}}, 400),
    ],
)
def test_every_answer_names_its_request_and_the_version_that_is_live(
    http: httpx.Client, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    answer = http.request(method, path, **options)
    assert answer.status_code == status
    assert answer.headers["X-Model-Version"] == VERSION
    assert len(answer.headers["X-Request-Id"]) == 32


@pytest.mark.parametrize("error", [LimitedError("too many", 5), BusyError("full"), UnauthorisedError("no key")])
def test_so_does_one_that_was_refused_before_a_version_was_chosen(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_given: Any) -> None:
        raise error

    monkeypatch.setattr(Gate, "admit", refuse)
    answer = http.post("/segment", files=FORM, headers={"X-Request-Id": "mine"})
    assert answer.status_code in (401, 429, 503)
    assert (answer.headers["X-Model-Version"], answer.headers["X-Request-Id"]) == (VERSION, "mine")


def test_with_nothing_live_no_version_is_named(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fleet, "on", lambda fleet, lane: None)
    answer = http.post("/segment", files=FORM)
    assert answer.status_code == 503 and "X-Model-Version" not in answer.headers
