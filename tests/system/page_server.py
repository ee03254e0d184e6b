"""The gateway's whole application with one version in it, in a thread of this process: all but a registry to follow.

with page_server(folder, classes=1) as url:
    browser.new_page().goto(url)
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import uvicorn
from mlflow.pyfunc import scoring_server
from mlflow_state import mlflow_state_kept
from ready_tables import DATABASE, with_tables
from starlette.types import ASGIApp
from version_factory import write_version
from waiting import until

from records.digests import write_digests
from records.labels import Added, Label
from records.settings import RecordsSettings
from serving.access.gate import Gate
from serving.access.keys import KeyStore
from serving.access.limits import Limits, Rate
from serving.budget import WorkBudget
from serving.gateway.app import make_app
from serving.gateway.desk import Desk, DeskSettings
from serving.gateway.fleet import Fleet
from serving.gateway.metrics import Metrics, Now
from serving.gateway.owner import Brief, Health, Verb
from serving.gateway.parts import Parts
from serving.gateway.releases import Registry, Release
from serving.gateway.rollouts.twins import Twins
from serving.gateway.status_board import StatusBoard
from serving.rollout.state import RolloutError
from serving.scoring import guarded
from serving.settings import ServingSettings

VERSION = "7"
Labels = Callable[[Label], list[Added]] | None
PLENTY = Rate(1000, 1000)


def make_gateway(
    folder: Path, classes: int, store: KeyStore | None, log: str | None = None, label: Labels = None
) -> ASGIApp:
    """The application, with a version that finds bright spots, written to the folder.

    Args:
        log: database that `/status` reads.
        label: takes labels; None: there is no log of answers.
    """
    records = RecordsSettings(home=folder / "home", inference_log=log)
    write_version(folder / "artifacts" / "version", classes)
    (folder / "MLmodel").write_text("flavors: {}\n")
    write_digests(folder)
    (folder / "registered_model_meta").write_text(f"model_name: resunet\nmodel_version: {VERSION}\n")
    settings = ServingSettings(engine="onnxruntime", threads=1)
    fleet = Fleet(settings, WorkBudget(threads=4, wait_s=30), lambda loaded, lane: None, threads=1)
    fleet.prepare("production", folder)
    fleet.switch("production")
    return make_app(
        Parts(
            fleet=fleet,
            desk=Desk(DeskSettings(threads=4)),
            lead=_Nobody(),
            twins=Twins(),
            invocations=guarded(scoring_server.invocations, settings.max_image_mb),
            settings=settings,
            gate=Gate(store, Limits(PLENTY, PLENTY)),
            metrics=Metrics(lambda: Now(0, 0, "resunet", VERSION, "", 0, 0, 0)),
            board=StatusBoard.of(records, "resunet", _staging(folder), _Nobody().health),
            label=label,
        )
    )


def _staging(folder: Path) -> Registry:
    """A registry of the folder's own, with nothing in it: MLflow's default is a file where the tests run, for all."""
    with mlflow_state_kept():
        mlflow.set_tracking_uri(f"sqlite:///{with_tables(folder / 'tracking') / DATABASE}")
        return Registry("models:/resunet/Staging")


class _Nobody:
    """Leads a gateway that follows nothing."""

    def health(self) -> Health:
        return Health("ok", Release("resunet", VERSION, 0), (), 0, Brief("canary", "8", 0.05, 0.25))

    def announce(self) -> None:
        pass

    def order(self, verb: Verb, who: str, reason: str) -> dict[str, Any]:
        raise RolloutError("there is no registry")


@contextmanager
def page_server(
    folder: Path, classes: int = 1, store: KeyStore | None = None, log: str | None = None, label: Labels = None
) -> Iterator[str]:
    """Its URL, while it runs; with keys, callers need one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        app = make_gateway(folder, classes, store, log, label)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started, seconds=30)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.should_exit = True
            thread.join(30)
