"""A TIFF's first directory, read before Pillow reads it, which takes 60 bytes for each byte of a long list.

    check_lists(data)               # before the file is opened
    check_pieces(data)              # once its size is known to be acceptable

TIFF 6.0 and BigTIFF. A directory that cannot be read is left to Pillow's own refusal.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from resunet.errors import ImageError

# Strips or tiles of an image: 10,000x10,000 in tiles of 32x32. Pillow keeps some 400 bytes for each.
MAX_PIECES: Final = 100_000
# The longest list that a reader needs: the colour map of a 16-bit palette.
_MAX_NUMBERS: Final = 3 << 16
_MIN_TILE: Final = 16
# Pillow goes through each of them, and BigTIFF can announce 2^64.
_MAX_TAGS: Final = 1 << 16

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _SAMPLES, _PLANAR = 256, 257, 258, 259, 262, 277, 284
_STRIPS, _STRIP_ROWS, _STRIP_BYTES = 273, 278, 279
_TILE_WIDTH, _TILE_LENGTH, _TILES, _TILE_BYTES = 322, 323, 324, 325
_MAX_SAMPLES: Final = 64
_PRIVATE: Final = 1 << 15
_JPEG, _DEFLATE, _PACKBITS, _OLD_DEFLATE = 7, 8, 32773, 32946
_YCBCR: Final = 6
# Zlib makes at most 1032 bytes of one, so that a piece takes 33 MB at most.
_PIECE: Final = 1 << 15
# PackBits is unpacked here in Python, for its length only: this many bytes take a second or two.
_MAX_PACKED: Final = 1 << 24
# Strips may end on a word or a longer unit.
_PADDING: Final = 16

_NUMBERS: Final = {3: "H", 4: "I", 8: "h", 9: "i", 13: "I", 16: "Q"}
_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_BYTES_AND_TEXT: Final = (1, 2, 6, 7)


class _Entry(NamedTuple):
    """A tag of the directory: type, number of values, and where in the file they are."""

    kind: int
    values: int
    at: int


class _Directory(NamedTuple):
    data: bytes
    order: str
    listed: list[tuple[int, _Entry]]
    entries: dict[int, _Entry]  # the first of each tag, which counts

    def numbers(self, tag: int, most: int = MAX_PIECES) -> tuple[int, ...]:
        """The first values of a tag; none where it is missing, holds something else or ends outside the file."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _NUMBERS:
            return ()
        try:
            return struct.unpack_from(
                f"{self.order}{min(entry.values, most)}{_NUMBERS[entry.kind]}", self.data, entry.at
            )
        except (struct.error, OverflowError):
            return ()

    def number(self, tag: int, default: int) -> int:
        """The first value of a tag."""
        return next(iter(self.numbers(tag, 1)), default)


def check_lists(data: bytes) -> None:
    """Refuse a TIFF whose lists are longer than its image needs.

    Args:
        data: the whole file.

    Raises:
        ImageError: there are more strips or tiles, or more numbers under a tag, than any reader needs.
    """
    directory = _read(data)
    needed = _pieces(directory)
    if len(directory.listed) >= _MAX_TAGS:
        raise ImageError("the TIFF file's directory has no end; save it again as PNG")
    for tag, entry in directory.listed:  # Pillow passes over an entry that it cannot read, and takes the next
        if tag in (_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES):
            if entry.values > min(needed, MAX_PIECES):
                bound = f"its size needs {needed}" if needed <= MAX_PIECES else f"at most {MAX_PIECES} are taken"
                raise ImageError(f"the TIFF file lists {entry.values} strips or tiles, {bound}; save it in larger ones")
        elif tag < _PRIVATE and entry.kind not in _BYTES_AND_TEXT and entry.values > _MAX_NUMBERS:
            raise ImageError(f"the TIFF file lists {entry.values} numbers under tag {tag}; save it again as PNG")


def check_pieces(data: bytes) -> None:
    """Refuse a TIFF whose strips or tiles do not hold their pixels, where libtiff would make them up.

    Args:
        data: the whole file.

    Raises:
        ImageError: a strip or tile has no data, a JPEG one no end, or a PackBits (up to 16 MB in all) or Deflate
            one does not unpack to the length of its rows.
    """
    directory = _read(data)
    by_strip = _STRIPS in directory.entries
    starts = directory.numbers(_STRIPS if by_strip else _TILES)
    if any(start < 8 for start in starts):  # the header is there
        raise ImageError("the TIFF file is truncated inside: a strip or tile has no data; send the whole file")
    lengths = directory.numbers(_STRIP_BYTES if by_strip else _TILE_BYTES)
    compression = directory.number(_COMPRESSION, 1)
    if compression == _JPEG and not all(
        # libtiff puts in a missing end itself, and libjpeg makes up the pixels before it.
        data.rfind(b"\xff\xd9", at, at + length) >= 0
        for at, length in zip(starts, lengths, strict=False)
    ):
        raise ImageError("the TIFF file is truncated inside: a JPEG strip has no end; send the whole file")
    unpacks = {_PACKBITS: _unpacks_runs, _DEFLATE: _unpacks_stream, _OLD_DEFLATE: _unpacks_stream}.get(compression)
    # Where colours are subsampled, rows are not what they seem.
    if unpacks is None or directory.number(_COLOURS, 1) == _YCBCR:
        return
    if compression == _PACKBITS and sum(lengths) > _MAX_PACKED:
        return
    for at, length, needed in zip(starts, lengths, _unpacked_sizes(directory), strict=False):
        if not unpacks(data[at : at + length], needed):
            raise ImageError("the TIFF file is damaged: a strip does not unpack to its rows; send it again")


def _unpacks_stream(packed: bytes, needed: int) -> bool:
    """Whether a zlib stream makes that many bytes and its checksum holds, which libtiff does not look at."""
    unpacker, found = zlib.decompressobj(), 0
    try:
        for start in range(0, len(packed), _PIECE):
            found += len(unpacker.decompress(packed[start : start + _PIECE]))
            if unpacker.eof or found > needed:
                break
    except zlib.error:
        return False
    return found >= needed


def _unpacks_runs(packed: bytes, needed: int) -> bool:
    """Whether PackBits (TIFF 6.0, section 9) makes just so many bytes."""
    at = 0
    while needed > 0 and at < len(packed):
        head = packed[at]
        if head < 128:
            at += head + 2
            needed -= head + 1
        elif head > 128:
            at += 2
            needed -= 257 - head
        else:
            at += 1
    return needed == 0 and 0 <= len(packed) - at <= _PADDING


def _unpacked_sizes(directory: _Directory) -> Iterator[int]:
    """Bytes of each strip or tile as it is unpacked, in the order of the list."""
    width, height = directory.number(_WIDTH, 0), directory.number(_HEIGHT, 0)
    samples = min(directory.number(_SAMPLES, 1), _MAX_SAMPLES)
    bits = directory.numbers(_BITS, samples) or (1,)
    bits = bits if len(bits) == samples else bits[:1] * samples
    planes = [(depth,) for depth in bits] if directory.number(_PLANAR, 1) == 2 else [bits]
    across, length = _grid(directory)
    for plane in planes:
        for top in range(0, height, length):
            rows = length if across else min(length, height - top)
            columns = directory.number(_TILE_WIDTH, 0) if across else width
            yield from [rows * ((columns * sum(plane) + 7) // 8)] * max(across, 1)


def _read(data: bytes) -> _Directory:
    order, big = "<" if data[:2] == b"II" else ">", 43 in data[2:4]
    listed: list[tuple[int, _Entry]] = []
    pointer, head = (order + "Q", order + "HHQ") if big else (order + "I", order + "HHI")
    try:
        (at,) = struct.unpack_from(pointer, data, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
        at += 8 if big else 2
        for _ in range(min(count, _MAX_TAGS)):
            tag, kind, values = struct.unpack_from(head, data, at)
            place, inline = (at + 12, 8) if big else (at + 8, 4)
            if kind in _SIZES:
                if values * _SIZES[kind] > inline:
                    (place,) = struct.unpack_from(pointer, data, place)
                listed.append((tag, _Entry(kind, values, place)))
            at += 20 if big else 12
    except (struct.error, OverflowError):
        pass
    return _Directory(data, order, listed, dict(reversed(listed)))


def _pieces(directory: _Directory) -> int:
    """How many strips or tiles the size needs."""
    across, length = _grid(directory)
    planes = max(1, directory.number(_SAMPLES, 1)) if directory.number(_PLANAR, 1) == 2 else 1
    return max(1, max(across, 1) * -(-directory.number(_HEIGHT, 0) // length) * planes)


def _grid(directory: _Directory) -> tuple[int, int]:
    """Tiles side by side, 0 where the image is in strips, and rows of a strip or tile."""
    height = directory.number(_HEIGHT, 0)
    if _STRIPS in directory.entries:
        return 0, max(1, min(directory.number(_STRIP_ROWS, height), height))
    width = max(_MIN_TILE, directory.number(_TILE_WIDTH, 0))
    return max(1, -(-directory.number(_WIDTH, 0) // width)), max(_MIN_TILE, directory.number(_TILE_LENGTH, 0))
