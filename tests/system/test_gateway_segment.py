"""`POST /segment` of a real gateway: an image in, its mask out in every form, and what is refused."""

import base64
import json
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from gateway_scene import BODY, IMAGE, Gateway
from PIL import Image
from version_factory import draw, encode

from resunet.images import decode_mask
from resunet.masks import from_rle

PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def expected(gateway: Gateway) -> dict[str, Any]:
    """What `/invocations` says of the same image."""
    row: dict[str, Any] = gateway.ask(BODY).json()["predictions"][0]
    return {**row, "mask": decode_mask(base64.b64decode(row["mask"]))}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_an_image_s_bytes_give_the_mask_of_invocations(gateway: Gateway, expected: dict[str, Any], kind: str) -> None:
    answer = gateway.http.post(
        "/segment", content=encode(draw(64, 80), kind), headers={"Content-Type": f"image/{kind.lower()}"}
    )
    assert answer.headers["Content-Type"] == "image/png"
    assert (decode_mask(answer.content) == expected["mask"]).all()
    assert answer.headers["X-Model-Version"] == expected["model_version"]
    assert float(answer.headers["X-Confidence"]) == pytest.approx(expected["confidence"], abs=1e-6)
    assert float(answer.headers["X-Foreground-Fraction"]) == pytest.approx(expected["foreground_fraction"], abs=1e-6)


def test_a_form_is_the_same_as_a_body(gateway: Gateway, expected: dict[str, Any]) -> None:
    form = gateway.http.post("/segment", files={"image": ("a.png", IMAGE, "image/png")}, data={"threshold": "0.5"})
    assert (decode_mask(form.content) == expected["mask"]).all()


def test_each_form_is_of_the_same_mask(gateway: Gateway, expected: dict[str, Any]) -> None:
    def ask(**options: Any) -> Any:
        answer = gateway.http.post("/segment", content=IMAGE, **options)
        assert answer.status_code == 200, answer.text
        return answer

    mask = expected["mask"] > 0
    inline = ask(headers=PNG | {"Accept": "application/json"}).json()
    assert (decode_mask(base64.b64decode(inline["mask"])) == expected["mask"]).all()
    assert (inline["width"], inline["height"]) == (80, 64)
    (runs,) = ask(headers=PNG, params={"format": "rle"}).json()["rle"]
    assert (from_rle(json.dumps({"size": runs["size"], "counts": runs["counts"]})) == mask).all()
    coco = ask(headers=PNG, params={"format": "coco"}).json()["coco"]
    assert sum(one["area"] for one in coco) == mask.sum()
    assert ask(headers=PNG, params={"format": "contours"}).json()["contours"]
    overlay = np.asarray(Image.open(BytesIO(ask(headers=PNG, params={"view": "overlay"}).content)))
    assert overlay.shape == (64, 80, 3) and (overlay[~mask] != draw(64, 80)[~mask]).mean() < 0.5
    probability = np.asarray(Image.open(BytesIO(ask(headers=PNG | {"Accept": "image/png;view=probability"}).content)))
    assert ((probability >= 128) == mask).mean() > 0.999


@pytest.mark.parametrize(
    ("content", "headers", "params", "status", "told"),
    [
        (IMAGE, {"Content-Type": "text/plain"}, {}, 415, "an image is sent as image/png"),
        (IMAGE, {}, {}, 415, "an image is sent as image/png"),
        (b"", PNG, {}, 400, "there is no image"),
        (IMAGE[:300], PNG, {}, 400, "truncated"),
        (base64.b64encode(IMAGE), PNG, {}, 400, "arrived as base64 text, not as an image file"),
        (b"data:image/png;base64," + base64.b64encode(IMAGE), PNG, {}, 400, "to /segment, the file itself"),
        (b"no image at all", PNG, {}, 400, ""),
        (IMAGE, PNG | {"Accept": "text/html"}, {}, 406, "there is image/png"),
        (IMAGE, PNG, {"view": "heat"}, 400, "view must be"),
        (IMAGE, PNG, {"threshold": "high"}, 400, "threshold must be a number"),
        (IMAGE, PNG, {"threshold": "7"}, 400, "threshold must be a number"),
        (IMAGE, PNG, {"client": "x" * 300}, 400, "client must be at most"),
        (IMAGE, PNG, {"view": "probability", "class": "cat"}, 400, ""),
        (b"--x\r\n", {"Content-Type": "multipart/form-data; boundary=x"}, {}, 400, "the form"),
        (b"--x", {"Content-Type": "multipart/form-data"}, {}, 400, "the form"),
    ],
)
def test_a_refusal_is_a_sentence(
    gateway: Gateway, content: bytes, headers: dict[str, str], params: dict[str, str], status: int, told: str
) -> None:
    answer = gateway.http.post("/segment", content=content, headers=headers, params=params)
    assert answer.status_code == status, answer.text
    assert told in answer.json()["message"] and "row 0" not in answer.text
    assert "Traceback" not in gateway.words()


def test_a_form_without_the_image_is_refused(gateway: Gateway) -> None:
    for files in ({"picture": ("a.png", IMAGE, "image/png")}, {"a": ("a", b"1"), "b": ("b", b"2")}):
        answer = gateway.http.post("/segment", files=files)
        assert answer.status_code == 400 and "form" in answer.json()["message"]


def test_what_is_not_there_is_told(gateway: Gateway) -> None:
    assert gateway.http.get("/nowhere").status_code == 404
    assert "/docs lists" in gateway.http.get("/nowhere").json()["message"]
    assert gateway.http.get("/segment").status_code == 405


def test_every_answer_has_the_headers_that_protect_a_browser(gateway: Gateway) -> None:
    for path in ("/", "/docs", "/health", "/nowhere", "/openapi.json"):
        headers = gateway.http.get(path).headers
        assert (
            headers["X-Content-Type-Options"] == "nosniff"
            and "default-src 'none'" in headers["Content-Security-Policy"]
        )
        assert headers["X-Request-Id"] and "server" not in headers
