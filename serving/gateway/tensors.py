"""The Open Inference Protocol's bodies, version 2: named tensors in and out, as JSON or with bytes behind it.

    asked = read_request(body, header_length)       # JSON alone, or JSON and then binary tensors
    asked.inputs["image"]                           # a list of bytes
    content, json_length = write_answer(answer, tensors, asked)

JSON has no bytes: an element of a BYTES tensor is base64 text there, both ways. With the binary extension (the header
`Inference-Header-Content-Length`, as Triton's clients send it) an element is its length, 4 bytes little-endian, and
then itself.
"""

import base64
import binascii
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from resunet.errors import SettingsError
from serving.errors import TooLargeError
from serving.request import BEGINS_AS_URL, check_values, is_data_url

_LENGTH: Final = struct.Struct("<I")
_MOST_TENSORS: Final = 16
# Empty ones are 4 bytes: of a large body they would be counted for minutes.
_MOST_ELEMENTS: Final = 100_000
_NUMBERS: Final = {"FP64": np.dtype("<f8"), "INT64": np.dtype("<i8")}
_INPUT: Final = "an input is {name, shape: [n], datatype: BYTES, data: [base64, …]}"


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Input(_Model):
    name: str = Field(max_length=200)
    shape: list[int] = Field(max_length=8)
    datatype: str = Field(max_length=20)
    parameters: dict[str, Any] = Field(default_factory=dict)
    data: list[Any] | None = None


class _Output(_Model):
    name: str = Field(max_length=200)
    parameters: dict[str, Any] = Field(default_factory=dict)


class _Body(_Model):
    id: str | None = Field(default=None, max_length=200)
    parameters: dict[str, Any] = Field(default_factory=dict)
    inputs: list[_Input] = Field(min_length=1, max_length=_MOST_TENSORS)
    outputs: list[_Output] | None = Field(default=None, max_length=_MOST_TENSORS)


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
        id: the client's own; None where it gave none.
        inputs: elements of each BYTES tensor.
        parameters: of the request.
        outputs: which tensors are wanted, and whether as bytes; None: all, as JSON or as `binary` says.
        binary: bytes are wanted where nothing is said of a single output.
    """

    id: str | None
    inputs: Mapping[str, Sequence[bytes]]
    parameters: Mapping[str, Any]
    outputs: Mapping[str, bool] | None
    binary: bool


@dataclass(frozen=True)
class Tensor:
    """One dimension of values: BYTES (bytes each), FP64 or INT64."""

    name: str
    datatype: str
    values: Sequence[Any]


def read_request(body: bytes, json_length: int | None) -> Asked:
    """Read a body.

    Args:
        body: of the request.
        json_length: how much of it is JSON; None: all.

    Raises:
        SettingsError: it is not as the protocol says; no value is repeated.
        TooLargeError: it holds more values than there may be.
    """
    if json_length is not None and not 0 <= json_length <= len(body):
        raise SettingsError("Inference-Header-Content-Length is larger than the body")
    head, tail = (
        (body, memoryview(b"")) if json_length is None else (body[:json_length], memoryview(body)[json_length:])
    )
    check_values(head)
    try:
        parsed = _Body.model_validate(json.loads(head))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise SettingsError(f"{where}: {first['msg']}; {_INPUT}") from None
    except (ValueError, RecursionError):
        raise SettingsError(
            f"the body is not JSON in UTF-8, or holds a number or a nesting too large; {_INPUT}"
        ) from None
    inputs: dict[str, list[bytes]] = {}
    for one in parsed.inputs:
        if one.name in inputs:
            raise SettingsError("an input is there twice")
        inputs[one.name], tail = _elements(one, tail)
    if len(tail):
        raise SettingsError("there are more bytes behind the JSON than the inputs say (binary_data_size)")
    binary = _flag(parsed.parameters, "binary_data_output") or False
    outputs = None
    if parsed.outputs:
        flags = {one.name: _flag(one.parameters, "binary_data") for one in parsed.outputs}
        outputs = {name: binary if flag is None else flag for name, flag in flags.items()}
    return Asked(parsed.id, inputs, parsed.parameters, outputs, binary)


def write_answer(head: Mapping[str, Any], tensors: Sequence[Tensor], asked: Asked) -> tuple[bytes, int | None]:
    """Write an answer's body.

    Args:
        head: `model_name` and the like.
        tensors: all that there is; those that were asked for are written.
        asked: the request.

    Returns:
        The body, and how much of it is JSON; None: all.

    Raises:
        SettingsError: a tensor was asked for that there is not.
    """
    there = {tensor.name: tensor for tensor in tensors}
    wanted = asked.outputs if asked.outputs is not None else dict.fromkeys(there, asked.binary)
    if missing := [name for name in wanted if name not in there]:
        raise SettingsError(f"{len(missing)} of the outputs asked for are unknown; there are {', '.join(there)}")
    outputs, tail = [], []
    for name, binary in wanted.items():
        tensor = there[name]
        described: dict[str, Any] = {"name": name, "shape": [len(tensor.values)], "datatype": tensor.datatype}
        if binary:
            tail.append(_packed(tensor))
            described["parameters"] = {"binary_data_size": len(tail[-1])}
        elif tensor.datatype == "BYTES":
            described["parameters"] = {"content_type": "base64"}
            described["data"] = [base64.b64encode(value).decode() for value in tensor.values]
        else:
            described["data"] = list(tensor.values)
        outputs.append(described)
    text = json.dumps({**head, "outputs": outputs}).encode()
    return (b"".join([text, *tail]), len(text)) if tail else (text, None)


def _elements(one: _Input, tail: memoryview) -> tuple[list[bytes], memoryview]:
    """Elements of an input, and what is left of the bytes behind the JSON."""
    if one.datatype != "BYTES":
        raise SettingsError("an input's datatype must be BYTES: encoded images, PNG, JPEG, TIFF or BMP")
    count = _count(one.shape)
    size = one.parameters.get("binary_data_size")
    if size is None:
        if one.data is None or len(one.data) != count:
            raise SettingsError(f"an input's data must have as many elements as its shape says; {_INPUT}")
        return [_decoded(value) for value in one.data], tail
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(tail):
        raise SettingsError("binary_data_size must be the number of bytes that the input has behind the JSON")
    return _unpacked(tail[:size], count), tail[size:]


def _count(shape: Sequence[int]) -> int:
    if not shape or any(side < 0 for side in shape) or sum(side != 1 for side in shape) > 1:
        raise SettingsError("an input's shape must be [n], or have one side that is not 1")
    if max(shape) > _MOST_ELEMENTS:
        raise TooLargeError(f"an input has more than {_MOST_ELEMENTS:,} elements: send fewer at a time")
    return max(shape) if 0 not in shape else 0


def _decoded(value: object) -> bytes:
    if not isinstance(value, str):
        raise SettingsError("an element of a BYTES input must be base64 text in JSON")
    if is_data_url(value):
        raise SettingsError(f"an element of a BYTES input {BEGINS_AS_URL}")
    try:
        return base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise SettingsError("an element of a BYTES input is not valid base64") from None


def _unpacked(data: memoryview, count: int) -> list[bytes]:
    elements: list[bytes] = []
    while len(data) >= _LENGTH.size and len(elements) < count:
        end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
        if end > len(data):
            break
        elements.append(bytes(data[_LENGTH.size : end]))
        data = data[end:]
    if len(data) or len(elements) != count:
        raise SettingsError("a binary BYTES input must be its elements, each behind its length in 4 bytes")
    return elements


def _packed(tensor: Tensor) -> bytes:
    if tensor.datatype == "BYTES":
        return b"".join(_LENGTH.pack(len(value)) + value for value in tensor.values)
    return np.asarray(tensor.values, _NUMBERS[tensor.datatype]).tobytes()


def _flag(parameters: Mapping[str, Any], name: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise SettingsError(f"{name} must be true or false")
    return value
