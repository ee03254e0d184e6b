"""`POST /labels`: what a prediction was worth, once somebody knows; it is joined by the request id."""

import base64
import binascii
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from records.labels import Label, LabelRefusedError, UnknownAnswerError
from records.tombstones import ForgottenError
from resunet.errors import DataError, ImageError, SettingsError
from resunet.images import decode_mask, read_size
from serving.access.gate import Caller
from serving.budget import WorkBudget
from serving.errors import ConflictError, NotThereError
from serving.gateway.manual import refusals
from serving.gateway.parts import Parts, ToldRoute, nothing_live, parts_of
from serving.request import BEGINS_AS_URL, MAX_TEXT, check_values, is_data_url

router = APIRouter(route_class=ToldRoute, tags=["labels"])


_ID: Final = "X-Request-Id of the answer to one image; of several, the request_id that its body has for each"


class LabelBody(BaseModel):
    """A label: the true mask, or a score that somebody has computed from it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request_id: Annotated[str, Field(min_length=1, max_length=MAX_TEXT, description=_ID)]
    mask: str | None = Field(default=None, description="PNG or TIFF in base64: 0 and 255, or class indices")
    dice: float | None = Field(default=None, ge=0, le=1, description="instead of a mask")
    source: Literal["audit", "picked", "client"] = Field(
        default="client", description="audit: drawn at random; picked: chosen to be labelled. Both need an admin's key"
    )

    @model_validator(mode="after")
    def _either(self) -> "LabelBody":
        if (self.mask is None) == (self.dice is None):
            raise ValueError("give either mask or dice")
        return self


_LABELLED: Final = {
    "type": "object",
    "required": ["labels"],
    "properties": {"labels": {"type": "array", "items": {"type": "object"}}},
}


@router.post(
    "/labels",
    summary="Say what an answer was worth",
    response_class=Response,
    responses={
        **refusals(400, 401, 403, 404, 408, 409, 413, 429, 503, 504),
        200: {
            "description": "The labels that the answer has now.",
            "content": {"application/json": {"schema": _LABELLED}},
        },
    },
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": LabelBody.model_json_schema()}}, "required": True}
    },
)
async def label(request: Request) -> Response:
    """Score the mask that was answered against the true one. A label that is sent again counts once.

    With keys a caller labels its own requests alone; a label of an admin is of any.
    """
    parts = parts_of(request)
    caller = parts.admit(request, "labels")
    async with parts.desk.visit(request, "labels") as visit:
        body = await visit.body()
        live = parts.fleet.on("production")
        if live is None:
            raise nothing_live()
        model = live.service.identity.name
        answer = await visit.work(lambda: _added(parts, caller, body, model, visit.deadline))
    return JSONResponse({"labels": answer})


def _added(parts: Parts, caller: Caller, body: bytes, model: str, deadline: float) -> list[dict[str, Any]]:
    if parts.label is None:
        raise ConflictError("this gateway keeps no log of its answers, so there is nothing to label")
    asked = _read(body)
    if asked.source != "client":
        caller.require("admin")
    theirs = caller.id if caller.by_key and "admin" not in caller.scopes else None
    mask = _mask(asked.mask, parts.fleet.budget, deadline)
    given = Label(asked.request_id, model, asked.source, mask, asked.dice, theirs)
    try:
        return [asdict(one) for one in parts.label(given)]
    except UnknownAnswerError as error:
        raise NotThereError(str(error)) from None
    except (LabelRefusedError, ForgottenError) as error:
        raise ConflictError(str(error)) from None
    except DataError as error:
        raise SettingsError(str(error)) from None


def _read(body: bytes) -> LabelBody:
    check_values(body)
    try:
        return LabelBody.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise SettingsError(f"{where}: {first['msg']}") from None


def _mask(text: str | None, budget: WorkBudget, deadline: float) -> Any:
    if text is None:
        return None
    if is_data_url(text):
        raise SettingsError(f"mask {BEGINS_AS_URL}")
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise SettingsError("mask is not valid base64") from None
    try:
        width, height = read_size(data)
        # While it is decoded it takes a multiple of what is left of it. The database is waited for without: it may
        # hang, and the turns are those of predictions too.
        with budget.take(width * height, deadline):
            return decode_mask(data)
    except ImageError as error:
        raise ImageError(f"the mask: {error}") from None
