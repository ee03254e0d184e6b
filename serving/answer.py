"""What a client gets for one image: a plain row of strings and numbers, the same from every server.

row = encode_answer(prediction, spec, "png", model_version="3", request_id="a1")
"""

import base64
import json
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from resunet.masks import encode_classes_rle, encode_png, to_rle
from serving.predictor import Prediction
from serving.version import VersionSpec

MaskFormat = Literal["png", "rle"]


def encode_answer(
    prediction: Prediction,
    spec: VersionSpec,
    mask_format: MaskFormat,
    model_version: str,
    request_id: str,
) -> dict[str, Any]:
    """Build the row of an answer.

    Returns:
        `mask`: base64 of a PNG without line breaks, or run lengths as JSON; `width` and `height` in pixels;
        `foreground_fraction`: a float, or for more classes a JSON object with one a foreground class;
        `confidence`: expected Dice; `model_version`; `request_id`.
    """
    if mask_format == "rle":
        mask = encode_rle(prediction.mask, spec)
    else:
        mask = base64.b64encode(encode_png(prediction.mask)).decode("ascii")
    return {
        "mask": mask,
        "width": prediction.width,
        "height": prediction.height,
        "foreground_fraction": foreground_fraction(prediction, spec),
        "confidence": prediction.confidence,
        "model_version": model_version,
        "request_id": request_id,
    }


def foreground_fraction(prediction: Prediction, spec: VersionSpec) -> float | str:
    """Part of the mask's pixels that is foreground: a float, or for more classes a JSON object with one a class."""
    fractions = prediction.foreground_fractions
    if spec.binary:
        return fractions[0]
    return json.dumps(dict(zip(spec.class_names[1:], fractions, strict=True)), ensure_ascii=False)


def encode_rle(mask: NDArray[np.uint8], spec: VersionSpec) -> str:
    """Run lengths of a mask as JSON: one object for a binary version, else a list with one a class."""
    if spec.binary:
        return to_rle(mask)
    return json.dumps(encode_classes_rle(mask, len(spec.class_names)), separators=(",", ":"))
