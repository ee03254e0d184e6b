"""From pixels to a mask, the same through every door: server, gateway, batch and bundle.

    predictor = Predictor.load(Path("artifacts/version"))
    prediction = predictor.predict(rgb)                 # (H, W, 3) uint8
    prediction.mask, prediction.confidence

An image with both sides up to `spec.tile.whole_side` is run whole, a larger one in tiles that are cropped
(see `resunet.tiling`). Here images are run one by one: a kernel may round otherwise in other company, and the same
image has to give the same mask; an engine that runs several together (`serving.batching`) is measured for that first.
Beside an image itself, its answer takes two bytes a pixel, three with a
threshold of the caller's.

Such a threshold moves the mask and its foreground fractions alone. All that says how sure the version is, and all
that is compared with its training, is of the mask at its own threshold, which it was calibrated and evaluated at.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resunet.confidence import apply_confidence_map, apply_temperature
from resunet.descriptors import describe_image, describe_prediction
from resunet.errors import SettingsError
from resunet.images import MIN_SIDE
from resunet.tiling import Tile, tiles
from serving.engine import Engine, choose_engine, open_engine
from serving.errors import TooLargeError
from serving.version import VersionSpec

EMBEDDING_SIZE = 64


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a version says of one image.

    Attributes:
        mask: (H, W) uint8; binary 0 and 255, else the class index.
        width, height: of the image, pixels.
        foreground_fractions: fraction of the mask's pixels, one a foreground class (all but index 0).
        soft_dice: uncalibrated confidence, 0 to 1 (arXiv 2402.10665), of the temperature-scaled
            probabilities; for more classes the mean over the foreground classes that the mask holds.
        confidence: the Dice that soft Dice has meant on the validation split.
        descriptors, prediction_descriptors: see `resunet.descriptors`; like soft Dice and confidence of the mask
            at the version's own threshold.
        embedding: (64,) float32; of a tiled image the mean over its tiles, weighted by the area they keep.
        engine: which engine computed it.
    """

    mask: NDArray[np.uint8]
    width: int
    height: int
    foreground_fractions: list[float]
    soft_dice: float
    confidence: float
    descriptors: dict[str, float]
    prediction_descriptors: dict[str, float]
    embedding: NDArray[np.float32]
    engine: str


class Predictor:
    """A version and the engine that runs it; one may be used from many threads."""

    def __init__(self, spec: VersionSpec, engine: Engine) -> None:
        self.spec = spec
        self.engine = engine

    @classmethod
    def load(cls, root: Path, engine: str = "auto", threads: int | None = None) -> "Predictor":
        """Load a version's folder.

        Args:
            root: holds `version.json` and the serving file.
            engine: auto, onnxruntime or openvino; see `choose_engine`.
            threads: cores that one image is computed on; None takes all that the process may use.

        Raises:
            VersionError: a file is missing or not understood.
            SettingsError: the engine is unknown, not installed, or gives other masks for this version.
        """
        spec = VersionSpec.read(root)
        name = choose_engine(spec, engine)
        return cls(spec, open_engine(name, root / spec.serving_file, spec.precision, threads))

    def predict(
        self,
        rgb: NDArray[np.uint8],
        threshold: float | None = None,
        *,
        on_tile: Callable[[Tile, NDArray[np.float32]], None] = lambda tile, probabilities: None,
    ) -> Prediction:
        """Segment an image.

        Args:
            rgb: (H, W, 3) uint8.
            threshold: binary versions only, between 0 and 1; a pixel is foreground where its probability,
                as the network gives it, is at least this. None takes the version's own. Temperature is not
                applied: at 0.5 it would change nothing, and any other was chosen without it.
            on_tile: told, tile by tile, the network's probabilities (C, h, w) of what the tile keeps: who measures
                the mask and the probabilities need not run the network twice, nor hold them all.

        Raises:
            SettingsError: a threshold for a version with more classes, or outside 0 to 1.
            TooLargeError: larger than `spec.tile.whole_side`, and the version cannot be tiled.
        """
        cut = self._threshold(threshold)
        height, width = rgb.shape[:2]
        mask = np.empty((height, width), np.uint8)
        own_mask = mask if cut == self.spec.threshold else np.empty_like(mask)
        certainty = np.empty((height, width), np.uint8)
        overlap = _Overlap(max(1, len(self.spec.class_names) - 1))
        embedding = np.zeros(EMBEDDING_SIZE, np.float64)
        for tile in self._tiles(height, width):
            probabilities, tile_embedding = self._run(rgb, tile)
            on_tile(tile, probabilities)
            scaled = probabilities
            if self.spec.calibration.temperature != 1:
                scaled = apply_temperature(probabilities, self.spec.calibration.temperature)
            levels = np.rint(scaled * np.float32(255)).astype(np.uint8)
            if self.spec.binary:
                classes = (probabilities[0] >= self.spec.threshold).view(np.uint8)
                own_mask[tile.keep] = classes * 255
                if own_mask is not mask:
                    mask[tile.keep] = (probabilities[0] >= cut) * np.uint8(255)
                certainty[tile.keep] = levels[0]
                overlap.add(levels, classes)
            else:
                classes = probabilities.argmax(axis=0).astype(np.uint8)
                mask[tile.keep] = classes
                certainty[tile.keep] = np.take_along_axis(levels, classes[None], axis=0)[0]
                overlap.add(levels[1:], classes)
            embedding += tile_embedding.astype(np.float64) * (tile.kept_pixels / (height * width))
        fractions = overlap.fractions(height * width)
        if own_mask is not mask:
            fractions = [int(np.count_nonzero(mask)) / (height * width)]
        soft_dice = overlap.soft_dice()
        calibration = self.spec.calibration
        confidence = apply_confidence_map(calibration.confidence_x, calibration.confidence_y, soft_dice)
        return Prediction(
            mask=mask,
            width=width,
            height=height,
            foreground_fractions=fractions,
            soft_dice=soft_dice,
            confidence=confidence,
            descriptors=describe_image(rgb),
            prediction_descriptors=describe_prediction(own_mask, certainty, confidence),
            embedding=embedding.astype(np.float32),
            engine=self.engine.name,
        )

    def probabilities(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The network's probabilities of a whole image, as evaluation and calibration need them.

        Args:
            rgb: (H, W, 3) uint8.

        Returns:
            (C, H, W) float32, not temperature-scaled: 4 C bytes a pixel.

        Raises:
            TooLargeError: as `predict`.
        """
        whole = np.empty((len(self.spec.class_names), *rgb.shape[:2]), np.float32)
        for tile, probabilities in self.by_tile(rgb):
            whole[:, *tile.keep] = probabilities
        return whole

    def by_tile(self, rgb: NDArray[np.uint8]) -> Iterator[tuple[Tile, NDArray[np.float32]]]:
        """`probabilities` in parts: each tile, and (C, h, w) of what it keeps.

        Raises:
            TooLargeError: as `predict`.
        """
        for tile in self._tiles(*rgb.shape[:2]):
            yield tile, self._run(rgb, tile)[0]

    def _run(self, rgb: NDArray[np.uint8], tile: Tile) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities (C, h, w) of what the tile keeps, and the embedding (64,) of what it reads."""
        probabilities, embedding = self.engine.run(np.ascontiguousarray(rgb[tile.read])[None])
        return probabilities[0][:, *tile.crop], embedding[0]

    def _tiles(self, height: int, width: int) -> list[Tile]:
        tile = self.spec.tile
        if max(height, width) <= tile.whole_side:
            return [Tile(0, 0, height, width, 0, 0, height, width)]
        if not tile.tileable:
            raise TooLargeError(
                f"the image is {width} x {height} pixels; this version's network ({self.spec.architecture}) "
                f"sees all of it at once and takes at most {tile.whole_side} a side: scale it down or cut it"
            )
        # A sliver at the far border is read with its halo, so never below the graph's smallest side.
        return tiles(height, width, tile.core, max(tile.halo, MIN_SIDE), tile.stride)

    def _threshold(self, threshold: float | None) -> float:
        if threshold is None:
            return self.spec.threshold
        if not self.spec.binary:
            raise SettingsError("threshold is for one class; this version takes the likeliest of several")
        if not 0 < threshold < 1:
            raise SettingsError("threshold must be between 0 and 1, both excluded")
        return threshold


class _Overlap:
    """Sums over tiles that give soft Dice as `resunet.confidence.soft_dice` does, one class at a time."""

    def __init__(self, classes: int) -> None:
        self._claimed = [0] * classes
        self._inside = [0] * classes
        self._total = [0] * classes

    def add(self, levels: NDArray[np.uint8], classes: NDArray[np.uint8]) -> None:
        """Add a tile: round(255 p) of each foreground class (K, h, w), the class chosen (h, w), 1 to K."""
        for index, level in enumerate(levels):
            chosen = classes == index + 1
            self._claimed[index] += int(np.count_nonzero(chosen))
            self._inside[index] += int(level[chosen].sum(dtype=np.int64))
            self._total[index] += int(level.sum(dtype=np.int64))

    def fractions(self, pixels: int) -> list[float]:
        return [claimed / pixels for claimed in self._claimed]

    def soft_dice(self) -> float:
        present = [index for index, claimed in enumerate(self._claimed) if claimed]
        if not present:  # nothing found: sure only where nothing was even suspected
            return 0.0 if any(self._total) else 1.0
        return float(np.mean([2 * self._inside[i] / 255 / (self._total[i] / 255 + self._claimed[i]) for i in present]))
