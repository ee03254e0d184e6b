"""Training: it learns, repeats itself bit for bit, and goes on after a kill."""

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from pipelines.training import fit as training_loop
from pipelines.training import learner, precision
from pipelines.training.batches import SampleStore
from pipelines.training.fit import Epoch, Evaluated, Fitted, fit
from pipelines.training.settings import FitSettings
from resunet.errors import DataError, SettingsError
from resunet.networks.blocks import RisingUnit

Pixels = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def blobs(index: int) -> Pixels:
    """A bright disc on a dark ground."""
    rng = np.random.default_rng(index)
    y, x = np.mgrid[:64, :64]
    centre, radius = rng.integers(16, 48, 2), rng.integers(8, 16)
    mask = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2).astype(np.uint8)
    rgb = np.clip(40 + 120 * mask[..., None] + rng.normal(0, 12, (64, 64, 3)), 0, 255).astype(np.uint8)
    return rgb, mask


def _settings(**changed: object) -> FitSettings:
    small = {"width": 4, "crop": 32, "batch_size": 4, "epochs": 4, "evaluations": 4, "learning_rate": 0.01}
    return FitSettings.checked(**{**small, **changed})


def _fit(settings: FitSettings, checkpoint: Path | None = None, **more: object) -> Fitted:
    training = SampleStore(blobs, [64 * 64 * 4] * 16, settings.memory_budget_mb * 1_000_000)
    return fit(settings, training, [blobs(index) for index in range(100, 104)], checkpoint=checkpoint, **more)  # type: ignore[arg-type]


def _same(one: Fitted, other: Fitted) -> bool:
    mine, theirs = one.network.state_dict(), other.network.state_dict()
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


class KilledError(Exception):
    """Stands for a kill."""


def _die_at(last: int) -> Callable[[int, int, float], None]:
    def die(step: int, total: int, loss: float) -> None:
        if step == last:
            raise KilledError

    return die


def _assert_same_run(one: Fitted, other: Fitted) -> None:
    """The same weights, and the same history but for the seconds."""
    assert _same(one, other)
    assert str(one.schedule) == str(other.schedule)
    told = [[replace(row, seconds=0.0) for row in fitted.history] for fitted in (one, other)]
    assert told[0] == told[1]


def test_it_learns_to_find_bright_discs() -> None:
    fitted = _fit(_settings(epochs=40, width=8))
    assert max(row.validation_dice for row in fitted.history) > 0.85
    assert fitted.history[-1].train_loss < fitted.history[0].train_loss


def test_same_seed_gives_the_same_weights_bit_for_bit() -> None:
    assert _same(_fit(_settings()), _fit(_settings()))
    assert not _same(_fit(_settings()), _fit(_settings(seed=1)))


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path, precision: str) -> None:
    settings = _settings(precision=precision)
    checkpoint = tmp_path / "run.ckpt"

    with pytest.raises(KilledError):
        _fit(settings, checkpoint, on_step=_die_at(10))
    _assert_same_run(_fit(settings, checkpoint), _fit(settings))


def test_a_checkpoint_by_the_clock_goes_on_between_validations_and_changes_nothing(tmp_path: Path) -> None:
    settings, checkpoint = _settings(evaluations=2), tmp_path / "run.ckpt"
    hours = itertools.count()
    by_clock: dict[str, object] = {"clock": lambda: next(hours) * 30.0, "checkpoint_seconds": 60.0}
    with pytest.raises(KilledError):
        _fit(settings, checkpoint, on_step=_die_at(7), **by_clock)
    steps: list[int] = []
    resumed = _fit(settings, checkpoint, on_step=lambda step, *_: steps.append(step), **by_clock)
    assert 3 < steps[0] <= 7, "the checkpoint lies between the start and the first validation"
    _assert_same_run(resumed, _fit(settings))


def test_an_evaluation_that_cannot_be_told_of_is_in_the_checkpoint(tmp_path: Path) -> None:
    settings, checkpoint = _settings(), tmp_path / "run.ckpt"

    def lose(evaluated: Evaluated, epochs: Sequence[Epoch]) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        _fit(settings, checkpoint, on_evaluation=lose)
    told: list[int] = []
    resumed = _fit(settings, checkpoint, on_evaluation=lambda row, _: told.append(row.step))
    assert told == [8, 12, 16] and [row.step for row in resumed.history] == [4, 8, 12, 16]


def test_each_epoch_is_told_once_also_of_a_run_that_was_resumed(tmp_path: Path) -> None:
    settings, checkpoint = _settings(evaluations=2), tmp_path / "run.ckpt"
    told: list[int] = []

    def tell(_: Evaluated, epochs: Sequence[Epoch]) -> None:
        told.extend(epoch.step for epoch in epochs)

    with pytest.raises(KilledError):
        _fit(settings, checkpoint, on_step=_die_at(14), on_evaluation=tell)
    resumed = _fit(settings, checkpoint, on_evaluation=tell)
    assert told == [row.step for row in resumed.epochs] == [4, 8, 12, 16]
    assert resumed.epochs == _fit(settings).epochs
    losses = [row.loss for row in resumed.epochs]
    assert resumed.history[0].train_loss == pytest.approx(sum(losses[:2]) / 2)


def test_a_checkpoint_without_epochs_tells_of_whole_ones_alone(tmp_path: Path) -> None:
    settings, checkpoint = _settings(evaluations=3), tmp_path / "run.ckpt"
    with pytest.raises(KilledError):
        _fit(settings, checkpoint, on_step=_die_at(7))
    state = torch.load(checkpoint, weights_only=True)
    between = state["progress"]["step"]
    assert between % 4, "the checkpoint lies within an epoch"
    for name in ("epochs", "epoch_losses"):
        del state["progress"][name]
    torch.save(state, checkpoint)
    resumed = _fit(settings, checkpoint)
    assert [row.step for row in resumed.epochs] == [step for step in (4, 8, 12, 16) if step - 4 >= between]
    whole = {row.step: row for row in _fit(settings).epochs}
    assert all(whole[row.step] == row for row in resumed.epochs)


def test_a_trainer_killed_half_way_goes_on_where_it_was(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        from test_fit import _fit, _settings
        def tell(row, epochs):
            print(row.step, flush=True)
        _fit(_settings(epochs=6, evaluations=6), Path(sys.argv[1]), on_evaluation=tell)
        """
    )
    checkpoint = tmp_path / "run.ckpt"
    command = [sys.executable, "-c", program, str(checkpoint), str(Path(__file__).parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stdout is not None
    for _ in range(2):
        assert process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    resumed = _fit(_settings(epochs=6, evaluations=6), checkpoint)
    assert _same(resumed, _fit(_settings(epochs=6, evaluations=6)))


@pytest.mark.parametrize(("name", "value"), [("crop", 40), ("patience", 3), ("seed", 1)])
def test_a_checkpoint_of_other_settings_is_refused_by_name(tmp_path: Path, name: str, value: int) -> None:
    _fit(_settings(epochs=1), tmp_path / "run.ckpt")
    with pytest.raises(DataError, match=name):
        _fit(_settings(epochs=1, **{name: value}), tmp_path / "run.ckpt")


def test_a_run_goes_on_with_another_memory_budget_and_other_workers(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        _fit(_settings(), tmp_path / "run.ckpt", on_step=_die_at(10))
    resumed = _fit(_settings(memory_budget_mb=0, workers=1), tmp_path / "run.ckpt")
    _assert_same_run(resumed, _fit(_settings()))


def test_a_run_goes_on_in_the_precision_that_auto_was_where_the_processor_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "bf16_supported", lambda: True)
    monkeypatch.setattr(precision, "bf16_pays", lambda: True)
    monkeypatch.setattr(training_loop, "bf16_supported", lambda: True)
    automatic = {"epochs": 1, "precision": "auto"}
    assert _fit(_settings(**automatic), tmp_path / "run.ckpt").precision == "bf16"
    _fit(_settings(epochs=1, precision="bf16"), tmp_path / "run.ckpt")
    with pytest.raises(DataError, match=r"precision: 'bf16', now 'fp32'"):
        _fit(_settings(epochs=1, precision="fp32"), tmp_path / "run.ckpt")
    # Timed once more, fp32 was faster: nothing to end a run over.
    monkeypatch.setattr(precision, "bf16_pays", lambda: False)
    assert _fit(_settings(**automatic), tmp_path / "run.ckpt").precision == "bf16"
    for module in (precision, training_loop):
        monkeypatch.setattr(module, "bf16_supported", lambda: False)
    with pytest.raises(DataError, match=r"precision: 'bf16', now 'fp32'"):
        _fit(_settings(**automatic), tmp_path / "run.ckpt")


def test_images_that_workers_stream_give_the_same_weights() -> None:
    streamed = _fit(_settings(memory_budget_mb=0, workers=2))
    _assert_same_run(streamed, _fit(_settings()))


def test_a_checkpoint_that_cannot_be_written_says_so_and_leaves_the_one_before_whole(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.ckpt"

    def fill_the_disk(step: int, total: int, loss: float) -> None:
        if step == 8:
            checkpoint.with_suffix(".partial").symlink_to("/dev/full")

    with pytest.raises(DataError, match=r"cannot be written.*resume"):
        _fit(_settings(), checkpoint, on_step=fill_the_disk)
    checkpoint.with_suffix(".partial").unlink()
    assert _same(_fit(_settings(), checkpoint), _fit(_settings()))


def test_a_run_limited_by_time_is_repeated_exactly_from_its_steps_and_schedule() -> None:
    ticks = itertools.count()

    def clock() -> float:
        return next(ticks) * 0.5

    timed = _fit(_settings(epochs=0, max_minutes=1), clock=clock)
    assert 20 < timed.steps < 120 and len(timed.history) > 2
    repeated = _fit(_settings(epochs=0, schedule=str(timed.schedule), max_steps=timed.steps))
    assert repeated.steps == timed.steps
    _assert_same_run(repeated, timed)


def test_a_run_of_epochs_is_repeated_from_its_schedule_with_its_choice_of_weights() -> None:
    settings = {"epochs": 6, "evaluations": 6, "learning_rate": 0.3}
    whole = _fit(_settings(**settings))
    repeated = _fit(_settings(schedule=str(whole.schedule), learning_rate=0.3))
    _assert_same_run(repeated, whole)


def test_a_run_limited_by_time_ends_in_time_with_the_learning_rate_down() -> None:
    started = time.monotonic()
    clock_offset = itertools.count()
    timed = _fit(_settings(epochs=0, max_minutes=1), clock=lambda: next(clock_offset) * 0.25)
    assert timed.seconds <= 60 + 5
    assert timed.history[-1].learning_rate < 0.1 * 0.01
    assert time.monotonic() - started < 300


class _Fickle:
    """Validation that likes the first weights it sees, and none after."""

    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Pixels:
        rgb, mask = blobs(100 + index)
        self.read += 1
        return rgb, mask if self.read <= len(self) else 1 - mask


def test_the_best_weights_are_kept_or_the_last_ones_where_the_images_may_not_choose() -> None:
    training = SampleStore(blobs, [64 * 64 * 4] * 16, 1 << 30)
    best = fit(_settings(), training, _Fickle())
    last = fit(_settings(keep="last"), training, _Fickle())
    assert best.history == [replace(row, seconds=best.history[index].seconds) for index, row in enumerate(last.history)]
    assert max(row.validation_dice for row in best.history) == best.history[0].validation_dice
    knots = str(best.schedule)
    assert _same(best, _fit(_settings(schedule=knots, max_steps=4)))
    assert _same(last, _fit(_settings(schedule=knots.replace("*,", ","))))


def test_weights_are_averaged_over_steps() -> None:
    assert not _same(_fit(_settings(ema_decay=0.9)), _fit(_settings(ema_decay=0)))


def test_gradients_are_clipped() -> None:
    assert not _same(_fit(_settings(clip_norm=1e-7)), _fit(_settings(clip_norm=1e7)))


def test_only_the_gradient_that_adamw_is_given_is_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    images, masks = (torch.from_numpy(np.stack(part)) for part in zip(*map(blobs, range(4)), strict=True))
    norms: list[tuple[float, float]] = []
    for clip in (1e-3, 1e9):
        learns = learner.Learner(_settings(clip_norm=clip, precision="fp32"))
        kernels, others = learns._kernels, learns._kernels.others(learns._network.module)
        monkeypatch.setattr(
            learns._muon,
            "step",
            lambda kernels=kernels, others=others: norms.append(
                (_gradient_norm(kernels.matrices), _gradient_norm(others))
            ),
        )
        learns.step(images, masks, 0.01)
    (hidden, clipped), (whole, free) = norms
    assert hidden == whole > 1e-2 and clipped == pytest.approx(1e-3, rel=1e-3) and free > 1e-2


def _gradient_norm(parameters: Sequence[nn.Parameter]) -> float:
    return float(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))


@pytest.mark.parametrize(("rate", "precision"), [(1e3, "fp32"), (1e30, "bf16")])
def test_a_training_that_diverges_is_told_in_words_and_leaves_no_checkpoint_of_it(
    tmp_path: Path, rate: float, precision: str
) -> None:
    checkpoint = tmp_path / "run.ckpt"
    with pytest.raises(DataError, match=r"diverged: the loss is .* at step \d+; .* lower than 1") as told:
        _fit(_settings(learning_rate=rate, precision=precision, epochs=40, evaluations=1), checkpoint)
    assert ("precision=fp32" in str(told.value)) == (precision == "bf16")
    assert not checkpoint.exists()


def test_a_gradient_that_is_no_number_changes_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    images, masks = (torch.from_numpy(np.stack(part)) for part in zip(*map(blobs, range(4)), strict=True))
    learns = learner.Learner(_settings())
    before = learns.averaged_weights()
    # The root of nothing has no slope: a loss of 0 whose gradient is no number.
    monkeypatch.setattr(learner, "segmentation_loss", lambda logits, wanted: (logits * 0).sum().sqrt())
    with pytest.raises(FloatingPointError, match=r"the loss is 0, the norm of its gradient nan"):
        learns.step(images, masks, 0.01)
    state = learns.state()
    assert all(
        torch.equal(value, state["network"][name])
        for name, value in before.items()
        if "running" not in name and "tracked" not in name
    )


@pytest.mark.parametrize(
    ("supported", "pays", "computed"),
    [(True, True, torch.bfloat16), (True, False, torch.float32), (False, True, torch.float32)],
)
def test_it_computes_in_channels_last_and_in_bf16_where_the_processor_is_faster_at_it(
    supported: bool, pays: bool, computed: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "bf16_supported", lambda: supported)
    monkeypatch.setattr(precision, "bf16_pays", lambda: pays)
    seen: list[tuple[torch.dtype, bool, bool]] = []

    def look(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(module, RisingUnit) and module.training:  # some of its convolutions are no modules
            formats = [tensor.is_contiguous(memory_format=torch.channels_last) for tensor in (*inputs, output)]
            seen.append((output.dtype, all(formats[:2]), formats[2]))
        # Of a 1x1 kernel both formats are the same.
        if isinstance(module, nn.Conv2d) and module.training and module.kernel_size == (3, 3):
            formats = [tensor.is_contiguous(memory_format=torch.channels_last) for tensor in (inputs[0], module.weight)]
            seen.append((output.dtype, formats[0], formats[1]))

    hook = nn.modules.module.register_module_forward_hook(look)  # type: ignore[arg-type]
    try:
        fitted = _fit(_settings(max_steps=1, precision="auto"))
    finally:
        hook.remove()
    assert len(seen) > 10 and set(seen) == {(computed, True, True)}
    assert fitted.precision == ("bf16" if supported and pays else "fp32")


def test_it_stops_early_when_validation_no_longer_improves() -> None:
    fitted = _fit(_settings(epochs=40, evaluations=40, learning_rate=1e-9, patience=3))
    assert fitted.steps < 160
    assert "no better Dice" in fitted.stopped


def test_a_run_that_had_ended_does_not_go_on_when_resumed(tmp_path: Path) -> None:
    settings = _settings(epochs=40, evaluations=40, learning_rate=1e-9, patience=3)
    ended = _fit(settings, tmp_path / "run.ckpt")
    resumed = _fit(settings, tmp_path / "run.ckpt")
    assert (resumed.steps, resumed.stopped) == (ended.steps, ended.stopped)
    assert _same(resumed, ended)


def test_more_classes_than_two_are_learnt() -> None:
    def three(index: int) -> Pixels:
        rgb, mask = blobs(index)
        mask[:, :32] *= 2
        rgb[mask == 2, 2] = 0
        return rgb, mask

    training = SampleStore(three, [64 * 64 * 4] * 16, 1 << 30)
    fitted = fit(_settings(classes=3, epochs=10), training, [three(index) for index in range(100, 104)])
    assert fitted.network(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)
    assert fitted.history[-1].train_loss < fitted.history[0].train_loss


@pytest.mark.parametrize(
    ("name", "value"),
    [("crop", 33), ("width", 0), ("epochs", -1), ("learning_rate", -1), ("architecture", "unet")],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=name):
        _settings(**{name: value})


def test_no_images_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DataError, match="prepare"):
        fit(_settings(), SampleStore(blobs, [], 0), [blobs(0)])
