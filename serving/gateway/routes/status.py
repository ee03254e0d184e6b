"""`/status`: how the model is, for people, as one page."""

from typing import Final

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from serving.errors import UnauthorisedError
from serving.gateway.manual import refusals
from serving.gateway.parts import ToldRoute, parts_of
from serving.page.status import Gateway

router = APIRouter(route_class=ToldRoute, tags=["state"])

# A browser asks its user for a name and a password; there is no script here that could send a header.
_CHALLENGE: Final = 'Basic realm="resunet: the password is an API key", charset="UTF-8"'


@router.get(
    "/status",
    response_class=Response,
    responses={
        **refusals(401, 403, 429, 503),
        200: {"description": "A page without scripts.", "content": {"text/html": {"schema": {"type": "string"}}}},
    },
    openapi_extra={"security": [{"bearer": []}, {"key": []}, {"basic": []}, {}]},
)
async def status(request: Request) -> Response:
    """Stages, traffic, drift, Dice, alerts, jobs and disk of the model, as a page."""
    parts = parts_of(request)
    try:
        parts.admit(request, "metrics", typed=True)
    except UnauthorisedError as error:
        error.challenge = _CHALLENGE
        raise
    seen = await parts.board.look()
    gateway = Gateway(seen.health.status, seen.health.troubles)
    text = await to_thread.run_sync(parts.board.drawn.page, seen.overview, gateway, seen.age_s, parts.board.model)
    return Response(text.encode("utf-8", "replace"), media_type="text/html; charset=utf-8")
