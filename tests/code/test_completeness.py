"""A file that is cut or damaged inside, and ends well, is refused as far as it can be told; a good one never is."""

import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from resunet.errors import ImageError
from resunet.images import decode_image, read_size
from resunet.tiff_directory import MAX_PIECES

ROOT = Path(__file__).resolve().parents[2]
SIZES = [(16, 16), (97, 131), (300, 257)]


def picture(height: int, width: int, kind: str) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of one of the kinds that code differently."""
    rng = np.random.default_rng(0)
    if kind == "noise":
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == "smooth":
        return np.asarray(cv2.resize(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8), (width, height)))
    flat = np.full((height, width, 3), int(kind), np.uint8)
    flat[: height // 3] = picture(height // 3, width, "smooth")
    return flat


# 128 is what libjpeg makes up where data is missing, 0 what Pillow and libtiff leave.
KINDS = ["noise", "smooth", "0", "128"]


def saved(rgb: NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(rgb).save(buffer, kind, **options)
    return buffer.getvalue()


def is_refused(data: bytes) -> bool:
    try:
        decode_image(data)
    except ImageError:
        return True
    return False


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, packed: bytes, *before: bytes, interlaced: bool = False) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlaced))
    return b"".join([b"\x89PNG\r\n\x1a\n", head, *before, chunk(b"IDAT", packed), chunk(b"IEND", b"")])


# PNG.


@pytest.mark.parametrize("height", [16, 97])
def test_a_png_whose_pixels_end_early_is_refused_wherever_they_end(height: int) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in picture(height, 24, "noise"))
    assert decode_image(png(24, height, zlib.compress(rows))).shape == (height, 24, 3)
    for kept in (0, 1, len(rows) // 2, len(rows) - 1):
        with pytest.raises(ImageError, match=rf"truncated inside: its pixels unpack to {kept} bytes of {len(rows)}"):
            decode_image(png(24, height, zlib.compress(rows[:kept])))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
def test_a_whole_png_of_any_depth_is_taken_and_a_shorter_one_is_not(mode: str) -> None:
    grey = picture(37, 53, "noise")[..., 0]
    image = Image.fromarray(grey.astype(np.uint16) << 8) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    buffer = BytesIO()
    image.save(buffer, "PNG")
    data = buffer.getvalue()
    decode_image(data)
    at = data.index(b"IDAT")
    (length,) = struct.unpack_from(">I", data, at - 4)
    rows = zlib.decompress(data[at + 4 : at + 4 + length])
    short = data[: at - 4] + chunk(b"IDAT", zlib.compress(rows[:-1])) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="truncated inside"):
        decode_image(short)


def test_an_interlaced_png_is_counted_by_its_passes() -> None:
    # Sizes of the seven passes of 19 x 17, from the figure in ISO/IEC 15948, 8.2.
    sizes = [(3, 3), (2, 3), (5, 2), (5, 5), (10, 4), (9, 9), (19, 8)]
    rows = b"".join((b"\0" + bytes(3 * columns)) * count for columns, count in sizes)
    assert decode_image(png(19, 17, zlib.compress(rows), interlaced=True)).shape == (17, 19, 3)
    with pytest.raises(ImageError, match="truncated inside"):
        decode_image(png(19, 17, zlib.compress(rows[:-1]), interlaced=True))


def test_a_png_with_a_changed_byte_is_refused_where_pillow_would_take_it() -> None:
    data = bytearray(saved(picture(64, 64, "noise"), "PNG", compress_level=0))
    data[len(data) // 2] ^= 1
    with pytest.raises(ImageError, match="checksum"):
        decode_image(bytes(data))


def test_a_png_with_a_second_header_is_refused_before_its_pixels_are_unpacked() -> None:
    small = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0))
    bomb = png(2**31 - 1, 2**31 - 1, zlib.compress(bytes(1 << 20)), small)
    with pytest.raises(ImageError, match=r"two headers|too large"):
        decode_image(bomb)


# JPEG.


def coded(data: bytes) -> tuple[int, int]:
    """Where the coded data of the first scan begins, and where the file's end mark is."""
    at = data.index(b"\xff\xda")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4]), data.rindex(b"\xff\xd9")


JPEG_OPTIONS = [
    {},
    {"progressive": True},
    {"optimize": True, "subsampling": 0},
    {"restart_marker_rows": 1},
    {"progressive": True, "restart_marker_blocks": 3},
]


@pytest.mark.parametrize("options", JPEG_OPTIONS, ids=str)
@pytest.mark.parametrize("quality", [30, 75, 97])
@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_that_is_cut_inside_is_refused_and_a_whole_one_never(
    kind: str, quality: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.ImageFile.MAXBLOCK", 1 << 20)  # Pillow cannot optimise noise in less
    for size in SIZES:
        data = saved(picture(*size, kind), "JPEG", quality=quality, **options)
        whole = decode_image(data)
        assert whole.shape == (*size, 3)
        begin, end = coded(data)
        for part in (0.3, 0.5, 0.9):
            cut = data[: begin + int((end - begin) * part)].rstrip(b"\xff") + b"\xff\xd9"
            try:
                taken = decode_image(cut)
            except ImageError as error:
                assert "truncated" in str(error) or "damaged" in str(error)
            else:
                assert (taken == whole).all(), "what was cut off was of no use"


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_are_told_alike(mode: str) -> None:
    buffer = BytesIO()
    Image.fromarray(picture(120, 90, "smooth")).convert(mode).save(buffer, "JPEG")
    data = buffer.getvalue()
    decode_image(data)
    begin, end = coded(data)
    with pytest.raises(ImageError, match="truncated inside"):
        decode_image(data[: (begin + end) // 2] + b"\xff\xd9")


def test_a_jpeg_that_is_overwritten_in_the_middle_is_refused() -> None:
    data = bytearray(saved(picture(300, 257, "noise"), "JPEG", quality=97))
    begin, end = coded(data)
    first, last = begin + (end - begin) * 2 // 5, begin + (end - begin) * 3 // 5
    data[first:last] = bytes(last - first)  # zeros make more blocks than the noise that was there did
    with pytest.raises(ImageError, match="goes on after its last block"):
        decode_image(bytes(data))


def test_what_cameras_put_before_and_after_the_end_of_a_jpeg_is_no_damage() -> None:
    rgb = picture(300, 257, "smooth")
    data = saved(rgb, "JPEG")
    expected = decode_image(data)
    for before, after in ((b"\x12\x34" * 300, b""), (bytes(9000), b""), (b"\xff" * 9000, b""), (b"", b"junk" * 999)):
        assert (decode_image(data[:-2] + before + data[-2:] + after) == expected).all()
    pair = BytesIO()
    Image.fromarray(rgb).save(pair, "MPO", save_all=True, append_images=[Image.fromarray(255 - rgb)])
    assert (decode_image(pair.getvalue()) == expected).all()


def test_a_thumbnail_s_end_is_not_the_end_of_a_jpeg() -> None:
    data = saved(picture(97, 131, "smooth"), "JPEG")
    thumbnail = saved(picture(16, 16, "smooth"), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = data[:2] + segment + data[2:]
    decode_image(whole)
    with pytest.raises(ImageError, match="truncated"):
        decode_image(whole[:-2])


def test_a_jpeg_of_hundreds_of_scans_is_refused() -> None:
    data = saved(picture(64, 64, "smooth"), "JPEG", progressive=True)
    begin, end = coded(data)
    first_scan = data[data.index(b"\xff\xda") : data.index(b"\xff\xc4", begin)]
    with pytest.raises(ImageError, match="211 scans"):
        decode_image(data[: data.index(b"\xff\xda")] + first_scan * 201 + data[data.index(b"\xff\xda") : end + 2])


# TIFF and BMP.


COMPRESSIONS = ["packbits", "tiff_lzw", "tiff_adobe_deflate", None]
# libtiff compresses 1 bit by fax codes only, and by JPEG only 8 bits.
WHOLE = [(compression, mode) for compression in COMPRESSIONS for mode in ("1", "L", "RGB", "RGBA", "I;16")]
WHOLE += [("group4", "1"), ("jpeg", "L"), ("jpeg", "RGB")]


@pytest.mark.parametrize(("compression", "mode"), WHOLE)
@pytest.mark.parametrize("strip_size", [3000, 65536])
def test_a_whole_tiff_is_taken(compression: str | None, mode: str, strip_size: int) -> None:
    rgb = picture(97, 131, "smooth")
    image = (
        Image.fromarray(rgb[..., 0].astype(np.uint16) << 8) if mode == "I;16" else Image.fromarray(rgb).convert(mode)
    )
    buffer = BytesIO()
    image.save(buffer, "TIFF", compression=compression, strip_size=strip_size)
    assert decode_image(buffer.getvalue()).shape == (97, 131, 3)


def strips(data: bytes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    with Image.open(BytesIO(data)) as image:
        return image.tag_v2[273], image.tag_v2[279]  # type: ignore[attr-defined]


# PackBits has no checksum: what runs on by chance to the right length is not found.
@pytest.mark.parametrize(("compression", "found"), [("packbits", 0.9), ("tiff_adobe_deflate", 1.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_compressed_tiff_with_zeros_inside_is_refused(compression: str, found: float, kind: str) -> None:
    rgb = picture(97, 131, kind)
    refused = []
    for strip_size in (8000, 1 << 20):
        data = saved(rgb, "TIFF", compression=compression, strip_size=strip_size)
        for start, length in zip(*strips(data), strict=True):
            zeros = min(300, length // 2)
            for first in range(start, start + length - zeros, max(1, length // 7)):
                spoilt = bytearray(data)
                spoilt[first : first + zeros] = bytes(zeros)
                if spoilt != data:
                    refused.append(is_refused(bytes(spoilt)))
    assert np.mean(refused) >= found


def test_a_jpeg_tiff_whose_strips_are_cut_is_refused() -> None:
    data = bytearray(saved(picture(300, 257, "smooth"), "TIFF", compression="jpeg", strip_size=30_000))
    decode_image(bytes(data))
    starts, lengths = strips(bytes(data))
    for at in (starts[0] + lengths[0] - 2, starts[1] + lengths[1] - 2):
        assert data[at : at + 2] == b"\xff\xd9"
        data[at : at + 2] = b"\0\0"
        with pytest.raises(ImageError, match="no end"):
            decode_image(bytes(data))


def tiff(entries: dict[int, tuple[int, list[int]]], pixels: bytes, big: bool = False) -> bytes:
    """A TIFF by hand: of each tag its type and its values (BigTIFF where asked)."""
    codes = {3: "H", 4: "I", 16: "Q"}
    body, at = b"", len(pixels) + (16 if big else 8)
    heads, inline = [], 8 if big else 4
    for tag, (kind, values) in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}{codes[kind]}", *values)
        head = struct.pack("<HHQ" if big else "<HHI", tag, kind, len(values))
        if len(packed) > inline:
            heads.append(head + struct.pack("<Q" if big else "<I", at + len(body)))
            body += packed
        else:
            heads.append(head + packed.ljust(inline, b"\0"))
    directory = struct.pack("<Q" if big else "<H", len(heads)) + b"".join(heads) + bytes(8)
    place = at + len(body)
    header = b"II+\0\x08\0\0\0" + struct.pack("<Q", place) if big else b"II*\0" + struct.pack("<I", place)
    return header + pixels + body + directory


def grey_tiff(big: bool = False, **changed: tuple[int, list[int]]) -> bytes:
    """32 x 32 grey, uncompressed, in one strip."""
    names = {"rows": 278, "starts": 273, "lengths": 279, "format": 339, "tile_width": 322, "tiles": 324}
    entries = {256: (3, [32]), 257: (3, [32]), 258: (3, [8]), 259: (3, [1]), 262: (3, [1]), 277: (3, [1])}
    entries |= {273: (4, [16 if big else 8]), 278: (3, [32]), 279: (4, [1024])}
    return tiff(entries | {names[name]: value for name, value in changed.items()}, bytes(1024), big)


@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_with_more_strips_than_its_size_needs_is_refused(big: bool) -> None:
    assert decode_image(grey_tiff(big)).shape == (32, 32, 3)
    many = [8] * 5000
    with pytest.raises(ImageError, match="lists 5000 strips or tiles, its size needs 1"):
        decode_image(grey_tiff(big, starts=(4, many), lengths=(4, many)))
    with pytest.raises(ImageError, match="5000 strips or tiles, its size needs 32"):
        read_size(grey_tiff(big, rows=(3, [1]), starts=(4, many)))
    with pytest.raises(ImageError, match="lists 5000 strips"):
        read_size(grey_tiff(big, tile_width=(3, [16]), tiles=(4, many)))
    with pytest.raises(ImageError, match="numbers under tag 339"):
        read_size(grey_tiff(big, format=(3, [1] * 200_000)))
    entries = {256: (4, [1_000_000]), 257: (4, [1_000_000]), 278: (4, [1]), 273: (4, [8] * (MAX_PIECES + 1))}
    with pytest.raises(ImageError, match="at most 100000 are taken"):
        read_size(tiff(entries, b"", big))


def test_a_tiff_strip_without_data_is_refused() -> None:
    with pytest.raises(ImageError, match="has no data"):
        decode_image(grey_tiff(starts=(4, [0])))


def test_millions_of_strips_are_refused_in_the_memory_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "strips.tiff").write_bytes(grey_tiff(starts=(4, [8] * 3_000_000), lengths=(4, [1] * 3_000_000)))
    code = (
        "import sys; sys.path.insert(0, 'tests/code'); from peak_memory import peak_bytes\n"
        "from pathlib import Path\n"
        "from resunet.errors import ImageError; from resunet.images import read_size\n"
        "data = Path(sys.argv[1]).read_bytes(); before = peak_bytes()\n"
        "try: read_size(data)\n"
        "except ImageError: print((peak_bytes() - before) / len(data))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "strips.tiff")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert float(done.stdout) < 2


@pytest.mark.timeout(60)  # it ends at all: the directory claims 2^60 entries
def test_a_bigtiff_directory_without_end_is_refused() -> None:
    entry = struct.pack("<HHQQ", 65000, 3, 1, 0)
    endless = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**60) + entry * 400_000
    with pytest.raises(ImageError, match="no end"):
        read_size(endless)


def test_a_bmp_whose_runs_end_early_is_refused() -> None:
    def bmp(runs: bytes) -> bytes:
        palette = b"".join(bytes([level, level, level, 0]) for level in range(256))
        info = struct.pack("<IiiHHIIiiII", 40, 32, 32, 1, 8, 1, len(runs), 0, 0, 256, 0)
        return b"BM" + struct.pack("<IHHI", 1078 + len(runs), 0, 0, 1078) + info + palette + runs

    row = bytes([32, 100, 0, 0])
    assert (decode_image(bmp(row * 32 + b"\0\1")) == 100).all()
    with pytest.raises(ImageError, match="damaged"):
        decode_image(bmp(row * 16 + b"\0\1"))


# What is no image of an accepted kind is seen by no other decoder.


def ico(side: int) -> bytes:
    """An icon that holds a large BMP: Pillow's plug-in decodes it when it is opened."""
    body = struct.pack("<IiiHHIIiiII", 40, side, side * 2, 1, 32, 0, 0, 0, 0, 0, 0) + bytes(side * side * 4)
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(body), 22) + body


def test_other_formats_are_refused_by_their_first_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr("resunet.images.Image.open", lambda *given, **options: opened.append(options))
    for data in (ico(64), b"GIF89a" + bytes(100), b"8BPS" + bytes(100), b"%PDF-1.4", b"RIFF....WEBP"):
        for look in (read_size, decode_image):
            with pytest.raises(ImageError, match="not an image of an accepted format"):
                look(data)
    assert not opened


def test_only_the_format_of_the_signature_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    real, formats = Image.open, []

    def watched(*given: Any, **options: Any) -> Any:
        formats.append(options["formats"])
        return real(*given, **options)

    monkeypatch.setattr("resunet.images.Image.open", watched)
    assert read_size(saved(picture(20, 30, "noise"), "PNG")) == (30, 20)
    assert read_size(saved(picture(20, 30, "noise"), "BMP")) == (30, 20)
    assert formats == [("PNG",), ("BMP",)]


def test_damaged_tags_leave_no_words_behind(capfd: pytest.CaptureFixture[str]) -> None:
    """Each is a warning of its own to Python, which keeps them all."""
    tags = b"".join(struct.pack("<HHII", 300 + tag, 1, 1 << 30, 8) for tag in range(500))
    exif = chunk(b"eXIf", b"II*\0\x08\0\0\0" + struct.pack("<H", 500) + tags + bytes(4))
    rows = b"".join(b"\0" + row.tobytes() for row in picture(32, 32, "noise"))
    code = (
        "import sys; from resunet.images import decode_image; import PIL.TiffImagePlugin as plugin\n"
        "decode_image(sys.stdin.buffer.read()); print(len(getattr(plugin, '__warningregistry__', {})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        input=png(32, 32, zlib.compress(rows), exif),
        capture_output=True,
        check=True,
    )
    assert int(done.stdout) <= 1 and not done.stderr
