"""Whether a JPEG's coded data holds all of its blocks: libjpeg only warns where it ends early, and makes up the rest.

    check_scans(data)               # once the size in the header is known to be acceptable

A decoder that has all it needs does not care what stands between the last block of a scan and the next marker
(ITU-T T.81, B.1.1.2): where bytes put in there change the picture, blocks are missing. And where the last kilobyte
can be left out without changing it, damage before it has made more blocks than were meant.
"""

import re
import zlib
from io import BytesIO
from typing import Final, NamedTuple

from PIL import Image

from resunet.errors import ImageError

# Huffman codes; an arithmetic decoder reads past its data by design.
_SEQUENTIAL: Final = (0xC0, 0xC1)
_PROGRESSIVE: Final = 0xC2
_MARKER: Final = re.compile(rb"\xff[^\x00\xff]")
# Any number of 0xFF may stand before a marker; looking behind keeps a long run of them from being tried from each.
_RESTART: Final = re.compile(rb"(?<!\xff)\xff++[\xd0-\xd7]")
_END_OF_SCAN: Final = re.compile(rb"(?<!\xff)\xff++[^\x00\xd0-\xd7]")

# No byte of it begins a marker. The first bits are ones, because libjpeg makes up zeros. A block has at most 208
# bytes, so that the long filler makes a whole one in any code.
_SHORT_FILLER: Final = bytes(range(250, 37, -11)) * 3
_FILLER: Final = _SHORT_FILLER * 8
# Bytes before the end mark that may mean nothing: cameras fill up their last block with what was in memory.
_UNUSED: Final = 1024
# Each scan of a progressive file goes through the whole image; encoders make about ten.
_MAX_SCANS: Final = 100
# Up to this size comparing every pixel costs less than a millisecond.
_SMALL_PIXELS: Final = 1 << 14
_STRIP_PIXELS: Final = 1 << 20


class _Scan(NamedTuple):
    """A scan: where its coded data begins and stops, the restart markers that its size needs, and what it codes.

    `first` and `last` are the coefficients, `low` the lowest bit of them that is coded.
    """

    begin: int
    stop: int
    restarts: int
    components: bytes
    first: int
    last: int
    low: int


class _Frame(NamedTuple):
    """The marker, size and components (horizontal and vertical sampling by id) of the image."""

    marker: int
    width: int
    height: int
    sampling: dict[int, tuple[int, int]]

    def units(self, components: bytes) -> int:
        """Units that a scan of these components codes, each closed by a restart marker or not (T.81, A.2)."""
        across = max((h for h, _ in self.sampling.values()), default=1)
        down = max((v for _, v in self.sampling.values()), default=1)
        if len(components) == 1:  # then its own blocks, not those that fill up the last unit
            h, v = self.sampling.get(components[0], (1, 1))
            return _ceil(_ceil(self.width * h, across), 8) * _ceil(_ceil(self.height * v, down), 8)
        return _ceil(self.width, 8 * across) * _ceil(self.height, 8 * down)


def _ceil(length: int, unit: int) -> int:
    return -(-length // unit)


def check_scans(data: bytes) -> None:
    """Refuse a JPEG whose coded data ends before the last block, or goes on for long after it.

    Args:
        data: the whole file.

    Raises:
        ImageError: the file is truncated inside, or damaged.
    """
    frame, scans, end = _read(data)
    if len(scans) > _MAX_SCANS:
        raise ImageError(f"the JPEG file has {len(scans)} scans, at most {_MAX_SCANS} are taken; save it again")
    if frame.marker not in (*_SEQUENTIAL, _PROGRESSIVE):
        return
    for scan in scans:
        found = sum(1 for _ in _RESTART.finditer(data, scan.begin, scan.stop))
        if found < scan.restarts:
            raise _truncated()
        if found > scan.restarts + 1:  # one at the very end is harmless
            raise ImageError("the JPEG file is damaged: it has too many restart markers; send it again")
    # The mean of each block of 8x8 is enough, and quick; a progressive file may lack what comes after the means.
    scale = 1 if frame.marker == _PROGRESSIVE or frame.width * frame.height <= _SMALL_PIXELS else 8
    picture = _fingerprint(data[:end], scale)
    if picture != _fingerprint(_with_filler(data, scans, end), scale):
        raise _truncated()
    if frame.marker == _PROGRESSIVE:
        _check_refined(scans)
    else:
        _check_used(data, scans[-1], end, picture, scale)


def _check_refined(scans: list[_Scan]) -> None:
    """Refuse a progressive file that lacks whole scans: bits that were left for later and did not come."""
    low: dict[tuple[int, int], int] = {}
    for scan in scans:
        for component in scan.components:
            low |= {(component, index): scan.low for index in range(scan.first, min(scan.last, 63) + 1)}
    if any(low.values()):
        raise _truncated()


def _check_used(data: bytes, scan: _Scan, end: int, picture: int, scale: int) -> None:
    """Refuse a file whose last kilobyte of coded data does not matter."""
    if scan.restarts:  # damage ends at the next restart marker
        return
    coded = data[scan.begin : scan.stop]
    coded = coded.rstrip(coded[-1:])  # a run of one byte is padding
    if len(coded) <= 2 * _UNUSED:
        return
    # A lone 0xFF at the cut would begin a marker.
    shorter = [data[: scan.begin], coded[:-_UNUSED].rstrip(b"\xff"), _FILLER, data[scan.stop : end]]
    if picture == _fingerprint(b"".join(shorter), scale):
        raise ImageError("the JPEG file is damaged: its data goes on after its last block; send it again")


def _truncated() -> ImageError:
    return ImageError("the JPEG file is truncated inside: blocks of it are missing; send the whole file")


def _read(data: bytes) -> tuple[_Frame, list[_Scan], int]:
    """The frame, the scans, and where the first image of the file ends."""
    frame, scans = _Frame(0, 0, 0, {}), list[_Scan]()
    at, interval = 2, 0
    while (head := _MARKER.search(data, at)) is not None:
        marker, at = data[head.end() - 1], head.end()
        if marker == 0xD9 and scans:
            return frame, scans, at
        if marker == 0x01 or 0xD0 <= marker <= 0xD9:  # these have no length
            continue
        begin, at = at + 2, at + int.from_bytes(data[at : at + 2])
        body = data[begin:at]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            sampling = {body[i]: (body[i + 1] >> 4 or 1, body[i + 1] & 15 or 1) for i in range(6, len(body) - 2, 3)}
            frame = _Frame(marker, int.from_bytes(body[3:5]), int.from_bytes(body[1:3]), sampling)
        elif marker == 0xDD:
            interval = int.from_bytes(body[:2])
        elif marker == 0xDA:
            found = _END_OF_SCAN.search(data, at)
            if found is None:
                break
            components, rest = body[1 : 1 + 2 * body[0] : 2], body[1 + 2 * body[0] :].ljust(3, b"\0")
            restarts = (frame.units(components) - 1) // interval if interval else 0
            scans.append(_Scan(at, found.start(), restarts, components, rest[0], rest[1], rest[2] & 15))
            at = found.end() - 2
    raise ImageError("the JPEG file is truncated: its end is missing; send the whole file")


def _with_filler(data: bytes, scans: list[_Scan], end: int) -> bytes:
    """The image with filler between its coded data and the markers that end it, restart markers included."""
    parts: list[bytes] = []
    done = 0
    for scan in scans:
        coded = _RESTART.sub(lambda found: _SHORT_FILLER + found[0], data[scan.begin : scan.stop])
        parts += [data[done : scan.begin], coded, _FILLER]
        done = scan.stop
    return b"".join([*parts, data[done:end]])


def _fingerprint(data: bytes, scale: int) -> int:
    """A checksum of the picture at one `scale`-th of its size."""
    checksum = 0
    with Image.open(BytesIO(data), formats=("JPEG",)) as image:
        if scale > 1:
            image.draft(None, (max(1, image.width // scale), max(1, image.height // scale)))
        image.load()
        rows = max(1, _STRIP_PIXELS // image.width)
        for top in range(0, image.height, rows):
            strip = image.crop((0, top, image.width, min(top + rows, image.height)))
            checksum = zlib.crc32(strip.tobytes(), checksum)
    return checksum
