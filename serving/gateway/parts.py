"""What the routes work with, made once when the gateway starts.

parts = parts_of(request)
async with parts.desk.visit(request) as visit: …
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from records.labels import Added, Label
from serving.access.credentials import with_typed_key
from serving.access.gate import Caller, Gate
from serving.access.scopes import Scope
from serving.errors import BusyError
from serving.gateway.desk import Desk, Visit
from serving.gateway.fleet import Fleet, Way
from serving.gateway.metrics import Metrics
from serving.gateway.observed import note
from serving.gateway.owner import Leading
from serving.gateway.problems import answer_problem, problem
from serving.gateway.request_id import goes_by, request_id_of
from serving.gateway.rollouts.twins import Twins
from serving.gateway.status_board import StatusBoard
from serving.scoring import Invocations
from serving.service import Call
from serving.settings import ServingSettings


@dataclass(frozen=True)
class Parts:
    """A process of the gateway.

    Attributes:
        fleet: the versions that answer.
        desk: where requests wait.
        lead: follows the registry and the rollout.
        twins: takes requests that are to be answered twice.
        invocations: MLflow's scoring function, which tells nothing of what was sent.
        settings: what a request may hold.
        gate: who may ask, and for how much.
        metrics: what is counted.
        board: what the page of the status shows.
        label: writes down what an answer was worth; None where the log is off.
        failed: counts a request that failed, by route and status, and waits for nothing; None where the log is off.
    """

    fleet: Fleet
    desk: Desk
    lead: Leading
    twins: Twins
    invocations: Invocations
    settings: ServingSettings
    gate: Gate
    metrics: Metrics
    board: StatusBoard
    label: Callable[[Label], list[Added]] | None = None
    failed: Callable[[str, int], None] | None = None

    def admit(self, request: Request, scope: Scope, *, typed: bool = False) -> Caller:
        """Who asks, if that may do this.

        Args:
            typed: the key may be a password that somebody typed into a browser.

        Raises:
            UnauthorisedError, ForbiddenError, LimitedError: it may not, or not now.
        """
        address = request.client.host if request.client else None
        headers = request.scope["headers"]
        caller = self.gate.admit(with_typed_key(headers) if typed else headers, scope, address)
        note(request, "caller", caller.id if caller.by_key else None)
        return caller

    def call(self, request: Request, visit: Visit, caller: Caller) -> Callable[..., Call]:
        """What a request's images share, once its options are known; it is received now."""

        def charge(images: int, pixels: int) -> None:
            self.metrics.asked(images, pixels)
            self.gate.charge(caller, pixels)

        return partial(
            Call,
            received=datetime.now(UTC),
            deadline=visit.deadline,
            cancelled=visit.cancelled,
            request_id=request_id_of(request),
            named=partial(goes_by, request),
            caller=caller.id if caller.by_key else None,
            charge=charge,
        )

    def way(self, request: Request, caller: Caller) -> Way:
        """The version that answers a request which comes now.

        Raises:
            BusyError: there is none yet, or none any more.
        """
        way = self.fleet.way(request_id_of(request), caller.id if caller.by_key else None, request.headers)
        if way is None:
            raise nothing_live()
        return way


def nothing_live() -> BusyError:
    """What is said where no version answers."""
    return BusyError("no version is live: promote one to Production, or see /health for what keeps it away")


def parts_of(request: Request) -> Parts:
    """The parts of the gateway that got this request."""
    return cast(Parts, request.app.state.parts)


class ToldRoute(APIRoute):
    """A route whose failures become one sentence, whatever they are."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """As of FastAPI, with every failure answered by `answer_problem`."""
        handler = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handler(request)
            except RequestValidationError as error:
                first: dict[str, Any] = error.errors()[0]
                return problem(400, f"{first['loc'][-1]}: {first['msg']}")
            except HTTPException:
                raise
            except Exception as error:
                return answer_problem(error)

        return told
