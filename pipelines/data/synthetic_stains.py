"""How a synthetic field of nuclei is drawn: where they lie, and what a stain makes of them.

Fluorescence adds light on a dark ground; histology takes light away by Beer-Lambert's law, with the stain
vectors of haematoxylin and eosin that implementations of Macenko et al. 2009 use as their reference.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

# Optical density of red, green and blue for each stain.
_HAEMATOXYLIN: Final = np.array([0.563, 0.720, 0.406], np.float32)
_EOSIN: Final = np.array([0.216, 0.801, 0.558], np.float32)
_SUBPIXEL_BITS: Final = 4
_CONTOUR_POINTS: Final = 48


@dataclass(frozen=True)
class Field:
    """Nuclei in a plane.

    Attributes:
        labels: (H, W) int32, which nucleus a pixel shows, the one on top where two overlap; 0 is background.
        count: how many nuclei were drawn.
    """

    labels: NDArray[np.int32]
    count: int


def lay_out(rng: np.random.Generator, height: int, width: int, count: int, radius: float) -> Field:
    """Put nuclei into a plane: irregular ellipses, a third of them touching a neighbour.

    Args:
        radius: mean radius of this image's nuclei, pixels.
    """
    labels = np.zeros((height, width), np.int32)
    placed: list[tuple[float, float, float]] = []
    elongation = rng.uniform(1.05, 1.6)
    for _ in range(count):
        own = float(radius * np.clip(rng.normal(1.0, 0.18), 0.55, 1.6))
        spot = _find_spot(rng, height, width, own, placed)
        if spot is None:
            continue
        placed.append((*spot, own))
        contour = _contour(rng, spot, own, elongation)
        cv2.fillPoly(labels, [contour], len(placed), lineType=cv2.LINE_8, shift=_SUBPIXEL_BITS)
    return Field(labels, len(placed))


def _find_spot(
    rng: np.random.Generator,
    height: int,
    width: int,
    radius: float,
    placed: list[tuple[float, float, float]],
) -> tuple[float, float] | None:
    for _ in range(12):
        if placed and rng.random() < 0.35:
            x, y, other = placed[int(rng.integers(len(placed)))]
            angle = rng.uniform(0, 2 * np.pi)
            distance = (radius + other) * rng.uniform(0.85, 1.0)
            x, y = x + distance * np.cos(angle), y + distance * np.sin(angle)
            room = 0.8
        else:
            x, y = rng.uniform(-0.3 * radius, width), rng.uniform(-0.3 * radius, height)
            room = 1.15
        inside = -radius < x < width + radius and -radius < y < height + radius
        if inside and all(np.hypot(x - a, y - b) >= room * (radius + c) for a, b, c in placed):
            return float(x), float(y)
    return None


def _contour(
    rng: np.random.Generator, centre: tuple[float, float], radius: float, elongation: float
) -> NDArray[np.int32]:
    angles = np.linspace(0, 2 * np.pi, _CONTOUR_POINTS, endpoint=False)
    shape = np.ones(_CONTOUR_POINTS)
    for order in (2, 3, 4, 5):
        shape += rng.normal(0, 0.07 / (order - 1)) * np.cos(order * angles + rng.uniform(0, 2 * np.pi))
    stretch = float(np.sqrt(elongation * rng.uniform(0.9, 1.15)))
    x, y = radius * shape * np.cos(angles) * stretch, radius * shape * np.sin(angles) / stretch
    turn = rng.uniform(0, 2 * np.pi)
    points = np.stack(
        [
            centre[0] + x * np.cos(turn) - y * np.sin(turn),
            centre[1] + x * np.sin(turn) + y * np.cos(turn),
        ],
        axis=1,
    )
    return np.round(points * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def fluorescence(rng: np.random.Generator, field: Field) -> Plane:
    """Bright nuclei on a dark, unevenly lit ground.

    Returns:
        (H, W, 1) float32, grey levels before brightness, blur and noise.
    """
    height, width = field.labels.shape
    mean = rng.uniform(60, 150)
    levels = mean * rng.lognormal(0, 0.28, field.count + 1)
    faint = rng.random(field.count + 1) < 0.12
    levels[faint] *= 0.45
    levels = np.maximum(levels, 26)
    levels[0] = 0
    light = levels.astype(np.float32)[field.labels]
    light *= 1 + 0.22 * _texture(rng, height, width, 2.0) + 0.15 * _texture(rng, height, width, 5.0)
    # Thicker in the middle than at the rim; scattered light makes a halo around.
    thickness = cv2.GaussianBlur((field.labels > 0).astype(np.float32), (0, 0), 3.0)
    light *= 0.45 + 0.55 * np.asarray(thickness, np.float32)
    sharpness = rng.uniform(0.7, 1.5)
    light = np.asarray(cv2.GaussianBlur(light, (0, 0), sharpness), np.float32)
    halo = cv2.GaussianBlur(light, (0, 0), 12.0)
    ground = rng.uniform(4, 18) * (1 + 0.5 * _gradient(rng, height, width))
    haze = _specks(rng, height, width, int(rng.integers(0, 4)), (12, 26), (4, 14), 8.0)
    debris = _specks(rng, height, width, int(rng.integers(0, 7)), (1, 2), (30, 110), 0.8)
    uneven = 1 + 0.25 * _gradient(rng, height, width)
    return np.asarray((light * uneven + 0.12 * halo + ground + haze + debris)[..., None], np.float32)


def histology(rng: np.random.Generator, field: Field) -> Plane:
    """Purple nuclei in pink tissue with pale gaps.

    Returns:
        (H, W, 3) float32 RGB, grey levels before brightness, blur and noise.
    """
    height, width = field.labels.shape
    nuclei = (field.labels > 0).astype(np.float32)
    strength = rng.uniform(0.75, 1.25) * rng.lognormal(0, 0.16, field.count + 1)
    pale = rng.random(field.count + 1) < 0.15
    strength[pale] *= 0.6
    strength[0] = 0
    h = strength.astype(np.float32)[field.labels]
    rim = nuclei - np.asarray(cv2.GaussianBlur(nuclei, (0, 0), 1.6), np.float32)
    h *= 1 + 0.28 * _texture(rng, height, width, 1.4) + 0.15 * _texture(rng, height, width, 4.0)
    h += 0.35 * np.clip(rim, 0, 1) * nuclei
    h = np.asarray(cv2.GaussianBlur(h, (0, 0), rng.uniform(0.6, 1.1)), np.float32)
    fibres = _fibres(rng, height, width) + _texture(rng, height, width, 7.0)
    gaps = 1 / (1 + np.exp(-4 * (_texture(rng, height, width, 14.0) - rng.uniform(0.9, 1.8))))
    gaps *= 1 - np.asarray(cv2.GaussianBlur(nuclei, (0, 0), 4.0), np.float32)
    eosin = rng.uniform(0.25, 0.5) * (1 + 0.16 * fibres) * (1 - 0.85 * gaps)
    h += (rng.uniform(0.04, 0.12) * (1 + 0.25 * _texture(rng, height, width, 9.0))) * (1 - gaps)
    stains = [_shifted(rng, stain) for stain in (_HAEMATOXYLIN, _EOSIN)]
    density = np.clip(h, 0, None)[..., None] * stains[0] + np.clip(eosin, 0, None)[..., None] * stains[1]
    lamp = rng.uniform(236, 252) * (1 + 0.03 * _gradient(rng, height, width))[..., None]
    return np.asarray(lamp * np.exp(-density), np.float32)


def _shifted(rng: np.random.Generator, stain: NDArray[np.float32]) -> NDArray[np.float32]:
    """The stain as another laboratory has it."""
    return np.asarray(stain * rng.normal(1, 0.06, 3), np.float32)


def _fibres(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Strands in one direction that bend a little, of unit variance."""
    side = int(1.5 * max(height, width))
    strands = cv2.GaussianBlur(rng.standard_normal((side, side), np.float32), (0, 0), sigmaX=8, sigmaY=1.1)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x - width / 2, y - height / 2
    turn = rng.uniform(0, np.pi)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    across += rng.uniform(2, 8) * np.sin(along / rng.uniform(20, 60) + rng.uniform(0, 6))
    columns, rows = ((axis + side / 2).astype(np.float32) for axis in (along, across))
    out = np.asarray(cv2.remap(strands, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32)
    return np.asarray((out - out.mean()) / max(float(out.std()), 1e-6), np.float32)


def _texture(rng: np.random.Generator, height: int, width: int, sigma: float) -> Plane:
    """Smooth noise of unit variance; sigma in pixels."""
    # Drawn at a grid as coarse as the blur allows and enlarged: ten times quicker than a wide blur.
    step = max(1, int(sigma / 1.5))
    shape = (height // step + 3, width // step + 3)
    noise = rng.standard_normal(shape, np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), sigma / step)
    smooth = cv2.resize(smooth, (shape[1] * step, shape[0] * step), interpolation=cv2.INTER_CUBIC)
    out = np.asarray(smooth, np.float32)[:height, :width]
    return np.asarray((out - out.mean()) / max(float(out.std()), 1e-6), np.float32)


def _gradient(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Illumination falling off from a point, within -1 to 1."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    cy, cx = rng.uniform(0, height), rng.uniform(0, width)
    reach = rng.uniform(0.5, 1.0) * max(height, width)
    return np.asarray(2 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * reach**2)) - 1, np.float32)


def _specks(
    rng: np.random.Generator,
    height: int,
    width: int,
    count: int,
    radius: tuple[int, int],
    level: tuple[int, int],
    blur: float,
) -> Plane:
    """Discs that are not nuclei: debris, or haze from out of focus."""
    plane = np.zeros((height, width), np.float32)
    for _ in range(count):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        size = int(rng.integers(radius[0], radius[1] + 1))
        cv2.circle(plane, centre, size, float(rng.uniform(*level)), thickness=-1)
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), blur), np.float32) if count else plane
