"""The pictures of a run show what was measured, whatever the number of images, classes or evaluations."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from version_factory import draw, write_version

from pipelines.data.dataset import Sample
from pipelines.data.labelled import LabelledImages
from pipelines.training.fit import Evaluated
from pipelines.version.calibrate import Reliability
from pipelines.version.figures import calibration_curve, confusion_matrix, learning_curves
from pipelines.version.overlays import Overlay, overlay_sheet, overlays
from serving.predictor import Predictor


def _pixels(figure: Figure) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB"))


def _texts(figure: Figure) -> str:
    texts = [text.get_text() for axes in figure.axes for text in [axes.title, *axes.texts]]
    legends = [axes.get_legend() for axes in figure.axes]
    texts += [text.get_text() for legend in legends if legend is not None for text in legend.get_texts()]
    title = figure.get_suptitle()
    return "\n".join([*texts, title])


def _history(dices: list[float]) -> list[Evaluated]:
    return [Evaluated(10 * (i + 1), i + 1.0, 1 / (i + 1), d, 1e-3, 6.0 * i) for i, d in enumerate(dices)]


def _reliability(stated: list[float], observed: list[float], pixels: list[int]) -> Reliability:
    return Reliability(np.array(stated), np.array(observed), np.array(pixels), 0.125)


def _overlay(height: int, width: int, label: str = "best", dice: float = 0.75) -> Overlay:
    rgb = draw(height, width)
    truth = np.zeros((height, width), np.uint8)
    truth[: height // 2] = 1
    prediction = np.zeros((height, width), np.uint8)
    prediction[: height // 4] = 1
    return Overlay(label, f"images/{label}.png", dice, rgb, prediction, truth)


def test_learning_curves_mark_the_best_evaluation() -> None:
    figure = learning_curves(_history([0.5, 0.83, 0.8]))
    assert "best 0.8300 at step 20" in _texts(figure)
    assert "30 steps, 3.0 epochs, 0.2 min" in _texts(figure)
    assert [list(axes.lines[0].get_ydata()) for axes in figure.axes][1] == [0.5, 0.83, 0.8]  # type: ignore[arg-type]
    assert _pixels(figure).std() > 0


@pytest.mark.parametrize("count", [0, 1, 200])
def test_learning_curves_are_drawn_from_any_number_of_evaluations(count: int) -> None:
    assert _pixels(learning_curves(_history([0.5] * count))).std() > 0


@pytest.mark.parametrize(("best", "side"), [(0, "left"), (3, "right")])
def test_the_label_of_the_best_evaluation_stays_in_the_picture(best: int, side: str) -> None:
    dices = [0.5, 0.5, 0.5, 0.5]
    dices[best] = 0.9
    label = learning_curves(_history(dices)).axes[1].texts[0]
    assert label.get_horizontalalignment() == side


def test_the_overlay_sheet_shows_wrong_pixels_in_red_and_nothing_else() -> None:
    overlay = _overlay(64, 64)
    right = Overlay("right", "images/right.png", 1.0, overlay.rgb, overlay.truth, overlay.truth)
    wrong, perfect = _pixels(overlay_sheet([overlay])), _pixels(overlay_sheet([right]))

    def red(picture: NDArray[np.uint8]) -> int:
        return int(np.all(picture == (220, 20, 20), axis=2).sum())

    legend = red(perfect)
    panel = 640 * 640 / 4  # a quarter of the image is wrong; panels are drawn somewhat smaller
    assert 0.2 * panel < red(wrong) - legend < panel


def test_the_overlay_sheet_names_file_dice_and_share_of_errors() -> None:
    texts = _texts(overlay_sheet([_overlay(64, 64, "best", 0.953), _overlay(200, 100, "worst", 0.1)]))
    for expected in ("best: best.png", "worst: worst.png", "Dice 0.953", "Dice 0.100", "25.0% of pixels wrong"):
        assert expected in texts


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 400), (900, 40), (1500, 1400)])
def test_images_of_any_shape_keep_theirs(height: int, width: int) -> None:
    figure = overlay_sheet([_overlay(height, width)])
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None
    assert shown.shape[0] / shown.shape[1] == pytest.approx(height / width, rel=0.05)
    assert figure.axes[0].get_aspect() == 1
    picture = _pixels(figure)
    assert max(picture.shape) < 2500


def test_a_dark_image_is_shown_brighter_and_said_to_be() -> None:
    dark = _overlay(64, 64)
    dark = Overlay("dark", dark.path, dark.dice, dark.rgb // 6, dark.prediction, dark.truth)
    figure = overlay_sheet([dark])
    assert "(shown brighter)" in _texts(figure)
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None and shown.mean() > 2 * dark.rgb.mean()
    assert "(shown brighter)" not in _texts(overlay_sheet([_overlay(64, 64)]))


def test_best_median_and_worst_are_picked_by_dice(tmp_path: Path) -> None:
    write_version(tmp_path / "version")
    predictor = Predictor.load(tmp_path / "version", "onnxruntime")
    samples, dice = [], {}
    for place in range(5):
        image, mask = tmp_path / f"{place}.png", tmp_path / f"{place}.mask.png"
        rgb = draw(32, 40, place)
        Image.fromarray(rgb).save(image)
        Image.fromarray((rgb.mean(axis=2) > 90).astype(np.uint8)).save(mask)
        samples.append(Sample(f"images/{place}.png", image, mask))
        dice[f"images/{place}.png"] = (0.5, 0.9, 0.1, 0.7, 0.3)[place]
    drawn = overlays(predictor, LabelledImages(samples), dice)
    assert [(o.label, o.path) for o in drawn] == [
        ("best", "images/1.png"),
        ("median", "images/0.png"),
        ("worst", "images/2.png"),
    ]
    assert set(np.unique(drawn[0].prediction)) <= {0, 1}
    assert (drawn[0].prediction > 0).tolist() == (predictor.predict(drawn[0].rgb).mask > 0).tolist()
    few = {path: dice[path] for path in ("images/3.png", "images/4.png")}
    assert [o.label for o in overlays(predictor, LabelledImages(samples), few)] == ["best", "worst"]
    alone = overlays(predictor, LabelledImages(samples), {"images/3.png": 0.7})
    assert [o.label for o in alone] == ["best"]


def test_the_confusion_matrix_says_percent_and_numbers() -> None:
    figure = confusion_matrix(np.array([[2_000_000, 500_000], [25, 75]]), ["nucleus"])
    texts = _texts(figure)
    for expected in ("80.0%\n2.0 Mpx", "20.0%\n500.0 kpx", "25.0%\n25 px", "75.0%\n75 px"):
        assert expected in texts
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["background", "nucleus"]


@pytest.mark.parametrize("count", [2, 8, 32])
def test_the_confusion_matrix_takes_many_classes_and_absent_ones(count: int) -> None:
    matrix = np.eye(count, dtype=np.int64) * 10
    matrix[1] = 0
    figure = confusion_matrix(matrix, [f"class {index}" for index in range(count)])
    assert "nan" not in _texts(figure)
    assert max(_pixels(figure).shape) < 2200


def test_the_calibration_curve_skips_empty_bins_and_counts_pixels() -> None:
    before = _reliability([0.1, np.nan, 0.9], [0.3, np.nan, 0.7], [1000, 0, 2000])
    after = _reliability([0.2, 0.5, 0.8], [0.3, 0.5, 0.7], [900, 200, 1900])
    figure = calibration_curve(before, after, 1.5)
    curve = figure.axes[0]
    assert list(curve.lines[1].get_xdata()) == [0.1, 0.9]  # type: ignore[arg-type]
    assert list(curve.lines[2].get_ydata()) == [0.3, 0.5, 0.7]  # type: ignore[arg-type]
    assert "3,000 validation pixels within 5 px of a true boundary" in _texts(figure)
    assert "temperature 1.50" in _texts(figure)
    assert curve.get_ylabel() == "of them foreground"
    assert calibration_curve(before, after, 1.5, binary=False).axes[0].get_ylabel() == "of them right"
    assert _pixels(figure).std() > 0


def test_no_picture_needs_pyplot() -> None:
    code = (
        "import sys, pipelines.version.figures, pipelines.version.overlays; print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
