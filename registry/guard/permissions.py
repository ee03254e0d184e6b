"""What MLflow's own basic-auth lets a user do with a registered model holds for this platform's routes too.

    require("resunet", "update")      # raises MlflowException, 403, where the asking user may not

Without basic-auth everybody may ask: the gates do not depend on who does. The names are MLflow's own inner ones.
"""

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Literal

from flask import g, has_request_context
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.server import handlers

Action = Literal["read", "update"]


def require(name: str, action: Action) -> None:
    """See that the asking user may do something with a model and its versions.

    Raises:
        MlflowException: they may not (403), or there is no such model and they may not know.
    """
    user = getattr(g, "mlflow_authenticated_user", None)
    if user and not may(str(user), name, action):
        raise MlflowException(
            f"{user} may not {action} the registered model {name!r} here: ask whoever manages it", PERMISSION_DENIED
        )


def require_all(names: set[str]) -> None:
    """See that the asking user may read every one of these models, without naming those that they may not.

    Raises:
        MlflowException: they may not.
    """
    user = getattr(g, "mlflow_authenticated_user", None)
    if user and not all(may(str(user), name, "read") for name in names):
        raise MlflowException("some of these decisions are not yours to read: name a model", PERMISSION_DENIED)


def readable(names: Iterable[str]) -> Iterator[str]:
    """Those of these models that the asking user may read; all, where nobody asks by a request."""
    user = getattr(g, "mlflow_authenticated_user", None) if has_request_context() else None
    return (name for name in names if not user or may(str(user), name, "read"))


def may(user: str, name: str, action: Action) -> bool:
    """As MLflow decides it for its own routes on model versions; an administrator may do anything."""
    from mlflow.server import auth
    from mlflow.server.auth import permissions as kinds
    from mlflow.server.auth.requirements import Requirement

    if auth.store.get_user(user).is_admin:
        return True
    container, versions = (kinds.RESOURCE_TYPE_REGISTERED_MODEL, kinds.RESOURCE_TYPE_REGISTERED_MODEL_VERSION)
    try:
        if handlers._get_model_registry_store().get_registered_model(name)._is_prompt():
            container, versions = kinds.RESOURCE_TYPE_PROMPT, kinds.RESOURCE_TYPE_PROMPT_VERSION
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    anchor = (container, name)
    asked = [
        Requirement(container, name, "read"),
        Requirement(versions, "*", action, fallback_if_no_grant=(anchor,)),
    ]
    return bool(auth.authorize(user, anchor, asked))


def let_through(auth: ModuleType, routes: Iterable[tuple[str, str]]) -> None:
    """Tell basic-auth that these routes ask for themselves: it may be set to refuse those that it does not know.

    Args:
        auth: `mlflow.server.auth`.
        routes: path and method.
    """
    for route in routes:
        auth.BEFORE_REQUEST_VALIDATORS[route] = lambda: True
