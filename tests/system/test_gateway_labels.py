"""`POST /labels` of a real gateway closes the loop: answers are scored by their ids, each caller's own."""

import base64
from typing import Any

import numpy as np
import pytest
from gateway_scene import DEADLINE_S, IMAGE, Gateway
from waiting import until

from resunet.images import decode_mask
from resunet.masks import encode_png
from serving.client import Client, ClientError


def labelled(gateway: Gateway, body: dict[str, Any], **options: Any) -> Any:
    """The answer, once the prediction has reached the database."""
    answers: list[Any] = []

    def sent() -> bool:
        answers.append(gateway.http.post("/labels", json=body, **options))
        return answers[-1].status_code != 404

    until(sent, gateway.words, DEADLINE_S)
    return answers[-1]


def test_the_true_mask_is_scored_against_the_answer(gateway: Gateway) -> None:
    with Client(gateway.url) as client:
        found = client.segment(IMAGE, request_id="to be labelled")
        truth = found.mask.copy()
        truth[: truth.shape[0] // 2] = 0
        overlap = 2 * (truth > 0).sum() / ((truth > 0).sum() + (found.mask > 0).sum())
        until(
            lambda: labelled(gateway, {"request_id": "to be labelled", "dice": 0}).status_code == 200, str, DEADLINE_S
        )
        assert client.label("to be labelled", truth) == {found.model_version: pytest.approx(overlap)}
        assert client.label("to be labelled", dice=0.5) == {found.model_version: 0.5}
        with pytest.raises(ClientError, match="no answer of that request id") as caught:
            client.label("never asked", dice=0.5)
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({}, 400, "request_id"),
        ({"request_id": "a"}, 400, "either mask or dice"),
        ({"request_id": "a", "dice": 0.5, "mask": "AAAA"}, 400, "either mask or dice"),
        ({"request_id": "a", "dice": 2}, 400, "dice"),
        ({"request_id": "a", "mask": "not base64!"}, 400, "not valid base64"),
        ({"request_id": "a", "mask": "data:image/png;base64,eA=="}, 400, "mask begins with data:…;base64"),
        ({"request_id": "a", "mask": base64.b64encode(IMAGE).decode()}, 400, "the mask: "),
        ({"request_id": "a", "dice": 0.5, "source": "rumour"}, 400, "source"),
        ({"request_id": "a", "dice": 0.5, "surplus": 1}, 400, "surplus"),
    ],
)
def test_a_label_that_makes_no_sense_is_refused(gateway: Gateway, body: dict[str, Any], status: int, told: str) -> None:
    answer = gateway.http.post("/labels", json=body)
    assert answer.status_code == status and told in answer.json()["message"]


def test_a_mask_of_another_size_is_refused(gateway: Gateway) -> None:
    sent = {"X-Request-Id": "a size", "Content-Type": "image/png"}
    mask = decode_mask(gateway.http.post("/segment", content=IMAGE, headers=sent).content)
    wrong = base64.b64encode(encode_png(np.zeros((mask.shape[0] + 1, mask.shape[1]), np.uint8))).decode()
    answer = labelled(gateway, {"request_id": "a size", "mask": wrong})
    assert answer.status_code == 400 and "must have the image's size, 80 x 64" in answer.json()["message"]


@pytest.mark.parametrize("name", ["scan 7", "größe"])
@pytest.mark.parametrize("path", ["/invocations", "/v2/models/resunet/infer"])
def test_the_id_that_an_answer_tells_of_its_one_image_can_be_labelled(gateway: Gateway, path: str, name: str) -> None:
    image = base64.b64encode(IMAGE).decode()
    theirs = f"{name} of {path}"
    table = {"columns": ["image", "request_id"], "data": [[image, theirs]]}
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [image]}
    body = {"dataframe_split": table} if path == "/invocations" else {"id": theirs, "inputs": [tensor]}
    answer = gateway.http.post(path, json=body, headers={"X-Request-Id": "another"})
    # What a header cannot carry is in the body alone.
    assert answer.headers["X-Request-Id"] == (theirs if theirs.isascii() else "another")
    assert theirs in str(answer.json())
    assert labelled(gateway, {"request_id": theirs, "dice": 0.5}).status_code == 200


def test_several_images_have_the_ids_that_the_body_tells(gateway: Gateway) -> None:
    image = base64.b64encode(IMAGE).decode()
    tensor = {"name": "image", "shape": [2], "datatype": "BYTES", "data": [image, image]}
    answer = gateway.http.post("/v2/models/resunet/infer", json={"id": "of both", "inputs": [tensor]})
    assert answer.headers["X-Request-Id"] != "of both"
    (ids,) = [one["data"] for one in answer.json()["outputs"] if one["name"] == "request_id"]
    for one in ids:
        told = base64.b64decode(one).decode()
        assert labelled(gateway, {"request_id": told, "dice": 0.5}).status_code == 200
