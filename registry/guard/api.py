"""`/api/lifecycle/*`: what the commands ask of a guarded server. Bodies and answers are JSON.

| | |
| --- | --- |
| `GET server` | who is asking, which policy holds |
| `GET policy` | the rules |
| `POST promote`, `rollback`, `archive`, `approve`, `mend` | a decision; answers what changed |
| `POST check` | asks the gates; with `measure`, starts what measures missing evidence |
| `GET measuring` | how that goes |
| `GET status` | stages, aliases, mismatches |

Errors have MLflow's shape: `{"error_code": …, "message": …}`.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from flask import Blueprint, Response, jsonify, request
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.server.handlers import catch_mlflow_exception
from pydantic import BaseModel, TypeAdapter, ValidationError

from registry.changes import Change, Status
from registry.guard.answers import told_as_mlflow
from registry.guard.current import guarded_store
from registry.guard.identity import current_actor
from registry.guard.measuring import progress, start
from registry.guard.messages import (
    CheckAnswer,
    CheckRequest,
    Measuring,
    MendRequest,
    PromoteRequest,
    RollbackRequest,
    ServerAnswer,
    StageRequest,
    VersionRequest,
)
from registry.guard.permissions import Action, require
from registry.lifecycle import Lifecycle

blueprint = Blueprint("resunet_lifecycle", __name__)
# Path below PREFIX, and method, of each route.
RULES: list[tuple[str, str]] = []

M = TypeVar("M", bound=BaseModel)


def route(rule: str, method: str, needs: Action = "read") -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """A route that answers its function's value as JSON, and its errors in MLflow's shape.

    Args:
        needs: what the asking user must be allowed to do with the model that the request names.
    """

    def register(function: Callable[[], Any]) -> Callable[[], Any]:
        @wraps(function)
        def answer() -> Response:
            with told_as_mlflow():
                if named := _named():
                    require(named, needs)
                found = function()
                return jsonify(TypeAdapter(type(found)).dump_python(found, mode="json"))

        blueprint.add_url_rule(rule, function.__name__, catch_mlflow_exception(answer), methods=[method])
        RULES.append((rule, method))
        return function

    return register


@route("/server", "GET")
def server() -> ServerAnswer:
    actor = current_actor()
    return ServerAnswer(user=actor.name, authenticated=actor.authenticated, policy=_life().policy.digest)


@route("/policy", "GET")
def policy() -> dict[str, Any]:
    return {"digest": _life().policy.digest, "policy": _life().policy.dump()}


@route("/promote", "POST", needs="update")
def promote() -> Change:
    asked = _body(PromoteRequest)
    return _life().promote(asked.name, asked.version, asked.stage, current_actor(), asked.reason, asked.override)


@route("/rollback", "POST", needs="update")
def rollback() -> Change:
    asked = _body(RollbackRequest)
    return _life().rollback(asked.name, current_actor(), asked.reason, asked.version)


@route("/archive", "POST", needs="update")
def archive() -> Change:
    asked = _body(VersionRequest)
    return _life().archive(asked.name, asked.version, current_actor(), asked.reason)


@route("/approve", "POST", needs="update")
def approve() -> Change:
    asked = _body(StageRequest)
    return _life().approve(asked.name, asked.version, asked.stage, current_actor(), asked.reason)


@route("/check", "POST")
def check() -> CheckAnswer:
    asked = _body(CheckRequest)
    if asked.measure:
        require(asked.name, "update")
    judgement = _life().check(asked.name, asked.version, asked.stage, current_actor())
    measuring = None
    if asked.measure and judgement.missing:
        measuring = start(_life(), judgement, current_actor())
    return CheckAnswer(judgement=judgement, measuring=measuring)


@route("/measuring", "GET", needs="update")
def measuring() -> Measuring:
    return progress(_life(), _argument("name"), _argument("version"))


@route("/mend", "POST", needs="update")
def mend() -> list[str]:
    return _life().mend(_body(MendRequest).name, current_actor())


@route("/status", "GET")
def status() -> Status:
    return _life().status(_argument("name"))


def _life() -> Lifecycle:
    return guarded_store().lifecycle


def _named() -> str:
    """The model that the request is about, read as its function reads it; empty where it is about none."""
    if request.method == "GET":
        return request.args.get("name") or request.args.get("model_name") or ""
    asked = request.get_json(force=True, silent=True)
    return str(asked.get("name") or "") if isinstance(asked, dict) else ""


def _argument(name: str) -> str:
    value = request.args.get(name, "")
    if not value:
        raise MlflowException(f"{name}: it is missing", INVALID_PARAMETER_VALUE)
    return value


def _body(kind: type[M]) -> M:
    try:
        return kind.model_validate(request.get_json(force=True, silent=True))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise MlflowException(f"{where}: {first['msg']}", INVALID_PARAMETER_VALUE) from None
