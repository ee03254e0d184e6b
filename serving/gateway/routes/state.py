"""How the gateway is: `/health`, `/metrics`; and `/announce`, by which the guard says that something changed."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from serving.gateway.parts import ToldRoute, parts_of

router = APIRouter(route_class=ToldRoute, tags=["state"])


@router.get("/health")
async def health(request: Request) -> Response:
    """What answers, and what is wrong: `ok`, `degraded` (it answers, and somebody should look) or `down` (503)."""
    parts = parts_of(request)
    now, live = parts.health(), parts.fleet.on("production")
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
    }
    return JSONResponse(body, 503 if now.status == "down" else 200)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """What is measured, for Prometheus."""
    parts = parts_of(request)
    parts.admit(request, "metrics")
    text, media_type = parts.metrics.render()
    return Response(text, media_type=media_type)


@router.post("/announce", status_code=202)
async def announce(request: Request) -> Response:
    """Look at the registry at once. The body is not read: what is live is asked of the registry alone."""
    parts = parts_of(request)
    parts.admit(request, "admin")
    parts.announce()
    return Response(status_code=202)
