"""The server: `mlflow server --app-name lifecycle`, or `lifecycle-auth` on top of MLflow's passwords.

Entry points of the group `mlflow.app` in `pyproject.toml`. MLflow's names that are used here and in this folder are
its own inner ones: the version is pinned, and a server whose MLflow has a route that nobody has looked at
(`registry.guard.routes`) does not start.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from filelock import FileLock, Timeout
from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES
from mlflow.exceptions import MlflowException
from mlflow.server import app as flask_app
from mlflow.server import fastapi_app, handlers
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.tracking._model_registry.utils import _get_store_registry
from mlflow.tracking._tracking_service.utils import _tracking_store_registry
from starlette.middleware import Middleware
from uvicorn.config import STARTUP_FAILURE

from records.garbage import collect_seldom
from registry.guard.api import RULES
from registry.guard.artifacts import ArtifactGuard, end_flask_writes, refuse_flask_writes
from registry.guard.current import guarded_store
from registry.guard.last_words import LastWords
from registry.guard.messages import PREFIX
from registry.guard.permissions import let_through
from registry.guard.reading import blueprint
from registry.guard.routes import unknown_routes
from registry.guard.runs import GuardedTrackingStore
from registry.guard.store import SCHEME, GuardedStore
from resunet.errors import ResunetError, SettingsError

AUTH_LOCK: Final = "auth.lock"


def _ends_the_start(make: Callable[[], Any]) -> Callable[[], Any]:
    """A factory whose error is one sentence and ends the server: a worker that just died would be started for ever."""

    @wraps(make)
    def made() -> Any:
        collect_seldom()
        try:
            return make()
        except (ResunetError, MlflowException) as error:
            print(f"\nThe server does not start: {error}\n", file=sys.stderr, flush=True)
            # With several workers it is `mlflow server` that starts them again, faster than it sees why they end.
            supervisor = multiprocessing.parent_process()
            if supervisor is not None and supervisor.pid and os.environ.get("_MLFLOW_SERVER_BOOT_ID"):
                os.kill(supervisor.pid, signal.SIGTERM)
            raise SystemExit(STARTUP_FAILURE) from None

    return made


@_ends_the_start
def create_app() -> Any:
    """The server without passwords: gates for everybody, names that are only claims."""
    _guard_stores()
    return _guarded(fastapi_app.create_fastapi_app(flask_app))


@_ends_the_start
def create_auth_app() -> Any:
    """The same on top of MLflow's basic-auth: the server knows who asks."""
    try:
        from mlflow.server import auth
    except ImportError as error:
        raise SettingsError(
            f"basic-auth is not installed ({error.name} is missing): pip install 'resunet-lifecycle[auth]'"
        ) from error
    _guard_stores()
    settings = guarded_store().lifecycle.settings
    settings.home.mkdir(parents=True, exist_ok=True)
    # Worker by worker: of a new database of users MLflow would make the tables in all of them at once.
    try:
        with FileLock(settings.home / AUTH_LOCK, timeout=settings.lock_seconds):
            app = auth.create_app(flask_app)
    except Timeout as error:
        raise SettingsError(f"another worker has started for {settings.lock_seconds:.0f} s: see its log") from error
    let_through(auth, [(_prefixed(rule), method) for rule, method in RULES])
    return _guarded(app)


def _guard_stores() -> None:
    if MLFLOW_ENABLE_WORKSPACES.get():
        raise SettingsError("workspaces are not guarded: run a server for each, without --enable-workspaces")
    if os.environ.get("_MLFLOW_SGI_NAME") != "uvicorn":
        raise SettingsError("the gates need MLflow's default server: without --gunicorn-opts and --waitress-opts")
    for scheme in DATABASE_ENGINES:
        # The routes' own, and that of MLflow's client, which some of them use in this process.
        for registries in (handlers._model_registry_store_registry, _get_store_registry()):
            registries.register(scheme, GuardedStore)
            registries.register(f"{SCHEME}{scheme}", GuardedStore)
        for runs in (handlers._tracking_store_registry, _tracking_store_registry):
            runs.register(scheme, _tracking_store)
    handlers._model_registry_store = None
    handlers._tracking_store = None
    store, tracking = guarded_store(), handlers._get_tracking_store()
    if not isinstance(tracking, GuardedTrackingStore):
        raise SettingsError(f"runs are kept in a {type(tracking).__name__}, which has no gates: use a database URI")
    store.refuse_source = tracking.refuse_source
    # Before the first request, so that what is wrong with policy or database ends the start.
    _ = store.lifecycle


def _guarded(app: Any) -> Any:
    flask_app.register_blueprint(blueprint, url_prefix=_prefixed(""))
    # Behind what authentication registered: who is not known is not told whose files these are.
    flask_app.before_request(handlers.catch_mlflow_exception(_refuse_writes))
    flask_app.teardown_request(end_flask_writes)
    # The innermost: what comes here was let in by MLflow's own middleware.
    app.user_middleware.append(Middleware(ArtifactGuard, store=guarded_store))
    app.user_middleware.append(Middleware(LastWords))
    if unknown := unknown_routes(flask_app, app):
        raise SettingsError(
            f"this MLflow has routes of which nobody has said what they can change: {', '.join(unknown)}. Install the "
            "release that this platform pins, or add them to registry/guard/routes.py"
        )
    return app


def _refuse_writes() -> None:
    refuse_flask_writes(guarded_store)


def _prefixed(rule: str) -> str:
    """A route of this platform under MLflow's `--static-prefix`."""
    return str(handlers._add_static_prefix(f"{PREFIX}{rule}"))


def _tracking_store(store_uri: str, artifact_uri: str) -> GuardedTrackingStore:
    return GuardedTrackingStore(store_uri, artifact_uri)
