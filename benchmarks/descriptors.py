"""Descriptors of a 256x256 image: `describe_image` against the same numbers in plain numpy and scipy.

    python -m benchmarks.descriptors            # 9 rounds, about 10 s
    python -m benchmarks.descriptors --smoke    # 5 short rounds, under 2 s

Both sides use one thread. Exits 1 where the median is above the limit, or where the two disagree.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from benchmarks.rounds import arguments, interleave, ratios, spread
from resunet.descriptors import IMAGE_DESCRIPTORS, describe_image

LIMIT_MS = 2.0
# BT.601 in the 15-bit fixed point of cv2: exact weights round another way in one pixel of two thousand.
LUMA = np.array([9798, 19235, 3735]) / 2**15
# cv2 keeps hue in steps of 2 degrees and saturation in steps of 1/255; everything else agrees to rounding.
TOLERANCES = {"saturation": 2e-3, "hue_spread": 1e-2}


def describe_plainly(rgb: NDArray[np.uint8]) -> dict[str, float]:
    """`describe_image` as one would first write it; rgb: (H, W, 3) uint8, both sides above 2."""
    height, width, _ = rgb.shape
    pixels = rgb.astype(np.float64)
    luma = np.floor(pixels @ LUMA + 0.5)
    largest, smallest = pixels.max(axis=2), pixels.min(axis=2)
    chroma = largest - smallest
    saturation = np.divide(chroma, largest, out=np.zeros_like(chroma), where=largest > 0)
    red, green, blue = np.moveaxis(pixels, 2, 0)
    hue = np.zeros_like(chroma)  # in sixths of the circle
    known = chroma > 0
    for at, value in (
        (largest == blue, 4 + np.divide(red - green, chroma, out=np.zeros_like(chroma), where=known)),
        (largest == green, 2 + np.divide(blue - red, chroma, out=np.zeros_like(chroma), where=known)),
        (largest == red, np.divide(green - blue, chroma, out=np.zeros_like(chroma), where=known)),
    ):
        hue[at] = value[at]
    resultant = abs((saturation * np.exp(1j * np.pi / 3 * hue)).sum())
    share = np.histogram(luma, bins=256, range=(0, 256))[0] / luma.size
    share = share[share > 0]
    laplacian = ndimage.laplace(luma, mode="mirror")
    cross = ndimage.convolve(luma, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]))[1:-1, 1:-1]
    values = (
        width,
        height,
        width / height,
        luma.mean(),
        luma.std(),
        *pixels.mean(axis=(0, 1)),
        *pixels.std(axis=(0, 1)),
        saturation.mean(),
        1 - resultant / saturation.sum() if saturation.any() else 0.0,
        -(share * np.log2(share)).sum(),
        laplacian.var(),
        np.sqrt(np.pi / 2) * np.abs(cross).sum() / (6 * cross.size),
        (largest == 0).mean(),
        (largest == 255).mean(),
    )
    return {name: float(value) for name, value in zip(IMAGE_DESCRIPTORS, values, strict=True)}


def specimen(side: int = 256, seed: int = 0) -> NDArray[np.uint8]:
    """Bright, coloured discs on a dark and noisy ground, (side, side, 3) uint8."""
    rng = np.random.default_rng(seed)
    canvas = np.full((side, side, 3), (20, 18, 30), np.uint8)
    for x, y, radius in rng.integers((0, 0, 5), (side, side, 18), size=(40, 3)):
        colour = rng.integers((60, 40, 90), (180, 120, 256))
        cv2.circle(canvas, (int(x), int(y)), int(radius), [int(c) for c in colour], -1, cv2.LINE_AA)
    return np.asarray(np.clip(canvas + rng.normal(0, 4, canvas.shape), 0, 255), dtype=np.uint8)


def disagreements(ours: dict[str, float], plain: dict[str, float]) -> list[str]:
    """The names of the descriptors that differ by more than `TOLERANCES` or 1e-6."""
    return [
        name for name in ours if not np.isclose(ours[name], plain[name], rtol=1e-6, atol=TOLERANCES.get(name, 1e-6))
    ]


def milliseconds(describe: Callable[[NDArray[np.uint8]], dict[str, float]], calls: int) -> Callable[[], float]:
    """Mean wall time of a call, after one that only warms up."""
    image = specimen()

    def measure() -> float:
        describe(image)
        start = time.perf_counter()
        for _ in range(calls):
            describe(image)
        return (time.perf_counter() - start) / calls * 1000

    return measure


def main(given: Sequence[str] | None = None) -> int:
    """Measure, print a table, and say whether the limit holds."""
    options = arguments(__doc__, given)
    rounds, calls = (5, 20) if options.smoke else (9, 500)
    image = specimen()
    differing = disagreements(describe_image(image), describe_plainly(image))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    ours, plain = "describe_image", "plain numpy and scipy"
    sides = {ours: milliseconds(describe_image, calls), plain: milliseconds(describe_plainly, max(1, calls // 10))}
    try:
        measured = interleave(sides, rounds)
    finally:
        cv2.setNumThreads(threads)

    holds = statistics.median(measured[ours]) <= LIMIT_MS
    table = Table("", "median (smallest … largest)", "must be", title="Descriptors of a 256x256 image, 1 thread")
    table.add_row(ours, f"{spread(measured[ours])} ms", f"≤ {LIMIT_MS:g} ms {'✓' if holds else '✗'}")
    table.add_row(plain, f"{spread(measured[plain])} ms", "")
    table.add_row(f"{plain} / {ours}", f"{spread(ratios(measured, plain, ours))} ×", "")
    console = Console()
    console.print(table)
    if differing:
        console.print(f"The two disagree on: {', '.join(differing)}", style="red")
    return 0 if not differing and (holds or options.smoke) else 1


if __name__ == "__main__":
    sys.exit(main())
