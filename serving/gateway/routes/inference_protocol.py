"""The Open Inference Protocol, version 2, which KServe's and Triton's clients speak: `/v2/…`.

Input `image` (BYTES [n], an encoded image each); outputs `mask` (BYTES: PNG), `confidence`, `foreground_fraction`,
`width`, `height`, `model_version`, `request_id`. Parameters `threshold`, and `client` and `slice` for the log.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from resunet.errors import SettingsError
from resunet.masks import encode_png
from serving.answer import foreground_fraction
from serving.errors import NotThereError
from serving.gateway.answering import Answering
from serving.gateway.fleet import LANES, Live
from serving.gateway.manual import BINARY, VERSION_HEADER, ProtocolProblem, refusals
from serving.gateway.observed import note
from serving.gateway.parts import Parts, nothing_live, parts_of
from serving.gateway.problems import answer_problem
from serving.gateway.tensors import Asked, Tensor, read_request, write_answer
from serving.request import Options, make_rows, read_options
from serving.service import Call, Done
from serving.version import VersionSpec

_LENGTH_HEADER: Final = "Inference-Header-Content-Length"
_TEXTS: Final = ("client", "slice")
_EXTENSIONS: Final = ["binary_tensor_data"]


class _ProtocolRoute(APIRoute):
    """A route whose failures have the protocol's form."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """As of FastAPI, with a failure as `{"error": …}`."""
        handler = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handler(request)
            except Exception as error:
                answer = answer_problem(error)
                words = json.loads(bytes(answer.body))["message"]
                headers = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
                return JSONResponse({"error": words}, answer.status_code, headers)

        return told


def _answers(told: str, properties: dict[str, Any], *statuses: int, **more: Any) -> dict[str, Any]:
    """What the document says of a route."""
    schema = {"type": "object", "required": list(properties), "properties": properties}
    content = {"application/json": {"schema": schema}, **more.pop("content", {})}
    good = {"description": told, "content": content, **more}
    return {
        "response_class": Response,
        "responses": {**refusals(*statuses, model=ProtocolProblem), 200: good},
    }


_TEXT: Final = {"type": "string"}
_TENSOR: Final = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": _TEXT,
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string", "enum": ["BYTES", "FP64", "INT64"]},
        "parameters": {"type": "object"},
        "data": {"type": "array", "items": {}, "description": "an element of BYTES is base64 text"},
    },
}
_TENSORS: Final = {"type": "array", "items": _TENSOR}
_ASKED: Final = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "maxLength": 200},
        "inputs": {
            **_TENSORS,
            "minItems": 1,
            "maxItems": 1,
            "description": "one: `image`, BYTES [n], an encoded image each",
        },
        "outputs": {"type": "array", "items": {"type": "object", "required": ["name"], "properties": {"name": _TEXT}}},
        "parameters": {
            "type": "object",
            "properties": {
                "threshold": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                "client": {"type": "string", "maxLength": 200},
                "slice": {"type": "string", "maxLength": 200},
                "binary_data_output": {"type": "boolean"},
            },
        },
    },
}
_EXAMPLE: Final = {
    "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["<base64 of an image file>"]}]
}
_LENGTH_PARAMETER: Final = {
    "name": _LENGTH_HEADER,
    "in": "header",
    "description": "of a body with binary tensors: how many bytes of it, from the first, are JSON",
    "schema": {"type": "integer", "minimum": 0},
}
_INFER: Final[dict[str, Any]] = {
    "openapi_extra": {
        "parameters": [_LENGTH_PARAMETER],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ASKED, "example": _EXAMPLE},
                "application/octet-stream": BINARY,
            },
        },
    },
    **_answers(
        "Masks, and what else is known of each image; with bytes behind the JSON where they were asked for.",
        {"model_name": _TEXT, "model_version": _TEXT, "id": _TEXT, "outputs": _TENSORS},
        *(400, 401, 403, 404, 408, 413, 429, 503, 504),
        content={"application/octet-stream": BINARY},
        headers=dict(VERSION_HEADER),
    ),
}
_READY: Final = _answers("It answers.", {"name": _TEXT, "ready": {"type": "boolean"}}, 400, 404, 503)
_SERVER_READY: Final = _answers("A version answers.", {"ready": {"type": "boolean"}}, 400)
_SERVER_READY["responses"][503] = {**_SERVER_READY["responses"][200], "description": "None does."}
_MODEL: Final = _answers(
    "Inputs and outputs.",
    {
        "name": _TEXT,
        "versions": {"type": "array", "items": _TEXT},
        "platform": _TEXT,
        "inputs": _TENSORS,
        "outputs": _TENSORS,
    },
    *(400, 404, 503),
)

router = APIRouter(prefix="/v2", route_class=_ProtocolRoute, tags=["Open Inference Protocol"])


@router.get("", **_answers("Its name and version.", dict.fromkeys(("name", "version"), _TEXT), 400))
async def server() -> Response:
    """What this server is."""
    return JSONResponse({"name": "resunet-gateway", "version": "1", "extensions": _EXTENSIONS})


@router.get("/health/live", **_answers("It does.", {"live": {"type": "boolean"}}, 400))
async def alive() -> Response:
    """200: the process answers."""
    return JSONResponse({"live": True})


@router.get("/health/ready", **_SERVER_READY)
async def ready(request: Request) -> Response:
    """200 while a version answers, else 503."""
    there = parts_of(request).fleet.on("production") is not None
    return JSONResponse({"ready": there}, 200 if there else 503)


@router.get("/models/{name}/ready", **_READY)
@router.get("/models/{name}/versions/{version}/ready", **_READY)
async def model_ready(request: Request, name: str, version: str | None = None) -> Response:
    """200 where that model, and that version of it, answers."""
    _asked_for(request, name, version)
    return JSONResponse({"name": name, "ready": True})


@router.get("/models/{name}", **_MODEL)
@router.get("/models/{name}/versions/{version}", **_MODEL)
async def model(request: Request, name: str, version: str | None = None) -> Response:
    """Inputs and outputs of the model."""
    live = _asked_for(request, name, version)
    kinds = _kinds(live.service.predictor.spec)
    return JSONResponse(
        {
            "name": name,
            "versions": [live.service.identity.version],
            "platform": "resunet",
            "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [{"name": each, "datatype": kind, "shape": [-1]} for each, kind in kinds.items()],
        }
    )


@router.post("/models/{name}/infer", **_INFER)
@router.post("/models/{name}/versions/{version}/infer", **_INFER)
async def infer(request: Request, name: str, version: str | None = None) -> Response:
    """Segment encoded images."""
    parts = parts_of(request)
    caller = parts.admit(request, "predict")
    async with parts.desk.visit(request) as visit:
        body = await visit.body()
        answering = Answering(parts, request, visit, caller, version)
        _is_asked_for(answering.live, name, version)
        length = _json_length(request)

        def answer(live: Live, call_with: Callable[[Options], Call]) -> tuple[bytes, int | None]:
            asked = read_request(body, length)
            options = read_options(
                {key: asked.parameters[key] for key in ("threshold",) if key in asked.parameters},
                live.service.predictor.spec,
            )
            return _infer(live, asked, call_with(options), parts)

        content, json_length = await answering.work(answer)
    if json_length is None:
        return Response(content, 200, media_type="application/json", background=answering.after())
    headers = {_LENGTH_HEADER: str(json_length)}
    return Response(content, 200, headers, "application/octet-stream", answering.after())


def _infer(live: Live, asked: Asked, call: Call, parts: Parts) -> tuple[bytes, int | None]:
    if list(asked.inputs) != ["image"]:
        raise SettingsError("there must be one input, of the name image")
    images = asked.inputs["image"]
    texts: dict[str, list[Any]] = {
        key: [asked.parameters[key]] * len(images) for key in _TEXTS if key in asked.parameters
    }
    if asked.id and len(images) == 1:
        texts["request_id"] = [asked.id]
    rows = make_rows(images, texts, parts.settings.max_rows, parts.settings.max_image_mb, call.request_id, call.caller)
    spec, identity = live.service.predictor.spec, live.service.identity
    found = live.service.answer(rows, call, lambda done: _values(done, spec))
    columns = {name: [values[name] for values in found] for name in found[0]}
    kinds = _kinds(spec)
    tensors = [Tensor(name, kinds[name], values) for name, values in columns.items()]
    tensors.append(Tensor("model_version", kinds["model_version"], [identity.version.encode()] * len(found)))
    head = {"model_name": identity.name, "model_version": identity.version, "id": asked.id or call.request_id}
    return write_answer(head, tensors, asked)


def _kinds(spec: VersionSpec) -> dict[str, str]:
    """The datatype of each output."""
    return {
        "mask": "BYTES",
        "confidence": "FP64",
        "foreground_fraction": "FP64" if spec.binary else "BYTES",
        "width": "INT64",
        "height": "INT64",
        "request_id": "BYTES",
        "model_version": "BYTES",
    }


def _values(done: Done, spec: VersionSpec) -> dict[str, Any]:
    """An element of each output; of more classes the fractions are one JSON object."""
    prediction = done.prediction
    fractions = foreground_fraction(prediction, spec)
    return {
        "mask": encode_png(prediction.mask),
        "confidence": prediction.confidence,
        "foreground_fraction": fractions.encode() if isinstance(fractions, str) else fractions,
        "width": prediction.width,
        "height": prediction.height,
        "request_id": done.row.request_id.encode(),
    }


def _asked_for(request: Request, name: str, version: str | None) -> Live:
    """A version that is here, for whoever asks about it."""
    fleet = parts_of(request).fleet
    here = [live for lane in LANES if (live := fleet.on(lane)) is not None]
    if not here:
        raise nothing_live()
    live = next((live for live in here if live.service.identity.version == version), here[0])
    note(request, "version", live.service.identity.version)
    return _is_asked_for(live, name, version)


def _is_asked_for(live: Live, name: str, version: str | None) -> Live:
    identity = live.service.identity
    if name != identity.name or version not in (None, identity.version):
        raise NotThereError(f"only version {identity.version} of the model {identity.name} answers here")
    return live


def _json_length(request: Request) -> int | None:
    given = request.headers.get(_LENGTH_HEADER)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 16):
        raise SettingsError(f"{_LENGTH_HEADER} must be a number of bytes")
    return int(given)
