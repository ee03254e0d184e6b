"""When a run validates, when it ends, and, if it is limited by time, how it plans what is left.

A run of epochs or steps, or one that repeats a schedule, knows all that at the start. A run limited by time learns
its pace from its own steps: every few steps it spreads the rest of the progress over the rest of the time, so that
the learning rate is down when the time is up, however busy the machine was.
"""

import statistics
from dataclasses import dataclass, field

from pipelines.training.schedule import Schedule
from pipelines.training.settings import FitSettings

# Validation in a run of few steps would take more time than the steps: so many, or an epoch, lie between two.
LEAST_GAP = 20
# A run limited by time spends at most about this much of it on validation,
EVALUATION_SHARE = 0.1
# but at least this much on steps, and ends late where validation alone takes the rest,
LEAST_TRAINING_SHARE = 0.25
# plans after these steps (a short run has no others, though the first of a process may be slower than the rest),
EARLY_PLANS = (1, 3, 20)
# and then anew this often in a whole run.
PLANS = 40
# Before its first plan it goes as if it had so many steps: the learning rate is nearly nothing.
UNPLANNED_STEPS = 100_000


@dataclass
class Pace:
    """What planning has to remember; part of a checkpoint.

    Attributes:
        schedule: the plan so far, as knots.
        next_plan: the step after which it plans again.
        evaluations, evaluation_seconds: validations so far and what they took together.
        evaluation_estimate: seconds that one was thought to take before there was any.
        evaluated_progress: progress at the last one.
        evaluation_gap: progress between two.
    """

    schedule: str = ""
    next_plan: int = EARLY_PLANS[0]
    evaluations: int = 0
    evaluation_seconds: float = 0.0
    evaluation_estimate: float = 0.0
    evaluated_progress: float = 0.0
    evaluation_gap: float = 1.0


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
        self.timed = settings.timed
        self._step_seconds: list[float] = []
        self._limit = settings.step_limit(self.steps_per_epoch)
        if settings.schedule:
            self.schedule = Schedule.parse(settings.schedule)
        elif self.timed or self._limit is None:
            self.schedule = Schedule.of_steps(min(self._limit or UNPLANNED_STEPS, UNPLANNED_STEPS))
        else:
            most = max(1, self._limit // min(self.steps_per_epoch, LEAST_GAP))
            self.schedule = Schedule.of_steps(self._limit, min(settings.evaluations, most))

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
        return any(knot.step == step and knot.evaluated for knot in self.schedule.knots)

    def estimated(self, evaluation_seconds: float) -> None:
        """Note what a validation will take, roughly; a run limited by time plans with it until it has seen one."""
        self.pace.evaluation_estimate = evaluation_seconds

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
        steps, evaluations = self._affordable(step, seconds)
        if steps < 1:
            return False
        self.schedule = self.schedule.replan(step, steps, evaluated)
        done = self.schedule.progress(step)
        self.pace.evaluation_gap = (1 - self.pace.evaluated_progress) / evaluations
        rate = (1 - done) / steps
        self.pace.next_plan = step + max(1, min(steps, round(1 / PLANS / rate)))
        early = [planned for planned in EARLY_PLANS if planned > step]
        self.pace.next_plan = min([self.pace.next_plan, *early[:1]])
        return True

    def _affordable(self, step: int, seconds: float) -> tuple[int, int]:
        """How many more steps and validations fit into the rest of the time."""
        pace, limit = self.pace, self.settings.max_minutes * 60
        remaining = limit - seconds
        # Of a few first steps the fastest is the most like those to come.
        typical = min if step < EARLY_PLANS[-1] else statistics.median
        step_seconds = typical(self._step_seconds)
        self._step_seconds.clear()
        mean_evaluation = pace.evaluation_seconds / pace.evaluations if pace.evaluations else pace.evaluation_estimate
        fitting = int(EVALUATION_SHARE * remaining / max(mean_evaluation, 1e-9))
        evaluations = max(1, min(self.settings.evaluations - pace.evaluations, fitting))
        owed = LEAST_TRAINING_SHARE * limit - (seconds - pace.evaluation_seconds)
        steps = int(max(remaining - evaluations * mean_evaluation, owed) / max(step_seconds, 1e-9))
        if step < EARLY_PLANS[1]:
            # The first step says too little to end on.
            steps = max(steps, EARLY_PLANS[1] + 1 - step)
        if self._limit is not None:
            steps = min(steps, self._limit - step)
        return steps, evaluations

    def snapshot(self) -> Pace:
        """What a checkpoint keeps."""
        self.pace.schedule = str(self.schedule)
        return self.pace
