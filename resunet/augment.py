"""Random crops and changes of geometry, light and stain. Everything is a function of the generator passed in."""

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

# Each is the half-width of a uniform range. Geometry: logarithm of the scale, share of crops at a free angle.
SCALE = 0.2
FREE_ANGLE = 0.5
# Light: logarithms of gamma and gain, offset as a share of full scale, logarithms of a channel's own gamma and gain.
GAMMA, GAIN, OFFSET, STAIN = 0.2, 0.1, 0.02, 0.1
# Shares of crops that are blurred, and to which noise is added.
BLURRED = NOISY = 0.1


def random_crop(rgb: Image, mask: Image, side: int, rng: np.random.Generator, tries: int = 3) -> tuple[Image, Image]:
    """Cut a square at a random scale (0.82 … 1.22), rotated by a random angle in half of the cases.

    Args:
        rgb: (H, W, 3).
        mask: (H, W) class indices.
        side: side of the result in pixels; what lies outside the image is its mirror image.
        rng: the only source of randomness.
        tries: how often another place is looked for while the crop holds no foreground.

    Returns:
        (side, side, 3) and (side, side).
    """
    height, width = mask.shape
    scale = float(np.exp(rng.uniform(-SCALE, SCALE)))
    angle = rng.uniform(0, 2 * np.pi) if rng.random() < FREE_ANGLE else 0.0
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    linear = np.array([[cosine, -sine], [sine, cosine]])
    for _ in range(tries):
        reach = side / scale / 2
        centre = np.array([_between(width, reach, rng), _between(height, reach, rng)])
        offset = centre - linear @ np.full(2, (side - 1) / 2)
        matrix = np.column_stack([linear, offset])
        found = cv2.warpAffine(
            mask,
            matrix,
            (side, side),
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        if found.any():
            break
    picture = cv2.warpAffine(
        rgb,
        matrix,
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(picture, np.uint8), np.asarray(found, np.uint8)


def _between(length: int, reach: float, rng: np.random.Generator) -> float:
    if length <= 2 * reach:
        return (length - 1) / 2
    return float(rng.uniform(reach, length - reach))


def random_orientation(rgb: Image, mask: Image, rng: np.random.Generator) -> tuple[Image, Image]:
    """One of the eight flips and quarter turns of a square image."""
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    rgb, mask = np.rot90(rgb, turns), np.rot90(mask, turns)
    if flip:
        rgb, mask = rgb[:, ::-1], mask[:, ::-1]
    return rgb, mask


def random_light(rgb: Image, rng: np.random.Generator) -> Image:
    """Gamma, gain, offset and a stain jitter of each channel, as one lookup table; sometimes blur and noise."""
    levels = np.arange(256, dtype=np.float32)[:, None] / 255
    gamma = np.exp(rng.uniform(-GAMMA, GAMMA))
    gain = np.exp(rng.uniform(-GAIN, GAIN))
    offset = rng.uniform(-OFFSET, OFFSET)
    coloured = rng.random() < 0.5
    stain_gain = np.exp(rng.uniform(-STAIN, STAIN, 3)) if coloured else np.ones(3)
    stain_gamma = np.exp(rng.uniform(-STAIN, STAIN, 3)) if coloured else np.ones(3)
    curve = gain * stain_gain * levels ** (gamma * stain_gamma) + offset
    table = np.clip(np.rint(curve * 255), 0, 255).astype(np.uint8)
    changed = cv2.LUT(np.ascontiguousarray(rgb), table.reshape(256, 1, 3))
    if rng.random() < BLURRED:
        changed = cv2.GaussianBlur(changed, (0, 0), float(rng.uniform(0.3, 1.2)))
    if rng.random() < NOISY:
        noise = rng.normal(0, rng.uniform(1, 8), rgb.shape[:2]).astype(np.float32)
        changed = np.clip(np.rint(changed + noise[..., None]), 0, 255)
    return np.asarray(changed, np.uint8)


def augmented_crop(rgb: Image, mask: Image, side: int, rng: np.random.Generator) -> tuple[Image, Image]:
    """A training example: random crop, orientation and light; (side, side, 3) and (side, side)."""
    picture, truth = random_crop(rgb, mask, side, rng)
    picture, truth = random_orientation(picture, truth, rng)
    return random_light(picture, rng), np.ascontiguousarray(truth)
