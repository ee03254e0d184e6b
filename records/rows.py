"""One logged prediction, and how it is written to a spool line and to the `predictions` table.

The line is JSON: a spool left by one release can be read by the next, and by a person. With a key set, mask and image
are sealed in it as they will be in their store; ids, client, slice, descriptors and embedding stay readable.
"""

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from records import schema
from records.blobs import checked_file, packed, sealed_name
from records.sealing import Keyring
from records.texts import storable
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS
from resunet.errors import RecordsError

Route = Literal["production", "canary", "shadow", "batch"]
Status = Literal["ok", "refused"]
RECORD_FORMAT = 2
# Without an image and without a key a line says what it always said, and every release reads it.
PLAIN_FORMAT = 1

_TEXTS = (
    "request_id",
    "model_name",
    "model_version",
    "model_digest",
    "route",
    "client",
    "slice",
    "engine",
    "status",
)
_NUMBERS = ("latency_ms", "width", "height")
# An earlier release of the same format did not write them.
_LATER = ("image_digest", "threshold")
_FLOATS = ("latency_ms", "threshold", *schema.DESCRIPTORS)
# Asked of each field of each row: a union written out there is made anew each time.
_FLOAT_OR_NONE = (float, type(None))
_TEXT_OR_NONE = (str, type(None))
# What makes an answer: the same image under the same id is a retry, another image (or threshold) is not.
# A release that changes this list counts twice what lies in a spool while it is installed.
_ANSWER = (
    "request_id",
    "model_name",
    "model_version",
    "model_digest",
    "route",
    "status",
    *_LATER,
)


class NewerRecordError(RecordsError):
    """A newer release wrote the record: it waits for that release, and nothing is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class PredictionRow:
    """What is remembered of one answered or refused image.

    Args:
        request_id: of the client, or made by the server; a client may use one again for another image.
        event_time: aware; when the image was received.
        model_digest: `sha256:…` of the version's bytes.
        route: production | canary | shadow | batch.
        status: ok | refused (a bad image: no descriptors then).
        latency_ms: wall clock, from bytes to mask.
        image_digest: `sha256:…` of the encoded image: what tells a retry from another image of the same id.
        threshold: that the mask was cut at; None for more classes.
        width, height: of the image in pixels; None when unknown (then those among `descriptors` are taken).
        descriptors: of the image, named as `resunet.descriptors.IMAGE_DESCRIPTORS`.
        prediction_descriptors: named as `resunet.descriptors.PREDICTION_DESCRIPTORS`.
        embedding: 64 float32, little-endian.
        mask_rle: JSON text; goes to the mask store, never to the database.
        image: as it was sent, encoded; kept only by the log's policy (`records.images`), never in the database.

    Raises:
        RecordsError: a field breaks the contract.
    """

    request_id: str
    event_time: datetime
    model_name: str
    model_version: str
    model_digest: str
    route: Route
    status: Status = "ok"
    client: str | None = None
    slice: str | None = None
    engine: str | None = None
    image_digest: str | None = None
    threshold: float | None = None
    latency_ms: float | None = None
    width: int | None = None
    height: int | None = None
    descriptors: Mapping[str, float] = field(default_factory=dict)
    prediction_descriptors: Mapping[str, float] = field(default_factory=dict)
    embedding: bytes | None = None
    mask_rle: str | None = None
    image: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.event_time.tzinfo is None:
            raise RecordsError("event_time has no zone: pass datetime.now(UTC)")
        if not self.request_id:
            raise RecordsError("request_id is empty: make one with uuid.uuid4().hex")
        if self.route not in schema.ROUTES:
            raise RecordsError(f"route must be one of {', '.join(schema.ROUTES)}")
        if self.status not in schema.STATUSES:
            raise RecordsError(f"status must be one of {', '.join(schema.STATUSES)}")
        if self.embedding is not None and len(self.embedding) != schema.EMBEDDING_BYTES:
            raise RecordsError(
                f"embedding must be 64 float32 ({schema.EMBEDDING_BYTES} bytes), got {len(self.embedding)}"
            )
        unknown = set(self.descriptors) - set(IMAGE_DESCRIPTORS)
        unknown |= set(self.prediction_descriptors) - set(PREDICTION_DESCRIPTORS)
        if unknown:
            raise RecordsError(f"unknown descriptors {sorted(unknown)}: name them as resunet.descriptors does")


@dataclass(frozen=True)
class Attached:
    """What a line carries beside its row.

    Attributes:
        mask_rle: as of the row; None where it is sealed.
        mask_sealed: as the mask store keeps it.
        image: encoded, as it was sent.
        image_sealed: as the image store keeps it.
        image_file: name in the image store, where the image was written before the row.
    """

    mask_rle: str | None = None
    mask_sealed: bytes | None = None
    image: bytes | None = None
    image_sealed: bytes | None = None
    image_file: str | None = None


def to_record(row: PredictionRow, keyring: Keyring | None = None, image_file: str | None = None) -> bytes:
    """Encode a row as one line of JSON (without the newline).

    Args:
        keyring: seals mask and image, if it has a key.
        image_file: where the row's image is, if it was written before; see `records.images`.
    """
    record = _fields(row) | {"mask_rle": row.mask_rle}
    if keyring is not None and keyring.seals:
        name = answer_id(record)
        if row.mask_rle is not None:
            sealed = keyring.seal(sealed_name("mask", name), packed(row.mask_rle))
            record |= {"mask_rle": None, "mask_sealed": _to_text(sealed)}
        if row.image is not None:
            record["image_sealed"] = _to_text(keyring.seal(sealed_name("image", name), row.image))
    elif row.image is not None:
        record["image"] = _to_text(row.image)
    if image_file is not None:
        record["image_file"] = image_file
    if record.keys() & {"mask_sealed", "image", "image_sealed", "image_file"}:
        record["format"] = RECORD_FORMAT
    return json.dumps(record, separators=(",", ":")).encode()


def from_record(line: bytes) -> tuple[dict[str, Any], Attached]:
    """Decode a line to the values of a `predictions` row and what comes with it.

    Raises:
        NewerRecordError: a newer release wrote the line.
        RecordsError: it cannot be read, or a needed field is missing.
    """
    try:
        record = json.loads(line)
        if record["format"] > RECORD_FORMAT:
            raise NewerRecordError(f"a newer release wrote this record (format {record['format']}): upgrade this one")
        values: dict[str, Any] = {name: record["descriptors"].get(name) for name in schema.DESCRIPTORS}
        # `width` and `height` are both field and descriptor: the field wins where it is known.
        values |= {name: record[name] for name in _NUMBERS if record[name] is not None or name not in values}
        values |= {name: record[name] for name in _TEXTS}
        values |= {name: record.get(name) for name in _LATER}
        _check_texts(values)
        values["answer_id"] = answer_id(values)
        # Databases, and their drivers, differ in what they make of anything else.
        values |= {name: _number(values[name]) for name in _FLOATS if not isinstance(values[name], _FLOAT_OR_NONE)}
        values["event_time"] = _aware(record["event_time"])
        values["embedding"] = _from_text(record["embedding"])
        blobs = {name: _from_text(record.get(name)) for name in ("mask_sealed", "image", "image_sealed")}
        file = record.get("image_file")
        attached = Attached(record["mask_rle"], **blobs, image_file=None if file is None else checked_file(file))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise RecordsError(f"a spooled record cannot be read ({type(error).__name__})") from error
    return values, attached


def answer_of(row: PredictionRow) -> str:
    """The name of a row's answer."""
    return answer_id(_fields(row))


def _fields(row: PredictionRow) -> dict[str, Any]:
    record: dict[str, Any] = {
        "format": PLAIN_FORMAT,
        "event_time": row.event_time.astimezone(UTC).isoformat(),
    }
    record |= {name: _clean_text(getattr(row, name)) for name in _TEXTS}
    record |= {name: _clean_number(getattr(row, name)) for name in _NUMBERS}
    record |= {"image_digest": _clean_text(row.image_digest), "threshold": _clean_number(row.threshold)}
    both = (*row.descriptors.items(), *row.prediction_descriptors.items())
    record["descriptors"] = {name: _clean_number(value) for name, value in both}
    record["embedding"] = None if row.embedding is None else _to_text(row.embedding)
    return record


def answer_id(values: Mapping[str, Any]) -> str:
    """Name an answer by what makes it one, so that a retry is counted once and nothing else is.

    Args:
        values: of a row, as `from_record` gives them or as they are in a line.

    Returns:
        64 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps([values[name] for name in _ANSWER]).encode()).hexdigest()


def _check_texts(values: Mapping[str, Any]) -> None:
    if values["request_id"] is None or not all(isinstance(values[name], _TEXT_OR_NONE) for name in _TEXTS):
        raise TypeError("an id that is no text")


def _number(value: Any) -> float:
    if not isinstance(value, int | float):
        raise TypeError("a number that is none")
    return float(value)


def _aware(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment


def _to_text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _from_text(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _clean_text(value: str | None) -> str | None:
    return None if value is None else storable(value)


def _clean_number(value: float | int | None) -> float | int | None:
    """NumPy scalars become Python's; NaN becomes NULL in both databases."""
    if value is None:
        return None
    number = int(value) if isinstance(value, int) else float(value)
    return number if math.isfinite(number) else None
