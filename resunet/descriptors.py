"""What an image and its prediction look like, as a row of floats: one definition for all who need it.

    row = describe_image(rgb) | describe_prediction(mask, probability, confidence)

Work goes in strips of rows and sums are of whole numbers, so that a 10,000x10,000 image needs little memory
beside its own and the values do not depend on the strips.
"""

import math
from collections.abc import Iterator
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from resunet.errors import ImageError

IMAGE_DESCRIPTORS: Final[tuple[str, ...]] = (
    "width",
    "height",
    "aspect",
    "brightness",
    "contrast",
    "mean_r",
    "mean_g",
    "mean_b",
    "std_r",
    "std_g",
    "std_b",
    "saturation",
    "hue_spread",
    "entropy",
    "sharpness",
    "noise",
    "clipped_low",
    "clipped_high",
)
PREDICTION_DESCRIPTORS: Final[tuple[str, ...]] = (
    "foreground_fraction",
    "component_count",
    "confidence",
    "boundary_uncertainty",
)

_STRIP_PIXELS: Final = 1 << 19
_BAND: Final = 2
_LEVELS: Final = np.arange(256, dtype=np.float64)
_ANGLES: Final = np.arange(180) * (2 * math.pi / 180)
_SECOND_DIFFERENCE: Final = np.array([1, -2, 1], np.float32)
_SQUARE: Final = np.ones((2 * _BAND + 1, 2 * _BAND + 1), np.uint8)


def describe_image(rgb: NDArray[np.uint8]) -> dict[str, float]:
    """The descriptors of an image, in the order of `IMAGE_DESCRIPTORS`; always finite.

    Luma is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rounded to a level of 0 to 255. Hue and saturation are
    OpenCV's 8-bit ones, in steps of 2 degrees and of 1/255.

    - `width`, `height`: pixels; `aspect`: width / height.
    - `brightness`, `contrast`: mean and standard deviation of the luma, levels.
    - `mean_*`, `std_*`: the same of each channel, levels.
    - `saturation`: mean of (max - min) / max over the channels (HSV), 0 to 1.
    - `hue_spread`: circular variance of the hue (Mardia & Jupp, Directional Statistics, 2.3), each pixel
      weighted by its saturation: 0 = one hue or grey, 1 = hues all around the circle.
    - `entropy`: of the luma's histogram, bits.
    - `sharpness`: variance of the 4-neighbour Laplacian of the luma, levels²
      (Pech-Pacheco et al. 2000).
    - `noise`: standard deviation of white noise, levels (Immerkær 1996, Fast Noise Variance Estimation).
    - `clipped_low`, `clipped_high`: fraction of pixels whose brightest channel is 0, is 255.

    Args:
        rgb: (H, W, 3) uint8.

    Raises:
        ImageError: the array is of another shape or type.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ImageError(f"descriptors need (H, W, 3) uint8, not {rgb.shape} {rgb.dtype}; decode_image gives that")
    height, width = rgb.shape[:2]
    if height == 0 or width == 0:
        return dict.fromkeys(IMAGE_DESCRIPTORS, 0.0) | {"width": float(width), "height": float(height)}

    histograms = np.zeros((5, 256))  # luma, R, G, B, brightest channel
    hues = np.zeros((180, 256))  # hue in steps of 2 degrees x saturation
    laplace = laplace_squares = ripple = 0.0
    for top, bottom in _strips(height, width):
        above, below = min(top, 1), min(height - bottom, 1)
        part = np.ascontiguousarray(rgb[top - above : bottom + below])
        luma = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
        rows = slice(above, above + bottom - top)
        part = part[rows]
        hsv = cv2.cvtColor(part, cv2.COLOR_RGB2HSV)
        histograms[0] += _histogram(luma[rows], 0)
        for channel in range(3):
            histograms[1 + channel] += _histogram(part, channel)
        histograms[4] += _histogram(hsv, 2)
        hues += cv2.calcHist([hsv], [0, 1], None, [180, 256], [0, 180, 0, 256])
        edges = cv2.Laplacian(luma, cv2.CV_16S)[rows]
        laplace += cv2.sumElems(edges)[0]
        laplace_squares += cv2.norm(edges, cv2.NORM_L2SQR)
        if luma.shape[0] > 2 and width > 2:
            cross = cv2.sepFilter2D(luma, cv2.CV_16S, _SECOND_DIFFERENCE, _SECOND_DIFFERENCE)
            ripple += cv2.norm(np.ascontiguousarray(cross[1:-1, 1:-1]), cv2.NORM_L1)

    pixels = height * width
    (luma_mean, luma_std), *channels = (_moments(histogram) for histogram in histograms[:4])
    interior = max(height - 2, 0) * max(width - 2, 0)
    by_hue = hues @ _LEVELS
    weight = by_hue.sum()
    resultant = math.hypot(float(by_hue @ np.cos(_ANGLES)), float(by_hue @ np.sin(_ANGLES)))
    values = (
        width,
        height,
        width / height,
        luma_mean,
        luma_std,
        *(mean for mean, _ in channels),
        *(std for _, std in channels),
        weight / (255 * pixels),
        1 - resultant / weight if weight else 0.0,
        _entropy(histograms[0]),
        laplace_squares / pixels - (laplace / pixels) ** 2,
        math.sqrt(math.pi / 2) * ripple / (6 * interior) if interior else 0.0,
        histograms[4, 0] / pixels,
        histograms[4, 255] / pixels,
    )
    return {name: float(value) for name, value in zip(IMAGE_DESCRIPTORS, values, strict=True)}


def describe_prediction(mask: NDArray[np.uint8], probability: NDArray[np.uint8], confidence: float) -> dict[str, float]:
    """The descriptors of a prediction, in the order of `PREDICTION_DESCRIPTORS`; always finite.

    - `foreground_fraction`: fraction of pixels that are not background.
    - `component_count`: 8-connected parts of the foreground, whatever their class.
    - `confidence`: as given.
    - `boundary_uncertainty`: mean of 4 p (1 - p) where the mask changes within 2 pixels (a 5x5 square),
      0 to 1; 0 where it changes nowhere.

    Args:
        mask: (H, W) uint8, 0 is background.
        probability: (H, W) uint8, round(255 p) of the foreground (binary) or the winning class.
        confidence: of the whole mask, 0 to 1.

    Raises:
        ImageError: the arrays are of other shapes or types.
    """
    if mask.ndim != 2 or mask.shape != probability.shape or {mask.dtype, probability.dtype} != {np.dtype("u1")}:
        raise ImageError(f"a mask and its probability are (H, W) uint8, not {mask.shape}, {probability.shape}")
    height, width = mask.shape
    pixels = height * width
    if pixels == 0:
        return dict.fromkeys(PREDICTION_DESCRIPTORS, 0.0) | {"confidence": float(confidence)}
    band = np.zeros(256)
    for top, bottom in _strips(height, width):
        first = max(top - _BAND, 0)
        part = np.ascontiguousarray(mask[first : bottom + _BAND])
        rows = slice(top - first, bottom - first)
        changes = cv2.compare(cv2.dilate(part, _SQUARE), cv2.erode(part, _SQUARE), cv2.CMP_NE)[rows]
        strip = np.ascontiguousarray(probability[top:bottom])
        band += cv2.calcHist([strip], [0], changes, [256], [0, 256]).ravel()
    uncertainty = 4 * (_LEVELS / 255) * (1 - _LEVELS / 255)
    values = (
        int(np.count_nonzero(mask)) / pixels,
        count_components(mask),
        confidence,
        band @ uncertainty / band.sum() if band.any() else 0.0,
    )
    return {name: float(value) for name, value in zip(PREDICTION_DESCRIPTORS, values, strict=True)}


def count_components(mask: NDArray[np.uint8]) -> int:
    """Number of 8-connected parts of a mask's non-zero pixels.

    Strips are counted one by one and joined over their shared edges: labels of a whole 10,000x10,000 mask
    would take 400 MB.

    Args:
        mask: (H, W) uint8.
    """
    count = 0
    previous: NDArray[np.int64] | None = None  # joined labels of the row above the strip
    parent: dict[int, int] = {}

    def root(label: int) -> int:
        while (above := parent.get(label, label)) != label:
            parent[label] = parent.get(above, above)
            label = above
        return label

    next_label = 0
    for top, bottom in _strips(*mask.shape):
        found, labels = cv2.connectedComponents(np.ascontiguousarray(mask[top:bottom]), connectivity=8)
        count += found - 1
        first = _numbered(labels[0], next_label)
        if previous is not None:
            for a, b in _touching(previous, first):
                a, b = root(a), root(b)
                if a != b:
                    parent[max(a, b)] = min(a, b)
                    count -= 1
        previous = _numbered(labels[-1], next_label)
        next_label += found - 1
    return count


def _numbered(labels: NDArray[np.int32], offset: int) -> NDArray[np.int64]:
    return np.where(labels > 0, labels.astype(np.int64) + offset, 0)


def _touching(above: NDArray[np.int64], below: NDArray[np.int64]) -> list[tuple[int, int]]:
    """The pairs of labels of two rows that are 8-neighbours."""
    pairs = np.concatenate(
        [
            np.stack([above, below]),
            np.stack([above[1:], below[:-1]]),
            np.stack([above[:-1], below[1:]]),
        ],
        axis=1,
    )
    pairs = np.unique(pairs[:, (pairs > 0).all(axis=0)], axis=1)
    return [(int(a), int(b)) for a, b in pairs.T]


def _strips(height: int, width: int) -> Iterator[tuple[int, int]]:
    rows = max(_BAND, _STRIP_PIXELS // max(width, 1))
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def _histogram(pixels: NDArray[Any], channel: int) -> NDArray[np.float32]:
    # float32 counts are exact below 2^24, far above a strip's pixels.
    return np.asarray(cv2.calcHist([pixels], [channel], None, [256], [0, 256]).ravel())


def _moments(histogram: NDArray[np.float64]) -> tuple[float, float]:
    pixels = histogram.sum()
    mean = histogram @ _LEVELS / pixels
    return float(mean), math.sqrt(max(float(histogram @ (_LEVELS - mean) ** 2 / pixels), 0.0))


def _entropy(histogram: NDArray[np.float64]) -> float:
    share = histogram[histogram > 0] / histogram.sum()
    return max(float(-(share @ np.log2(share))), 0.0)
