"""When a run validates, when it ends, and, if it is limited by time, how it plans what is left.

A run of epochs, or one that repeats a schedule, knows all that at the start. A run limited by time learns its pace
from its own steps: every few steps it spreads the rest of the progress over the rest of the time, so that the
learning rate is down when the time is up, however busy the machine was.
"""

import statistics
from dataclasses import dataclass, field

from pipelines.schedule import Schedule
from pipelines.settings import FitSettings

# A run limited by time spends at most about this much of it on validation,
EVALUATION_SHARE = 0.1
# knows its pace after so many steps,
PROBE_STEPS = 20
# and then plans anew this often in a whole run.
PLANS = 40


@dataclass
class Pace:
    """What planning has to remember; part of a checkpoint."""

    schedule: str = ""
    next_plan: int = PROBE_STEPS
    evaluations: int = 0
    evaluation_seconds: float = 0.0
    evaluated_progress: float = 0.0
    evaluation_gap: float = 0.0


@dataclass
class Pacer:
    """Plans one run.

    Args:
        settings: of the run.
        steps_per_epoch: batches in which every image is seen once.
    """

    settings: FitSettings
    steps_per_epoch: int
    pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        settings = self.settings
        self.timed = bool(settings.max_minutes) and not settings.schedule
        self._step_seconds: list[float] = []
        total = settings.epochs * self.steps_per_epoch
        if settings.schedule:
            self.schedule = Schedule.parse(settings.schedule)
        elif settings.max_steps and not self.timed:
            self.schedule = Schedule.of_steps(min(total, settings.max_steps))
        else:
            self.schedule = Schedule.of_steps(total)

    def resume(self, pace: Pace) -> None:
        """Go on from a checkpoint."""
        self.pace = pace
        self.schedule = Schedule.parse(pace.schedule)

    def stepped(self, seconds: float) -> None:
        """Note how long a step took."""
        self._step_seconds.append(seconds)

    def out_of_time(self, seconds: float) -> bool:
        """Whether the time limit has passed."""
        return self.timed and seconds >= self.settings.max_minutes * 60

    def finished(self, step: int) -> bool:
        """Whether `step` is the last one."""
        return step >= self.schedule.total or step == (self.settings.max_steps or -1)

    def evaluation_due(self, step: int) -> bool:
        """Whether validation runs after `step`."""
        if self.timed:
            gap = self.schedule.progress(step) - self.pace.evaluated_progress
            return step == self.pace.next_plan and gap >= self.pace.evaluation_gap
        if self.settings.schedule:
            return any(knot.step == step and knot.evaluated for knot in self.schedule.knots)
        every = max(1, round(self.settings.epochs / self.settings.evaluations)) * self.steps_per_epoch
        return step % every == 0

    def evaluated(self, step: int, seconds: float) -> None:
        """Note what a validation took."""
        self.pace.evaluations += 1
        self.pace.evaluation_seconds += seconds
        self.pace.evaluated_progress = self.schedule.progress(step)

    def plan(self, step: int, seconds: float, evaluated: bool) -> bool:
        """Plan the rest, if it is time to; False if not a step fits into it any more.

        Args:
            step: steps taken.
            seconds: since the start of the run.
            evaluated: whether validation has just run.
        """
        if not self.timed or step != self.pace.next_plan:
            return True
        remaining = self.settings.max_minutes * 60 - seconds
        step_seconds = statistics.median(self._step_seconds)
        self._step_seconds.clear()
        mean_evaluation = self.pace.evaluation_seconds / self.pace.evaluations
        affordable = int(EVALUATION_SHARE * remaining / max(mean_evaluation, 1e-9))
        evaluations = max(1, min(self.settings.evaluations - self.pace.evaluations, affordable))
        steps = int((remaining - evaluations * mean_evaluation) / max(step_seconds, 1e-9))
        steps = min(steps, self.settings.epochs * self.steps_per_epoch - step)
        if self.settings.max_steps:
            steps = min(steps, self.settings.max_steps - step)
        if steps < 1:
            return False
        self.schedule = self.schedule.replan(step, steps, evaluated)
        done = self.schedule.progress(step)
        self.pace.evaluation_gap = (1 - self.pace.evaluated_progress) / evaluations
        rate = (1 - done) / steps
        self.pace.next_plan = step + max(1, min(steps, round(1 / PLANS / rate)))
        return True

    def snapshot(self) -> Pace:
        """What a checkpoint keeps."""
        self.pace.schedule = str(self.schedule)
        return self.pace
