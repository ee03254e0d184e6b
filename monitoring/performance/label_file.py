"""A CSV file of labels, as people and labelling tools write it: one row a labelled image.

    for row in read_label_file(Path("labels.csv")):
        row.number, row.request_id, row.mask, row.dice

Columns: `request_id`, and in each row either `mask` (path of the true mask) or `dice`; optional `source`
(audit | picked | client) and `model`. `monitoring pick` adds `draft` (a hash of the model's own mask) and
`checked`. Others are passed over.
"""

import csv
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from records.labels import SOURCES, Label, Source
from resunet.errors import DataError
from resunet.images import read_mask

YES: Final = frozenset({"yes", "y", "true", "1", "x"})
COLUMNS: Final = ("request_id", "mask", "dice", "source", "model", "draft", "checked")


@dataclass(frozen=True)
class LabelRow:
    """A row; texts as they are in the file, empty where there is nothing.

    Attributes:
        number: of the line in the file that the row ends on, as an editor shows it.
    """

    number: int
    request_id: str = ""
    mask: str = ""
    dice: str = ""
    source: str = ""
    model: str = ""
    draft: str = ""
    checked: str = ""


@dataclass(frozen=True)
class Defaults:
    """What holds where a row says nothing: the folder that masks are relative to, the source and the model."""

    masks: Path
    source: Source
    model: str


def read_label_file(path: Path) -> list[LabelRow]:
    """Read the rows of a file; masks are not opened.

    Raises:
        DataError: it cannot be read, is no such table, or holds no row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns = [(column or "").strip() for column in reader.fieldnames or []]
            reader.fieldnames = columns
            if "request_id" not in columns or not {"mask", "dice"} & set(columns):
                raise DataError(
                    f"{path} needs a column request_id and a column mask or dice; its columns: {', '.join(columns)}"
                )
            twice = sorted({name for name in columns if name in COLUMNS and columns.count(name) > 1})
            if twice:
                raise DataError(f"{path} has the column {twice[0]} twice: leave one")
            rows = [_row(reader.line_num, values) for values in reader]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not CSV text in UTF-8 ({error}); save it as such") from None
    if not rows:
        raise DataError(f"{path} holds no row below its header")
    return rows


def _row(number: int, values: Mapping[str, str | None]) -> LabelRow:
    return LabelRow(number, **{name: (values.get(name) or "").strip() for name in COLUMNS})


def label_of(row: LabelRow, defaults: Defaults) -> Label:
    """The label that a row tells; its mask is read here.

    Raises:
        DataError: it tells none.
        ImageError: its mask is none.
    """
    if not row.request_id:
        raise DataError("the request id is empty")
    source = row.source or defaults.source
    if source not in SOURCES:
        raise DataError(f"{source!r} is no source of labels: write {', '.join(SOURCES)}")
    if bool(row.mask) == bool(row.dice):
        raise DataError("give either a mask or a Dice" + (", not both" if row.mask else ""))
    model = row.model or defaults.model
    if row.dice:
        return Label(row.request_id, model, source, dice=_number(row.dice))
    truth = read_mask(defaults.masks / row.mask)
    if row.draft and row.draft == draft_mark(truth) and row.checked.lower() not in YES:
        raise DataError(
            "the mask is still the model's own draft, which would score 1: correct it, or write yes in the column "
            "checked if it is right as it is"
        )
    return Label(row.request_id, model, source, truth=truth)


def draft_mark(mask: NDArray[np.uint8]) -> str:
    """What a mask's pixels hash to, however its file was written: 16 hexadecimal digits.

    Args:
        mask: (H, W); of a binary one 0 and 255 are the same as 0 and 1.
    """
    classes = np.where(mask == 255, 1, mask) if not ((mask > 0) & (mask < 255)).any() else mask
    shape = "x".join(str(side) for side in mask.shape).encode()
    return hashlib.sha256(shape + np.ascontiguousarray(classes, np.uint8).tobytes()).hexdigest()[:16]


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise DataError(f"a Dice is a number from 0 to 1, not {text!r}")
    return value
