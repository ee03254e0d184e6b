"""The body of an answer to `POST /segment`, in the form that was asked for.

    wanted = choose(accept, query)
    gathered = gather(wanted, rgb.shape[0], rgb.shape[1], class_names)
    prediction = predictor.predict(rgb, on_tile=gathered.add if gathered else …)
    body = draw(wanted, Shown(rgb, prediction, class_names, "3", "a1"), gathered)
    body.media_type, body.size, body.pieces

The pieces are the body, in order: joined they are one more copy of it, which those of a large image need not have.

In JSON an object: `mask`, `overlay` or `probability` with a PNG in base64, or `rle`, `coco` or `contours` (see
`serving.pictures.descriptions`); then `width`, `height`, `confidence`, `foreground_fraction` (a number, or for more
classes an object), `classes`, `model_version` and `request_id`.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resunet.masks import encode_png
from serving.pictures.accept import Wanted
from serving.pictures.descriptions import describe
from serving.pictures.overlay import encode_overlay
from serving.pictures.probability import ProbabilityMap
from serving.predictor import Prediction


@dataclass(frozen=True)
class Shown:
    """One image and what was found in it.

    Attributes:
        rgb: (H, W, 3) uint8, as it was predicted.
        prediction: of it.
        class_names: of the version.
        model_version: its number.
        request_id: of the request.
    """

    rgb: NDArray[np.uint8]
    prediction: Prediction
    class_names: Sequence[str]
    model_version: str
    request_id: str

    @property
    def binary(self) -> bool:
        return len(self.class_names) == 1


@dataclass(frozen=True)
class Body:
    """What is sent: its media type, and its bytes in pieces."""

    media_type: str
    pieces: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(map(len, self.pieces))

    def join(self) -> bytes:
        return b"".join(self.pieces)


def gather(wanted: Wanted, height: int, width: int, class_names: Sequence[str]) -> ProbabilityMap | None:
    """What has to be told of each tile while an image is predicted; None where nothing has.

    Raises:
        SettingsError: there is no class of that name or number.
    """
    if not wanted.probabilities:
        return None
    return ProbabilityMap(height, width, class_names, wanted.category, wanted.depth)


def draw(wanted: Wanted, shown: Shown, gathered: ProbabilityMap | None = None) -> Body:
    """Make the body of an answer.

    Args:
        wanted: its form.
        shown: what it is of.
        gathered: what `gather` made, after the prediction.

    Raises:
        NotAcceptableError: contours of a mask with more corners than can be listed.
    """
    if wanted.form == "png":
        return Body(wanted.media_type, tuple(_picture(wanted, shown, gathered)))
    if wanted.form == "json":
        key: str = wanted.view
        value = _in_base64(_picture(wanted, shown, gathered))
    else:
        key, prediction = wanted.form, shown.prediction
        value = describe(
            wanted.form,
            prediction.mask,
            shown.class_names,
            confidence=prediction.confidence,
            image_id=shown.request_id,
        )
    return Body(wanted.media_type, (f'{{"{key}":'.encode(), *value, b"," + _facts(shown)[1:]))


def _picture(wanted: Wanted, shown: Shown, gathered: ProbabilityMap | None) -> Iterable[bytes]:
    if wanted.view == "overlay":
        return encode_overlay(shown.rgb, shown.prediction.mask, binary=shown.binary)
    if wanted.view == "probability":
        if gathered is None:
            raise ValueError("view=probability is drawn from what `gather` made")
        return gathered.encode()
    return [encode_png(shown.prediction.mask)]


def _facts(shown: Shown) -> bytes:
    prediction, fractions = shown.prediction, shown.prediction.foreground_fractions
    facts: dict[str, Any] = {
        "width": prediction.width,
        "height": prediction.height,
        "confidence": prediction.confidence,
        "foreground_fraction": (
            fractions[0] if shown.binary else dict(zip(shown.class_names[1:], fractions, strict=True))
        ),
        "classes": list(shown.class_names),
        "model_version": shown.model_version,
        "request_id": shown.request_id,
    }
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode()


def _in_base64(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """A JSON string with the base64 of some bytes; three of them make four letters, so the rest waits for the next."""
    yield b'"'
    rest = b""
    for piece in pieces:
        whole = rest + piece
        ready = len(whole) - len(whole) % 3
        yield base64.b64encode(whole[:ready])
        rest = whole[ready:]
    yield base64.b64encode(rest) + b'"'
