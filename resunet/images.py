"""From a file's bytes to pixels, by one rule for training, serving and batch.

    rgb = decode_image(Path("a.png").read_bytes())      # (H, W, 3) uint8
    classes = read_mask(Path("masks/a.png"))            # (H, W) uint8

The rule, for PNG, JPEG, TIFF and BMP with sides of 16 to 10,000 pixels:

- Frame: the first of a file with many. EXIF orientation is applied, to images and masks alike.
- Grey and 1-bit: the value in all three channels; 1-bit is 0 or 255.
- 16-bit grey: the upper 8 of its bits (`value >> 8`), never scaled by what the image holds: a dark
  image stays dark, and a tile equals its part of the whole. A TIFF that states 12 bits uses those (`>> 4`).
  16-bit colour is reduced the same way, by Pillow.
- 32-bit and signed integers, floats and Lab are refused: no fixed scale is right for them.
- Palette: expanded. CMYK and YCbCr: converted by the plain formula; colour profiles are ignored.
- Transparency: composited on black. Where nothing was recorded there is no light, and whatever colour a
  program left below a transparent pixel must not reach the network.

Nothing is decoded before the header's size has been checked, and a file that stops early is refused, also one
that is cut inside and ends well; `resunet.completeness` says what cannot be found out.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from resunet.completeness import check_complete
from resunet.errors import ImageError
from resunet.tiff_directory import check_lists

MIN_SIDE: Final = 16
MAX_SIDE: Final = 10_000
MAX_PIXELS: Final = 100_000_000
FORMATS: Final = ("PNG", "JPEG", "TIFF", "BMP")
MASK_FORMATS: Final = ("PNG", "TIFF", "BMP")

# Pillow warns above this many pixels and refuses above twice as many; its default is below our own bound.
# Written once, at import, because changing it around each call would be a race between threads. A limit that
# the program has already raised or switched off is left alone: `_check_header` holds whatever it says.
if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, MAX_PIXELS)

# Pillow warns of each damaged tag in words that name it, and Python keeps every such text: a hostile file would
# fill the log and the memory with 65,536 of them.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")
# The same of each size that is too large; it is refused by our own bound.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_SIGNATURES: Final = {
    b"\x89PNG": "PNG",
    b"\xff\xd8": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
}
_REFUSED_MODES: Final = {
    "I": "32-bit or signed integers",
    "F": "floating-point values",
    "LAB": "Lab colours",
}
_TILE_WIDTH, _TILE_LENGTH, _BITS_PER_SAMPLE, _PHOTOMETRIC = 322, 323, 258, 262
_WIDE_GREY: Final = ("I;16", "I;16L", "I;16B", "I;16N")
_WITH_ALPHA: Final = ("LA", "La", "PA", "RGBA", "RGBa")
# Pixels converted at a time: the copies that conversion needs stay small beside a 10,000x10,000 image.
_STRIP_PIXELS: Final = 1 << 20


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Decode an image file by the module's rule.

    Args:
        data: the whole file, PNG, JPEG, TIFF or BMP.

    Returns:
        (H, W, 3) uint8 RGB, contiguous and writable.

    Raises:
        ImageError: the bytes are no such image, are too large or small, damaged or truncated.
    """
    return decode_image_and_orientation(data)[0]


def decode_image_and_orientation(data: bytes) -> tuple[NDArray[np.uint8], int]:
    """`decode_image`, and the EXIF orientation that was undone: 1 to 8, 1 where the file states none."""
    return _decode(data, FORMATS, _to_rgb)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read and decode an image file; see `decode_image`.

    Raises:
        ImageError: the file cannot be read or decoded; the message begins with its name.
    """
    try:
        return decode_image(_read(path))
    except ImageError as error:
        raise ImageError(f"{path.name}: {error}") from None


def decode_mask(data: bytes) -> NDArray[np.uint8]:
    """Decode a mask file to the values it stores.

    Grey values are kept as they are (2- and 4-bit ones too, which Pillow would stretch to 255), a palette
    gives its index, 1-bit gives 0 and 1. Colour is accepted where all channels are equal and opaque. JPEG is
    refused: its compression changes class indices.

    Args:
        data: the whole file, PNG, TIFF or BMP.

    Returns:
        (H, W) uint8, contiguous and writable.

    Raises:
        ImageError: as `decode_image`, or the mask holds colours, transparency or values outside 0 to 255.
    """
    return decode_mask_and_orientation(data)[0]


def decode_mask_and_orientation(data: bytes) -> tuple[NDArray[np.uint8], int]:
    """`decode_mask`, and the EXIF orientation that was undone: 1 to 8, 1 where the file states none."""
    return _decode(data, MASK_FORMATS, _to_indices)


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read and decode a mask file; see `decode_mask`.

    Raises:
        ImageError: the file cannot be read or decoded; the message begins with its name.
    """
    try:
        return decode_mask(_read(path))
    except ImageError as error:
        raise ImageError(f"{path.name}: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"the file cannot be read ({error.strerror}); check the path and its permissions") from None


def read_size(data: bytes) -> tuple[int, int]:
    """The width and height in an image file's header, in pixels; nothing is decoded.

    Args:
        data: the whole file, PNG, JPEG, TIFF or BMP.

    Raises:
        ImageError: the bytes are no such image, or it is too large or small.
    """
    name = _check_signature(data, FORMATS)
    with _explained(name), _open(data, name) as image:
        return image.size


def is_16_bit_grey(data: bytes) -> bool:
    """Whether decoding keeps the upper 8 of 16 bits of grey, with 0 for black; nothing is decoded.

    Args:
        data: the whole file, PNG, JPEG, TIFF or BMP.

    Raises:
        ImageError: the bytes are no such image, or it is too large or small.
    """
    name = _check_signature(data, FORMATS)
    with _explained(name), _open(data, name) as image:
        return image.mode in _WIDE_GREY and _bits(image) == 16 and not _white_is_zero(image)


def _decode(
    data: bytes, formats: tuple[str, ...], convert: Callable[[Image.Image], NDArray[np.uint8]]
) -> tuple[NDArray[np.uint8], int]:
    name = _check_signature(data, formats)
    with _explained(name):
        with _open(data, name) as image:
            check_complete(bytes(data), name)
            # Pillow turns a TIFF as it reads the pixels and then drops the tag; a PNG may carry its own at its end.
            undone = _orientation(image) if name == "TIFF" else 1
            pixels, orientation = convert(image), _orientation(image)
        del image  # Pillow's 4 bytes a pixel go before turning needs a copy
        upright = np.ascontiguousarray(_upright(pixels, orientation))
        stated = undone if orientation == 1 else orientation
        return upright, stated if 1 <= stated <= 8 else 1


def _open(data: bytes, name: str) -> Image.Image:
    # The one format that the signature names: every other plug-in would look at the file, and some decode it.
    if name == "TIFF":
        check_lists(bytes(data))
    image = Image.open(BytesIO(data), formats=(name,))
    _check_header(image)
    return image


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what Pillow raises into an `ImageError` that quotes nothing of the file."""
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(_too_large("its header states more")) from None
    except MemoryError:
        raise ImageError("there is not enough memory to decode the file; send a smaller image") from None
    except UnidentifiedImageError:
        reason = f"the {name} file is damaged or of a kind that is not supported"
        raise ImageError(f"{reason}; save it again as an 8-bit PNG") from None
    # Pillow lets almost anything escape on hostile bytes (struct.error, SyntaxError, OverflowError, …), and
    # some of its messages quote the file: only the kind of error is passed on.
    except Exception as error:
        state = "truncated" if "truncated" in str(error).lower() else "damaged"
        kind = type(error).__name__
        raise ImageError(f"the {name} file is {state} ({kind}); send the whole file or save it again") from None


def _check_signature(data: bytes, formats: tuple[str, ...]) -> str:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ImageError(f"got {type(data).__name__}, not bytes; send the content of an image file")
    if len(data) == 0:
        raise ImageError("the file is empty; send the content of an image file")
    head = bytes(data[:4])
    name = next((known for signature, known in _SIGNATURES.items() if head.startswith(signature)), None)
    if name is None:
        raise ImageError(f"the file is not an image of an accepted format; send {', '.join(formats)}")
    if name not in formats:
        raise ImageError(f"the file is {name}, which does not keep class indices; save the mask as PNG")
    # Pillow accepts both formats without their end mark once it has all rows: a file cut there is still cut.
    end = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}.get(name)
    if end is not None and bytes(data).rfind(end) < 0:
        raise ImageError(f"the {name} file is truncated: its end is missing; send the whole file")
    return name


def _check_header(image: Image.Image) -> None:
    width, height = image.size
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ImageError(_too_large(f"it is {width} x {height}"))
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"the image is too small: it is {width} x {height}, each side needs {MIN_SIDE} pixels or more")
    tile = (_tag(image, _TILE_WIDTH, 0), _tag(image, _TILE_LENGTH, 0))
    if max(tile) > MAX_SIDE:
        raise ImageError(_too_large(f"its tiles are {tile[0]} x {tile[1]}"))
    if image.mode in _REFUSED_MODES:
        kind = _REFUSED_MODES[image.mode]
        raise ImageError(f"the file holds {kind}, which have no fixed scale to 8 bits; save it as 8- or 16-bit")


def _too_large(what: str) -> str:
    return f"the image is too large: {what}, at most {MAX_SIDE} x {MAX_SIDE} pixels are taken; cut it up"


def _tag(image: Image.Image, number: int, default: int) -> int:
    """A TIFF tag's first value, else the default."""
    value: Any = getattr(image, "tag_v2", {}).get(number, default)
    return int(value[0] if isinstance(value, tuple) else value)


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    width, height = image.size
    image.load()
    out = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        out[top : top + rows] = _strip_to_rgb(strip, image)
    return out


def _strip_to_rgb(strip: Image.Image, image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _WIDE_GREY:
        return np.expand_dims(_wide_grey(np.asarray(strip), image), -1)
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        if image.mode == "La":
            strip = strip.convert("LA")
        rgba = np.asarray(strip.convert("RGBA"))
        if rgba[..., 3].min() == 255:
            return rgba[..., :3]
        product = rgba[..., :3].astype(np.uint16) * rgba[..., 3:]
        return np.asarray((product + 127) // 255, dtype=np.uint8)
    return np.asarray(strip.convert("RGB"))


def _wide_grey(values: NDArray[np.uint16], image: Image.Image) -> NDArray[np.uint8]:
    grey = (values >> (_bits(image) - 8)).astype(np.uint8)
    # Pillow inverts "white is zero" TIFFs of up to 8 bits, not these.
    if _white_is_zero(image):
        grey = np.invert(grey)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 0
    return np.asarray(grey, dtype=np.uint8)


def _bits(image: Image.Image) -> int:
    """Of one value of grey that is stored in two bytes."""
    return 12 if _tag(image, _BITS_PER_SAMPLE, 16) == 12 else 16


def _white_is_zero(image: Image.Image) -> bool:
    return _tag(image, _PHOTOMETRIC, 1) == 0


def _to_indices(image: Image.Image) -> NDArray[np.uint8]:
    stretch = _stretch(image)
    image.load()
    mode = image.mode
    if mode in ("L", "P", "1"):
        return np.asarray(np.array(image, dtype=np.uint8) // stretch, dtype=np.uint8)
    if mode in _WIDE_GREY:
        wide = np.asarray(image)
        if wide.max() > 255:
            raise ImageError("the file holds values above 255: a mask stores class indices, not instance numbers")
        return wide.astype(np.uint8)
    if mode in ("LA", "RGB", "RGBA"):
        channels = np.asarray(image)
        opaque = mode == "RGB" or channels[..., -1].min() == 255
        colours = channels if mode == "RGB" else channels[..., :-1]
        if opaque and (colours == colours[..., :1]).all():
            return np.array(colours[..., 0])
    raise ImageError("the file holds colours or transparency: a mask stores class indices; save it as 8-bit grey PNG")


def _stretch(image: Image.Image) -> int:
    """The factor by which Pillow will stretch 2- or 4-bit grey to 8 bits; unknown once pixels are loaded."""
    bits = _tag(image, _BITS_PER_SAMPLE, 8)
    if image.format == "PNG" and isinstance(image, ImageFile.ImageFile) and image.tile:
        bits = {"L;2": 2, "L;4": 4}.get(str(image.tile[0].args), 8)
    return {2: 85, 4: 17}.get(bits, 1) if image.mode == "L" else 1


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Metadata that cannot be read is no reason to refuse good pixels.
        return 1


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation (Exif 3.0, tag 0x0112)."""
    turned = {
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: pixels[::-1].swapaxes(0, 1),
        7: pixels[::-1, ::-1].swapaxes(0, 1),
        8: pixels[:, ::-1].swapaxes(0, 1),
    }
    return turned.get(orientation, pixels)
