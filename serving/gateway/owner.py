"""Who follows the registry: one owner a gateway, however many processes answer.

    owner = Owner(Registry(uri), cache, fleet, OwnerSettings(poll_seconds=5), alert)
    owner.look()                    # once, here; what it finds serves when it returns
    owner.start()                   # and from now on by itself
    owner.announce()                # somebody says that something changed: look at once
    owner.health().status           # ok | degraded | down

A new version is fetched, verified, loaded by every process and made to reproduce its golden output; only then all of
them switch. One that fails any step is told of, and what served goes on serving.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from resunet.errors import ResunetError, StoreError
from serving.gateway.cache import VersionCache
from serving.gateway.fleet import Lane
from serving.gateway.releases import Release

# A look comes a little before it is due, so that finding and loading fit into the interval too; and not all gateways
# look at the same time.
_EARLIEST, _LATEST = 0.5, 0.8
_FIRST_RETRY_SECONDS: Final = 30.0
_LAST_RETRY_SECONDS: Final = 3600.0

Status = Literal["ok", "degraded", "down"]
Verb = Literal["start", "abort", "finish", "status"]  # what a rollout is asked for
Alert = Callable[[str, str], None]
_log = logging.getLogger(__name__)


class Leading(Protocol):
    """Who leads a gateway; see `serving.gateway.lead.Lead`, which does, and the workers, which pass it on."""

    def health(self) -> "Health": ...

    def announce(self) -> None: ...

    def order(self, verb: Verb, who: str, reason: str) -> dict[str, Any]: ...


class Place(Protocol):
    """Where it is looked up what is live."""

    @property
    def uri(self) -> str: ...

    @property
    def name(self) -> str: ...

    def live(self) -> Release | None: ...


class Replicas(Protocol):
    """The processes that answer, all of them; see `serving.gateway.fleet.Fleet`, which is one."""

    def prepare(self, lane: Lane, folder: Path) -> None: ...

    def switch(self, lane: Lane) -> None: ...

    def forget(self, lane: Lane) -> None: ...


@dataclass(frozen=True)
class OwnerSettings:
    """How the registry is followed.

    Attributes:
        poll_seconds: a change is seen within it.
        stop_when_archived: with nothing live, answer nothing; else what was live last goes on.
        keep_versions: how many are kept on this machine.
    """

    poll_seconds: float = 5.0
    stop_when_archived: bool = False
    keep_versions: int = 3


@dataclass(frozen=True)
class Brief:
    """A rollout in a few words; `version` is the candidate's."""

    phase: str
    version: str
    canary: float
    shadow: float


@dataclass(frozen=True)
class Health:
    """How it stands; `troubles` are sentences, empty when all is well."""

    status: Status
    serving: Release | None
    troubles: tuple[str, ...]
    swaps: int
    rollout: Brief | None = None

    def beside(self, rollout: Brief | None, troubles: tuple[str, ...]) -> "Health":
        """The same with a rollout and what is wrong with it."""
        status: Status = "degraded" if troubles and self.status == "ok" else self.status
        return replace(self, status=status, troubles=(*self.troubles, *troubles), rollout=rollout)


@dataclass
class _Refused:
    """A version that must not serve, and when it is tried again: a disk may have been full."""

    release: Release
    retry_at: float
    wait_seconds: float


class Owner:
    """Follows one place of the registry; `look` may be called from any thread.

    Args:
        place: where what is live is looked up.
        cache: where versions are fetched to.
        replicas: who answers.
        settings: how often it is looked, and what happens when nothing is live.
        alert: is told, once for each cause, when a version is refused and when the registry stays away.
        clock: of seconds.
    """

    def __init__(
        self,
        place: Place,
        cache: VersionCache,
        replicas: Replicas,
        settings: OwnerSettings,
        alert: Alert,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place, self._cache, self._replicas = place, cache, replicas
        self._settings, self._alert, self._clock = settings, alert, clock
        self._serving: Release | None = None
        self._refused: _Refused | None = None
        self._troubles: dict[str, str] = {}
        self._swaps = 0
        self._looking = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look again and again, in a thread of its own."""
        self._thread = threading.Thread(target=self._loop, name="gateway-owner", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End that thread, after the look that is under way."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def announce(self) -> None:
        """Have it looked at once; many calls at a time are one."""
        self._wake.set()

    def health(self) -> Health:
        """How it stands now; never waits."""
        troubles = tuple(self._troubles.values())
        status: Status = "down" if self._serving is None else "degraded" if troubles else "ok"
        return Health(status, self._serving, troubles, self._swaps)

    def look(self) -> None:
        """See what is live and follow it; whatever goes wrong is a trouble that `health` tells."""
        with self._looking:
            try:
                live = self._place.live()
            except StoreError as error:
                self._say("registry", f"{error}; what served last goes on", alert=False)
                if self._serving is None:
                    self._take_from_cache()
                return
            self._troubles.pop("registry", None)
            if live is None:
                self._nothing_live()
                return
            self._troubles.pop("stage", None)
            if live == self._serving:
                self._troubles.pop("release", None)
                self._refused = None
            elif not self._waits(live):
                self._take(live)

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(self._settings.poll_seconds * random.uniform(_EARLIEST, _LATEST))
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                self.look()
            except Exception:
                _log.exception("following the registry failed in a way that was not foreseen; it goes on")

    def _nothing_live(self) -> None:
        if self._settings.stop_when_archived and self._serving is not None:
            self._replicas.forget("production")
            self._serving = None
        goes_on = f"; {self._serving} goes on" if self._serving else ""
        self._say("stage", f"nothing stands at {self._place.uri}{goes_on}", alert=False)

    def _waits(self, release: Release) -> bool:
        refused = self._refused
        return refused is not None and refused.release == release and self._clock() < refused.retry_at

    def _take(self, release: Release) -> None:
        try:
            folder = self._cache.fetch(release)
            self._replicas.prepare("production", folder)
        except StoreError as error:
            self._say("release", f"{release} is live and cannot be fetched: {error}", alert=False)
        except ResunetError as error:
            self._refuse(release, str(error))
        except Exception as error:
            _log.exception("loading %s failed in a way that was not foreseen", release)
            self._refuse(release, f"{type(error).__name__}; the gateway's log says more")
        else:
            self._switch(release, folder)

    def _switch(self, release: Release, folder: Path) -> None:
        self._replicas.switch("production")
        self._swaps += self._serving is not None
        self._serving, self._refused = release, None
        self._troubles.pop("release", None)
        self._cache.keep_as_last_good(release)
        self._cache.prune(self._settings.keep_versions, {folder})

    def _refuse(self, release: Release, reason: str) -> None:
        before = self._refused if self._refused is not None and self._refused.release == release else None
        wait = min(2 * before.wait_seconds, _LAST_RETRY_SECONDS) if before else _FIRST_RETRY_SECONDS
        self._refused = _Refused(release, self._clock() + wait, wait)
        kept = f"{self._serving} goes on serving" if self._serving else "nothing is served"
        self._say("release", f"{release} is live and must not serve here: {reason}. {kept}", alert=before is None)

    def _take_from_cache(self) -> None:
        """Serve what served before a restart, while the registry is away."""
        kept = self._cache.last_good(self._place.name)
        if kept is None:
            return
        release, folder = kept
        try:
            self._cache.verify(folder)
            self._replicas.prepare("production", folder)
        except ResunetError as error:
            self._say("release", f"{release}, kept on this machine, must not serve: {error}", alert=True)
            return
        self._replicas.switch("production")
        self._serving = release
        _log.warning("the registry is away: %s is served from this machine's copy", release)

    def _say(self, cause: str, sentence: str, alert: bool) -> None:
        if self._troubles.get(cause) != sentence:
            _log.warning("%s", sentence)
        self._troubles[cause] = sentence
        if alert:
            self._alert(f"the gateway of {self._place.uri} does not follow", sentence)
