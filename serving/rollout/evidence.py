"""What was seen of both versions since shares last changed: counted in each worker, added up by the owner.

    evidence = Evidence(assignment.epoch)
    evidence.record(assigned, Answer(ok=True, latency_ms=41.0, confidence=0.93))
    evidence.record_shadow(assigned, champion=answer, candidate=other, dice=0.97)

    owned = Evidence.total(epoch, [json.loads(text) for text in of_the_workers])
    owned.following(next_epoch)     # empty, but for the callers' habits

Each epoch begins without evidence, and what was assigned in another one is left out: a share that changed and a time of
day that did would look like a difference between versions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

from serving.rollout.assignment import Assigned, Epoch
from serving.rollout.cells import Answer, Cells
from serving.rollout.sketch import Sketch

Route = Literal["production", "canary", "shadow"]
ROUTES: Final[tuple[Route, ...]] = ("production", "canary", "shadow")
_FORMAT: Final = 1


@dataclass
class Counters:
    """Of one route."""

    requests: int = 0
    errors: int = 0
    latency: Sketch = field(default_factory=Sketch.of_latencies)
    confidence: Sketch = field(default_factory=Sketch.of_shares)

    def add(self, answer: Answer) -> None:
        """Count one request."""
        self.requests += 1
        if not answer.ok:
            self.errors += 1
            return
        self.latency.add(answer.latency_ms)
        self.confidence.add(answer.confidence)

    def merge(self, other: Self) -> None:
        """Add what another worker counted."""
        self.requests += other.requests
        self.errors += other.errors
        self.latency.merge(other.latency)
        self.confidence.merge(other.confidence)

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        sketches = {"latency": self.latency.to_json(), "confidence": self.confidence.to_json()}
        return {"requests": self.requests, "errors": self.errors, **sketches}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What `to_json` gave."""
        latency, confidence = Sketch.from_json(content["latency"]), Sketch.from_json(content["confidence"])
        return cls(int(content["requests"]), int(content["errors"]), latency, confidence)


@dataclass
class Evidence:
    """Everything that the transitions of a rollout read. Not safe between threads: one a thread, or a lock around it.

    Attributes:
        epoch: in which it was seen.
        routes: counters for a person to read.
        cells: of the callers, answered by the version that their cell belongs to: what the tests read.
        twice: of the requests that both versions answered, (candidate, champion).
        agreement: Dice between the two masks of such a request.
        before: what all callers sent while the champion alone answered; None: that was never counted.
    """

    epoch: Epoch
    routes: dict[Route, Counters] = field(default_factory=lambda: {route: Counters() for route in ROUTES})
    cells: Cells = field(default_factory=Cells)
    twice: tuple[Cells, Cells] = field(default_factory=lambda: (Cells(), Cells()))
    agreement: Sketch = field(default_factory=Sketch.of_shares)
    before: Cells | None = None

    def record(self, assigned: Assigned, answer: Answer) -> None:
        """Count what the assigned version did, whatever the client was told in the end."""
        if assigned.epoch == self.epoch:
            self.cells.add(assigned.cell, answer)
            self.routes[assigned.route].add(answer)

    def record_shadow(self, assigned: Assigned, champion: Answer, candidate: Answer, dice: float | None) -> None:
        """Count a request that the candidate answered too, for nobody; `record` counts the champion's answer.

        Args:
            dice: between the two masks; None where there are not two.
        """
        if assigned.epoch != self.epoch:
            return
        # Where one of them failed there is nothing to compare but that.
        both = champion.ok and candidate.ok
        for cells, answer in zip(self.twice, (candidate, champion), strict=True):
            cells.add(assigned.cell, answer, compared=both)
        self.routes["shadow"].add(candidate)
        if dice is not None:
            self.agreement.add(dice)

    @property
    def told_agreement(self) -> str:
        """Of the two versions in the shadow, in words."""
        dice, (shadow, production) = self.agreement, (self.routes["shadow"], self.routes["production"])
        if not dice.count:
            return "no two masks to compare"
        return (
            f"Dice between the masks {dice.mean:.3f} on average, {dice.quantile(0.05):.3f} at the 5th percentile, "
            f"{dice.smallest:.3f} at worst, of {dice.count}; confidence {shadow.confidence.mean:.3f}, the champion's "
            f"{production.confidence.mean:.3f}"
        )

    def merge(self, other: Self) -> None:
        """Add what another worker counted.

        Raises:
            ValueError: it is of another epoch.
        """
        if other.epoch != self.epoch:
            raise ValueError(f"evidence of {other.epoch} says nothing about {self.epoch}")
        for route in ROUTES:
            self.routes[route].merge(other.routes[route])
        self.cells.merge(other.cells)
        for mine, theirs in zip(self.twice, other.twice, strict=True):
            mine.merge(theirs)
        self.agreement.merge(other.agreement)
        if other.before is not None:
            self.before = self.before or Cells()
            self.before.merge(other.before)

    def following(self, epoch: Epoch) -> Self:
        """Empty evidence of the next epoch, with the callers' habits; in another rollout they live in other cells."""
        if epoch.rollout != self.epoch.rollout:
            return type(self)(epoch)
        if self.routes["canary"].requests:
            return type(self)(epoch, before=self.before)
        before = Cells()
        for cells in (self.before, self.cells):
            if cells is not None:
                before.merge(cells)
        return type(self)(epoch, before=before)

    @classmethod
    def total(cls, epoch: Epoch, parts: Iterable[Mapping[str, Any]]) -> Self:
        """The sum of what workers sent; what is of another epoch is left out."""
        whole = cls(epoch)
        for part in parts:
            if tuple(part["epoch"]) == epoch:
                whole.merge(cls.from_json(part))
        return whole

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "format": _FORMAT,
            "epoch": self.epoch,
            "routes": {route: counters.to_json() for route, counters in self.routes.items()},
            "cells": self.cells.to_json(),
            "twice": [cells.to_json() for cells in self.twice],
            "agreement": self.agreement.to_json(),
            "before": None if self.before is None else self.before.to_json(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What `to_json` gave.

        Raises:
            ValueError, KeyError, TypeError: it gave something else.
        """
        if content["format"] != _FORMAT:
            raise ValueError(f"evidence of format {content['format']}; this release reads {_FORMAT}")
        candidate, champion = content["twice"]
        return cls(
            Epoch(*content["epoch"]),
            {route: Counters.from_json(content["routes"][route]) for route in ROUTES},
            Cells.from_json(content["cells"]),
            (Cells.from_json(candidate), Cells.from_json(champion)),
            Sketch.from_json(content["agreement"]),
            None if content["before"] is None else Cells.from_json(content["before"]),
        )
