"""Finding pickled files by their content: whoever loads one runs what its writer wanted.

pickled_files(Path("model"))     # ["artifacts/version/notes.txt"]

Found are pickles (those of protocols 0 and 1, which are plain text, where they call something), compressed ones, those
inside a zip archive (as torch and numpy keep them), and numpy arrays of objects; and by its name, whatever it holds, a
file that loaders would unpickle.
"""

import bz2
import io
import lzma
import pickletools
import re
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Final

_NAMES: Final = frozenset({".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".pt", ".pth", ".ckpt"})
# Opcodes without which a pickle cannot reach code; in text and pictures they do not follow on from each other.
_CALLS: Final = frozenset({"GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"})
_IMPORT: Final = re.compile(r"[\w.]+ [\w.]+")
# What runs something that was imported before.
_RUNS: Final = frozenset({"REDUCE", "BUILD", "OBJ", "NEWOBJ", "NEWOBJ_EX", "INST"})
_NPY: Final = b"\x93NUMPY"
_UNPACKED: Final = 1 << 20
_DEEPEST: Final = 3
# joblib writes a bare zlib stream; the second byte makes the first two a multiple of 31.
_ZLIB: Final = tuple(bytes([0x78, second]) for second in (0x01, 0x5E, 0x9C, 0xDA))


def pickled_files(root: Path) -> list[str]:
    """Paths below `root`, relative to it."""
    found = []
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            relative = path.relative_to(root).as_posix()
            with path.open("rb") as file:
                if _by_name(relative) or _is_pickled(file, 0):
                    found.append(relative)
    return found


def _by_name(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in _NAMES


def _is_pickled(file: IO[bytes], depth: int) -> bool:
    """Whether a seekable file is or holds a pickle."""
    start = file.read(6)
    file.seek(0)
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return True
    if start.startswith(_NPY):
        return _holds_objects(file)
    if depth < _DEEPEST and zipfile.is_zipfile(file):
        return _in_archive(file, depth)
    file.seek(0)
    unpack = next((unpack for magic, unpack in _COMPRESSED if start.startswith(magic)), None)
    if depth < _DEEPEST and unpack is not None:
        with suppress(OSError, EOFError, zlib.error, lzma.LZMAError):
            return _is_pickled(io.BytesIO(unpack(file.read(_UNPACKED))), depth + 1)
        file.seek(0)
    return _reads_as_pickle(file)


def _holds_objects(file: IO[bytes]) -> bool:
    """Whether a numpy file's header names Python objects: the rest of it is a pickle then."""
    return b"O'" in file.read(512).partition(b"}")[0]


def _in_archive(file: IO[bytes], depth: int) -> bool:
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if _by_name(member.filename):
                    return True
                with archive.open(member) as inner:
                    if _is_pickled(io.BytesIO(inner.read(_UNPACKED)), depth + 1):
                        return True
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, zlib.error, lzma.LZMAError, EOFError):
        # Encrypted or damaged: nobody can unpickle what nobody can read.
        return False
    return False


def _reads_as_pickle(file: IO[bytes]) -> bool:
    """Whether it is one of protocol 0 or 1, which begin with no mark: able to call, and read as one to its end.

    Who unpickles does what it reads as it comes: once something was called, the rest may be anything.
    """
    calls = False
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name in ("GLOBAL", "INST") and not _IMPORT.fullmatch(str(argument)):
                return False
            calls = calls or opcode.name in _CALLS
            if calls and opcode.name in _RUNS:
                return True
    except Exception:
        # pickletools raises whatever the bytes make it: then they are no pickle.
        return False
    return calls


# What each kind of compressed file begins with, and what unpacks its beginning.
_COMPRESSED: Final[tuple[tuple[bytes, Callable[[bytes], bytes]], ...]] = (
    (b"\x1f\x8b", lambda data: zlib.decompressobj(31).decompress(data, _UNPACKED)),
    (b"BZh", lambda data: bz2.BZ2Decompressor().decompress(data, _UNPACKED)),
    (b"\xfd7zXZ", lambda data: lzma.LZMADecompressor().decompress(data, _UNPACKED)),
    (b"\x5d\x00\x00", lambda data: lzma.LZMADecompressor().decompress(data, _UNPACKED)),
    *((magic, lambda data: zlib.decompressobj().decompress(data, _UNPACKED)) for magic in _ZLIB),
)
