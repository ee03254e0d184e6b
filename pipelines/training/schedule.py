"""How far a training run is at each step, and the learning rate that follows from it.

Progress is a piecewise-linear curve through knots (step, progress); at those with a star validation runs. With a
number of epochs all of them are known at the start. A run limited by time adds one each time it plans the rest anew
from its pace. The knots are logged, and a run given the same knots repeats it exactly.

    Schedule.of_steps(1200).learning_rate(300, peak=3e-3)
    Schedule.parse("0:0,100:0.09*,700:0.6,1130:1*")
"""

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

from resunet.errors import SettingsError

WARMUP = 0.03
FINAL_FRACTION = 0.01


class Knot(NamedTuple):
    """Progress reached after `step` steps, and whether validation ran then."""

    step: int
    progress: float
    evaluated: bool = False


@dataclass(frozen=True)
class Schedule:
    """Knots in order; the first is (0, 0), the last one's progress is 1."""

    knots: tuple[Knot, ...]

    def __post_init__(self) -> None:
        rising = all(a.step < b.step and a.progress <= b.progress for a, b in itertools.pairwise(self.knots))
        ends = len(self.knots) > 1 and self.knots[0][:2] == (0, 0.0) and self.knots[-1].progress == 1.0
        if not (rising and ends):
            raise SettingsError("a schedule is knots `step:progress`, from 0:0 to the last step with progress 1")

    @classmethod
    def of_steps(cls, total: int, evaluations: int = 1) -> "Schedule":
        """Progress that rises evenly over `total` steps, with validations as evenly between, one of them at the end."""
        total = max(1, total)
        evaluated = {round(total * number / evaluations) for number in range(1, evaluations + 1)} - {0}
        return cls((Knot(0, 0.0), *(Knot(step, step / total, True) for step in sorted(evaluated))))

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """Read what `str()` wrote: comma-separated `step:progress`, with a star where validation ran.

        Raises:
            SettingsError: not of that form.
        """
        knots = []
        try:
            for part in text.split(","):
                step, progress = part.split(":")
                knots.append(Knot(int(step), float(progress.removesuffix("*")), progress.endswith("*")))
        except ValueError as error:
            raise SettingsError(f"cannot read the schedule {text!r}; example: 0:0,100:0.09*,1130:1*") from error
        return cls(tuple(knots))

    def __str__(self) -> str:
        return ",".join(f"{knot.step}:{knot.progress!r}{'*' if knot.evaluated else ''}" for knot in self.knots)

    @property
    def total(self) -> int:
        """The step at which progress reaches 1."""
        return self.knots[-1].step

    def progress(self, step: int) -> float:
        """Progress before `step` steps have been taken, 0 … 1."""
        for left, right in itertools.pairwise(self.knots):
            if step <= right.step:
                return left.progress + (right.progress - left.progress) * (step - left.step) / (right.step - left.step)
        return 1.0

    def replan(self, step: int, remaining: int, evaluated: bool = False) -> "Schedule":
        """Keep the past up to `step`, which becomes a knot, and finish evenly in `remaining` more steps."""
        past = tuple(knot for knot in self.knots if knot.step < step)
        here = Knot(step, self.progress(step), evaluated)
        return Schedule((*past, here, Knot(step + max(1, remaining), 1.0, True)))

    def learning_rate(self, step: int, peak: float) -> float:
        """Linear warm-up over the first 3 % of progress, then a half cosine to 1 % of the peak."""
        progress = self.progress(step)
        if progress < WARMUP:
            return peak * min(1.0, (progress + self.progress(step + 1)) / 2 / WARMUP)
        angle = math.pi * (progress - WARMUP) / (1 - WARMUP)
        return peak * (FINAL_FRACTION + (1 - FINAL_FRACTION) * (1 + math.cos(angle)) / 2)
