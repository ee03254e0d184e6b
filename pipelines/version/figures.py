"""The pictures of a training run. Each is returned, and saved by the caller.

learning_curves(fitted.history, fitted.epochs).savefig("learning_curves.png")
calibration_curve(validated.before, validated.after, temperature).savefig("calibration.png")
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipelines.training.fit import Epoch, Evaluated
from pipelines.version.calibrate import BAND_PX, Reliability
from pipelines.version.canvas import canvas
from resunet.palette import BLUE, GREEN, INK, ORANGE


def learning_curves(history: Sequence[Evaluated], epochs: Sequence[Epoch] = ()) -> Figure:
    """Training loss, validation Dice and learning rate over the steps; the best Dice is marked.

    The loss is that of each epoch, and bolder the mean from one validation to the next.
    """
    figure = canvas(8.0, 7.0)
    loss, dice, rate = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1.4])
    steps = [row.step for row in history]
    marker = "o" if len(steps) < 40 else ""
    loss.plot([row.step for row in epochs], [row.loss for row in epochs], color=BLUE, linewidth=0.8, alpha=0.5)
    loss.plot(steps, [row.train_loss for row in history], color=BLUE, marker=marker, markersize=4)
    loss.set_ylabel("training loss")
    loss.set_ylim(bottom=0)
    values = [row.validation_dice for row in history]
    dice.plot(steps, values, color=ORANGE, marker=marker, markersize=4)
    dice.set_ylabel("validation Dice")
    if values:
        best = int(np.argmax(values))
        dice.plot(steps[best], values[best], "o", markersize=9, markerfacecolor="none", color=INK)
        dice.annotate(
            f"best {values[best]:.4f} at step {steps[best]}",
            (steps[best], values[best]),
            xytext=(0, -20),
            textcoords="offset points",
            ha="right" if 2 * steps[best] > steps[0] + steps[-1] else "left",
            fontsize=10,
            color=INK,
        )
        last = history[-1]
        figure.suptitle(
            f"{last.step} steps, {last.epoch:.1f} epochs, {last.seconds / 60:.1f} min", fontsize=12, color=INK
        )
    rate.plot(steps, [row.learning_rate for row in history], color=GREEN, marker=marker, markersize=4)
    rate.set_ylabel("learning rate")
    rate.set_ylim(bottom=0)
    rate.set_xlabel("step")
    for panel in (loss, dice, rate):
        _plain(panel)
    figure.align_ylabels()
    return figure


def confusion_matrix(matrix: NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """Pixels by true and predicted class, in percent of each true class and in numbers.

    Args:
        matrix: (n, n), rows are true classes.
        class_names: n names, or the foreground's alone for a binary version.
    """
    names = ["background", *class_names] if len(class_names) == 1 else list(class_names)
    count = len(names)
    totals = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    side = min(16.0, 2.6 + 1.15 * count)
    figure = canvas(side + 0.9, side)
    panel = figure.subplots()
    image = panel.imshow(share, cmap="Blues", vmin=0, vmax=1)
    size = 11 if count <= 6 else 8 if count <= 14 else 5
    for true in range(count):
        for predicted in range(count):
            value = share[true, predicted]
            text = f"{value:.1%}" + (f"\n{_pixels(int(matrix[true, predicted]))}" if count <= 14 else "")
            colour = "white" if value > 0.55 else INK
            panel.text(predicted, true, text, ha="center", va="center", fontsize=size, color=colour)
    panel.set_xticks(range(count), names, rotation=0 if count <= 4 else 60, fontsize=max(size, 7))
    panel.set_yticks(range(count), names, fontsize=max(size, 7))
    panel.set_xlabel("predicted class")
    panel.set_ylabel("true class")
    panel.set_title("Validation pixels: share of each true class", fontsize=12, color=INK)
    figure.colorbar(image, ax=panel, fraction=0.045, format=lambda value, _: f"{value:.0%}")
    return figure


def calibration_curve(before: Reliability, after: Reliability, temperature: float, *, binary: bool = True) -> Figure:
    """Observed against stated probability, without and with the temperature, and how many pixels say so.

    Args:
        before, after: without and with the temperature.
        temperature: that was fitted.
        binary: whether the probability is the foreground's, or the winning class's.
    """
    figure = canvas(6.6, 7.6)
    curve, counts = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    curve.plot([0, 1], [0, 1], color="#9aa5b1", linestyle="--", linewidth=1, label="perfect")
    edges = np.linspace(0, 1, len(before.pixels) + 1)
    for part, colour, marker, style, name in (
        (before, ORANGE, "s", "--", "as the network states it"),
        (after, BLUE, "o", "-", f"with temperature {temperature:.2f}"),
    ):
        known = np.isfinite(part.stated)
        curve.plot(
            part.stated[known],
            part.observed[known],
            color=colour,
            marker=marker,
            markersize=5,
            linestyle=style,
            label=f"{name}, calibration error {part.error:.3f}",
        )
        counts.stairs(part.pixels, edges, color=colour, linestyle=style, linewidth=1.6)
    curve.set_ylabel("of them foreground" if binary else "of them right")
    curve.set_xlim(0, 1)
    curve.set_ylim(0, 1)
    curve.legend(loc="upper left", frameon=False, fontsize=10)
    total = int(before.pixels.sum())
    curve.set_title(f"{total:,} validation pixels within {BAND_PX} px of a true boundary", fontsize=11, color=INK)
    counts.set_yscale("symlog", linthresh=10)
    counts.set_ylim(bottom=0)
    counts.set_ylabel("pixels")
    counts.set_xlabel("stated probability of foreground" if binary else "stated probability of the class chosen")
    for panel in (curve, counts):
        _plain(panel)
    figure.align_ylabels()
    return figure


def _plain(panel: Axes) -> None:
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)


def _pixels(count: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}px"
    return f"{count} px"
