"""Whether an image file holds all that its header announces: decoders make up what is missing and say nothing.

    check_complete(data, "PNG")     # once the size in the header is known to be acceptable

What is found:

- PNG: pixels that unpack to fewer bytes than the rows need, and a checksum of them that does not hold.
- JPEG: coded data that ends before the last block, or goes on for long after it.
- TIFF: a strip or tile without data, a JPEG one without its end, a PackBits or Deflate one that does not unpack to
  its rows; libtiff itself refuses what unpacks to too little.

What cannot be found, and decodes to wrong pixels: other values where no checksum covers them (uncompressed, PackBits
and LZW TIFF, BMP), and damage inside a JPEG that its code recovers from with about the right number of blocks.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from resunet.errors import ImageError
from resunet.jpeg_scans import check_scans
from resunet.tiff_directory import check_pieces

# Zlib makes at most 1032 bytes of one, so that a piece takes 33 MB at most.
_PIECE: Final = 1 << 15
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First column, first row, columns apart, rows apart of the passes of an interlaced PNG.
_PASSES: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def check_complete(data: bytes, name: str) -> None:
    """Refuse a file that holds fewer pixels than its header announces.

    Args:
        data: the whole file; the size in its header bounds what is done here.
        name: PNG, JPEG or TIFF; of any other format nothing is known.

    Raises:
        ImageError: the file is truncated inside, or damaged.
    """
    check = {"PNG": _check_png, "JPEG": check_scans, "TIFF": check_pieces}.get(name)
    if check is not None:
        check(data)


def _check_png(data: bytes) -> None:
    if data[12:16] != b"IHDR":
        raise ImageError("the PNG file is damaged: it does not begin with its header; send it again")
    width, height, bits, colour, interlaced = struct.unpack_from(">IIBB2xB", data, 16)
    depth = bits * _PNG_CHANNELS.get(colour, 0)
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    needed = 0
    for x, y, dx, dy in passes:
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        needed += rows * (1 + (columns * depth + 7) // 8) if columns > 0 else 0
    unpacker, found = zlib.decompressobj(), 0
    try:
        for chunk in _pixel_chunks(data):
            for start in range(0, len(chunk), _PIECE):
                found += len(unpacker.decompress(chunk[start : start + _PIECE]))
                if found >= needed:
                    return
    except zlib.error:
        raise ImageError("the PNG file is damaged: its pixels do not unpack; send it again") from None
    raise ImageError(
        f"the PNG file is truncated inside: its pixels unpack to {found} bytes of {needed}; send the whole file"
    )


def _pixel_chunks(data: bytes) -> Iterator[memoryview]:
    """The IDAT chunks, which stand together; their checksums are compared, as Pillow does not."""
    view, at, begun = memoryview(data), 8, False
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if kind == b"IDAT" and end + 4 <= len(data):
            begun = True
            if zlib.crc32(view[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
                raise ImageError("the PNG file is damaged: a checksum of its pixels does not hold; send it again")
            yield view[at + 8 : end]
        elif begun:
            return
        elif kind == b"IHDR" and at > 8:  # the size that was checked is the last one's
            raise ImageError("the PNG file is damaged: it has two headers; send it again")
        at = end + 4
