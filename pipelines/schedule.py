"""How far a training run is at each step, and the learning rate that follows from it.

Progress is a piecewise-linear curve through knots (step, progress). With a number of epochs there are two knots.
A run limited by time adds a knot at each evaluation, where it plans the rest anew from the pace so far; the knots
are logged, and a run given the same knots repeats it exactly.

    Schedule.of_steps(1200).learning_rate(300, peak=3e-3)
    Schedule.parse("0:0,100:0.09,1130:1")
"""

import itertools
import math
from dataclasses import dataclass

from resunet.errors import SettingsError

WARMUP = 0.03
FINAL_FRACTION = 0.01


@dataclass(frozen=True)
class Schedule:
    """Knots in order; the first is (0, 0), the last one's progress is 1."""

    knots: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        steps = [step for step, _ in self.knots]
        values = [progress for _, progress in self.knots]
        rising = all(a < b for a, b in itertools.pairwise(steps))
        rising = rising and all(a <= b for a, b in itertools.pairwise(values))
        if len(self.knots) < 2 or self.knots[0] != (0, 0.0) or values[-1] != 1.0 or not rising:
            raise SettingsError("a schedule is knots `step:progress`, from 0:0 to the last step with progress 1")

    @classmethod
    def of_steps(cls, total: int) -> "Schedule":
        """Progress that rises evenly over `total` steps."""
        return cls(((0, 0.0), (max(1, total), 1.0)))

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """Read what `str()` wrote: comma-separated `step:progress`.

        Raises:
            SettingsError: not of that form.
        """
        try:
            pairs = [part.split(":") for part in text.split(",")]
            return cls(tuple((int(step), float(progress)) for step, progress in pairs))
        except ValueError as error:
            raise SettingsError(f"cannot read the schedule {text!r}; example: 0:0,100:0.09,1130:1") from error

    def __str__(self) -> str:
        return ",".join(f"{step}:{progress!r}" for step, progress in self.knots)

    @property
    def total(self) -> int:
        """The step at which progress reaches 1."""
        return self.knots[-1][0]

    def progress(self, step: int) -> float:
        """Progress before `step` steps have been taken, 0 … 1."""
        for (left, low), (right, high) in itertools.pairwise(self.knots):
            if step <= right:
                return low + (high - low) * (step - left) / (right - left)
        return 1.0

    def replan(self, step: int, progress_rate: float) -> "Schedule":
        """Keep the past up to `step` and finish at `progress_rate` a step from there.

        Args:
            step: where the plan changes; it becomes a knot.
            progress_rate: progress gained a step for the rest.
        """
        reached = self.progress(step)
        past = tuple(knot for knot in self.knots if knot[0] < step)
        remaining = max(1, math.ceil((1 - reached) / max(progress_rate, 1e-9)))
        return Schedule((*past, (step, reached), (step + remaining, 1.0)))

    def learning_rate(self, step: int, peak: float) -> float:
        """Linear warm-up over the first 3 % of progress, then a half cosine to 1 % of the peak."""
        progress = self.progress(step)
        if progress < WARMUP:
            return peak * (progress + self.progress(step + 1)) / 2 / WARMUP
        angle = math.pi * (progress - WARMUP) / (1 - WARMUP)
        return peak * (FINAL_FRACTION + (1 - FINAL_FRACTION) * (1 + math.cos(angle)) / 2)
