"""Who follows the registry: one owner a gateway, however many processes answer.

    owner = Owner(Registry(uri), cache, fleet, OwnerSettings(poll_seconds=5), alert)
    owner.look()                    # once, here; what it finds serves when it returns
    owner.start()                   # and from now on by itself
    owner.announce()                # somebody says that something changed: look at once
    owner.health().status           # ok | degraded | down

A new version is fetched, verified, loaded by every process and made to reproduce its golden output; only then all of
them switch. One that fails any step is told of, and what served goes on serving; after a restart that is the last good
version, of which a copy is kept on this machine.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from resunet.errors import ResunetError, StoreError
from serving.gateway.cache import VersionCache
from serving.gateway.fleet import Lane
from serving.gateway.releases import Release
from serving.gateway.troubles import Troubles

# A look comes a little before it is due, so that finding and loading fit into the interval too; and not all gateways
# look at the same time.
_EARLIEST, _LATEST = 0.5, 0.8
_FIRST_RETRY_SECONDS: Final = 30.0
_LAST_RETRY_SECONDS: Final = 3600.0
# A server that is being restarted is nobody's business.
_PATIENCE_SECONDS: Final = 60.0

Status = Literal["ok", "degraded", "down"]
Cause = Literal["release", "copy"]  # what is not served: the version that is live, the one kept on this machine
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
        alert: is told, once for each cause, when a version is refused, and when the registry stays away or a version
            cannot be fetched for a minute.
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
        self._settings, self._clock = settings, clock
        self._serving: Release | None = None
        self._stopped = False  # because nothing was live, and so it was to be
        self._refused: dict[Cause, _Refused] = {}
        self._troubles = Troubles(partial(alert, f"the gateway of {place.uri} does not follow"), clock)
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
        troubles = self._troubles.sentences
        status: Status = "down" if self._serving is None else "degraded" if troubles else "ok"
        return Health(status, self._serving, troubles, self._swaps)

    def look(self) -> None:
        """See what is live and follow it; whatever goes wrong is a trouble that `health` tells."""
        with self._looking:
            try:
                live = self._place.live()
            except StoreError as error:
                self._fall_back()
                self._troubles.say("registry", f"{error}; {self._meanwhile}", "registry", _PATIENCE_SECONDS)
                return
            self._troubles.over("registry")
            if live is None:
                self._nothing_live()
                return
            self._troubles.over("stage")
            if live == self._serving:
                self._troubles.over("release")
                self._refused.pop("release", None)
            elif not self._waits("release", live):
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
        self._troubles.over("release")
        self._refused.pop("release", None)
        if self._settings.stop_when_archived:
            self._stopped = True
            if self._serving is not None:
                self._replicas.forget("production")
                self._serving = None
            self._remember_the_end()
        self._fall_back()
        self._troubles.say("stage", f"nothing stands at {self._place.uri}; {self._meanwhile}", "stage", after=None)

    def _remember_the_end(self) -> None:
        """For a restart while the registry is away."""
        try:
            self._cache.mark_ended(self._place.uri)
        except OSError as error:  # a lock that is not to be had is one too
            why = error.strerror or type(error).__name__
            sentence = f"that nothing stands at {self._place.uri} cannot be written down here: {why}. Mend the disk"
            self._troubles.say("end", sentence, "end", _PATIENCE_SECONDS)
        else:
            self._troubles.over("end")

    def _take(self, release: Release) -> None:
        try:
            folder = self._cache.fetch(release)
            self._replicas.prepare("production", folder)
        except StoreError as error:
            self._fall_back()
            sentence = f"{release} is live and cannot be fetched: {error}. Meanwhile {self._meanwhile}"
            self._troubles.say("release", sentence, ("fetch", release), _PATIENCE_SECONDS)
        except Exception as error:
            self._put_off("release", release)
            self._fall_back(tried=release)
            sentence = f"{release} is live and must not serve here: {_reason(release, error)}. {self._meanwhile}"
            self._troubles.say("release", sentence, ("load", release))
        else:
            self._switch(release, folder)

    def _switch(self, release: Release, folder: Path) -> None:
        self._replicas.switch("production")
        self._swaps += self._serving is not None
        self._serving, self._stopped = release, False
        self._refused.clear()
        for cause in ("release", "copy"):
            self._troubles.over(cause)
        self._cache.keep_as_last_good(self._place.uri, release)
        self._cache.prune(self._settings.keep_versions, {folder})

    def _fall_back(self, tried: Release | None = None) -> None:
        """Where nothing serves, serve what did before a restart, unless it was tried just now or is to stay ended."""
        if self._serving is not None or self._stopped:
            return
        if self._settings.stop_when_archived and self._cache.has_ended(self._place.uri):
            return
        kept = self._cache.last_good(self._place.uri)
        if kept is None or kept[0] == tried:
            self._troubles.over("copy")
            return
        release, folder = kept
        if self._waits("copy", release):
            return
        try:
            self._cache.verify(folder)
            self._replicas.prepare("production", folder)
        except Exception as error:
            self._put_off("copy", release)
            sentence = f"{release}, kept on this machine, must not serve: {_reason(release, error)}"
            self._troubles.say("copy", sentence, release)
            return
        self._replicas.switch("production")
        self._serving = release
        self._refused.pop("copy", None)
        self._troubles.over("copy")
        _log.warning("%s is served from this machine's copy", release)

    @property
    def _meanwhile(self) -> str:
        return f"{self._serving} goes on serving" if self._serving else "nothing is served"

    def _waits(self, cause: Cause, release: Release) -> bool:
        refused = self._refused.get(cause)
        return refused is not None and refused.release == release and self._clock() < refused.retry_at

    def _put_off(self, cause: Cause, release: Release) -> None:
        """Try it again later, and ever more seldom."""
        before = self._refused.get(cause)
        again = before is not None and before.release == release
        wait = min(2 * before.wait_seconds, _LAST_RETRY_SECONDS) if before and again else _FIRST_RETRY_SECONDS
        self._refused[cause] = _Refused(release, self._clock() + wait, wait)


def _reason(release: Release, error: Exception) -> str:
    """Why a version does not serve, for people."""
    if isinstance(error, ResunetError):
        return str(error)
    _log.error("loading %s failed in a way that was not foreseen", release, exc_info=error)
    return f"{type(error).__name__}; the gateway's log says more"
