"""How a large image is cut: tiles that are cropped, never blended.

    for tile in tiles(height, width, core=1024, halo=48, stride=8):
        answer = network(image[tile.read])          # the core and its context
        whole[tile.keep] = answer[tile.crop]        # only the core is kept

Where the halo is at least the receptive field's radius, what is kept equals what the network says of the
whole image. Tiles begin on multiples of the stride, so that downsampling sees the same grid, and only at the
image's own border does a tile end early, so that padding is the same too.
"""

from dataclasses import dataclass

from resunet.errors import SettingsError

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Tile:
    """One tile: rows and columns of the image to read, and the part of them to keep.

    Attributes:
        top, left, bottom, right: box to read, in pixels of the image, the ends excluded.
        keep_top, keep_left, keep_bottom, keep_right: box to keep, in pixels of the image.
    """

    top: int
    left: int
    bottom: int
    right: int
    keep_top: int
    keep_left: int
    keep_bottom: int
    keep_right: int

    @property
    def read(self) -> Window:
        """What the network is given, as slices into the image."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def keep(self) -> Window:
        """Where the kept part belongs, as slices into the image."""
        return slice(self.keep_top, self.keep_bottom), slice(self.keep_left, self.keep_right)

    @property
    def crop(self) -> Window:
        """The kept part, as slices into the network's answer for `read`."""
        return (
            slice(self.keep_top - self.top, self.keep_bottom - self.top),
            slice(self.keep_left - self.left, self.keep_right - self.left),
        )

    @property
    def kept_pixels(self) -> int:
        return (self.keep_bottom - self.keep_top) * (self.keep_right - self.keep_left)


def tiles(height: int, width: int, core: int, halo: int, stride: int) -> list[Tile]:
    """Cut an image into tiles whose kept parts cover each pixel once, row by row.

    Args:
        height, width: of the image, in pixels.
        core: side of a tile's kept part in pixels, a multiple of `stride`.
        halo: context in pixels around the core on every inner side; none outside the image. It is widened
            to the next multiple of `stride`.
        stride: the network's downsampling; every box begins on a multiple of it.

    Raises:
        SettingsError: a length is out of range, or `core` is no multiple of `stride`.
    """
    if min(height, width, core, stride) < 1 or halo < 0:
        raise SettingsError("tiles need height, width, core and stride of at least 1 and halo of at least 0")
    if core % stride:
        raise SettingsError(f"a tile's core ({core}) must be a multiple of the stride ({stride})")
    context = -(-halo // stride) * stride
    return [
        Tile(
            top=max(0, row - context),
            left=max(0, column - context),
            bottom=min(height, row + core + context),
            right=min(width, column + core + context),
            keep_top=row,
            keep_left=column,
            keep_bottom=min(height, row + core),
            keep_right=min(width, column + core),
        )
        for row in range(0, height, core)
        for column in range(0, width, core)
    ]
