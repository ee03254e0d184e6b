"""Synthetic microscopy of cell nuclei: a data set for machines without a network, and drift on demand.

    generate(Path("synthetic"), count=120, seed=0)
    rgb, mask = draw(np.random.default_rng(0), Knobs(stain="histology", blur=2.0))

An image depends on the seed, its own number and the knobs alone: the first 120 of 200 are the 120. The same
machine and library versions give the same bits.
"""

import csv
import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from pipelines.data.groups import GROUPS_FILE
from pipelines.data.synthetic_stains import fluorescence, histology, lay_out
from pipelines.data.tables import METADATA_FILE
from pipelines.locks import lock_in_writable_folder
from pipelines.progress import progress_bar
from resunet.errors import DataError, SettingsError
from resunet.images import MAX_SIDE, MIN_SIDE

Stain = Literal["fluorescence", "histology", "mixed"]
RECIPE_FILE: Final = "synthetic.json"
# What was drawn, as `sha256sum -c` reads it: whatever else is found in the folder is somebody's own.
DIGESTS_FILE: Final = "synthetic.sha256"
# Raised when the same seed begins to give other images.
_GENERATOR: Final = 1
# Nuclei per pixel of an image of ordinary density, and by how much images of each kind differ from it.
_NUCLEI_PER_PIXEL: Final = 25 / 256**2
_DENSITIES: Final = {"sparse": (0.3, 0.6), "normal": (0.7, 1.3), "dense": (1.6, 2.4)}
_SIDE_STEP: Final = 32


@dataclass(frozen=True)
class Knobs:
    """What images look like.

    Attributes:
        stain: `mixed` draws two fluorescence images for each histology image.
        size: smallest and largest side, pixels; sides between are multiples of 32.
        brightness: factor on the light that reaches the camera.
        blur: sigma of a Gaussian blur, pixels.
        noise: sigma of the camera's noise, grey levels.
        density: factor on the number of nuclei.
    """

    stain: Stain = "mixed"
    size: tuple[int, int] = (128, 256)
    brightness: float = 1.0
    blur: float = 0.0
    noise: float = 3.0
    density: float = 1.0

    def __post_init__(self) -> None:
        if self.stain not in get_args(Stain):
            raise SettingsError(f"stain '{self.stain}' is not known; use {', '.join(get_args(Stain))}")
        if not MIN_SIDE <= self.size[0] <= self.size[1] <= MAX_SIDE:
            raise SettingsError(f"size {self.size} must be two sides from {MIN_SIDE} to {MAX_SIDE}, smaller first")
        for name, low, high in (
            ("brightness", 0.01, 10),
            ("blur", 0, 50),
            ("noise", 0, 100),
            ("density", 0, 10),
        ):
            if not low <= getattr(self, name) <= high:
                raise SettingsError(f"{name} must be from {low} to {high}, not {getattr(self, name)}")


@dataclass(frozen=True)
class Drawing:
    """One synthetic image.

    Attributes:
        rgb: (H, W, 3) uint8.
        mask: (H, W) uint8, 1 where a nucleus is.
        stain: `fluorescence` or `histology`.
        density: `sparse`, `normal` or `dense`.
    """

    rgb: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    stain: str
    density: str


def draw(rng: np.random.Generator, knobs: Knobs | None = None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one image.

    Returns:
        rgb: (H, W, 3) uint8.
        mask: (H, W) uint8, 1 where a nucleus is.
    """
    drawing = draw_described(rng, knobs)
    return drawing.rgb, drawing.mask


def draw_described(rng: np.random.Generator, knobs: Knobs | None = None) -> Drawing:
    """Draw one image and say what was drawn."""
    knobs = knobs or Knobs()
    height, width = _side(rng, knobs.size), _side(rng, knobs.size)
    bright = knobs.stain == "fluorescence" or (knobs.stain == "mixed" and rng.random() < 2 / 3)
    density = str(rng.choice(list(_DENSITIES), p=[0.25, 0.5, 0.25]))
    amount = rng.uniform(*_DENSITIES[density]) * knobs.density
    radius = float(rng.uniform(6.5, 12.5))
    # Smaller nuclei leave room for more of them.
    count = round(_NUCLEI_PER_PIXEL * height * width * amount * (9.0 / radius) ** 2)
    field = lay_out(rng, height, width, max(count, 1 if knobs.density else 0), radius)
    light = fluorescence(rng, field) if bright else histology(rng, field)
    light = light * np.float32(knobs.brightness)
    if knobs.blur > 0:
        light = np.asarray(cv2.GaussianBlur(light, (0, 0), knobs.blur), np.float32).reshape(light.shape)
    light = light + np.float32(knobs.noise) * rng.standard_normal(light.shape, np.float32)
    rgb = np.broadcast_to(np.clip(np.rint(light), 0, 255).astype(np.uint8), (height, width, 3))
    mask = (field.labels > 0).astype(np.uint8)
    return Drawing(np.ascontiguousarray(rgb), mask, "fluorescence" if bright else "histology", density)


def generate(
    root: Path, count: int = 120, seed: int = 0, knobs: Knobs | None = None, console: Console | None = None
) -> None:
    """Write a data set folder of synthetic images, in place of another that this wrote before.

    `metadata.csv` has the slice columns `stain` and `density`; `synthetic.json` says how to draw it again,
    `synthetic.sha256` what was drawn. A folder that was drawn in this very way is left as it is, a `groups.csv` in
    it always.

    Raises:
        DataError: the folder holds something else, a file that was changed since, or cannot be written.
        SettingsError: no image was asked for, or more than a million, or the seed is negative.
    """
    knobs = knobs or Knobs()
    if not 1 <= count <= 1_000_000:
        raise SettingsError(f"count must be from 1 to 1,000,000, not {count}")
    if seed < 0:
        raise SettingsError(f"seed must be 0 or more, not {seed}")
    recipe = json.dumps({"generator": _GENERATOR, "count": count, "seed": seed, "knobs": asdict(knobs)}, indent=2)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        # Two trainings may ask for it at once; the second must not take it away from under the first.
        with lock_in_writable_folder(root.parent / f".{root.name}.lock"):
            if root.exists() and not (root / RECIPE_FILE).is_file() and any(root.iterdir()):
                raise DataError(f"{root} holds something that was not generated here; choose another folder")
            _refuse_own_files(root, recipe, count)
            if not _is_drawn(root, recipe, count):
                _replace(root, recipe, count, seed, knobs, console)
    except OSError as error:
        raise DataError(f"{root} cannot be written ({error.strerror}); choose another folder") from None


def _is_drawn(root: Path, recipe: str, count: int) -> bool:
    there = (root / RECIPE_FILE).is_file() and (root / RECIPE_FILE).read_text("utf-8", "replace").strip() == recipe
    return there and all((root / name).is_file() for name in _names(count))


def _names(count: int) -> list[str]:
    return [METADATA_FILE, *(f"{part}/{index:06d}.png" for part in ("images", "masks") for index in range(count))]


def _refuse_own_files(root: Path, recipe: str, count: int) -> None:
    """Refuse a folder of which a file would be lost, or be taken for one that was drawn."""
    kept = {root / DIGESTS_FILE, root / GROUPS_FILE}
    found = [path for path in sorted(root.rglob("*")) if path.is_symlink() or not (path in kept or path.is_dir())]
    listing = root / DIGESTS_FILE
    if found and not listing.is_file():
        # Earlier releases kept no digests; the names are known of a folder that would stay as it is.
        names = {RECIPE_FILE, *_names(count)} if _is_drawn(root, recipe, count) else set()
        if {_name(root, path) for path in found} == names:
            return
        raise DataError(f"{root} has no {DIGESTS_FILE}, so what is yours in it is unknown; choose another folder")
    lines = listing.read_text("utf-8", "replace").splitlines() if found else []
    drawn = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for path in found:
        digest = drawn.get(_name(root, path))
        if digest is None or path.is_symlink() or not path.is_file():
            raise DataError(f"{path} was not drawn here and would be lost; move it, or choose another folder")
        if _sha256(path) != digest:
            raise DataError(f"{path} was changed since it was drawn; move it, or choose another folder")


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _replace(root: Path, recipe: str, count: int, seed: int, knobs: Knobs, console: Console | None) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as folder:
        new = Path(folder) / "new"
        _write(new, count, seed, knobs, console)
        (new / RECIPE_FILE).write_text(recipe + "\n", encoding="utf-8")
        lines = [f"{_sha256(new / name)}  {name}\n" for name in (RECIPE_FILE, *_names(count))]
        (new / DIGESTS_FILE).write_text("".join(lines), encoding="utf-8")
        # Drawing takes its time: something may have been put there since.
        _refuse_own_files(root, recipe, count)
        if (root / GROUPS_FILE).is_file():
            shutil.copyfile(root / GROUPS_FILE, new / GROUPS_FILE)
        if root.exists():
            root.rename(Path(folder) / "old")
        new.rename(root)


def _write(root: Path, count: int, seed: int, knobs: Knobs, console: Console | None) -> None:
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    rows = []
    with progress_bar(console, "Drawing images", count) as advance:
        for index in range(count):
            drawing = draw_described(np.random.default_rng((seed, index)), knobs)
            name = f"{index:06d}.png"
            grey = drawing.stain == "fluorescence"
            pixels = drawing.rgb[..., 0] if grey else cv2.cvtColor(drawing.rgb, cv2.COLOR_RGB2BGR)
            _write_png(root / "images" / name, np.asarray(pixels, np.uint8))
            _write_png(root / "masks" / name, drawing.mask * np.uint8(255))
            rows.append([name, drawing.stain, drawing.density])
            advance(1)
    with (root / METADATA_FILE).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["file", "stain", "density"])
        writer.writerows(rows)


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
    path.write_bytes(encoded.tobytes())


def _side(rng: np.random.Generator, size: tuple[int, int]) -> int:
    low, high = size
    sides = [low, *range((low // _SIDE_STEP + 1) * _SIDE_STEP, high, _SIDE_STEP), high]
    return int(rng.choice(sorted(set(sides))))
