"""What a process has seen of a rollout, until its owner takes it.

seen = Seen()
seen.direct(assignment)                 # None: there is no rollout
seen.record(assigned, Answer(ok=True, latency_ms=41.0, confidence=0.93))
evidence = seen.take()                  # None: nothing new
"""

import threading

from serving.rollout.assignment import Assigned, Assignment
from serving.rollout.cells import Answer
from serving.rollout.evidence import Evidence


class Seen:
    """Counts what is of the shares that hold now; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._assignment: Assignment | None = None
        self._evidence: Evidence | None = None
        self._new = False

    @property
    def assignment(self) -> Assignment | None:
        """The shares that hold now."""
        return self._assignment

    def direct(self, assignment: Assignment | None) -> None:
        """From now on these shares hold; what was seen and not taken of others is lost."""
        with self._lock:
            self._assignment = assignment
            self._evidence = None if assignment is None else Evidence(assignment.epoch)
            self._new = False

    def record(self, assigned: Assigned, answer: Answer) -> None:
        """As of `Evidence.record`."""
        with self._lock:
            if self._evidence is not None:
                self._evidence.record(assigned, answer)
                self._new = True

    def record_shadow(self, assigned: Assigned, champion: Answer, candidate: Answer, dice: float | None) -> None:
        """As of `Evidence.record_shadow`."""
        with self._lock:
            if self._evidence is not None:
                self._evidence.record_shadow(assigned, champion, candidate, dice)
                self._new = True

    def take(self) -> Evidence | None:
        """What was seen since it was last taken; None: nothing."""
        with self._lock:
            if self._evidence is None or not self._new:
                return None
            taken, self._evidence, self._new = self._evidence, Evidence(self._evidence.epoch), False
            return taken
