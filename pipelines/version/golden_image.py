"""The image that a version must answer as it did where it was made, on every engine that may serve it.

spec = write_golden(directory, spec, data.split("validation"))
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.data.dataset import Sample
from pipelines.data.labelled import LabelledImages, centre_square, over_slices
from resunet.errors import VersionError
from serving.engine import is_installed
from serving.golden import check_golden, make_golden
from serving.predictor import Predictor
from serving.version import EngineName, VersionSpec

# Small images are mirrored up to this: of 65,536 pixels an engine may round six otherwise, of 4,096 not one.
SIDE: Final = 256
# An engine that agrees on 99.99 % of all pixels may still have a bad one; as many images are tried.
TRIES: Final = 8
_LOOKED_AT: Final = 64


def write_golden(directory: Path, spec: VersionSpec, validation: Sequence[Sample]) -> VersionSpec:
    """Write the golden image and what ONNX Runtime says of it; an engine that cannot reproduce it may not serve.

    Args:
        directory: of the version: `version.json`, calibration included, and the serving file.
        spec: that `version.json` holds.
        validation: where the image is taken from; at least one.

    Returns:
        The version's spec, without the engines that reproduce none of the images that were tried; it is written too.
    """
    yardstick = Predictor.load(directory, "onnxruntime")
    others: dict[EngineName, Predictor] = {
        name: Predictor.load(directory, name)
        for name, measured in spec.engines.items()
        if name != "onnxruntime" and measured.eligible and is_installed(name)
    }
    crops = _crops(validation)
    able: set[EngineName] = set()
    best = crops[0]
    for crop in crops:
        make_golden(yardstick, directory, crop)
        found = {name for name, predictor in others.items() if _reproduces(predictor, directory)}
        if len(found) > len(able):
            able, best = found, crop
        if len(able) == len(others):
            return spec
    make_golden(yardstick, directory, best)
    engines = {
        name: measured.model_copy(update={"eligible": False}) if name in others.keys() - able else measured
        for name, measured in spec.engines.items()
    }
    spec = spec.model_copy(update={"engines": engines})
    spec.write(directory)
    return spec


def _reproduces(predictor: Predictor, directory: Path) -> bool:
    try:
        check_golden(predictor, directory)
    except VersionError:
        return False
    return True


def _crops(validation: Sequence[Sample]) -> list[NDArray[np.uint8]]:
    """Centres of validation images, those with foreground and background first."""
    telling: list[NDArray[np.uint8]] = []
    others: list[NDArray[np.uint8]] = []
    for image in islice(LabelledImages(over_slices(validation)), _LOOKED_AT):
        mask = centre_square(image.mask, SIDE)
        (telling if 0 < np.count_nonzero(mask) < mask.size else others).append(centre_square(image.rgb, SIDE))
        if len(telling) == TRIES:
            break
    return [*telling, *others][:TRIES]
