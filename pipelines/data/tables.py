"""The tables beside a data set's images: `metadata.csv` and `classes.txt`."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pipelines.data.names import Names
from pipelines.data.slice_filter import quoted
from resunet.errors import DataError

METADATA_FILE: Final = "metadata.csv"
CLASSES_FILE: Final = "classes.txt"
MAX_SLICE_VALUES: Final = 20
MAX_CLASSES: Final = 32


def read_classes(path: Path) -> tuple[str, ...] | None:
    """Class names in index order, background first; None if there is no such file.

    Raises:
        DataError: it is not text in UTF-8, names fewer than 2 or more than 32 classes, or one twice.
    """
    if not path.is_file():
        return None
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8 ({error}); save it as such") from None
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not 2 <= len(names) <= MAX_CLASSES or len(set(names)) < len(names):
        raise DataError(
            f"{path} lists {len(names)} names; give one name a line, each once, the background first, "
            f"2 to {MAX_CLASSES} of them"
        )
    return names


def read_metadata(path: Path, images: Names) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Read `metadata.csv`.

    Args:
        images: file names without `images/`.

    Returns:
        rows: column to text, by file name without `images/`; none if the file is not there.
        columns: in the file's order.

    Raises:
        DataError: it is no such table, or says two things of a file.
    """
    rows: dict[str, dict[str, str]] = {}
    columns: list[str] = []
    for line, cells in read_lines(path):
        if not columns:
            columns = cells
            if "file" not in columns or len(set(columns)) < len(columns):
                raise DataError(f"{path}: a column 'file' and no column twice is needed; its columns: {columns}")
            if wrong := [column for column in columns if column != "group" and column.lower() == "group"]:
                raise DataError(
                    f"{path}: its column '{wrong[0]}' has to be called 'group', or something else than that"
                )
            continue
        kept = dict(zip(columns, cells, strict=True))
        kept["file"] = name = file_named(kept["file"], images)
        if rows.setdefault(name, kept) != kept:
            raise DataError(f"{path}, line {line}: a second row for {name} says otherwise")
    return rows, columns


def file_named(cell: str, images: Names) -> str:
    """The file name without `images/` that a cell of the column `file` stands for."""
    return images.meant_by(cell.replace("\\", "/").removeprefix("images/"))


def read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The cells of a CSV table, line by line, its header first; none if it is not there.

    Lines without text, and columns without text and name, are left out: spreadsheets leave such behind.

    Yields:
        the number of the line, and its cells without the blanks around them, as many as the header has.

    Raises:
        DataError: it is not CSV text in UTF-8, cannot be read, is empty, or a line has other cells than the header.
    """
    if not path.exists():
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            stripped = ((reader.line_num, [cell.strip() for cell in cells]) for cells in reader)
            lines = [(line, cells) for line, cells in stripped if any(cells)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not CSV text in UTF-8 ({error}); save it as such") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    if not lines:
        raise DataError(f"{path} is empty: its first line names the columns")
    width = _filled(lines[0][1])
    kept = [index for index in range(width) if any(any(cells[index : index + 1]) for _, cells in lines)]
    for line, cells in lines:
        if len(cells) < width or any(cells[width:]):
            count = len(cells) if len(cells) < width else _filled(cells)
            raise DataError(
                f"{path}, line {line} has {count} cells where the header has {width}: put text with a comma "
                'in it between "quotes", and give each column that is not empty a name'
            )
        yield line, [cells[index] for index in kept]


def _filled(cells: Sequence[str]) -> int:
    """How many cells there are up to the last that is not empty."""
    return max((index + 1 for index, cell in enumerate(cells) if cell), default=0)


def choose_slices(
    rows: dict[str, dict[str, str]], columns: list[str], asked: Sequence[str] | None
) -> tuple[tuple[str, ...], dict[str, int]]:
    """The columns to slice by: those asked for, else text columns of at most 20 values.

    Returns:
        The columns, and those left out because of too many values with how many they have.

    Raises:
        DataError: a column that was asked for does not exist.
    """
    if asked is not None:
        for column in asked:
            if column not in columns or column == "file":
                known = ", ".join(quoted(c) for c in columns if c != "file") or "none"
                raise DataError(f"slices: {METADATA_FILE} has no column '{column}'. Its columns: {known}")
        return tuple(dict.fromkeys(asked)), {}
    kept: list[str] = []
    too_many: dict[str, int] = {}
    for column in columns:
        values = {row[column] for row in rows.values()} - {""}
        if column in ("file", "group") or not values or all(_is_number(value) for value in values):
            continue
        if len(values) > MAX_SLICE_VALUES:
            too_many[column] = len(values)
        else:
            kept.append(column)
    return tuple(kept), too_many


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
