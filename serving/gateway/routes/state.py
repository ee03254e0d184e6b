"""How the gateway is: `/health`, `/metrics`; and `/announce`, by which the guard says that something changed."""

from dataclasses import asdict
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from serving.gateway.manual import refusals
from serving.gateway.parts import ToldRoute, parts_of

router = APIRouter(route_class=ToldRoute, tags=["state"])


_HEALTH: Final = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["status", "troubles", "swaps", "requests"],
            "properties": {
                "status": {"type": "string", "enum": ["ok", "degraded", "down"]},
                **{
                    name: {"type": ["string", "null"]} for name in ("model", "version", "digest", "engine", "precision")
                },
                "troubles": {"type": "array", "items": {"type": "string"}},
                "swaps": {"type": "integer", "description": "versions that took over since the start"},
                "requests": {"type": "integer", "description": "that are here now"},
                "rollout": {"type": ["object", "null"], "description": "the last one: its phase, version and shares"},
            },
        }
    }
}


@router.get(
    "/health",
    response_class=Response,
    responses={
        200: {"description": "Something answers.", "content": _HEALTH},
        503: {"description": "Nothing does.", "content": _HEALTH},
    },
)
async def health(request: Request) -> Response:
    """What answers, and what is wrong: `ok`, `degraded` (it answers, and somebody should look) or `down` (503)."""
    parts = parts_of(request)
    now, live = parts.lead.health(), parts.fleet.on("production")
    body = {
        "status": now.status,
        "model": now.serving.name if now.serving else None,
        "version": now.serving.version if now.serving else None,
        "digest": live.loaded.identity.digest if live else None,
        "engine": live.loaded.predictor.engine.name if live else None,
        "precision": live.loaded.predictor.spec.precision if live else None,
        "troubles": list(now.troubles),
        "swaps": now.swaps,
        "requests": parts.desk.visits,
        "rollout": asdict(now.rollout) if now.rollout else None,
    }
    return JSONResponse(body, 503 if now.status == "down" else 200)


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        **refusals(401, 403, 429, 503),
        200: {"description": "Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}}},
    },
)
async def metrics(request: Request) -> Response:
    """What is measured, for Prometheus."""
    parts = parts_of(request)
    parts.admit(request, "metrics")
    text, media_type = parts.metrics.render()
    return Response(text, media_type=media_type)


@router.post(
    "/announce",
    status_code=202,
    response_class=Response,
    responses={**refusals(401, 403, 429, 503), 202: {"description": "It will."}},
)
async def announce(request: Request) -> Response:
    """Look at the registry at once. The body is not read: what is live is asked of the registry alone."""
    parts = parts_of(request)
    parts.admit(request, "admin")
    parts.lead.announce()
    return Response(status_code=202)
