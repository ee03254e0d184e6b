"""From BBBC038's `stage1_train.zip` (Data Science Bowl 2018, CC0) to a data set folder.

    obtain(Path("nuclei"), console=Console())               # fetch and convert
    convert(Path("stage1_train.zip"), Path("nuclei"))       # what is here already

The archive holds `<id>/images/<id>.png` and one mask a nucleus, `<id>/masks/*.png`, at its top or in a
folder. Nothing is unpacked: members are read in memory, and only a checked id becomes a file name.
"""

import csv
import errno
import lzma
import os
import re
import struct
import tempfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from pipelines.data.download import ChecksumError, download, record, record_file, recorded
from pipelines.data.tables import METADATA_FILE
from pipelines.progress import progress_bar
from resunet.errors import DataError, ImageError
from resunet.images import decode_image, decode_mask

# The data set's own site, the Broad Institute's. This project has verified no checksum of what it serves.
ADDRESS: Final = "https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip"
MAX_IMAGES: Final = 10_000
MAX_NUCLEI: Final = 5_000
MAX_MEMBER_BYTES: Final = 64 * 1024**2
# What the standard library says of bytes that are no archive any more.
_DAMAGE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


class ArchiveError(DataError):
    """The archive is damaged, or not the one that was meant."""


def obtain(folder: Path, url: str = ADDRESS, sha256: str | None = None, console: Console | None = None) -> int:
    """Fetch the archive beside a folder, and write the data set into the folder.

    Without a checksum the first archive that converts is trusted; its checksum is written down beside it, and what
    is fetched later must be the same.

    Args:
        folder: new or empty.
        url: of the archive.
        sha256: of the archive, 64 hexadecimal digits.
        console: where progress and the checksum go.

    Returns:
        How many images there are.

    Raises:
        SettingsError: the address cannot be trusted without a checksum, or one of the two is none.
        DataError: the folder is not empty, or the archive cannot be fetched or is not what it should be.
    """
    folder = folder.resolve()
    _refuse_full(folder)
    archive = folder.with_name(folder.name + ".zip")
    # Read even where a checksum is given: a file that is none is somebody's own, and is not written over.
    first = recorded(archive)
    known = sha256 or first
    there = archive.exists()
    try:
        download(url, known, archive, console)
    except ChecksumError as error:
        if sha256:
            raise
        raise DataError(
            f"{error}. {record_file(archive)} holds the checksum of the first download; remove it to trust another"
        ) from None
    try:
        count = convert(archive, folder, console)
    except ArchiveError as error:
        if known is not None:
            raise ArchiveError(f"{error}. It has the checksum that was asked for: the address serves it so") from None
        if there:
            raise ArchiveError(
                f"{error}. It was there before and was left as it is; move it, or choose another folder"
            ) from None
        aside = _set_aside(archive)
        raise ArchiveError(f"{error}. It was set aside as {aside.name}; run it again to download it anew") from None
    found = record(archive)
    if console is not None:
        console.print(f"{count} images in {folder}", markup=False, soft_wrap=True)
        if known is None:
            console.print(
                f"sha256 of {archive.name}: {found}\nNobody vouched for it: this first download is trusted, and "
                f"later ones are compared with {record_file(archive)}. To pin it elsewhere, give --sha256 {found}",
                markup=False,
                soft_wrap=True,
            )
    return count


def _set_aside(archive: Path) -> Path:
    """Rename an archive to `.damaged`, or to the first `.damaged-2`, `.damaged-3`, … that nothing has."""
    aside = archive.with_name(archive.name + ".damaged")
    number = 1
    while os.path.lexists(aside):
        number += 1
        aside = archive.with_name(f"{archive.name}.damaged-{number}")
    archive.rename(aside)
    return aside


def convert(archive: Path, root: Path, console: Console | None = None) -> int:
    """Write a data set folder: the images as they are, each one's nuclei as one 0/255 mask.

    `metadata.csv` has the columns file, modality (a slice), width, height and nuclei.

    Returns:
        How many images there are.

    Raises:
        ArchiveError: the archive is not BBBC038's, is damaged or unsafe.
        DataError: it is not there, or the folder is not empty or cannot be written to.
    """
    root = root.resolve()
    _refuse_full(root)
    # An empty folder that is there may be where someone stands, or a mount: it is filled, not replaced.
    beside = root if root.exists() else root.parent
    try:
        beside.mkdir(parents=True, exist_ok=True)
        with (
            zipfile.ZipFile(archive) as source,
            tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=beside) as folder,
        ):
            new = Path(folder) / "new"
            count = _write(source, new, console)
            if beside != root:
                new.rename(root)
            else:
                for part in sorted(new.iterdir()):
                    part.rename(root / part.name)
            return count
    except _DAMAGE as error:
        raise ArchiveError(f"{archive} is damaged or no plain zip ({error})") from None
    except OSError as error:
        # A disk's errors have a number, and none is a place before a file's beginning: that is in the listing.
        if error.errno in (None, errno.EINVAL):
            raise ArchiveError(f"{archive} is damaged or no plain zip ({error})") from None
        raise DataError(f"{root} cannot be made of {archive.name} ({error.strerror or error})") from None


def _refuse_full(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; choose another folder")
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty; choose another folder")


def modality_of(rgb: NDArray[np.uint8]) -> str:
    """Fluorescence, histology or brightfield, by colour and background.

    Args:
        rgb: (H, W, 3) uint8.
    """
    colour = float((rgb.max(axis=2).astype(np.int16) - rgb.min(axis=2)).mean())
    # Measured on 569 labelled images of this set, right for all: the mean colour of histology is at least
    # 11.9, of the others 0; the median of fluorescence is at most 44, of brightfield at least 226.
    if colour > 5:
        return "histology"
    return "fluorescence" if float(np.median(rgb)) < 150 else "brightfield"


def _write(source: zipfile.ZipFile, root: Path, console: Console | None) -> int:
    members = _members(source)
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    rows: list[list[str | int]] = []
    with progress_bar(console, "Converting images", len(members)) as advance:
        for identity, (image, masks) in sorted(members.items()):
            data = _read(source, image)
            try:
                rgb = decode_image(data)
                mask = _union(source, masks, rgb.shape[:2])
            except ImageError as error:
                raise ArchiveError(f"{image.filename} or one of its masks {error}") from None
            name = f"{identity}.png"
            (root / "images" / name).write_bytes(data)
            (root / "masks" / name).write_bytes(cv2.imencode(".png", mask)[1].tobytes())
            rows.append([name, modality_of(rgb), rgb.shape[1], rgb.shape[0], len(masks)])
            advance(1)
    with (root / METADATA_FILE).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["file", "modality", "width", "height", "nuclei"])
        writer.writerows(rows)
    return len(rows)


def _members(source: zipfile.ZipFile) -> dict[str, tuple[zipfile.ZipInfo, list[zipfile.ZipInfo]]]:
    """Of each image id its image and its masks."""
    images: dict[str, zipfile.ZipInfo] = {}
    masks: dict[str, list[zipfile.ZipInfo]] = defaultdict(list)
    for info in source.infolist():
        path = PurePosixPath(info.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in info.filename:
            raise ArchiveError(f"the archive has an unsafe name, {info.filename!r}; this is not BBBC038's")
        if info.is_dir() or path.suffix.lower() != ".png" or len(path.parts) < 3 or "__MACOSX" in path.parts:
            continue
        identity, kind = path.parts[-3], path.parts[-2]
        if not _ID.fullmatch(identity):
            continue
        if kind == "images" and path.stem == identity:
            if identity in images:
                raise ArchiveError(f"the archive has image {identity} twice; this is not BBBC038's")
            images[identity] = info
        elif kind == "masks":
            masks[identity].append(info)
    if not images:
        raise ArchiveError("the archive holds no <id>/images/<id>.png; this is not BBBC038's stage1_train.zip")
    if len(images) > MAX_IMAGES or max(map(len, masks.values()), default=0) > MAX_NUCLEI:
        raise ArchiveError(f"the archive holds more than {MAX_IMAGES} images or {MAX_NUCLEI} masks for one")
    return {identity: (info, masks[identity]) for identity, info in images.items()}


def _union(source: zipfile.ZipFile, masks: Sequence[zipfile.ZipInfo], size: tuple[int, ...]) -> NDArray[np.uint8]:
    out = np.zeros(size, np.uint8)
    for info in masks:
        nucleus = decode_mask(_read(source, info))
        if nucleus.shape != size:
            raise ArchiveError(f"{info.filename} has another size than its image; the archive is not intact")
        out[nucleus > 0] = 255
    return out


def _read(source: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    # The stated size may lie, so the limit is on what is read.
    with source.open(info) as stream:
        data = stream.read(MAX_MEMBER_BYTES + 1)
    if len(data) > MAX_MEMBER_BYTES:
        raise ArchiveError(f"{info.filename} is larger than {MAX_MEMBER_BYTES:,} bytes; this is not BBBC038's")
    return data
