"""The training loop: Lightning Fabric, averaged weights, validation, checkpoints.

    fitted = fit(FitSettings(epochs=10), train, validation, checkpoint=Path("run.ckpt"))
    fitted.network, fitted.history, str(fitted.schedule)

With a number of epochs, or with the knots of an earlier run, the same seed gives the same weights bit for bit on
the same machine, whether the run was interrupted or not: a batch depends on (seed, step) alone, and a checkpoint
holds all the rest.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_model
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from pipelines.batches import Pixels, SampleStore, batches
from pipelines.memory import keep_freed_memory
from pipelines.pacing import Pace, Pacer
from pipelines.schedule import Schedule
from pipelines.settings import FitSettings
from resunet.errors import DataError
from resunet.losses import segmentation_loss
from resunet.metrics import dice
from resunet.networks import SegmentationNetwork, build_network
from resunet.networks.graph import ServingGraph, normalise

Tensors = tuple[Tensor, ...] | list[Tensor]


class PixelsByIndex(Protocol):
    """Images with their masks: a list, or a `SampleStore`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Pixels: ...


@dataclass(frozen=True)
class Evaluated:
    """One validation during training: means since the last one, Dice of the averaged weights."""

    step: int
    epoch: float
    train_loss: float
    validation_dice: float
    learning_rate: float
    seconds: float


@dataclass
class Fitted:
    """What a run ends with: the averaged weights of its best evaluation, on the CPU in float32."""

    network: SegmentationNetwork
    history: list[Evaluated]
    schedule: Schedule
    steps: int
    seconds: float
    stopped: str
    precision: str


@dataclass
class _Progress:
    """All that changes during a run besides the tensors."""

    step: int = 0
    seconds: float = 0.0
    best_dice: float = -1.0
    since_best: int = 0
    stopped: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)


def bf16_supported() -> bool:
    """Whether this machine multiplies bfloat16 in hardware (CUDA, AMX or AVX-512 BF16)."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def chosen_precision(setting: str) -> str:
    """`fp32` or `bf16`; `auto` takes bf16 where the processor has it."""
    if setting == "auto":
        return "bf16" if bf16_supported() else "fp32"
    return setting


def fit(
    settings: FitSettings,
    train: SampleStore,
    validation: PixelsByIndex,
    *,
    checkpoint: Path | None = None,
    initial: Path | None = None,
    on_step: Callable[[int, int, float], None] = lambda step, total, loss: None,
    on_evaluation: Callable[[Evaluated], None] = lambda evaluated: None,
    clock: Callable[[], float] = time.monotonic,
) -> Fitted:
    """Train a network.

    Args:
        settings: what to train and how.
        train: training images with their masks.
        validation: (H, W, 3) uint8 and (H, W) class indices; never trained on.
        checkpoint: written at each evaluation, and resumed from when it exists.
        initial: safetensors of another version of the same shape, to start from instead of random weights.
        on_step: called with the step, the planned total and the loss.
        on_evaluation: called after each validation.
        clock: seconds; what `max_minutes` is measured with.

    Raises:
        DataError: no training or no validation image, or the loss is no longer a number.
    """
    if len(train) == 0 or len(validation) == 0:
        raise DataError("training needs at least one training and one validation image; see `pipelines prepare`")
    keep_freed_memory()
    return _Run(settings, train, validation, checkpoint, initial, clock).go(on_step, on_evaluation)


class _Run:
    def __init__(
        self,
        settings: FitSettings,
        train: SampleStore,
        validation: PixelsByIndex,
        checkpoint: Path | None,
        initial: Path | None,
        clock: Callable[[], float],
    ) -> None:
        self.settings, self.train, self.validation = settings, train, validation
        self.checkpoint, self.clock = checkpoint, clock
        self.precision = chosen_precision(settings.precision)
        self.fabric = Fabric(devices=1, precision="bf16-mixed" if self.precision == "bf16" else "32-true")
        self.steps_per_epoch = max(1, round(len(train) / settings.batch_size))
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            network = build_network(settings.architecture, settings.width, 3, settings.classes)
        if initial is not None:
            load_weights(network, initial)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from torch's stubs
        optimizer = torch.optim.AdamW(
            network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.averaged = AveragedModel(network, multi_avg_fn=self._average, use_buffers=True)
        self.best: dict[str, Tensor] = {}
        self.network, self.optimizer = self.fabric.setup(network, optimizer)
        self.averaged.to(self.fabric.device)
        self.pacer = Pacer(settings, self.steps_per_epoch)
        self.progress = _Progress()

    def _average(self, averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
        """Exponential moving average whose decay grows with the number of steps taken."""
        steps = int(count)
        decay = min(self.settings.ema_decay, (1 + steps) / (10 + steps))
        # Torch hands over one data type at a time: weights, or the counters of batch norms.
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - decay)
        else:
            torch._foreach_copy_(averaged, current)

    def go(
        self,
        on_step: Callable[[int, int, float], None],
        on_evaluation: Callable[[Evaluated], None],
    ) -> Fitted:
        self._resume()
        state, pacer = self.progress, self.pacer
        started = self.clock() - state.seconds
        losses: list[float] = []
        stopped = state.stopped
        source = batches(
            self.train,
            batch_size=self.settings.batch_size,
            crop=self.settings.crop,
            seed=self.settings.seed,
            start=state.step,
            workers=self.settings.workers,
        )
        while not stopped:
            loss = self._step(*next(source))
            losses.append(loss)
            pacer.stepped(self._lap(started))
            on_step(state.step, pacer.schedule.total, loss)
            if pacer.finished(state.step):
                stopped = "schedule"
            elif pacer.out_of_time(state.seconds):
                stopped = "out of time"
            evaluated = None
            if stopped or pacer.evaluation_due(state.step):
                evaluated = self._evaluate(float(np.mean(losses)))
                losses.clear()
                pacer.evaluated(state.step, self._lap(started))
                if not stopped and self.settings.patience and state.since_best >= self.settings.patience:
                    stopped = f"no better Dice in {self.settings.patience} evaluations"
            if not stopped and not pacer.plan(state.step, state.seconds, evaluated is not None):
                stopped = "out of time"
                if evaluated is None:
                    evaluated = self._evaluate(float(np.mean(losses)))
            if evaluated is not None:
                state.stopped = stopped
                on_evaluation(evaluated)
                self._save()
        return self._finish(stopped)

    def _lap(self, started: float) -> float:
        """Bring the run's seconds up to now; how many have passed since the last time."""
        before = self.progress.seconds
        self.progress.seconds = self.clock() - started
        return self.progress.seconds - before

    def _step(self, images: Tensor, masks: Tensor) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.pacer.schedule.learning_rate(self.progress.step, self.settings.learning_rate)
        self.network.train()
        logits = self.network(self._pixels(images))
        loss = segmentation_loss(logits, masks.to(self.fabric.device).long())
        self.fabric.backward(loss)
        self.fabric.clip_gradients(self.network, self.optimizer, max_norm=self.settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.averaged.update_parameters(self.network.module)
        self.progress.step += 1
        value = float(loss.detach())
        if not np.isfinite(value):
            raise DataError(
                f"the loss is {value} at step {self.progress.step}: lower learning_rate, or set precision=fp32"
            )
        return value

    def _pixels(self, images: Tensor) -> Tensor:
        pixels = normalise(images.to(self.fabric.device).permute(0, 3, 1, 2).float())
        return pixels.contiguous(memory_format=torch.channels_last)

    def _evaluate(self, train_loss: float) -> Evaluated:
        averaged = cast(SegmentationNetwork, self.averaged.module)
        graph = ServingGraph(averaged, self.settings.classes).eval().to(self.fabric.device)
        scores = []
        with torch.inference_mode(), self._autocast():
            for index in range(len(self.validation)):
                rgb, mask = self.validation[index]
                rgb, mask = (
                    _centre(rgb, self.settings.evaluation_side),
                    _centre(mask, self.settings.evaluation_side),
                )
                images = torch.from_numpy(np.array(rgb)).to(self.fabric.device)
                found = graph(images[None])[0][0].float().cpu().numpy()
                predicted = found[0] >= 0.5 if len(found) == 1 else found.argmax(axis=0)
                scores.append(dice(predicted.astype(np.uint8), mask))
        state = self.progress
        evaluated = Evaluated(
            step=state.step,
            epoch=state.step / self.steps_per_epoch,
            train_loss=train_loss,
            validation_dice=float(np.mean(scores)),
            learning_rate=self.pacer.schedule.learning_rate(state.step - 1, self.settings.learning_rate),
            seconds=state.seconds,
        )
        state.history.append(asdict(evaluated))
        state.since_best += 1
        if evaluated.validation_dice > state.best_dice:
            state.best_dice, state.since_best = evaluated.validation_dice, 0
            self.best = {name: value.clone() for name, value in self.averaged.module.state_dict().items()}
        return evaluated

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        with self.fabric.autocast():
            yield

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        partial = self.checkpoint.with_suffix(".partial")
        state = {
            "settings": self.settings.model_dump(),
            "network": self.network.module.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "progress": asdict(self.progress),
            "pace": asdict(self.pacer.snapshot()),
        }
        try:
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            torch.save(state, partial)
            partial.replace(self.checkpoint)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            raise DataError(
                f"the checkpoint {self.checkpoint} cannot be written; free some space or set RESUNET_HOME. The one "
                "before it, if any, is whole: resume from it"
            ) from error

    def _resume(self) -> None:
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, map_location=self.fabric.device, weights_only=True)
        if state["settings"] != self.settings.model_dump():
            changed = sorted(
                name for name, value in self.settings.model_dump().items() if state["settings"].get(name) != value
            )
            raise DataError(f"the checkpoint was written with other settings ({', '.join(changed)}); start a new run")
        self.network.module.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]
        self.progress = _Progress(**state["progress"])
        self.pacer.resume(Pace(**state["pace"]))

    def _finish(self, stopped: str) -> Fitted:
        settings, state = self.settings, self.progress
        network = build_network(settings.architecture, settings.width, 3, settings.classes)
        network.load_state_dict(
            {name: value.float() if value.is_floating_point() else value for name, value in self.best.items()}
        )
        return Fitted(
            network=network.eval(),
            history=[Evaluated(**row) for row in state.history],
            schedule=self.pacer.schedule,
            steps=state.step,
            seconds=state.seconds,
            stopped=stopped,
            precision=self.precision,
        )


def load_weights(network: SegmentationNetwork, path: Path) -> None:
    """Load a version's safetensors into a network of the same shape.

    Raises:
        DataError: the file holds another architecture, width or number of classes.
    """
    try:
        load_model(network, path)
    except RuntimeError as error:
        raise DataError(
            "the weights to start from are of another architecture, width or number of classes; give the same "
            "--architecture and --width as that version, or train without a parent"
        ) from error


def _centre(array: np.ndarray[Any, np.dtype[np.uint8]], side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The central part of (H, W, …) with both sides at most `side`."""
    height, width = array.shape[:2]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return array[top : top + side, left : left + side]
