"""A data set that is learnt in seconds: forty images of 64 px in two stains, each with two bright discs."""

from pathlib import Path

import numpy as np
from PIL import Image
from tiny_network import Pixels

COUNT, SIDE = 40, 64


def discs(seed: int, classes: int) -> tuple[Pixels, Pixels]:
    """(64, 64, 3) and (64, 64): two bright discs on a dark ground; of three classes, one is blue and of class 2."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for place, across in enumerate((16, 48)):
        radius, down = rng.integers(8, 13), rng.integers(16, 48)
        mask[(y - down) ** 2 + (x - across) ** 2 < radius**2] = place + 1
    rgb = np.clip(40 + 140 * (mask > 0)[..., None] + rng.normal(0, 8, (SIDE, SIDE, 3)), 0, 255)
    if classes == 3:
        rgb[mask == 2, 0] = 0
    else:
        mask = np.minimum(mask, 1)
    return rgb.astype(np.uint8), mask


def write_data(root: Path, classes: int, pairs: int = 0) -> Path:
    """Write the data set; its first images are so many pairs of one group each."""
    rows = ["file,stain,group"]
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for seed in range(COUNT):
        rgb, mask = discs(seed, classes)
        Image.fromarray(rgb).save(root / "images" / f"{seed:02d}.png")
        Image.fromarray(mask).save(root / "masks" / f"{seed:02d}.png")
        rows.append(f"{seed:02d}.png,{'ab'[seed % 2]},{f'pair {seed // 2}' if seed < 2 * pairs else ''}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    if classes == 3:
        (root / "classes.txt").write_text("background\nwhite\nblue\n")
    return root
