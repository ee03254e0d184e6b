"""One process that answers: its versions, its desk, its routes and its server. A gateway is one of them, or several.

process = Process(settings, serving, lead, needs_keys=False)
process.prepare("production", folder); process.switch("production")
process.direct(assignment, twins); process.take()       # of a rollout
process.serve(listener)                 # until a signal ends it, or `stop`
"""

import logging
import os
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import uvicorn
from mlflow.pyfunc import scoring_server

from records.inference import open_inference_log
from records.settings import RecordsSettings
from resunet.memory import give_back_large_blocks
from serving.access.gate import Gate
from serving.access.keys import KeyStore, keys_path
from serving.access.limits import Limits, Rate
from serving.access.stores import Stores
from serving.budget import WorkBudget
from serving.engine import available_cores, default_threads
from serving.gateway.app import make_app
from serving.gateway.connections import connections
from serving.gateway.desk import Desk, DeskSettings
from serving.gateway.fleet import Fleet, Lane
from serving.gateway.job_metrics import JobMetrics
from serving.gateway.loading import Batching, Loaded
from serving.gateway.metrics import Metrics, Now
from serving.gateway.owner import Leading
from serving.gateway.parts import Parts
from serving.gateway.releases import Registry
from serving.gateway.rollouts.twins import Twins
from serving.gateway.settings import GatewaySettings
from serving.gateway.status_board import StatusBoard
from serving.logbook import Logbook
from serving.rollout.assignment import Assignment
from serving.rollout.evidence import Evidence
from serving.scoring import guarded
from serving.settings import ServingSettings

# Beside those that compute, some threads read, decode and write: with fewer, cores wait for them.
_MORE_THREADS: Final = 4
_log = logging.getLogger(__name__)


class Process:
    """What answers, in this process.

    Args:
        settings: of the gateway; what it may hold is shared out among its processes.
        serving: of the versions that answer.
        lead: follows the registry and the rollout.
        needs_keys: the gateway has had keys; without its file of them this process lets nobody in.
        counted: where it is counted what callers use up of all processes; None: there is no other one.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        serving: ServingSettings,
        lead: Leading,
        needs_keys: bool,
        counted: Sequence[Stores] | None = None,
    ) -> None:
        give_back_large_blocks()
        records = RecordsSettings.load()
        cores = max(1, available_cores() // settings.workers)
        threads = settings.threads or cores + _MORE_THREADS
        self._lead = lead
        self._keys = KeyStore(keys_path(records.home.absolute()), required=needs_keys)
        self.look_at_keys()
        self._log = open_inference_log(records)
        # Where predictions are logged, monitoring has its jobs.
        self.metrics = Metrics(self._now, JobMetrics(records.inference_log) if records.inference_log else None)
        self.fleet = Fleet(
            serving,
            WorkBudget(threads, serving.wait_seconds),
            self._book,
            serving.threads or max(1, default_threads() // settings.workers),
            Batching(settings.batch, settings.batch_wait_ms / 1000),
            self.metrics.ran,
        )
        self._desk = Desk(
            DeskSettings(
                threads=threads,
                waiting=settings.waiting,
                request_seconds=settings.request_seconds,
                max_image_mb=serving.max_image_mb,
                held_bytes=settings.held_mb * 1_000_000 // settings.workers,
            )
        )
        followed = Registry(settings.model)
        self._twins = Twins()
        parts = Parts(
            fleet=self.fleet,
            desk=self._desk,
            lead=lead,
            twins=self._twins,
            invocations=guarded(scoring_server.invocations, serving.max_image_mb),
            settings=serving,
            gate=_gate(settings, self._keys, counted),
            metrics=self.metrics,
            board=StatusBoard.of(records, followed.name, followed.staging(settings.candidate), lead.health),
            label=None if self._log is None else self._log.label,
            failed=None if self._log is None else partial(self._log.count_failure, followed.name),
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                make_app(parts),
                http=connections(settings.request_seconds),
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=round(settings.drain_seconds),
                ssl_certfile=_path(settings.tls_certificate),
                ssl_keyfile=_path(settings.tls_key),
            )
        )

    def serve(self, listener: socket.socket) -> None:
        """Answer until a signal comes, or `stop`, and until what is under way is answered."""
        self._server.run(sockets=[listener])

    def stop(self) -> None:
        """Let `serve` end; from any thread."""
        self._server.should_exit = True

    def prepare(self, lane: Lane, folder: Path) -> None:
        """As of `Fleet`."""
        self.fleet.prepare(lane, folder)

    def switch(self, lane: Lane) -> None:
        """As of `Fleet`."""
        self.fleet.switch(lane)

    def forget(self, lane: Lane) -> None:
        """As of `Fleet`."""
        self.fleet.forget(lane)

    def direct(self, assignment: Assignment | None, twins: str | None) -> None:
        """Shares of a rollout hold from now on.

        Args:
            assignment: the shares; None: there is no rollout.
            twins: where requests go to be answered twice; None: nowhere.
        """
        self._twins.direct(twins)
        self.fleet.seen.direct(assignment)

    @property
    def deaths(self) -> int:
        """None that it could tell of: it would have ended itself."""
        return 0

    def take(self) -> list[Evidence]:
        """What was seen of the rollout since it was last taken."""
        taken = self.fleet.seen.take()
        return [] if taken is None else [taken]

    def look_at_keys(self) -> None:
        """See whether there are keys now, so that nobody is let in when they are gone before the first request."""
        self._keys.look()

    def close(self) -> None:
        """Bring what was answered to the database, as far as it is there."""
        if self._log is not None:
            self._log.close()

    def _book(self, loaded: Loaded, lane: Lane) -> Logbook | None:
        return None if self._log is None else Logbook(self._log, loaded.identity, lane)

    def _now(self) -> Now:
        health, live = self._lead.health(), self.fleet.on("production")
        identity = live.service.identity if live else None
        return Now(
            requests=self._desk.visits,
            held_bytes=self._desk.held_bytes,
            model=identity.name if identity else "",
            version=identity.version if identity else "",
            digest=identity.digest if identity else "",
            swaps=health.swaps,
            troubles=len(health.troubles),
            spool_bytes=self._log.status().pending_bytes if self._log else 0,
            canary=health.rollout.canary if health.rollout else 0.0,
            shadow=health.rollout.shadow if health.rollout else 0.0,
            skipped=self._twins.skipped,
            waiting_images=self.fleet.waiting_images,
        )


def _gate(settings: GatewaySettings, keys: KeyStore, counted: Sequence[Stores] | None) -> Gate:
    """Who may ask, and how much of the whole gateway."""
    requests, megapixels = settings.requests_per_second, settings.megapixels_per_second
    limits = Limits(Rate(requests, max(1.0, 2 * requests)), Rate(megapixels, max(1.0, 10 * megapixels)), stores=counted)
    return Gate(keys, limits)


def _path(path: Path | None) -> str | None:
    return None if path is None else os.fspath(path)
