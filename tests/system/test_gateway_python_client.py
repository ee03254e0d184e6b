"""The Python client against a real gateway: answers, order, refusals, and a gateway that is away for a while."""

import threading
from pathlib import Path

import pytest
from gateway_scene import IMAGE, Gateway, GatewayScene
from mlflow_server import free_port
from version_factory import draw, encode

from resunet.images import decode_mask
from serving.client import Client, ClientError, Segmentation


def test_an_image_or_its_file_is_segmented(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(IMAGE)
    raw = gateway.http.post("/segment", content=IMAGE, headers={"Content-Type": "image/png"})
    with Client(gateway.url) as client:
        for image in (IMAGE, tmp_path / "a.png"):
            found = client.segment(image, request_id="mine")
            assert (found.mask == decode_mask(raw.content)).all()
            assert found.model_version == gateway.version() and found.request_id == "mine"
            assert found.confidence == pytest.approx(float(raw.headers["X-Confidence"]))
        assert client.segment(IMAGE, threshold=0.05).mask.sum() > client.segment(IMAGE, threshold=0.95).mask.sum()


def test_many_images_are_answered_in_order_and_one_that_fails_stops_nothing(gateway: Gateway) -> None:
    images = [encode(draw(40 + 8 * number, 64, seed=number)) for number in range(12)]
    images[5] = images[5][:100]
    with Client(gateway.url) as client:
        answers = list(client.segment_many(iter(images), parallel=4))
    assert [image for image, _ in answers] == images
    for number, (_, answer) in enumerate(answers):
        if number == 5:
            assert isinstance(answer, ClientError) and answer.status == 400
        else:
            assert isinstance(answer, Segmentation) and answer.mask.shape == (40 + 8 * number, 64)


def test_a_refusal_has_the_gateway_s_words_and_is_not_sent_again(gateway: Gateway, tmp_path: Path) -> None:
    waits: list[float] = []
    with Client(gateway.url, sleep=waits.append) as client:
        with pytest.raises(ClientError, match="threshold must be") as caught:
            client.segment(IMAGE, threshold=3)
        with pytest.raises(ClientError, match="cannot be read"):
            client.segment(tmp_path / "not there.png")
    assert caught.value.status == 400 and not waits


def test_what_is_away_for_a_while_is_asked_again(gateway_registry: GatewayScene) -> None:
    with Client(f"http://127.0.0.1:{free_port()}", retries=2, sleep=lambda seconds: None) as client:
        with pytest.raises(ClientError, match="does not answer") as caught:
            client.segment(IMAGE)
        assert caught.value.status is None
    waits: list[float] = []
    up = threading.Event()
    gateway_registry.promote(gateway_registry.add_version())
    with gateway_registry.gateway("--stop-when-archived") as gateway:
        version = gateway.version()
        gateway_registry.promote(version, "Archived")
        while gateway.ask().status_code == 200:
            pass

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if not up.is_set():
                gateway_registry.promote(version)
                up.set()
            gateway.follows_to(version)

        with Client(gateway.url, sleep=sleep) as client:
            assert client.segment(IMAGE).model_version == version
    assert waits and waits[0] >= 1  # as the answer's Retry-After said
