"""The owner of a rollout: it asks `serving.rollout` what is to become of it, and has that done.

    director = Director(standing, crew, champion, file, policy, alert)
    director.start()                            # two threads: one decides, one looks at the registry
    director.order("start", "by ada", "")       # or abort, finish; the new status
    director.brief                              # what /health tells

One thread decides, so that nobody waits for a lock: what it decides is written to a file before any of it is done, and
what could not be done is done again. A gateway that is killed goes on where it was.
"""

import logging
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any, Final

from resunet.errors import ResunetError, StoreError, VersionError
from serving.errors import BusyError
from serving.gateway.owner import Alert, Brief, Verb
from serving.gateway.releases import Release
from serving.gateway.rollouts.crew import Crew
from serving.gateway.rollouts.standing import Standing
from serving.gateway.rollouts.works import Works
from serving.rollout import transitions
from serving.rollout.evidence import Evidence
from serving.rollout.file import Kept, RolloutFile
from serving.rollout.policy import PolicyFile
from serving.rollout.state import Move, Rollout, RolloutError, Version
from serving.rollout.status import status

TICK_SECONDS: Final = 1.0
_LOOKS_SHARE: Final = 0.65  # of the interval in which a change is to be seen
_WRITES_SECONDS: Final = 5.0
_ORDERS_SECONDS: Final = 25.0
_ENDS_SECONDS: Final = 30.0
_TAKES_SECONDS: Final = 0.05
# Once the machine may have failed; a version with which the gateway ends twice is the likelier cause.
_MOST_CRASHES: Final = 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Wanted:
    """What a person wants, and who waits for it."""

    verb: Verb
    why: str
    candidate: Version | None
    done: "Future[dict[str, Any]]" = field(default_factory=Future)


class Director:
    """Owns the rollout of one gateway. `order`, `brief` and `troubles` are for any thread.

    Args:
        standing: what stands in the candidate's stage.
        crew: who does what is decided.
        champion: the release that answers now; None: none does.
        file: of the rollout; one gateway at a time has it.
        policy: how versions are rolled out.
        alert: is told when a rollout ends, and when it waits for a person.
        poll_seconds: a change of the candidate's stage is seen within it.
        now: an aware time.

    Attributes:
        brief: the last rollout, in a few words.
    """

    def __init__(
        self,
        standing: Standing,
        crew: Crew,
        champion: Callable[[], Release | None],
        file: RolloutFile,
        policy: PolicyFile,
        alert: Alert,
        poll_seconds: float = 5.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._standing, self._crew, self._champion = standing, crew, champion
        self._file, self._policy = file, policy
        self._poll, self._now = poll_seconds, now
        self._held = ExitStack()
        self._owns = False
        self._rollout: Rollout | None = None
        self._evidence: Evidence | None = None
        self._resuming = False
        self._had_champion = False
        self._written_at: datetime | None = None
        self._begun = threading.Event()
        self._told: dict[str, Any] = {}
        self._unreadable: str | None = None
        self._unwritten: str | None = None
        self._stuck: str | None = None
        self._orders: SimpleQueue[_Wanted] = SimpleQueue()
        self._works = Works(crew, standing, alert, hurried=lambda: not self._orders.empty())
        self._wake = threading.Event()
        self._look_at_once = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.brief: Brief | None = None

    @property
    def troubles(self) -> tuple[str, ...]:
        """Sentences for /health."""
        wrong = (self._unreadable, self._unwritten, self._stuck, self._policy.error)
        return tuple(trouble for trouble in wrong if trouble is not None)

    def start(self) -> None:
        """Decide from now on, in a thread of its own, and look at the registry in another."""
        self._thread = threading.Thread(target=self._decide_always, name="gateway-director", daemon=True)
        self._thread.start()
        threading.Thread(target=self._look_always, name="gateway-director-looks", daemon=True).start()

    def stop(self) -> None:
        """End that, and keep what was seen until now."""
        self._stop.set()
        self._wake.set()
        self._look_at_once.set()
        if self._thread is not None:
            self._thread.join(_ENDS_SECONDS)
        self._crew.promotion.cancel()
        if self._owns:
            self._gather()
            self._write(clean=True)
        self._crew.shadow.stop()
        self._held.close()
        self._owns = False

    def order(self, verb: Verb, who: str, reason: str) -> dict[str, Any]:
        """Do what a person wants.

        Args:
            who: wants it.
            reason: why; may be empty.

        Returns:
            What the rollout is then, decided and kept; see `serving.rollout.status`.

        Raises:
            RolloutError: it cannot be done as things stand.
            StoreError, VersionError: the candidate cannot be fetched, or must not serve.
            BusyError: what was decided before takes its time; it will be done after that. Or the gateway starts.
        """
        if verb == "status":
            begun = self._begun.wait(_ORDERS_SECONDS)
            if begun and not self._owns:
                raise self._not_ours()
            if not self._told:
                raise BusyError(self._stuck or "the gateway has only just started; ask again")
            return self._told
        self._not_going_on(verb)
        candidate = self._standing.ask() if verb == "start" else None
        wanted = _Wanted(verb, f"by {who}{f': {reason}' if reason else ''}", candidate)
        self._orders.put(wanted)
        self._wake.set()
        if self._thread is None:
            self.tick()
        try:
            return wanted.done.result(_ORDERS_SECONDS)
        except TimeoutError:
            raise BusyError(f"the {verb} comes after what is being done now: see `rollout status`") from None

    def look(self) -> None:
        """See what stands in the candidate's stage; may take long."""
        rollout = self._rollout
        if rollout is not None and rollout.active:
            self._standing.look(rollout.candidate.number)

    def tick(self) -> None:
        """See how it stands, and go on where that is due; in one thread."""
        self._take_over()
        self._policy.current()  # a mistake in it is told also while nothing is rolled out
        self._obey()
        if self._owns:
            self._work_off()
            if self._rollout is not None and self._rollout.active:
                self._gather()
                self._go_on(self._rollout, self._now())
                self._work_off()
            self._told = status(self._rollout, self._evidence, self._policy, self._now())
        else:
            self._told = {}
        self._begun.set()

    def _decide_always(self) -> None:
        while not self._stop.is_set():
            try:
                self.tick()
                self._stuck = None
            except Exception as error:
                stuck = f"the rollout stands still ({type(error).__name__}); the gateway's log says more"
                if self._stuck != stuck:
                    _log.exception("a rollout failed in a way that was not foreseen; it is tried again")
                self._stuck = stuck
                self._begun.set()
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()

    def _look_always(self) -> None:
        while not self._stop.is_set():
            self._look_at_once.wait(self._poll * _LOOKS_SHARE)
            self._look_at_once.clear()
            try:
                self.look()
            except Exception:
                _log.exception("looking at %s failed in a way that was not foreseen", self._standing.uri)

    def _not_going_on(self, verb: Verb) -> None:
        """Say at once that a start has to wait, before anything is fetched for it."""
        rollout = self._rollout
        if verb == "start" and rollout is not None and rollout.active:
            transitions.refuse_second(rollout)

    def _take_over(self) -> None:
        """Have the file, from the first moment that no other gateway has it."""
        if self._owns:
            return
        try:
            self._held.enter_context(self._file.held(_TAKES_SECONDS))
        except RolloutError:
            return  # the other gateway tells of it
        try:
            kept = self._file.read()
        except RolloutError as error:
            self._held.close()
            self._unreadable = str(error)
            return
        self._owns, self._unreadable = True, None
        self._rollout, self._evidence = kept.rollout, kept.evidence
        if self._rollout is not None and self._rollout.active:
            self._resuming = True
            self._look_at_once.set()
            if not kept.clean and self._rollout.canary > 0:
                self._carry_out(transitions.crashed(self._rollout, self._now(), _MOST_CRASHES))
        self._write()
        self._say()

    def _obey(self) -> None:
        """Do what people want; each is answered when it is decided and kept, before it is done."""
        while True:
            try:
                wanted = self._orders.get_nowait()
            except Empty:
                return
            try:
                wanted.done.set_result(self._decided(wanted))
            except Exception as error:
                wanted.done.set_exception(error)
                if not isinstance(error, ResunetError):
                    raise

    def _decided(self, wanted: _Wanted) -> dict[str, Any]:
        if not self._owns:
            raise self._not_ours()
        now = self._now()
        self._gather()
        match wanted.verb:
            case "start":
                champion, policy = self._champion_now(), self._policy.current()
                self._carry_out(
                    transitions.start(
                        self._rollout, champion, wanted.candidate, policy, now, uuid.uuid4().hex, wanted.why
                    )
                )
            case "abort":
                self._carry_out(transitions.abort(self._rollout, now, wanted.why))
            case _:
                self._carry_out(transitions.finish(self._rollout, now, wanted.why))
        self._told = told = status(self._rollout, self._evidence, self._policy, now)
        return told

    def _not_ours(self) -> RolloutError:
        return RolloutError(self._unreadable or "another gateway of this RESUNET_HOME has the rollout: ask that one")

    def _go_on(self, rollout: Rollout, now: datetime) -> None:
        """Decide what becomes of a rollout that is going on."""
        seen, champion = self._champion_seen()
        known = seen and self._standing.known
        here = champion if seen else rollout.champion, self._standing.version if known else rollout.candidate
        if self._resuming:
            ended = transitions.superseded(rollout, now, *here)
            if ended is not None:
                self._carry_out(ended)
            elif known:  # until then the champion answers everybody
                self._resuming = False
                self._works.begin_again(transitions.resume(rollout))
            return
        for harm in (self._crew.shadow.trouble, self._works.death()):
            if harm is not None:
                self._carry_out(transitions.abort(rollout, now, f"version {rollout.candidate.number}: {harm}"))
                return
        if (said := self._crew.promotion.refusal()) is not None:
            self._carry_out(transitions.refused(rollout, now, said))
            return
        move = transitions.advance(rollout, self._evidence_now(), self._policy.current(), now, *here)
        # While it is not known what stands where, nothing goes on; but harm is harm, and an end is an end.
        if known or not move.rollout.active:
            self._carry_out(move)
        if self._written_at is None or (now - self._written_at).total_seconds() >= _WRITES_SECONDS:
            self._write()

    def _champion_seen(self) -> tuple[bool, Version | None]:
        """Whether it is known what is in Production now, and what is."""
        try:
            champion = self._champion_now()
        except (StoreError, VersionError):
            return False, None
        # A gateway that has only just started may not have seen yet what is live.
        self._had_champion = self._had_champion or champion is not None
        return self._had_champion, champion

    def _champion_now(self) -> Version | None:
        release = self._champion()
        return None if release is None else self._standing.version_of(release)

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
        """Keep it; what is to be done for it is done by `_work_off`."""
        if move.rollout is self._rollout:
            return
        self._rollout = move.rollout
        if move.rollout.active:
            self._evidence_now()
        self._works.add(move)
        self._resuming = self._resuming and move.rollout.active
        self._write()
        self._say()

    def _write(self, clean: bool = False) -> None:
        try:
            self._file.write(Kept(self._rollout, self._evidence, clean))
        except RolloutError as error:
            if self._unwritten is None:
                _log.error("%s", error)
            self._unwritten = str(error)
        else:
            self._unwritten, self._written_at = None, self._now()

    def _work_off(self) -> None:
        """Have done what is to be done; a version that turns out unfit for it ends the rollout."""
        while self._rollout is not None and (unfit := self._works.off(self._rollout)) is not None:
            told = f"version {self._rollout.candidate.number} must not serve here: {unfit}"
            self._carry_out(transitions.abort(self._rollout, self._now(), told))

    def _say(self) -> None:
        rollout = self._rollout
        if rollout is None:
            return
        self.brief = Brief(rollout.phase, rollout.candidate.number, rollout.canary, rollout.shadow)
        _log.info("rollout of version %s: %s (%s)", rollout.candidate.number, rollout.phase, rollout.reason)
