"""A plain table of images is answered as MLflow would have it answered, to the byte, and all else is left to MLflow."""

import base64
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.pyfunc import scoring_server
from mlflow_state import mlflow_state_kept
from version_factory import draw, encode, register_version, write_version

from serving import request
from serving.budget import WorkBudget
from serving.fetch import fetch_model
from serving.gateway.fleet import Live
from serving.gateway.loading import load
from serving.plain import read_plain
from serving.request import Options
from serving.scoring import RequestError, guarded
from serving.service import Call, Service
from serving.settings import ServingSettings

JSON = "application/json"
IMAGES = [base64.b64encode(encode(draw(24 + 8 * n, 40, seed=n))).decode() for n in range(3)]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTINGS = ServingSettings(engine="onnxruntime", max_rows=4)
MLFLOW = guarded(scoring_server.invocations, SETTINGS.max_image_mb)


@pytest.fixture(scope="module", params=[1, 3], ids=["binary", "three classes"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Live:
    folder = tmp_path_factory.mktemp("a version")
    write_version(folder / "version", request.param)
    tracking, uri = register_version(folder / "version", folder / "store")
    with mlflow_state_kept():
        mlflow.set_tracking_uri(tracking)
        loaded = load(fetch_model(uri, folder / "fetched"), SETTINGS, threads=1)
    service = Service(loaded.predictor, loaded.identity, WorkBudget(2, 30))
    return Live("production", loaded, service, SETTINGS)


def call_with(options: Options) -> Call:
    return Call(options, NOON, request_id="the request", caller="ada")


def outcome(answer: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Status and words, with ids that are the same each time."""
    numbers = iter(range(100))
    with monkeypatch.context() as patch:
        patch.setattr(request, "uuid", SimpleNamespace(uuid4=lambda: uuid.UUID(int=next(numbers))))
        try:
            return 200, answer()
        except RequestError as error:
            return error.get_http_status_code(), error.message


def by_mlflow(live: Live, body: bytes, kind: str = JSON) -> str:
    scorer = live.scorer(call_with)
    answer = MLFLOW(body, kind, scorer, scorer.metadata.get_input_schema())
    assert answer.status == 200
    text: str = answer.response
    return text


def table(columns: list[str], *data: list[Any], **more: Any) -> dict[str, Any]:
    return {"dataframe_split": {"columns": columns, "data": list(data)}, **more}


texts = st.none() | st.sampled_from(["", "a", "7", "nan", "NaN", "null", "1e3", "é", "a b", "x" * 200, "x" * 201, "\n"])
images = st.sampled_from(IMAGES) | st.sampled_from(
    ["", "!", "aGk=", "aGk", IMAGES[0][:200], IMAGES[0] + "\n", "\n".join(IMAGES[1]), " " + IMAGES[2], "é"]
)


@st.composite
def tables(draw_one: st.DrawFn) -> dict[str, Any]:
    columns = draw_one(st.permutations(["image", *draw_one(st.sets(st.sampled_from(request.TEXT_COLUMNS)))]))
    values = [images if column == "image" else texts for column in columns]
    data = draw_one(st.lists(st.tuples(*values).map(list), min_size=1, max_size=5))
    params = draw_one(st.sampled_from([{}, {}, {"params": {}}, {"params": {"mask_format": "rle"}}]))
    return table(columns, *data, **params)


@given(tables())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_plain_table_gets_the_bytes_that_mlflow_would_send(
    live: Live, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any]
) -> None:
    sent = json.dumps(body).encode()
    plain = read_plain(sent, JSON)
    theirs = outcome(lambda: by_mlflow(live, sent), monkeypatch)
    if plain is None:
        assert theirs[0] != 200
    else:
        assert outcome(lambda: live.answer_plain(plain, call_with), monkeypatch) == theirs


@pytest.mark.parametrize("kind", [JSON, "application/json; charset=utf-8"])
def test_what_most_clients_send_is_plain(live: Live, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    columns, row = ["image", "request_id", "client", "slice"], [IMAGES[0], "r1", None, "fluorescence"]
    sent = json.dumps(table(columns, row, params={"mask_format": "png"})).encode()
    plain = read_plain(sent, kind)
    assert plain is not None
    ours = outcome(lambda: live.answer_plain(plain, call_with), monkeypatch)
    assert ours == outcome(lambda: by_mlflow(live, sent, kind), monkeypatch)
    (answer,) = json.loads(ours[1])["predictions"]
    assert answer["request_id"] == "r1" and answer["width"] == 40


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        {"dataframe_records": [{"image": IMAGES[0]}]},
        {"inputs": [IMAGES[0]]},
        table(["image"], [IMAGES[0]], params={"threshold": 0.5}),
        table(["image"], [IMAGES[0]], params={"mask_format": 1}),
        table(["image"], [IMAGES[0]], params=None),
        table(["image"], [IMAGES[0]], more=1),
        table(["image"], [IMAGES[0]], instances=[1]),
        {"dataframe_split": {"columns": ["image"], "data": [[IMAGES[0]]], "index": [0]}},
        table(["image", "other"], [IMAGES[0], "a"]),
        table(["image", "image"], [IMAGES[0], IMAGES[0]]),
        table(["image"]),
        table(["client"], ["a"]),
        table(["image"], [IMAGES[0], "a"]),
        table(["image", "client"], [IMAGES[0]]),
        table(["image"], [None]),
        table(["image"], [7]),
        table(["image", "client"], [IMAGES[0], 7]),
        table(["image"], ["é"], ["\ud800"]),
        table([7, "image"], ["a", IMAGES[0]]),  # type: ignore[list-item]
        {"dataframe_split": {"columns": "image", "data": [[IMAGES[0]]]}},
        {"dataframe_split": {"columns": ["image"], "data": {"0": IMAGES[0]}}},
        {"dataframe_split": [["image"], [[IMAGES[0]]]]},
        {"dataframe_split": {"columns": ["image"], "data": [IMAGES[0]]}},
        table(["image", *["client"] * 4], *[["", *[""] * 4]] * 300_000),
    ],
    ids=str,
)
def test_all_else_is_for_mlflow(body: Any) -> None:
    assert read_plain(body if isinstance(body, bytes) else json.dumps(body).encode(), JSON) is None


@pytest.mark.parametrize("kind", ["", "text/csv", "application/json; charset=latin-1", "application/json; a=b"])
def test_another_kind_of_content_is_for_mlflow(kind: str) -> None:
    assert read_plain(json.dumps(table(["image"], [IMAGES[0]])).encode(), kind) is None
