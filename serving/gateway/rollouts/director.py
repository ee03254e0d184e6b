"""The owner of a rollout: it asks `serving.rollout` what is to become of it, and has that done.

    director = Director(stage, cache, answering, shadow, promotion, champion, file, policy, alert)
    director.order("start", "by ada", "")       # or abort, finish; the new status
    director.tick()                             # every second or so; `run` does it until `stop`
    director.brief                              # what /health tells

All that it knows is in one file, written before anything of it is done: a gateway that is killed goes on where it was.
"""

import logging
import threading
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

from resunet.errors import ResunetError, SettingsError, StoreError, VersionError
from serving.gateway.cache import VersionCache
from serving.gateway.fleet import Lane
from serving.gateway.owner import Alert, Brief, Place, Verb
from serving.gateway.releases import Release
from serving.identity import verified_identity
from serving.pyfunc import VERSION_ARTIFACT
from serving.rollout import transitions
from serving.rollout.assignment import Assignment
from serving.rollout.evidence import Evidence
from serving.rollout.file import Kept, RolloutFile
from serving.rollout.policy import PolicyFile
from serving.rollout.state import Alert as Tell
from serving.rollout.state import Ask, Direct, Effect, Move, Promote, Rollout, RolloutError, Version
from serving.rollout.status import status

TICK_SECONDS: Final = 1.0
_WRITES_SECONDS: Final = 5.0
_STARTS_ALONE: Final = 0.2
_log = logging.getLogger(__name__)


class Answering(Protocol):
    """The processes that answer clients."""

    def prepare(self, lane: Lane, folder: Path) -> None: ...

    def switch(self, lane: Lane) -> None: ...

    def forget(self, lane: Lane) -> None: ...

    def direct(self, assignment: Assignment | None, twins: str | None) -> None: ...

    def take(self) -> list[Evidence]: ...


class Aside(Protocol):
    """The process that answers for nobody; see `serving.gateway.rollouts.shadow.Shadow`, which is one."""

    @property
    def trouble(self) -> str | None: ...

    def start(self, folder: Path, assignment: Assignment) -> str: ...

    def take(self) -> list[Evidence]: ...

    def stop(self) -> None: ...


class Promoter(Protocol):
    """Who asks the registry; see `serving.gateway.rollouts.promotion.Promotion`, which is one."""

    def begin(self, version: str, reason: str) -> None: ...

    def refusal(self) -> str | None: ...


@dataclass(frozen=True)
class Crew:
    """Who does what the director says."""

    answering: Answering
    shadow: Aside
    promotion: Promoter


class Director:
    """Owns the rollout of one gateway; safe between threads.

    Args:
        stage: where the candidate stands.
        cache: where versions are fetched to.
        crew: who does what is decided.
        champion: the release that answers now; None: none does.
        file: of the rollout; one gateway at a time has it.
        policy: how versions are rolled out.
        alert: is told when a rollout ends, and when it waits for a person.
        poll_seconds: a change of the candidate's stage is seen within it.
        now: an aware time.
    """

    def __init__(
        self,
        stage: Place,
        cache: VersionCache,
        crew: Crew,
        champion: Callable[[], Release | None],
        file: RolloutFile,
        policy: PolicyFile,
        alert: Alert,
        poll_seconds: float = 5.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._stage, self._cache, self._crew, self._champion = stage, cache, crew, champion
        self._file, self._policy, self._alert = file, policy, alert
        self._poll, self._now = timedelta(seconds=poll_seconds), now
        self._lock = threading.RLock()
        self._held = ExitStack()
        self._owns = False
        self._trouble: str | None = None
        self._stuck: str | None = None
        self._undone: Assignment | None = None
        self._rollout: Rollout | None = None
        self._evidence: Evidence | None = None
        self._written_at: datetime | None = None
        self._looked_at: datetime | None = None
        self._candidate: Release | None = None
        self._versions: dict[Release, Version] = {}
        self._loaded = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.brief: Brief | None = None

    @property
    def troubles(self) -> tuple[str, ...]:
        """Sentences for /health."""
        wrong = (self._trouble, self._stuck, self._policy.error)
        return tuple(trouble for trouble in wrong if trouble is not None)

    def start(self) -> None:
        """Tick again and again, in a thread of its own."""
        self._thread = threading.Thread(target=self._loop, name="gateway-director", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End that thread, and keep what was seen until now."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            if self._owns and self._rollout is not None and self._rollout.active:
                self._gather()
                self._write()
            self._crew.shadow.stop()
            self._held.close()
            self._owns = False

    def order(self, verb: Verb, who: str, reason: str) -> dict[str, Any]:
        """Do what a person wants.

        Args:
            who: wants it.
            reason: why; may be empty.

        Returns:
            What the rollout is then; see `serving.rollout.status`.

        Raises:
            RolloutError: it cannot be done as things stand.
            StoreError, VersionError: the candidate cannot be fetched, or must not serve.
        """
        with self._lock:
            self._take_over()
            if not self._owns:
                raise RolloutError(self._trouble or "another gateway of this RESUNET_HOME has the rollout")
            now, why = self._now(), f"by {who}{f': {reason}' if reason else ''}"
            self._gather()
            match verb:
                case "start":
                    self._begin(now, why)
                case "abort":
                    self._carry_out(transitions.abort(self._rollout, now, why))
                case "finish":
                    self._carry_out(transitions.finish(self._rollout, now, why))
                case _:
                    pass
            return status(self._rollout, self._evidence, self._policy, now)

    def tick(self) -> None:
        """See how it stands, and go on where that is due."""
        with self._lock:
            self._take_over()
            self._policy.current()  # a mistake in it is told also while nothing is rolled out
            if not self._owns or self._rollout is None or not self._rollout.active:
                return
            self._gather()
            now = self._now()
            if self._undone is not None:
                self._direct(self._undone)
            if (ended := self._crew.shadow.trouble) is not None:
                self._carry_out(transitions.abort(self._rollout, now, f"version {self._number} in the shadow: {ended}"))
                return
            if (said := self._crew.promotion.refusal()) is not None:
                self._carry_out(transitions.refused(self._rollout, now, said))
            if (there := self._there(now)) is not None:
                policy = self._policy.current()
                self._carry_out(transitions.advance(self._rollout, self._evidence_now(), policy, now, *there))
            if self._written_at is None or (now - self._written_at).total_seconds() >= _WRITES_SECONDS:
                self._write()

    @property
    def _number(self) -> str:
        return self._rollout.candidate.number if self._rollout else ""

    def _loop(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            try:
                self.tick()
                self._stuck = None
            except Exception as error:
                self._stuck = f"the rollout stands still ({type(error).__name__}); the gateway's log says more"
                _log.exception("a rollout failed in a way that was not foreseen; it is tried again")

    def _take_over(self) -> None:
        """Have the file, from the first moment that no other gateway has it."""
        if self._owns:
            return
        try:
            self._held.enter_context(self._file.held(_STARTS_ALONE))
        except RolloutError:
            return  # the other gateway tells of it
        self._owns = True
        try:
            kept = self._file.read()
        except RolloutError as error:
            self._held.close()
            self._owns, self._trouble = False, str(error)
            return
        self._trouble = None
        self._rollout, self._evidence = kept
        self._say()
        for effect in transitions.resume(self._rollout):
            self._do(effect)

    def _begin(self, now: datetime, why: str) -> None:
        if self._rollout is None or not self._rollout.active:
            self._candidate, self._looked_at = self._stage.live(), now
        champion, candidate = (
            None if release is None else self._version(release) for release in (self._champion(), self._candidate)
        )
        policy = self._policy.current()
        self._carry_out(transitions.start(self._rollout, champion, candidate, policy, now, uuid.uuid4().hex, why))

    def _there(self, now: datetime) -> tuple[Version | None, Version | None] | None:
        """What is in Production and in Staging; None: it is not known now, which changes nothing."""
        champion = self._champion()
        try:
            if self._looked_at is None or now - self._looked_at >= self._poll:
                self._candidate, self._looked_at = self._stage.live(), now
            candidate = None if self._candidate is None else self._version_or_wreck(self._candidate)
            return None if champion is None else self._version(champion), candidate
        except (StoreError, SettingsError) as error:
            _log.info("what is to be rolled out is not known now: %s", error)
            return None

    def _version_or_wreck(self, release: Release) -> Version:
        """The same, and of files that are not what they were a version that is like no other."""
        try:
            return self._version(release)
        except VersionError as error:
            _log.warning("%s: %s", release, error)
            return Version(release.version, f"unusable since {release.registered_ms}")

    def _version(self, release: Release) -> Version:
        """Number and digest of a release, whose files are fetched for that."""
        if release not in self._versions:
            root = self._cache.fetch(release) / "artifacts" / VERSION_ARTIFACT
            self._versions[release] = Version(release.version, verified_identity(root).digest)
        return self._versions[release]

    def _evidence_now(self) -> Evidence:
        assert self._rollout is not None, "only a rollout has evidence"
        epoch = self._rollout.assignment.epoch
        if self._evidence is None or self._evidence.epoch != epoch:
            self._evidence = Evidence(epoch) if self._evidence is None else self._evidence.following(epoch)
        return self._evidence

    def _gather(self) -> None:
        """Add what was seen since; what is of other shares says nothing about these."""
        parts = [*self._crew.answering.take(), *self._crew.shadow.take()]
        if self._rollout is None or not self._rollout.active:
            return
        evidence = self._evidence_now()
        for part in parts:
            if part.epoch == evidence.epoch:
                evidence.merge(part)

    def _carry_out(self, move: Move) -> None:
        """Keep it, then do it."""
        if move.rollout is self._rollout:
            return
        self._rollout = move.rollout
        if move.rollout.active:
            self._evidence_now()
        self._write()
        self._say()
        for effect in move.effects:
            self._do(effect)

    def _write(self) -> None:
        try:
            self._file.write(Kept(self._rollout, self._evidence))
        except RolloutError as error:
            self._trouble = str(error)
            _log.error("%s", error)
        else:
            self._trouble, self._written_at = None, self._now()

    def _do(self, effect: Effect) -> None:
        match effect:
            case Direct():
                self._direct(effect.assignment)
            case Promote():
                self._crew.promotion.begin(effect.version.number, effect.reason)
            case Ask() | Tell():
                self._alert(f"a rollout of {self._stage.name}", effect.reason)

    def _direct(self, assignment: Assignment) -> None:
        """Have the shares hold, with whoever is needed for them."""
        answering, shadow = self._crew.answering, self._crew.shadow
        self._undone = None
        try:
            if assignment.canary > 0 and not self._loaded:
                answering.prepare("canary", self._folder())
                answering.switch("canary")
                self._loaded = True
            twins = shadow.start(self._folder(), assignment) if assignment.shadow > 0 else None
        except (
            StoreError
        ) as error:  # after a restart, while the registry is away: the champion answers until it is back
            self._undone = assignment
            _log.warning("the rollout waits: %s", error)
            return
        except ResunetError as error:
            assert self._rollout is not None, "only a rollout has shares"
            told = f"version {self._number} must not serve here: {error}"
            self._carry_out(transitions.abort(self._rollout, self._now(), told))
            return
        active = self._rollout is not None and self._rollout.active
        answering.direct(assignment if active else None, twins)
        if twins is None:
            shadow.stop()
        if not active:
            answering.forget("canary")
            self._loaded = False
            self._cache.unpin("candidate")

    def _folder(self) -> Path:
        """Of the candidate, kept as long as the rollout lasts."""
        assert self._rollout is not None, "only a rollout has a candidate"
        release = self._candidate if self._candidate is not None else self._stage.live()
        if release is None or self._version(release) != self._rollout.candidate:
            raise VersionError(f"version {self._number} is no longer at {self._stage.uri}")
        self._candidate = release
        folder = self._cache.fetch(release)
        self._cache.pin("candidate", folder)
        return folder

    def _say(self) -> None:
        rollout = self._rollout
        if rollout is None:
            return
        self.brief = Brief(rollout.phase, rollout.candidate.number, rollout.canary, rollout.shadow, rollout.reason)
        _log.info("rollout of version %s: %s (%s)", rollout.candidate.number, rollout.phase, rollout.reason)
