"""The commands' side of a guarded server: the same verbs as `Lifecycle`, decided there.

desk = open_desk(client)      # RemoteLifecycle where the server has the gates, else a Lifecycle of this machine
desk.promote("resunet", "3", "Production", actor, "new stain")
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote

from mlflow.exceptions import MlflowException
from mlflow.tracking._tracking_service.utils import get_default_host_creds  # type: ignore[attr-defined]
from mlflow.utils.rest_utils import http_request
from pydantic import TypeAdapter, ValidationError

from registry.changes import Change, Status
from registry.guard.messages import CLAIMED, PREFIX, CheckAnswer, Measuring, ServerAnswer
from registry.judgement import Judgement
from registry.people import Actor
from resunet.errors import RefusedError, SettingsError, StoreError

A = TypeVar("A")
_DECIDES_SECONDS: Final = 600
_UNKNOWN: Final = 401
_NOT_THERE: Final = 404
_AWAY: Final = 503
_REFUSED: Final = frozenset({"BAD_REQUEST", "PERMISSION_DENIED"})


class RemoteLifecycle:
    """A guarded server.

    Args:
        tracking_uri: its address; user and password come from MLflow's own variables.
    """

    def __init__(self, tracking_uri: str) -> None:
        self._host = get_default_host_creds(tracking_uri)

    def server(self) -> ServerAnswer | None:
        """What the server says of itself; None where it has no gates."""
        try:
            return self.ask("GET", "server", ServerAnswer)
        except _NoGatesError:
            return None

    def check(self, name: str, version: str, stage: str, actor: Actor) -> Judgement:
        """As `Lifecycle.check`."""
        return self.check_and_measure(name, version, stage, actor, measure=False).judgement

    def check_and_measure(self, name: str, version: str, stage: str, actor: Actor, measure: bool) -> CheckAnswer:
        """The same, and with `measure` the server starts to measure what is missing."""
        body = {"name": name, "version": version, "stage": stage, "measure": measure}
        return self.ask("POST", "check", CheckAnswer, actor, json=body)

    def measuring(self, name: str, version: str) -> Measuring:
        """How the measuring that `check_and_measure` started goes."""
        return self.ask("GET", "measuring", Measuring, params={"name": name, "version": version})

    def promote(self, name: str, version: str, stage: str, actor: Actor, reason: str, override: bool = False) -> Change:
        """As `Lifecycle.promote`."""
        body = {"name": name, "version": version, "stage": stage, "reason": reason, "override": override}
        return self.ask("POST", "promote", Change, actor, json=body)

    def rollback(self, name: str, actor: Actor, reason: str, version: str | None = None) -> Change:
        """As `Lifecycle.rollback`."""
        return self.ask("POST", "rollback", Change, actor, json={"name": name, "version": version, "reason": reason})

    def archive(self, name: str, version: str, actor: Actor, reason: str) -> Change:
        """As `Lifecycle.archive`."""
        return self.ask("POST", "archive", Change, actor, json={"name": name, "version": version, "reason": reason})

    def approve(self, name: str, version: str, stage: str, actor: Actor, reason: str) -> Change:
        """As `Lifecycle.approve`."""
        body = {"name": name, "version": version, "stage": stage, "reason": reason}
        return self.ask("POST", "approve", Change, actor, json=body)

    def mend(self, name: str, actor: Actor) -> list[str]:
        """As `Lifecycle.mend`."""
        return self.ask("POST", "mend", list[str], actor, json={"name": name})

    def status(self, name: str) -> Status:
        """As `Lifecycle.status`."""
        return self.ask("GET", "status", Status, params={"name": name})

    def ask(
        self,
        method: str,
        path: str,
        kind: type[A],
        actor: Actor | None = None,
        json: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> A:
        """Send a request and read the answer.

        Raises:
            RefusedError: the server refuses, for the reason in its message.
            SettingsError: a parameter makes no sense there, or the server is none of this platform's release.
            StoreError: its database or artifact store is away.
        """
        more: dict[str, Any] = {"json": dict(json)} if json is not None else {}
        if params is not None:
            more["params"] = dict(params)
        if method == "POST":
            # Never sent twice by itself: the second of two rollbacks goes back one more. It waits for others' turns.
            more |= {"max_retries": 0, "timeout": _DECIDES_SECONDS}
        headers = {CLAIMED: quote(actor.name)} if actor is not None else {}
        response = http_request(
            self._host, f"{PREFIX}/{path}", method, extra_headers=headers, raise_on_status=False, **more
        )
        if response.status_code == 200:
            try:
                return TypeAdapter(kind).validate_json(response.content)
            except ValidationError as error:
                if path == "server":
                    raise _NoGatesError from error
                raise SettingsError(
                    "the server's answer is not understood: its release of this platform is another one"
                ) from error
        if response.status_code == _NOT_THERE and path == "server":
            raise _NoGatesError
        raise _error(response.status_code, response.content)


class _NoGatesError(Exception):
    """The server knows nothing of this platform."""


def _error(status: int, content: bytes) -> Exception:
    if status == _UNKNOWN:
        return SettingsError(
            "the server does not know who asks (401): set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    try:
        answer = TypeAdapter(dict[str, Any]).validate_json(content)
        code, message = str(answer["error_code"]), str(answer["message"])
    except (ValidationError, KeyError):
        return MlflowException(f"it answered {status}")
    if status == _AWAY:
        return StoreError(message)
    if code in _REFUSED:
        return RefusedError(message)
    if code == "INVALID_PARAMETER_VALUE":
        return SettingsError(message)
    return MlflowException(message)
