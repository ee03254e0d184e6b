"""Starting the gateway: `python -m serving up`.

    code = run(GatewaySettings.load(), ServingSettings.load(), wait=False)

What is live is loaded before the first request is taken, so that a port that answers is a version that answers.
"""

import logging
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import uvicorn
from mlflow.pyfunc import scoring_server
from starlette.types import ASGIApp

from records.inference import InferenceLog, open_inference_log
from records.settings import RecordsSettings
from resunet.errors import SettingsError, StoreError
from serving.access.binding import check_binding
from serving.access.gate import Gate
from serving.access.keys import KeyStore, keys_path
from serving.access.limits import Limits, Rate
from serving.budget import WorkBudget
from serving.engine import available_cores
from serving.gateway.app import make_app
from serving.gateway.cache import VersionCache
from serving.gateway.desk import Desk, DeskSettings
from serving.gateway.fleet import Fleet, Lane
from serving.gateway.loading import Loaded
from serving.gateway.log_lines import write_log
from serving.gateway.metrics import Metrics, Now
from serving.gateway.owner import Owner, OwnerSettings
from serving.gateway.parts import Parts
from serving.gateway.releases import Registry
from serving.gateway.settings import GatewaySettings
from serving.handover import ended_cleanly
from serving.logbook import Logbook
from serving.scoring import guarded
from serving.settings import ServingSettings

# Beside those that compute, some threads read, decode and write: with fewer, cores wait for them.
_MORE_THREADS: Final = 4
_log = logging.getLogger(__name__)


def run(settings: GatewaySettings, serving: ServingSettings, wait: bool) -> None:
    """Serve until a signal ends it.

    Args:
        settings: of the gateway.
        serving: of the versions that answer.
        wait: come up although nothing is live yet, and answer 503 until something is.

    Raises:
        SettingsError: a setting makes no sense, or the address is taken.
        StoreError: nothing is live, or the registry is away, and nothing served here before.
    """
    write_log(settings.log == "json" or (settings.log == "auto" and not sys.stderr.isatty()))
    records = RecordsSettings.load()
    threads = settings.threads or available_cores() + _MORE_THREADS
    with ended_cleanly(), ExitStack() as ends:
        gate = _gate(settings, records)
        listener = ends.enter_context(_listening(settings.host, settings.port))
        log = open_inference_log(records)
        if log is not None:
            ends.callback(log.close)
        fleet = Fleet(serving, WorkBudget(threads, serving.wait_seconds), _books(log), serving.threads or None)
        owner = Owner(
            Registry(settings.model),
            VersionCache(records.home.absolute() / "gateway" / "versions", serving.trust),
            fleet,
            OwnerSettings(settings.poll_seconds, settings.stop_when_archived, settings.keep_versions),
            alert=lambda subject, body: _log.error("%s: %s", subject, body),
        )
        owner.look()
        health = owner.health()
        if health.serving is None and not wait:
            raise StoreError(
                f"nothing can be served: {'; '.join(health.troubles)}. Promote a version, mend the cause, or come up "
                "without one with --wait"
            )
        desk = Desk(
            DeskSettings(
                threads, settings.waiting, settings.request_seconds, serving.max_image_mb, settings.held_mb * 1_000_000
            )
        )
        invocations = guarded(scoring_server.invocations, serving.max_image_mb)
        metrics = Metrics()
        metrics.watch(lambda: _now(fleet, desk, owner, log))
        parts = Parts(fleet, desk, owner.health, owner.announce, invocations, serving, gate, metrics)
        server = _server(make_app(parts), settings)
        _log.info("%s answers at %s", health.serving or "no version yet", _address(listener, settings))
        ends.callback(owner.stop)
        owner.start()
        server.run(sockets=[listener])


def _now(fleet: Fleet, desk: Desk, owner: Owner, log: InferenceLog | None) -> Now:
    health, live = owner.health(), fleet.on("production")
    identity = live.service.identity if live else None
    return Now(
        requests=desk.visits,
        held_bytes=desk.held_bytes,
        model=identity.name if identity else "",
        version=identity.version if identity else "",
        digest=identity.digest if identity else "",
        swaps=health.swaps,
        troubles=len(health.troubles),
        spool_bytes=log.status().pending_bytes if log else None,
    )


def _gate(settings: GatewaySettings, records: RecordsSettings) -> Gate:
    """Who may ask, once it is sure that the address may be listened on at all."""
    store = KeyStore(keys_path(records.home.absolute()))
    warning = check_binding(
        settings.host, store.configured, settings.tls_certificate is not None, settings.allow_public
    )
    if warning:
        _log.warning("%s", warning)
    requests = Rate(settings.requests_per_second, max(1.0, 2 * settings.requests_per_second))
    megapixels = Rate(settings.megapixels_per_second, max(1.0, 10 * settings.megapixels_per_second))
    return Gate(store, Limits(requests, megapixels))


def _server(app: ASGIApp, settings: GatewaySettings) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=round(settings.drain_seconds),
            ssl_certfile=_path(settings.tls_certificate),
            ssl_keyfile=_path(settings.tls_key),
        )
    )


def _address(listener: socket.socket, settings: GatewaySettings) -> str:
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.tls_certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _books(log: InferenceLog | None) -> Callable[[Loaded, Lane], Logbook | None]:
    def book(loaded: Loaded, lane: Lane) -> Logbook | None:
        return None if log is None else Logbook(log, loaded.identity, lane)

    return book


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"{host} port {port} cannot be listened on ({error.strerror}): is another server there? Give --port "
                "another"
            ) from error
        yield listener


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)
