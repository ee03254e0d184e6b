"""The bytes of a registered version stay what they are: what writes below them, or deletes above them, is refused.

The proxied artifact routes of MLflow are native ASGI routes, the multipart and run-upload ones Flask's: one question
for both, and nothing is registered between it and the end of the write (`registry.guard.writing`). What reaches an
artifact store without passing this server cannot be refused here.
"""

import posixpath
import re
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final
from urllib.parse import urlsplit

import anyio
from flask import g, request
from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.exceptions import MlflowException, _UnsupportedMultipartUploadException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.protos.mlflow_artifacts_pb2 import CreateMultipartUpload
from mlflow.protos.service_pb2 import CreatePresignedUploadUrl
from mlflow.server import handlers
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils.uri import validate_path_is_safe
from sqlalchemy import ColumnElement, func, or_
from starlette._utils import get_route_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.guard import locations
from registry.guard.answers import told_as_mlflow
from registry.guard.store import GuardedStore
from registry.guard.writing import writing

MUTATING: Final = frozenset({"PUT", "POST", "PATCH", "DELETE"})
_PROXY: Final = re.compile(r"/(?:ajax-)?api/2\.0/mlflow-artifacts/(?:artifacts|mpu/\w+)(?:/(?P<path>.*))?$", re.DOTALL)
# The one of them that does not come to Flask.
_NATIVE: Final = re.compile(r"/(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts/(?P<path>.*)", re.DOTALL)
_IN_PARTS: Final = re.compile(r"/(?:ajax-)?api/2\.0/mlflow-artifacts/mpu/")
_RUN_UPLOAD: Final = re.compile(r"/(?:ajax-)?api/2\.0/mlflow/upload-artifact/?$")
_PRESIGNED: Final = re.compile(r"/(?:ajax-)?api/2\.0/mlflow/artifacts/presigned-upload-url/?$")
_PROMPTLAB: Final = re.compile(r"/(?:ajax-)?api/2\.0/mlflow/runs/create-promptlab-run/?$")
# MLflow runs code that came by these, with this server's rights: who may send any is past every gate.
_RUNS_CODE: Final = re.compile(
    r"/(?:ajax-)?api/3\.0/(?:mlflow/assistant/.*|jobs/?$|mlflow/(?:scorer/invoke|issues/invoke|genai/evaluate/invoke"
    r"|prompt-optimization/jobs|scorers/register|scorers/online-config)/?$)",
    re.DOTALL,
)
_CLOSED: Final = (
    "this server has the gates and runs nobody's code beside them: jobs, scorers and the assistant of MLflow are off. "
    "Use them on a server without `--app-name lifecycle`"
)
_ELSEWHERE: Final = (
    "this run's or experiment's artifacts lie outside of this server's own store, and it writes nowhere else for "
    "others: log them with a client that reaches that place, or use an experiment without an artifact location"
)
_SIGNED: Final = (
    "this server signs no addresses to upload to: who has one writes past its gates for as long as it holds. Log the "
    "files with MLflow's client"
)
# Of an upload that is refused, so much is read, in bytes.
_DRAINED: Final = 64 * 2**20
# Uploads that wait at once for a registration to end, in threads that nobody else needs.
_WAITING: Final = 64
# As MLflow reads it: versions of long ago have a source alone.
PLACE: Final = func.coalesce(func.nullif(SqlModelVersion.storage_location, ""), SqlModelVersion.source)

Store = Callable[[], GuardedStore]


class ArtifactGuard:
    """ASGI middleware before the routes that do not come to Flask; goes inside of authentication."""

    def __init__(self, app: ASGIApp, store: Store) -> None:
        self._app = app
        self._store = store
        self._waiting = anyio.CapacityLimiter(_WAITING)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], get_route_path(scope)
        if method.upper() in MUTATING and runs_code(path):
            await _refuse(receive, send, _CLOSED)
        elif method == "PUT" and (found := _NATIVE.match(path)) is not None:
            await self._write(found["path"], scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _write(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask before the body comes, and once more when it is there: what it belongs to may be registered by then.

        From the second time on nothing is registered until the file is in the store; while a client sends, all may be.
        """
        refusal = await self._why_not(path)
        if refusal:
            await _refuse(receive, send, refusal)
            return
        late, held = "", ExitStack()

        async def received() -> Message:
            nonlocal late
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                late = await self._why_not(path, held)
            return {"type": "http.disconnect"} if late else message

        async def sent(message: Message) -> None:
            if not late:
                await send(message)

        try:
            await self._app(scope, received, sent)
        except Exception:
            # To the route the client has gone away.
            if not late:
                raise
        finally:
            held.close()
        if late:
            await _answer(send, late)

    async def _why_not(self, path: str, held: ExitStack | None = None) -> str:
        """Why not; with `held` what keeps registrations out is put there first."""
        try:
            limiter = None if held is None else self._waiting
            return await anyio.to_thread.run_sync(self._asked, path, held, limiter=limiter)
        except MlflowException as error:
            return str(error.message)

    def _asked(self, path: str, held: ExitStack | None) -> str:
        with told_as_mlflow():
            store = self._store()
            if held is not None:
                held.enter_context(writing(store.lifecycle.settings.home))
            return why_not(store, locations.served(path))


def refuse_flask_writes(store: Store) -> None:
    """The same for the artifact routes that Flask answers; a `before_request` function, with `end_flask_writes`.

    Raises:
        MlflowException: the path belongs to a registered version, or is none that this server writes to.
    """
    if request.method not in MUTATING or not writes_files(request.path):
        return
    with told_as_mlflow():
        places, guarded = _written_places(), store()
        # The whole body is here: what comes to Flask was read before.
        g.resunet_writing = ExitStack()
        g.resunet_writing.enter_context(writing(guarded.lifecycle.settings.home))
        deletes = request.method == "DELETE"
        refusal = next(filter(None, (why_not(guarded, place, deletes) for place in places)), "")
        if refusal or (refusal := never(places)):
            raise MlflowException(refusal, BAD_REQUEST)


def end_flask_writes(error: BaseException | None = None) -> None:
    """Let registrations go on; a `teardown_request` function."""
    held = g.pop("resunet_writing", None)
    if held is not None:
        held.close()


def never(places: list[str]) -> str:
    """Why the request that Flask answers is refused whatever is registered; empty if it is not.

    Raises:
        MlflowException: as MLflow says that its client has to send the file in one piece.
    """
    if _IN_PARTS.search(request.path) and locations.destination_scheme() == "wasbs":
        # Each part's address could replace the whole blob for an hour, also when it is registered.
        raise _UnsupportedMultipartUploadException()
    if _PRESIGNED.search(request.path):
        return _SIGNED
    return "" if all(map(locations.ours, places)) else _ELSEWHERE


def writes_files(path: str) -> bool:
    """Whether a route of this path may write or delete files of some version."""
    return any(pattern.search(path) for pattern in (_PROXY, _RUN_UPLOAD, _PRESIGNED, _PROMPTLAB))


def runs_code(path: str) -> bool:
    """Whether a route of this path runs code that somebody sent."""
    return _RUNS_CODE.search(path) is not None


def why_not(store: GuardedStore, location: str, deletes: bool = False) -> str:
    """Why a place may not be written or deleted; empty if it may.

    Args:
        location: written in any way.
        deletes: what lies below it goes too.
    """
    with store.ManagedSessionMaker() as session:
        query = session.query(SqlModelVersion.name, SqlModelVersion.version)
        there: ColumnElement[bool] = SqlModelVersion.current_stage != STAGE_DELETED_INTERNAL
        found = query.filter(there, touched(location, deletes)).first()
    if found is None:
        return ""
    name, version = found
    return (
        f"these are files of version {version} of {name}, which is registered: they stay as they are. "
        "Log a new model and register that"
    )


def touched(location: str, deletes: bool) -> ColumnElement[bool]:
    """Which registered versions have files at a location, or, if it is deleted, below it."""
    ways = locations.spellings(location)
    conditions: list[ColumnElement[bool]] = [PLACE.in_({place for way in ways for place in locations.above(way)})]
    if deletes:
        conditions += [PLACE.startswith(f"{way.rstrip('/')}/", autoescape=True) for way in ways]
    return or_(*conditions)


def _written_places() -> list[str]:
    """Where the request that Flask answers writes."""
    path = request.path
    if (found := _PROXY.search(path)) is not None:
        folder = found["path"] or ""
        if "/mpu/" not in path:
            return [locations.served(folder)]
        # All three messages have the file's name at the same place; MLflow's client sends its path on its own disk.
        inner = handlers._get_request_message(CreateMultipartUpload()).path
        names = {posixpath.basename(inner), *([] if inner.startswith("/") else [inner])}
        return [locations.served(posixpath.join(folder, name)) for name in names]
    if _RUN_UPLOAD.search(path):
        return _upload_places(request.args.get("run_uuid", ""), request.args.get("path", ""))
    if _PRESIGNED.search(path):
        message = handlers._get_request_message(CreatePresignedUploadUrl())
        root = _root(message.run_id, message.model_id)
        return [posixpath.join(root, validate_path_is_safe(message.path))] if root else []
    if _PROMPTLAB.search(path):
        asked = request.get_json(silent=True)
        experiment = str(asked.get("experiment_id") or "") if isinstance(asked, dict) else ""
        # Its run is still to be made: it will be somewhere below.
        return [_tracking().get_experiment(experiment).artifact_location] if experiment else []
    return []


def _upload_places(run_id: str, path: str) -> list[str]:
    if not run_id or not path:
        return []
    info, path = _tracking().get_run(run_id).info, validate_path_is_safe(path)
    places = [posixpath.join(info.artifact_uri, path)]
    if urlsplit(info.artifact_uri).scheme in ("http", "https", locations.PROXIED):
        # Where MLflow writes it, whatever the run's own location says.
        places.append(locations.served(posixpath.join(info.experiment_id, info.run_id, "artifacts", path)))
    return places


def _root(run_id: str, model_id: str) -> str:
    """Where a run's or a logged model's artifacts are; empty where neither is named."""
    if run_id:
        return str(_tracking().get_run(run_id).info.artifact_uri)
    return str(_tracking().get_logged_model(model_id).artifact_location) if model_id else ""


def _tracking() -> AbstractStore:
    return handlers._get_tracking_store()


async def _refuse(receive: Receive, send: Send, message: str) -> None:
    # Who still sends does not read an answer, but finds the connection closed.
    unread = _DRAINED
    while unread > 0 and (part := await receive())["type"] == "http.request" and part.get("more_body"):
        unread -= len(part.get("body", b""))
    await _answer(send, message)


async def _answer(send: Send, message: str) -> None:
    content = MlflowException(message, BAD_REQUEST).serialize_as_json().encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": content})
