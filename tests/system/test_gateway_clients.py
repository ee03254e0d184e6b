"""Other people's clients against a real gateway: the Open Inference Protocol's, and MLflow's own."""

import base64
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from gateway_scene import BODY, IMAGE, NAME, Gateway
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException
from version_factory import draw, encode

from resunet.images import decode_mask


@pytest.fixture
def client(gateway: Gateway) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(gateway.url.removeprefix("http://")) as client:
        yield client


def image_input(*images: bytes, binary: bool = True) -> triton.InferInput:
    given = triton.InferInput("image", [len(images)], "BYTES")
    values = images if binary else [base64.b64encode(one) for one in images]
    given.set_data_from_numpy(np.array(values, dtype=np.object_), binary_data=binary)
    return given


def test_triton_s_client_gets_the_masks_of_invocations(gateway: Gateway, client: triton.InferenceServerClient) -> None:
    images = [IMAGE, encode(draw(300, 280, seed=4))]
    expected = gateway.ask(
        {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(one).decode()] for one in images]}}
    ).json()["predictions"]
    for binary in (True, False):
        answer = client.infer(NAME, [image_input(*images, binary=binary)])
        for place, row in enumerate(expected):
            stored = answer.as_numpy("mask")[place]
            stored = base64.b64decode(stored) if answer.get_output("mask")["parameters"].get("content_type") else stored
            assert (decode_mask(stored) == decode_mask(base64.b64decode(row["mask"]))).all()
            assert answer.as_numpy("confidence")[place] == pytest.approx(row["confidence"], abs=1e-6)
            assert answer.as_numpy("foreground_fraction")[place] == pytest.approx(row["foreground_fraction"])
            assert (answer.as_numpy("width")[place], answer.as_numpy("height")[place]) == (row["width"], row["height"])
        assert answer.get_response()["model_version"] == expected[0]["model_version"]


def test_triton_s_client_sees_the_model(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(NAME)
    described = client.get_model_metadata(NAME)
    assert [one["name"] for one in described["inputs"]] == ["image"]
    assert {one["name"] for one in described["outputs"]} >= {"mask", "confidence"}
    (version,) = described["versions"]
    assert client.is_model_ready(NAME, version) and not client.is_model_ready("other")
    assert (
        client.infer(NAME, [image_input(IMAGE)], model_version=version, request_id="mine").get_response()["id"]
        == "mine"
    )


def test_a_failure_has_the_protocol_s_form(gateway: Gateway, client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="row 0: ") as caught:
        client.infer(NAME, [image_input(IMAGE[:200])])
    assert caught.value.status() == "400"
    with pytest.raises(InferenceServerException, match=r"only version . of the model"):
        client.infer("other", [image_input(IMAGE)])
    answer = gateway.http.post(f"/v2/models/{NAME}/infer", content=b"{}")
    assert answer.status_code == 400 and list(answer.json()) == ["error"]
    length = {"Inference-Header-Content-Length": "-1"}
    assert gateway.http.post(f"/v2/models/{NAME}/infer", content=b"{}", headers=length).status_code == 400


def test_parameters_reach_the_version(client: triton.InferenceServerClient) -> None:
    low, high = (
        client.infer(NAME, [image_input(IMAGE)], parameters={"threshold": threshold}).as_numpy("foreground_fraction")[0]
        for threshold in (0.05, 0.95)
    )
    assert low > high
    with pytest.raises(InferenceServerException, match="threshold must be"):
        client.infer(NAME, [image_input(IMAGE)], parameters={"threshold": 2.0})


def test_mlflow_s_own_scoring_client_is_answered(gateway: Gateway) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    client = ScoringServerClient(host, int(port))
    client.ping()
    assert client.get_version()
    answer = client.invoke(pd.DataFrame({"image": [base64.b64encode(IMAGE).decode()]})).get_predictions()
    expected = gateway.ask(BODY).json()["predictions"][0]
    assert answer["mask"][0] == expected["mask"]
