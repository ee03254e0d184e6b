"""The versions that a process holds in memory, by the way on which their answers leave.

    fleet.prepare("production", folder)     # slow; whatever goes wrong, what serves goes on serving
    fleet.switch("production")              # at once: the next request gets the new version
    live = fleet.on("production")           # a request keeps what it got until its answer is out
    way = fleet.way(request_id, key_id, headers)    # the same, or the canary where a rollout assigns it

A version is freed when the last request that holds it is answered: nobody counts, its memory goes with its last user.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import pandas as pd
from mlflow.pyfunc import PyFuncModel

from serving.batching import BatchingEngine
from serving.budget import WorkBudget
from serving.frames import answer_frame
from serving.gateway.loading import Batching, Loaded, load
from serving.gateway.rollouts.seen import Seen
from serving.logbook import Logbook
from serving.plain import PlainTable, answer_plain
from serving.request import Options
from serving.rollout.assignment import Assigned
from serving.scoring import as_request_error
from serving.service import Call, Service
from serving.settings import ServingSettings

Lane = Literal["production", "canary"]
LANES: Final[tuple[Lane, ...]] = get_args(Lane)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Live:
    """A version that answers."""

    lane: Lane
    loaded: Loaded
    service: Service
    settings: ServingSettings

    def scorer(self, call_with: Callable[[Options], Call]) -> PyFuncModel:
        """What MLflow's scoring server calls a model: it checks the signature, and this version answers."""
        return PyFuncModel(model_meta=self.loaded.metadata, model_impl=_Scorer(self, call_with), predict_fn="predict")

    def answer_plain(self, table: PlainTable, call_with: Callable[[Options], Call]) -> str:
        """The same without MLflow, for a body that needs none of it.

        Raises:
            RequestError: as `scorer`'s model.
        """
        try:
            return answer_plain(self.service, table, self.settings, call_with)
        except Exception as error:
            raise as_request_error(error) from None


@dataclass(frozen=True)
class Way:
    """Who answers a request: `assigned` says what a rollout is to learn from it, None: nothing."""

    live: Live
    assigned: Assigned | None = None


class _Scorer:
    """A version behind MLflow's words, for one request."""

    def __init__(self, live: Live, call_with: Callable[[Options], Call]) -> None:
        self._live = live
        self._call_with = call_with

    def predict(self, frame: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        try:
            return answer_frame(self._live.service, frame, params, self._live.settings, self._call_with)
        except Exception as error:
            raise as_request_error(error) from None


class Fleet:
    """What a process serves; safe to use from many threads.

    Args:
        settings: which engine, and whom to trust.
        budget: bounds what all requests hold at a time.
        logbook: makes the book that the answers of a version are written down in; None where the log is off.
        threads: cores that one image is computed on; None takes all that the process may use.
        batching: whether images of several requests are run together; None: they are not.
        ran: is told how many images each run of an engine had.

    Attributes:
        budget: as given.
        seen: of a rollout, and the shares that hold in it.
    """

    def __init__(
        self,
        settings: ServingSettings,
        budget: WorkBudget,
        logbook: Callable[[Loaded, Lane], Logbook | None],
        threads: int | None = None,
        batching: Batching | None = None,
        ran: Callable[[int], None] | None = None,
    ) -> None:
        self._settings = settings
        self.budget = budget
        self._logbook = logbook
        self._threads = threads
        self._batching = batching or Batching()
        self._ran = ran
        self._live: dict[Lane, Live] = {}
        self._ready: dict[Lane, Live] = {}
        # Of its own for each: what is live can be exchanged while a candidate is being loaded.
        self._loading = {lane: threading.Lock() for lane in LANES}
        self.seen = Seen()

    def prepare(self, lane: Lane, folder: Path) -> None:
        """Load a version and see that it answers as it must; what serves is not touched.

        Raises:
            VersionError, SettingsError: it must not serve here.
        """
        with self._loading[lane]:
            self._ready.pop(lane, None)
            loaded = load(folder, self._settings, self._threads, self._batching, self._ran)
            service = Service(loaded.predictor, loaded.identity, self.budget, self._logbook(loaded, lane))
            self._ready[lane] = Live(lane, loaded, service, self._settings)

    def switch(self, lane: Lane) -> None:
        """Let the version that was prepared answer from the next request on."""
        with self._loading[lane]:
            self._live[lane] = self._ready.pop(lane)
        _log.info("version %s answers as %s", self._live[lane].loaded.identity.version, lane)

    def forget(self, lane: Lane) -> None:
        """Stop answering there, and drop what was prepared."""
        with self._loading[lane]:
            self._ready.pop(lane, None)
            self._live.pop(lane, None)

    def on(self, lane: Lane) -> Live | None:
        """The version that answers there now."""
        return self._live.get(lane)

    @property
    def waiting_images(self) -> int:
        """Those that wait to be run in company, of all versions; 0 where images run alone."""
        engines = [live.loaded.predictor.engine for live in list(self._live.values())]
        return sum(engine.waiting_images for engine in engines if isinstance(engine, BatchingEngine))

    def way(self, request_id: str, client: str | None, headers: Mapping[str, str]) -> Way | None:
        """The version that answers a request which comes now; None: none does.

        Args:
            request_id: its own.
            client: an id of the API key that it brings.
            headers: of the request, found whatever their case.
        """
        champion, assignment = self.on("production"), self.seen.assignment
        if champion is None:
            return None
        if assignment is None:
            return Way(champion)
        assigned = assignment.of(request_id, assignment.caller(client, headers))
        if assigned.route == "production":
            return Way(champion, assigned)
        candidate = self.on("canary")
        # A process that could not load it answers all the same; there is nothing to learn from that.
        return Way(champion) if candidate is None else Way(candidate, assigned)
