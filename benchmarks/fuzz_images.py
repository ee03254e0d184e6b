"""Image files that somebody spoilt: real ones, changed by a seeded hand.

    files = load_sources(rng)                   # of the nuclei data set where it is, else drawn
    data = spoilt(rng, files)                   # bytes, mostly no image any more

Each hand does what files do to decoders: bits flipped, an end cut off, chunks exchanged, sizes announced that are not
there, streams that unpack to a hundred times themselves, directories of a TIFF that lead to each other.
"""

import io
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.data.synthetic import Knobs, draw

NUCLEI = Path(__file__).resolve().parents[2] / "shared" / "data" / "nuclei" / "images"
SIDE, MOST_SOURCES = 256, 24
_PNG = b"\x89PNG\r\n\x1a\n"
_BOMB_BYTES = 48_000_000


def load_sources(rng: random.Random) -> list[bytes]:
    """Encoded images of every kind that is read: PNG, JPEG, TIFF (plain, packed), BMP; at most 256 x 256 each."""
    paths = sorted(NUCLEI.glob("*.png")) if NUCLEI.is_dir() else []
    pictures = [_opened(path) for path in rng.sample(paths, min(len(paths), MOST_SOURCES))]
    while len(pictures) < MOST_SOURCES:
        drawn, _ = draw(np.random.default_rng((7, len(pictures))), Knobs(size=(SIDE, SIDE)))
        pictures.append(Image.fromarray(drawn))
    return [encoded for number, picture in enumerate(pictures) for encoded in _encodings(picture, number)]


def spoilt(rng: random.Random, sources: Sequence[bytes], giants: bool = True) -> bytes:
    """A file for a decoder to read; one in twenty is whole, and some are good ones of 10,000 x 10,000 pixels."""
    data = rng.choice(sources)
    if rng.random() < 0.05:
        return data
    hand = rng.choices(_HANDS, _WEIGHTS)[0]
    data = hand(rng, data) if giants or hand is not giant else _flip(rng, data)
    return _flip(rng, data) if rng.random() < 0.1 else data


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB").crop((0, 0, min(SIDE, image.width), min(SIDE, image.height)))


def _encodings(picture: Image.Image, number: int) -> list[bytes]:
    forms: list[tuple[Image.Image, str, dict[str, object]]] = [
        (picture, "PNG", {}),
        (picture, "JPEG", {"quality": 90, "progressive": number % 2 == 0}),
        (picture, "TIFF", {"compression": ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")[number % 4]}),
        ((picture.convert("P"), picture.convert("L"), picture.convert("1"), picture)[number % 4], "BMP", {}),
        ((picture.convert("P"), picture.convert("LA"), picture.convert("1"), picture)[number % 4], "PNG", {}),
    ]
    return [encode(image, kind, options) for image, kind, options in forms]


def encode(image: Image.Image, kind: str, options: dict[str, object]) -> bytes:
    """A file of that kind."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _flip(rng: random.Random, data: bytes) -> bytes:
    """Some bits; half of the time near the start, where the words are."""
    changed = bytearray(data)
    reach = len(changed) if rng.random() < 0.5 else min(len(changed), 400)
    for _ in range(rng.choice((1, 2, 8, 64)) if reach else 0):
        changed[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _splice(rng: random.Random, data: bytes) -> bytes:
    """A stretch taken out, doubled, moved or overwritten."""
    start = rng.randrange(len(data))
    stop = min(len(data), start + rng.choice((1, 4, 64, 4096)))
    piece = data[start:stop]
    at = rng.randrange(len(data))
    return rng.choice(
        (
            data[:start] + data[stop:],
            data[:stop] + piece * rng.choice((1, 2, 50)) + data[stop:],
            data[:at] + piece + data[at:],
            data[:start] + rng.choice((b"\0", b"\xff", b"\x7f")) * len(piece) + data[stop:],
            data[:start] + rng.randbytes(len(piece)) + data[stop:],
        )
    )


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _chunks(data: bytes) -> list[bytes]:
    found, at = [], len(_PNG)
    while at + 12 <= len(data):
        end = at + 12 + int(struct.unpack_from(">I", data, at)[0])
        found.append(data[at:end])
        at = end
    return found


def _shuffle_chunks(rng: random.Random, data: bytes) -> bytes:
    """Chunks of a PNG in another order, doubled or gone, with sums that are right; of others, blocks."""
    parts = _chunks(data) if data.startswith(_PNG) else [data[at : at + 512] for at in range(0, len(data), 512)]
    if not parts:
        return data
    for _ in range(rng.randrange(1, 4)):
        first, second = rng.randrange(len(parts)), rng.randrange(len(parts))
        match rng.randrange(3):
            case 0:
                parts[first], parts[second] = parts[second], parts[first]
            case 1:
                parts.insert(second, parts[first])
            case _ if len(parts) > 1:
                parts.pop(first)
    return (_PNG if data.startswith(_PNG) else b"") + b"".join(parts)


def _announce(rng: random.Random, data: bytes) -> bytes:
    """Another size, or another depth, in the header, with a sum that is right."""
    side = rng.choice((0, 1, 15, 16, 9_999, 10_000, 10_001, 65_535, 2**31 - 1, 2**32 - 1))
    other = rng.choice((16, 64, 256, 10_000, side))
    if data.startswith(_PNG):
        first = _chunks(data)[0]
        depth, colour = rng.choice(((first[16], first[17]), (1, 0), (16, 6), (3, 9)))
        header = struct.pack(">II", side, other) + bytes((depth, colour)) + first[18:21]
        return _PNG + _chunk(b"IHDR", header) + data[len(_PNG) + len(first) :]
    changed = bytearray(data)
    if data.startswith(b"BM") and len(data) > 30:
        struct.pack_into("<II", changed, 18, side, rng.choice((other, -other % 2**32)))
        struct.pack_into("<H", changed, 28, rng.choice((1, 4, 8, 16, 24, 32, 64)))
    elif data.startswith(b"\xff\xd8"):
        at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        if 0 < at < len(data) - 9:
            struct.pack_into(">HH", changed, at + 5, side & 0xFFFF, other & 0xFFFF)
    else:
        for tag in (256, 257, 258, 277, 278, 279):
            at = data.find(struct.pack("<H", tag), 8)
            if rng.random() < 0.5 and 0 < at < len(data) - 12:
                struct.pack_into("<I", changed, at + 8, rng.choice((side, other)))
    return bytes(changed)


def _bomb(rng: random.Random, data: bytes) -> bytes:
    """A little file that unpacks to much."""
    zeros = zlib.compress(bytes(_BOMB_BYTES), 9)
    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    end = _chunk(b"IEND", b"")
    match rng.randrange(4):
        case 0:
            return _PNG + _chunk(b"IHDR", header) + _chunk(b"IDAT", zeros) + end
        case 1:
            words = b"".join(_chunk(name, b"a\0\0" + zeros) for name in (b"iCCP", b"zTXt"))
            return _PNG + _chunk(b"IHDR", header) + words + _chunk(b"IDAT", zeros) + end
        case 2:
            return _PNG + _chunk(b"IHDR", header) + _chunk(b"tEXt", b"a\0b") * 20_000 + end
        case _:
            tags = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 273: 8, 277: 1, 278: 64, 279: len(zeros)}
            return _tiff([tags], zeros)


def giant(rng: random.Random, data: bytes) -> bytes:
    """The largest image that is taken, black, in 12 kB; or one that stops after an eighth of it."""
    header = struct.pack(">IIBBBBB", 10_000, 10_000, rng.choice((1, 1, 8)), 0, 0, 0, 0)
    lines = zlib.compress(bytes(10_000 * 1_251), 9)
    return _PNG + _chunk(b"IHDR", header) + _chunk(b"IDAT", lines) + _chunk(b"IEND", b"")


def _ifds(rng: random.Random, data: bytes) -> bytes:
    """A TIFF of many directories, or of some that lead to each other, or of lists that are not there."""
    tags = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 64, 279: 4096}
    match rng.randrange(4):
        case 0:
            return _tiff([tags] * rng.choice((2, 100, 5_000)), bytes(4096))
        case 1:
            return _tiff([tags] * 3, bytes(4096), loops=True)
        case 2:
            return _tiff([tags | {rng.choice((330, 34665, 34853, 37724)): 8 + 4096}], bytes(4096))
        case _:
            return _tiff([tags | {rng.choice((273, 279, 258, 320)): 2**32 - 1}], bytes(4096), count=2**31 - 1)


def _tiff(directories: Sequence[dict[int, int]], pixels: bytes, *, loops: bool = False, count: int = 1) -> bytes:
    pixels += bytes(len(pixels) % 2)
    at, parts = 8 + len(pixels), []
    for number, tags in enumerate(directories):
        size = 2 + 12 * len(tags) + 4
        last = number == len(directories) - 1
        following = (8 + len(pixels) if loops else 0) if last else at + size
        entries = (struct.pack("<HHII", tag, 4, count if tag > 270 else 1, tags[tag]) for tag in sorted(tags))
        parts.append(struct.pack("<H", len(tags)) + b"".join(entries) + struct.pack("<I", following))
        at += size
    return struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels + b"".join(parts)


def _other(rng: random.Random, data: bytes) -> bytes:
    """What is no image: nothing, noise, a signature alone, an image behind another's signature."""
    signatures = (
        _PNG,
        b"\xff\xd8\xff\xe0",
        b"II*\0",
        b"MM\0*",
        b"II+\0",
        b"BM",
        b"GIF89a",
        b"RIFF\0\0\0\0WEBP",
        b"8BPS",
    )
    return rng.choice(
        (b"", rng.randbytes(rng.randrange(2000)), rng.choice(signatures), rng.choice(signatures) + data[8:])
    )


_HANDS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(_flip, _cut, _splice, _shuffle_chunks),
    *(_announce, _bomb, giant, _ifds, _other),
)
_WEIGHTS = (30, 15, 15, 12, 12, 1.6, 0.4, 6, 8)
