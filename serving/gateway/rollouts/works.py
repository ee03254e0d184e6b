"""What was decided of a rollout and is still to be done, one after the other, by those who do it.

works = Works(crew, standing, alert, hurried)
works.add(move)                 # what the move asks for comes after what waits, and in place of what it undoes
unfit = works.off(rollout)      # None: done, or to be tried again
"""

import logging
from collections.abc import Callable, Sequence

from resunet.errors import ResunetError, StoreError
from serving.gateway.owner import Alert
from serving.gateway.rollouts.crew import Crew
from serving.gateway.rollouts.standing import Standing
from serving.rollout.assignment import Assignment
from serving.rollout.state import Alert as Tell
from serving.rollout.state import Ask, Direct, Effect, Move, Promote, Rollout

_log = logging.getLogger(__name__)


class _InterruptedError(Exception):
    """Somebody wants it to end: what takes long is not gone on with."""


class _UnfitError(Exception):
    """The candidate cannot serve here."""


class Works:
    """Of one director, and in its thread.

    Args:
        crew: does it.
        standing: has the candidate's files.
        alert: is told what a person is to know.
        hurried: whether somebody waits for an order.
    """

    def __init__(self, crew: Crew, standing: Standing, alert: Alert, hurried: Callable[[], bool]) -> None:
        self._crew, self._standing, self._alert, self._hurried = crew, standing, alert, hurried
        self._to_do: list[Effect] = []
        self._loaded_at_deaths: int | None = None

    def add(self, move: Move) -> None:
        """Have done what a move asks for."""
        if not move.rollout.promoting:  # before anything else: what has ended is not promoted any more
            self._crew.promotion.cancel()
            self._to_do = [effect for effect in self._to_do if not isinstance(effect, Promote)]
        if any(isinstance(effect, Direct) for effect in move.effects):
            self._to_do = [effect for effect in self._to_do if not isinstance(effect, Direct)]
        told = [effect for effect in move.effects if isinstance(effect, Ask | Tell)]
        self._to_do = [*told, *self._to_do, *(effect for effect in move.effects if not isinstance(effect, Ask | Tell))]

    def begin_again(self, effects: Sequence[Effect]) -> None:
        """Have this done and nothing else: nobody knows how far a process came that is gone."""
        self._to_do = list(effects)

    def off(self, rollout: Rollout) -> str | None:
        """Do what is to be done, in order; what fails is tried again the next time.

        Args:
            rollout: as it is now.

        Returns:
            What keeps its candidate from serving here; None: nothing does.
        """
        while self._to_do:
            try:
                self._do(self._to_do[0], rollout)
            except _InterruptedError:
                return None
            except _UnfitError as error:
                return str(error)
            except StoreError as error:
                _log.info("the rollout waits: %s", error)
                return None
            self._to_do.pop(0)
        return None

    def death(self) -> str | None:
        """What is to be said of a process that ended while it had the candidate; None: none did."""
        if self._loaded_at_deaths is None or self._crew.answering.deaths == self._loaded_at_deaths:
            return None
        return "a process that answers, and has it, ended by itself"

    def _do(self, effect: Effect, rollout: Rollout) -> None:
        match effect:
            case Direct():
                self._direct(effect.assignment, rollout)
            case Promote():
                self._crew.promotion.begin(effect.version.number, effect.reason)
            case Ask() | Tell():
                self._alert(f"a rollout of {self._standing.name}", effect.reason)

    def _direct(self, assignment: Assignment, rollout: Rollout) -> None:
        """Have the shares hold, with whoever is needed for them."""
        answering, shadow = self._crew.answering, self._crew.shadow
        twins = None
        try:
            if assignment.canary > 0 and self._loaded_at_deaths is None:
                deaths = answering.deaths
                answering.prepare("canary", self._standing.folder_of(rollout.candidate))
                self._not_in_a_hurry(rollout)
                answering.switch("canary")
                self._loaded_at_deaths = deaths
            if assignment.shadow > 0:
                twins = shadow.start(self._standing.folder_of(rollout.candidate), assignment)
        except StoreError:
            raise
        except ResunetError as error:
            raise _UnfitError(str(error)) from None
        self._not_in_a_hurry(rollout)
        answering.direct(assignment if rollout.active else None, twins)
        if twins is None:
            shadow.stop()
        if not rollout.active:
            answering.forget("canary")
            self._loaded_at_deaths = None
            self._standing.let_go()

    def _not_in_a_hurry(self, rollout: Rollout) -> None:
        """Go no further where somebody wants it to end."""
        if rollout.active and self._hurried():
            raise _InterruptedError
