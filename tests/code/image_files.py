"""Small image files of every kind, some of them written by hand."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 19, 23
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = RGB[..., 0]
WIDE = (GREY.astype(np.uint16) << 8) | RGB[..., 1]
ALPHA = RGB[..., 2]


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(pixels: np.ndarray | bytes, order: str = "<", **changed: int | tuple[int, ...]) -> bytes:
    """A TIFF of one strip, written by hand: Pillow cannot write every kind that it reads."""
    data = pixels if isinstance(pixels, bytes) else pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    bits = 8 if isinstance(pixels, bytes) else pixels.dtype.itemsize * 8
    names = {"width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262, "offset": 273}
    names |= {"samples": 277, "rows": 278, "length": 279, "tile_width": 322, "tile_length": 323, "kind": 339}
    values: dict[str, Any] = {"width": WIDTH, "height": HEIGHT, "bits": bits, "compression": 1}
    values |= {"photometric": 1, "offset": 8, "samples": 1, "rows": HEIGHT, "length": len(data)} | changed
    entries = b"".join(
        struct.pack(order + "HHII", names[name], 4, 1, values[name]) for name in sorted(values, key=names.__getitem__)
    )
    head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(data))
    return head + data + struct.pack(order + "H", len(values)) + entries + bytes(4)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + head + body + extra + chunk(b"IEND", b"")


def grey_rgb(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)
