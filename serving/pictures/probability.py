"""A network's probabilities as a grey picture, gathered tile by tile: one or two bytes a pixel, never four.

    gathered = ProbabilityMap(height, width, class_names, wanted.category, wanted.depth)
    prediction = predictor.predict(rgb, on_tile=gathered.add)
    pieces = gathered.encode()

They are the network's own, which the threshold is compared with: no temperature is applied.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from resunet.errors import SettingsError
from resunet.tiling import Tile
from serving.pictures.accept import Depth
from serving.pictures.png import encode_strips

_STRIP_PIXELS: Final = 1 << 20


class ProbabilityMap:
    """The probability of one class, or of any foreground, in an image.

    Args:
        height, width: of the image, pixels.
        class_names: of the version; one for a binary one, which is the foreground.
        category: name of the class, or its number in the mask (1 for the foreground of a binary version); None: any
            foreground class, which is one less the probability of the background.
        depth: bits of a pixel; white, 255 or 65,535, is a probability of 1.

    Raises:
        SettingsError: there is no such class.
    """

    def __init__(
        self, height: int, width: int, class_names: Sequence[str], category: str | None = None, depth: Depth = 8
    ) -> None:
        self._channel = _channel(class_names, category)
        self._levels = np.zeros((height, width), np.uint8 if depth == 8 else np.uint16)
        self._white = np.float32(2**depth - 1)

    def add(self, tile: Tile, probabilities: NDArray[np.float32]) -> None:
        """Take a tile's part.

        Args:
            tile: as `Predictor.predict` tells it.
            probabilities: (C, h, w) of what the tile keeps.
        """
        chosen = 1 - probabilities[0] if self._channel is None else probabilities[self._channel]
        self._levels[tile.keep] = np.rint(np.clip(chosen, 0, 1) * self._white)

    @property
    def levels(self) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """(H, W) uint8 or uint16."""
        return self._levels

    def encode(self) -> Iterator[bytes]:
        """A grey PNG in pieces."""
        height, width = self._levels.shape
        rows = max(1, _STRIP_PIXELS // width)
        return encode_strips((self._levels[top : top + rows] for top in range(0, height, rows)), width, height)


def _channel(class_names: Sequence[str], category: str | None) -> int | None:
    """Which channel of the network a class is; None: all but the background's."""
    binary = len(class_names) == 1
    if category is None:
        return 0 if binary else None
    if category in class_names:
        return class_names.index(category)
    numbers = {str(number + binary): number for number in range(len(class_names))}
    if category not in numbers:
        numbered = ", ".join(f"{name} ({number + binary})" for number, name in enumerate(class_names))
        raise SettingsError(f"there is no class of that name or number; this version has {numbered}")
    return numbers[category]
