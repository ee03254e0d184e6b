"""`POST /segment`: an image in, its mask out, in the form that is asked for; see `serving.pictures.accept`."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from resunet.errors import ImageError, SettingsError
from serving.answer import foreground_fraction
from serving.errors import RowError, UnsupportedError
from serving.gateway.answering import Answering
from serving.gateway.fleet import Live
from serving.gateway.forms import read_form
from serving.gateway.manual import BINARY, VERSION_HEADER, refusals
from serving.gateway.parts import ToldRoute, parts_of
from serving.pictures.accept import Wanted, choose
from serving.pictures.answers import Body, Shown, draw, gather
from serving.pictures.probability import ProbabilityMap
from serving.request import Options, Row, make_rows, read_options
from serving.service import Call, Done
from serving.settings import ServingSettings

router = APIRouter(route_class=ToldRoute, tags=["segment"])

_IMAGES: Final = ("image/png", "image/jpeg", "image/tiff", "image/bmp", "application/octet-stream")
_FORM: Final = "multipart/form-data"
_WORDS: Final = ("threshold", "client", "slice")
_UPLOAD: Final = {
    "schema": {
        "type": "object",
        "required": ["image"],
        "properties": {
            "image": {"type": "string", "format": "binary"},
            **{word: {"type": "string"} for word in _WORDS},
        },
    }
}
_PARAMETERS: Final = [
    {"name": name, "in": "query", "description": text, "schema": schema}
    for name, text, schema in (
        ("view", "what a picture shows", {"type": "string", "enum": ["mask", "overlay", "probability"]}),
        ("format", "how it is told", {"type": "string", "enum": ["png", "json", "rle", "coco", "contours"]}),
        ("depth", "bits of a probability", {"type": "integer", "enum": [8, 16]}),
        ("class", "the class whose probability is shown: its name, or its number", {"type": "string"}),
        ("threshold", "binary versions: a pixel is foreground from this probability on", {"type": "number"}),
        ("client", "who sends it, for the log", {"type": "string", "maxLength": 200}),
        ("slice", "which part of the data it is, for the log", {"type": "string", "maxLength": 200}),
    )
]


@dataclass(frozen=True)
class _Sent:
    """An image and what is said of it."""

    image: bytes
    words: Mapping[str, str]


_FOUND: Final = {
    "type": "object",
    "required": ["width", "height", "confidence", "foreground_fraction", "classes", "model_version", "request_id"],
    "properties": {
        **{view: {"type": "string", "format": "byte"} for view in ("mask", "overlay", "probability")},
        **{form: {"type": "array", "items": {"type": "object"}} for form in ("rle", "coco", "contours")},
        "width": {"type": "integer"},
        "height": {"type": "integer"},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "foreground_fraction": {"type": ["number", "object"]},
        "classes": {"type": "array", "items": {"type": "string"}},
        "model_version": {"type": "string"},
        "request_id": {"type": "string"},
    },
}
_TOLD: Final = {
    "X-Confidence": {"description": "0 to 1", "schema": {"type": "number"}},
    "X-Foreground-Fraction": {"description": "0 to 1; with more classes JSON, each", "schema": {"type": "string"}},
}


@router.post(
    "/segment",
    response_class=Response,
    responses={
        **refusals(400, 401, 403, 406, 408, 413, 415, 429, 503, 504),
        200: {
            "description": "The mask, or what else was asked for.",
            "content": {"image/png": BINARY, "application/json": {"schema": _FOUND}},
            "headers": {**VERSION_HEADER, **_TOLD},
        },
    },
    summary="Segment an image",
    openapi_extra={
        "parameters": _PARAMETERS,
        "requestBody": {"content": {**dict.fromkeys(_IMAGES, BINARY), _FORM: _UPLOAD}, "required": True},
    },
)
async def segment(request: Request) -> Response:
    """Segment one image.

    Its bytes are the body, or the part `image` of a form. What comes back is the mask as PNG, unless the Accept header
    or the query say otherwise: an overlay, probabilities, or JSON.
    """
    parts = parts_of(request)
    wanted = choose(",".join(request.headers.getlist("accept")) or None, request.query_params)
    caller = parts.admit(request, "predict")
    if wanted.probabilities:
        caller.require("probabilities")
    kind = _kind(request)
    async with parts.desk.visit(request) as visit:
        bodies = [await visit.body()]
        answering = Answering(parts, request, visit, caller)

        def answer(live: Live, call_with: Callable[[Options], Call]) -> tuple[Body, dict[str, str]]:
            # Out of the list: once a form is read its image is there, and nobody holds its body besides.
            sent = _from_form(request, bodies.pop()) if kind == _FORM else _Sent(bodies.pop(), request.query_params)
            call = call_with(read_options(_options(sent.words), live.service.predictor.spec))
            return _segment(live, _row(sent, call, parts.settings), call, wanted)

        content, headers = await answering.work(answer)
    headers |= {"Content-Length": str(content.size), "Vary": "Accept"}
    return StreamingResponse(_pieces(content), 200, headers, content.media_type, answering.after())


def _segment(live: Live, row: Row, call: Call, wanted: Wanted) -> tuple[Body, dict[str, str]]:
    spec, version = live.service.predictor.spec, live.service.identity.version
    gathered: list[ProbabilityMap | None] = []

    def watch(height: int, width: int) -> Any:
        gathered.append(gather(wanted, height, width, spec.class_names))
        return gathered[0].add if gathered[0] is not None else None

    def encode(done: Done) -> tuple[Body, dict[str, str]]:
        shown = Shown(done.rgb, done.prediction, spec.class_names, version, done.row.request_id)
        headers = {
            "X-Confidence": f"{done.prediction.confidence:.6f}",
            "X-Foreground-Fraction": _ascii(foreground_fraction(done.prediction, spec)),
        }
        return draw(wanted, shown, gathered[0]), headers

    try:
        ((body, headers),) = live.service.answer([row], call, encode, watch)
    except RowError as error:
        raise error.reason from None  # there is one image: its row is nobody's business
    return body, headers


def _kind(request: Request) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (*_IMAGES, _FORM):
        raise UnsupportedError(
            f"an image is sent as {', '.join(_IMAGES[:-1])} or {_FORM}: say so in the Content-Type header"
        )
    return kind


def _row(sent: _Sent, call: Call, settings: ServingSettings) -> Row:
    if not sent.image:
        raise ImageError("there is no image: the body, or the part image of the form, is empty")
    texts = {name: [sent.words[name]] for name in ("client", "slice") if name in sent.words}
    try:
        (row,) = make_rows([sent.image], texts, 1, settings.max_image_mb, call.request_id, call.caller)
    except RowError as error:
        raise error.reason from None
    except SettingsError as error:
        raise SettingsError(str(error).removeprefix("row 0: ")) from None
    return row


def _options(words: Mapping[str, str]) -> dict[str, float]:
    if "threshold" not in words:
        return {}
    try:
        return {"threshold": float(words["threshold"])}
    except ValueError:
        raise SettingsError("threshold must be a number between 0 and 1, both excluded") from None


def _from_form(request: Request, body: bytes) -> _Sent:
    """The parts of a form; what the query says counts where the form says nothing."""
    form = read_form(request.headers["content-type"], body)
    if form.image is None:
        raise ImageError("the form has no file image: with curl that is -F image=@a.png")
    return _Sent(form.image, {**request.query_params, **form.texts})


async def _pieces(body: Body) -> AsyncIterator[bytes]:
    for piece in body.pieces:
        yield piece


def _ascii(value: float | str) -> str:
    return f"{value:.6f}" if isinstance(value, float) else value.encode("ascii", "backslashreplace").decode()
