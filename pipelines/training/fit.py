"""The training loop: steps, validation, checkpoints, and when to stop.

    fitted = fit(FitSettings(epochs=10), train, validation, checkpoint=Path("run.ckpt"))
    fitted.network, fitted.history, str(fitted.schedule)

With a number of epochs or steps, or with the knots of an earlier run, the same seed gives the same weights bit for
bit on the same machine, whether the run was interrupted or not: a batch depends on (seed, step) alone, and a
checkpoint holds all the rest.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.training.batches import PixelsByIndex, SampleStore, batches
from pipelines.training.checkpoint import read_checkpoint, write_checkpoint
from pipelines.training.learner import Learner, Weights
from pipelines.training.pacing import Pace, Pacer
from pipelines.training.precision import bf16_supported
from pipelines.training.schedule import Schedule
from pipelines.training.settings import FitSettings
from resunet.errors import DataError
from resunet.memory import keep_freed_memory
from resunet.networks import SegmentationNetwork

# What a crash costs at most, where less than that lies between two validations.
CHECKPOINT_SECONDS = 120.0


@dataclass(frozen=True)
class Evaluated:
    """One validation during training: means since the last one, Dice of the averaged weights."""

    step: int
    epoch: float
    train_loss: float
    validation_dice: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Epoch:
    """As many steps as bring each training image once, on average: the mean of their losses, the rate of the last."""

    step: int
    loss: float
    learning_rate: float


@dataclass
class Fitted:
    """What a run ends with: the averaged weights of its best (or last) evaluation, on the CPU in float32."""

    network: SegmentationNetwork
    history: list[Evaluated]
    schedule: Schedule
    steps: int
    seconds: float
    stopped: str
    precision: str
    epochs: list[Epoch] = field(default_factory=list)


@dataclass
class _Progress:
    """All that changes during a run besides the tensors."""

    step: int = 0
    seconds: float = 0.0
    best_dice: float = -1.0
    since_best: int = 0
    stopped: str = ""
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    epoch_losses: list[float] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)


def fit(
    settings: FitSettings,
    train: SampleStore,
    validation: PixelsByIndex,
    *,
    checkpoint: Path | None = None,
    initial: Path | None = None,
    on_step: Callable[[int, int, float], None] = lambda step, total, loss: None,
    on_evaluation: Callable[[Evaluated, Sequence[Epoch]], None] = lambda evaluated, epochs: None,
    clock: Callable[[], float] = time.monotonic,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Fitted:
    """Train a network.

    Args:
        settings: what to train and how.
        train: training images with their masks.
        validation: (H, W, 3) uint8 and (H, W) class indices; never trained on.
        checkpoint: written at each evaluation and by the clock between, and resumed from when it exists.
        initial: safetensors of another version of the same shape, to start from instead of random weights.
        on_step: called with the step, the planned total and the loss.
        on_evaluation: called after each validation, once the checkpoint holds it, with the epochs that ended since the
            one before.
        clock: seconds; what `max_minutes` and `checkpoint_seconds` are measured with.
        checkpoint_seconds: after so long without a checkpoint the next step is followed by one.

    Raises:
        DataError: no training or no validation image, the loss or its gradient is no longer a number, or the
            checkpoint is damaged, of other settings or cannot be written.
    """
    if len(train) == 0 or len(validation) == 0:
        raise DataError("training needs at least one training and one validation image; see `pipelines prepare`")
    keep_freed_memory()
    learner = Learner(_in_one_precision(settings, checkpoint), initial)
    run = _Run(settings, train, validation, learner, clock)
    return run.go(checkpoint, checkpoint_seconds, on_step, on_evaluation)


def _in_one_precision(settings: FitSettings, checkpoint: Path | None) -> FitSettings:
    """A run that goes on stays in the precision that `auto` was when it began, where this machine has it."""
    if settings.precision != "auto" or checkpoint is None or not checkpoint.exists():
        return settings
    begun = read_checkpoint(checkpoint, torch.device("cpu"))["settings"].get("precision")
    kept = begun == "fp32" or (begun == "bf16" and bf16_supported())
    return settings.model_copy(update={"precision": begun}) if kept else settings


class _Run:
    def __init__(
        self,
        settings: FitSettings,
        train: SampleStore,
        validation: PixelsByIndex,
        learner: Learner,
        clock: Callable[[], float],
    ) -> None:
        self.settings, self.train, self.validation = settings, train, validation
        self.learner, self.clock = learner, clock
        self.steps_per_epoch = max(1, round(len(train) / settings.batch_size))
        self.pacer = Pacer(settings, self.steps_per_epoch)
        self.progress = _Progress()
        self.best: Weights = {}
        self.started = 0.0

    def go(
        self,
        checkpoint: Path | None,
        checkpoint_seconds: float,
        on_step: Callable[[int, int, float], None],
        on_evaluation: Callable[[Evaluated, Sequence[Epoch]], None],
    ) -> Fitted:
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)
        state, pacer = self.progress, self.pacer
        self.started = self.clock() - state.seconds
        if pacer.timed and not state.step:
            pacer.estimated(self._evaluation_estimate())
        saved = state.seconds
        source = batches(
            self.train,
            batch_size=self.settings.batch_size,
            crop=self.settings.crop,
            seed=self.settings.seed,
            start=state.step,
            workers=self.settings.workers,
        )
        self._lap()
        while not state.stopped:
            images, masks = next(source)
            rate = pacer.schedule.learning_rate(state.step, self.settings.learning_rate)
            state.losses.append(self._stepped(images, masks, rate))
            state.step += 1
            self._count_epoch(state.losses[-1], rate)
            pacer.stepped(self._lap())
            on_step(state.step, pacer.schedule.total, state.losses[-1])
            evaluated, state.stopped = self._evaluate_and_plan()
            if checkpoint and (evaluated or state.seconds - saved >= checkpoint_seconds):
                self._save(checkpoint)
                # What a checkpoint takes is not what a step takes.
                self._lap()
                saved = state.seconds
            if evaluated:
                # Whoever is told may fail: by now nothing is lost.
                before = state.history[-2]["step"] if len(state.history) > 1 else 0
                on_evaluation(evaluated, [Epoch(**row) for row in state.epochs if row["step"] > before])
        return self._finish()

    def _count_epoch(self, loss: float, rate: float) -> None:
        state = self.progress
        state.epoch_losses.append(loss)
        if state.step % self.steps_per_epoch == 0:
            # A checkpoint of an earlier release may lie within an epoch, of which it kept no losses.
            if len(state.epoch_losses) == self.steps_per_epoch:
                state.epochs.append(asdict(Epoch(state.step, float(np.mean(state.epoch_losses)), rate)))
            state.epoch_losses.clear()

    def _lap(self) -> float:
        """Bring the run's seconds up to now; how many have passed since the last time."""
        before = self.progress.seconds
        self.progress.seconds = self.clock() - self.started
        return self.progress.seconds - before

    def _stepped(self, images: Tensor, masks: Tensor, rate: float) -> float:
        try:
            return self.learner.step(images, masks, rate)
        except FloatingPointError as error:
            exactly = "" if self.learner.precision == "fp32" else ", or with precision=fp32"
            raise DataError(
                f"training diverged: {error} at step {self.progress.step + 1}; start a new run with a learning_rate "
                f"lower than {self.settings.learning_rate:g}{exactly}"
            ) from None

    def _evaluate_and_plan(self) -> tuple[Evaluated | None, str]:
        """What comes after a step: validation if it is due, and why the run stops, if it does."""
        state, pacer = self.progress, self.pacer
        stopped = ""
        if pacer.finished(state.step):
            stopped = "schedule"
        elif pacer.out_of_time(state.seconds):
            stopped = "out of time"
        evaluated = None
        if stopped or pacer.evaluation_due(state.step):
            evaluated = self._evaluate()
            if not stopped and self.settings.patience and state.since_best >= self.settings.patience:
                stopped = f"no better Dice in {self.settings.patience} evaluations"
        if not stopped and not pacer.plan(state.step, state.seconds, evaluated is not None):
            stopped = "out of time"
            evaluated = evaluated or self._evaluate()
        return evaluated, stopped

    def _evaluation_estimate(self) -> float:
        """Seconds that a validation will take, from a few of its images."""
        count = len(self.validation)
        few = sorted({0, count // 2, count - 1})
        # The first time that an image's size is seen is slow: the second time counts.
        self.learner.centre_dice(self.validation, few)
        before = self.clock()
        self.learner.centre_dice(self.validation, few)
        return (self.clock() - before) / len(few) * count

    def _evaluate(self) -> Evaluated:
        state = self.progress
        found = self.learner.centre_dice(self.validation, range(len(self.validation)))
        evaluated = Evaluated(
            step=state.step,
            epoch=state.step / self.steps_per_epoch,
            train_loss=float(np.mean(state.losses)),
            validation_dice=found,
            learning_rate=self.pacer.schedule.learning_rate(state.step - 1, self.settings.learning_rate),
            seconds=state.seconds,
        )
        state.losses.clear()
        state.history.append(asdict(evaluated))
        state.since_best += 1
        if self.settings.keep == "last" or found > state.best_dice:
            self.best = self.learner.averaged_weights()
        if found > state.best_dice:
            state.best_dice, state.since_best = found, 0
        self.pacer.evaluated(state.step, self._lap())
        return evaluated

    def _save(self, checkpoint: Path) -> None:
        state = {
            "settings": self._deciding(),
            "best": self.best,
            "progress": asdict(self.progress),
            "pace": asdict(self.pacer.snapshot()),
        }
        write_checkpoint(checkpoint, {**state, **self.learner.state()})

    def _resume(self, checkpoint: Path) -> None:
        state = read_checkpoint(checkpoint, self.learner.device)
        before, now = state["settings"], self._deciding()
        if changed := [name for name, value in now.items() if before.get(name) != value]:
            told = ", ".join(f"{name}: {before.get(name)!r}, now {now[name]!r}" for name in changed)
            raise DataError(
                f"the checkpoint was written with other settings ({told}); give the same, or start a new run"
            )
        self.learner.load(state)
        self.best = state["best"]
        self.progress = _Progress(**state["progress"])
        self.pacer.resume(Pace(**state["pace"]))

    def _deciding(self) -> dict[str, object]:
        """The settings that a resumed run must share, with the precision that `auto` has become here."""
        return {**self.settings.deciding(), "precision": self.learner.precision}

    def _finish(self) -> Fitted:
        state = self.progress
        return Fitted(
            network=self.learner.network_of(self.best),
            history=[Evaluated(**row) for row in state.history],
            epochs=[Epoch(**row) for row in state.epochs],
            schedule=self.pacer.schedule,
            steps=state.step,
            seconds=state.seconds,
            stopped=state.stopped,
            precision=self.learner.precision,
        )
