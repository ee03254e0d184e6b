"""What the page `/status` shows: the overview of the inference log, read aside, and what this gateway knows itself.

board = StatusBoard(read, staging, lead.health)
seen = await board.look()               # never waits for long: what was read last, and how old it is
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import anyio

from records.settings import RecordsSettings
from records.watch.overview import (
    NO_VERSION,
    Overview,
    Rollout,
    Stage,
    Stages,
    Told,
    log_to_read,
    read_overview,
    told_of,
)
from serving.gateway.aside import Aside
from serving.gateway.owner import Health
from serving.gateway.releases import Registry
from serving.page.status import Drawn

EVERY_S: Final = 10.0
# So long a page is held up for numbers of now; then it shows those of before.
_PATIENCE_S: Final = 1.5
_AGAIN_S: Final = 0.02
_SPAN: Final = timedelta(days=7)
FAILED: Final = "it cannot be read now; the gateway's log and `resunet status` say why"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """What the page shows.

    Attributes:
        overview: None: nothing was read yet.
        age_s: how long ago its reading began.
        health: of this moment.
    """

    overview: Overview | None
    age_s: float
    health: Health


class StatusBoard:
    """Of one process.

    Attributes:
        model: registered.
        drawn: the page.

    Args:
        model: registered.
        read: the overview, but for stages and rollout.
        staging: what the registry says stands in Staging.
        health: of the gateway; never waits.
        every_s: seconds between two readings, at least.
        clock: seconds.
    """

    def __init__(
        self,
        model: str,
        read: Callable[[], Overview],
        staging: Callable[[], Told[Stage]],
        health: Callable[[], Health],
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self.drawn = Drawn()
        self._log = Aside(read, every_s, "gateway-status", clock)
        self._staging = Aside(staging, every_s, "gateway-staging", clock)
        self._health = health
        self._told: tuple[str, ...] = ()

    @classmethod
    def of(cls, records: RecordsSettings, model: str, staging: Registry, health: Callable[[], Health]) -> "StatusBoard":
        """Of a gateway.

        Args:
            records: where the log is, and the home.
            model: registered.
            staging: where a candidate stands.
            health: of the gateway.
        """
        return cls(model, lambda: _read(records, model), lambda: told_of(lambda: _stage(staging), NO_VERSION), health)

    async def look(self) -> Seen:
        """What was read last; a page that nobody has looked at for long is held up a little for a new reading."""
        ends = time.monotonic() + _PATIENCE_S
        while True:
            log, staging = self._log.last(), self._staging.last()
            if (log and log.fresh and staging and staging.fresh) or time.monotonic() > ends:
                break
            await anyio.sleep(_AGAIN_S)
        health = self._health()
        if log is None:
            return Seen(None, 0.0, health)
        candidate = Told[Stage](missing="the registry is being asked") if staging is None else staging.value
        seen = replace(log.value, production=_production(health), staging=candidate, rollout=_rollout(health))
        self._tell(seen.failures)
        return Seen(_without_reasons(seen), log.age_s, health)

    def _tell(self, failures: tuple[str, ...]) -> None:
        """In the gateway's own log, once; not on the page."""
        if failures != self._told:
            for failure in failures:
                _log.warning("the status page lacks %s", failure)
            self._told = failures


def _read(records: RecordsSettings, model: str) -> Overview:
    engine = log_to_read(records)
    try:
        now = datetime.now(UTC)
        return read_overview(engine, records.home, model, now, _SPAN, lambda: Stages(None, None), lambda: None)
    finally:
        if engine is not None:
            engine.dispose()


def _without_reasons(seen: Overview) -> Overview:
    """Why something could not be read names hosts and folders, which are not for everybody who may see the page."""
    failed: dict[str, Any] = {
        name: Told[Any](missing=FAILED, failed=True) for name, part in seen.parts.items() if part.failed
    }
    return replace(seen, **failed)


def _stage(place: Registry) -> Stage | None:
    release = place.live()
    return None if release is None else Stage(release.version)


def _production(health: Health) -> Told[Stage]:
    if health.serving is None:
        return Told(missing=NO_VERSION)
    return Told(Stage(health.serving.version))


def _rollout(health: Health) -> Told[Rollout]:
    if health.rollout is None:
        return Told(missing="none was begun: python -m serving rollout start")
    return Told(Rollout(health.rollout.phase, health.rollout.version, health.rollout.canary, health.rollout.shadow))
