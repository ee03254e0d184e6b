"""`/rollout`: start, watch, finish and abort the rollout of a version; `python -m serving rollout` asks here."""

from typing import Annotated, Any, Final

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from resunet.errors import SettingsError, StoreError, VersionError
from serving.access.gate import Caller
from serving.errors import BusyError, ConflictError
from serving.gateway.manual import refusals
from serving.gateway.owner import Verb
from serving.gateway.parts import Parts, ToldRoute, parts_of
from serving.request import MAX_TEXT
from serving.rollout.state import RolloutError

router = APIRouter(prefix="/rollout", route_class=ToldRoute, tags=["rollout"])


def _printable(reason: str) -> str:
    if not reason.isprintable():
        raise ValueError("it should be one line of printable characters")
    return reason


class Decision(BaseModel):
    """Why somebody starts, finishes or aborts a rollout; all of it may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Annotated[
        str, Field(max_length=MAX_TEXT, description="kept in the rollout's history"), AfterValidator(_printable)
    ] = ""


_STATUS: Final[dict[str, Any]] = {
    "description": "What the rollout is now.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["phase", "policy_error"],
                "properties": {
                    "phase": {
                        "type": "string",
                        "enum": ["idle", "shadow", "canary", "finishing", "finished", "aborted", "superseded"],
                    },
                    "policy_error": {"type": ["string", "null"]},
                    "waiting": {"type": "array", "items": {"type": "string"}},
                    "findings": {"type": "array", "items": {"type": "object"}},
                    "events": {"type": "array", "items": {"type": "object"}},
                },
            }
        }
    },
}
_ASKED: Final = {
    "requestBody": {"content": {"application/json": {"schema": Decision.model_json_schema()}}, "required": False}
}
_DECISION: Final[dict[str, Any]] = {
    "response_class": Response,
    "responses": {**refusals(400, 401, 403, 408, 409, 413, 429, 503, 504), 200: _STATUS},
    "openapi_extra": _ASKED,
}


@router.get("", response_class=Response, responses={**refusals(401, 403, 409, 429, 503, 504), 200: _STATUS})
async def watch(request: Request) -> Response:
    """Where it is, what was found out, and what it still waits for."""
    parts = parts_of(request)
    caller = parts.admit(request, "metrics")
    return JSONResponse(await _ordered(parts, caller, "status", ""))


@router.post("/start", **_DECISION)
async def start(request: Request) -> Response:
    """Roll out what is in Staging beside what is in Production, from the policy's first stage on."""
    return await _decide(request, "start")


@router.post("/finish", **_DECISION)
async def finish(request: Request) -> Response:
    """Promote the candidate now; the registry's gates have their say, and its answer is seen in the status."""
    return await _decide(request, "finish")


@router.post("/abort", **_DECISION)
async def abort(request: Request) -> Response:
    """Let the champion answer everybody again."""
    return await _decide(request, "abort")


async def _decide(request: Request, verb: Verb) -> Response:
    parts = parts_of(request)
    caller = parts.admit(request, "admin")
    async with parts.desk.visit(request) as visit:
        reason = _reason(await visit.body())
    return JSONResponse(await _ordered(parts, caller, verb, reason))


async def _ordered(parts: Parts, caller: Caller, verb: Verb, reason: str) -> dict[str, Any]:
    """Have it done, in no thread of those that answer requests: a start fetches a version."""
    try:
        return await to_thread.run_sync(lambda: parts.lead.order(verb, caller.name, reason), abandon_on_cancel=True)
    except (RolloutError, VersionError) as error:
        raise ConflictError(str(error)) from None
    except StoreError as error:
        raise BusyError(str(error)) from None


def _reason(body: bytes) -> str:
    if not body.strip():
        return ""
    try:
        return Decision.model_validate_json(body).reason
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise SettingsError(f"{where}: {first['msg']}") from None
