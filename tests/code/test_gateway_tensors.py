"""Bodies of the Open Inference Protocol: what is read is what was written, and nothing else is taken."""

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resunet.errors import SettingsError
from serving.gateway.tensors import Tensor, read_request, write_answer

ELEMENTS = st.lists(st.binary(max_size=40), min_size=1, max_size=4)


def packed(elements: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(one)) + one for one in elements)


def as_json(elements: list[bytes], **more: Any) -> bytes:
    data = [base64.b64encode(one).decode() for one in elements]
    return json.dumps(
        {"inputs": [{"name": "image", "shape": [len(data)], "datatype": "BYTES", "data": data}], **more}
    ).encode()


def with_bytes(elements: list[bytes], size: int | None = None, **more: Any) -> tuple[bytes, int]:
    tail = packed(elements)
    one = {"name": "image", "shape": [len(elements), 1], "datatype": "BYTES"}
    one["parameters"] = {"binary_data_size": len(tail) if size is None else size}
    head = json.dumps({"inputs": [one], **more}).encode()
    return head + tail, len(head)


@given(ELEMENTS)
def test_both_forms_of_a_request_hold_the_same(elements: list[bytes]) -> None:
    assert read_request(as_json(elements), None).inputs == {"image": elements}
    assert read_request(*with_bytes(elements)).inputs == {"image": elements}


@given(ELEMENTS, st.lists(st.floats(allow_nan=False), min_size=1, max_size=4))
def test_an_answer_is_read_back_in_both_forms(elements: list[bytes], numbers: list[float]) -> None:
    tensors = [Tensor("mask", "BYTES", elements), Tensor("confidence", "FP64", numbers)]
    asked = read_request(as_json([b"x"]), None)
    text, length = write_answer({"model_name": "m"}, tensors, asked)
    assert length is None
    mask, confidence = json.loads(text)["outputs"]
    assert [base64.b64decode(one) for one in mask["data"]] == elements and confidence["data"] == numbers
    asked = read_request(as_json([b"x"], parameters={"binary_data_output": True}), None)
    content, length = write_answer({"model_name": "m"}, tensors, asked)
    assert length is not None
    sizes = [one["parameters"]["binary_data_size"] for one in json.loads(content[:length])["outputs"]]
    tail = content[length:]
    assert tail[: sizes[0]] == packed(elements) and sum(sizes) == len(tail)
    assert list(struct.unpack(f"<{len(numbers)}d", tail[sizes[0] :])) == numbers


def test_only_the_outputs_that_are_asked_for_are_written() -> None:
    tensors = [Tensor("width", "INT64", [3]), Tensor("height", "INT64", [4])]
    wanted = [{"name": "height", "parameters": {"binary_data": True}}]
    content, length = write_answer({}, tensors, read_request(as_json([b"x"], outputs=wanted), None))
    assert length is not None and content[length:] == struct.pack("<q", 4)
    assert [one["name"] for one in json.loads(content[:length])["outputs"]] == ["height"]
    with pytest.raises(SettingsError, match="1 of the outputs asked for are unknown; there are width, height"):
        write_answer({}, tensors, read_request(as_json([b"x"], outputs=[{"name": "depth"}]), None))


GOOD = {"name": "image", "shape": [1], "datatype": "BYTES", "data": ["eA=="]}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "valid dictionary"),
        (b"{}", "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [GOOD, GOOD]}, "twice"),
        ({"inputs": [GOOD | {"datatype": "FP32"}]}, "datatype must be BYTES"),
        ({"inputs": [GOOD | {"shape": [2]}]}, "as many elements as its shape"),
        ({"inputs": [GOOD | {"shape": [-1]}]}, "shape must be"),
        ({"inputs": [GOOD | {"shape": [2, 2]}]}, "shape must be"),
        ({"inputs": [GOOD | {"shape": []}]}, "shape must be"),
        ({"inputs": [GOOD | {"data": None}]}, "as many elements"),
        ({"inputs": [GOOD | {"data": [7]}]}, "must be base64 text"),
        ({"inputs": [GOOD | {"data": ["eA="]}]}, "not valid base64"),
        ({"inputs": [GOOD | {"data": ["ä"]}]}, "not valid base64"),
        ({"inputs": [GOOD | {"data": ["data:image/png;base64,eA=="]}]}, "begins with data:…;base64, as a URL does"),
        ({"inputs": [GOOD | {"parameters": {"binary_data_size": 5}}]}, "binary_data_size must be"),
        ({"inputs": [GOOD | {"parameters": {"binary_data_size": True}}]}, "binary_data_size must be"),
        ({"inputs": [GOOD], "parameters": {"binary_data_output": "yes"}}, "binary_data_output must be true or false"),
    ],
)
def test_what_is_no_request_is_refused_in_a_sentence(body: Any, told: str) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(SettingsError, match=told) as caught:
        read_request(raw, None)
    assert "eA=" not in str(caught.value)


def test_bytes_that_do_not_fit_the_json_are_refused() -> None:
    body, length = with_bytes([b"abc", b"d"])
    with pytest.raises(SettingsError, match="larger than the body"):
        read_request(body, len(body) + 1)
    with pytest.raises(SettingsError, match="more bytes behind"):
        read_request(body + b"x", length)
    for wrong in (packed([b"abc"]), packed([b"abc", b"d", b"e"]), packed([b"abc", b"d"])[:-1], b"\xff" * 12):
        head = body[:length].replace(b'"binary_data_size": 12', b'"binary_data_size": %d' % len(wrong))
        with pytest.raises(SettingsError, match=r"a binary BYTES input|more bytes"):
            read_request(head + wrong, len(head))


@given(st.binary(max_size=200), st.one_of(st.none(), st.integers(0, 300)))
def test_any_bytes_are_read_or_refused(body: bytes, length: int | None) -> None:
    with pytest.raises(SettingsError):
        read_request(body, length)
