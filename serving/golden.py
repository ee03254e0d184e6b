"""A version's golden image: what it must answer before it may serve.

make_golden(predictor, root, rgb)       # where the version is made
check_golden(predictor, root)           # wherever it is loaded
"""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resunet.errors import ImageError, VersionError
from resunet.images import read_image
from serving.predictor import Prediction, Predictor
from serving.version import GOLDEN_INPUT_FILE, GOLDEN_OUTPUT_FILE

# What "the same answer everywhere" means, in parts of the mask's pixels and of a float: engines and processors
# round differently. A bf16 version also runs in fp32, where a processor has no bf16: measured between the two on
# 256x256 images of nuclei, embeddings differ by 0.2 % of their length and single masks by more than 1e-4.
PIXEL_TOLERANCE = {"fp32": 1e-4, "int8": 1e-4, "bf16": 1e-3}
FLOAT_TOLERANCE = {"fp32": 1e-3, "int8": 1e-3, "bf16": 1e-2}


def make_golden(predictor: Predictor, root: Path, rgb: NDArray[np.uint8]) -> Prediction:
    """Write `root/golden_input.png` and what the predictor says of it, `root/golden_output.npz`.

    Args:
        predictor: of the version that `root` holds.
        root: the version's folder.
        rgb: (H, W, 3) uint8, with foreground and background; 256x256 is enough and quick to check.
    """
    Image.fromarray(rgb).save(root / GOLDEN_INPUT_FILE)
    prediction = predictor.predict(rgb)
    np.savez_compressed(root / GOLDEN_OUTPUT_FILE, allow_pickle=False, mask=prediction.mask, **_floats(prediction))
    return prediction


def check_golden(predictor: Predictor, root: Path) -> None:
    """Run the golden image and compare.

    Raises:
        VersionError: the files are missing or damaged, or more of the mask's pixels differ than 0.01 % (bf16:
            0.1 %), or a float by more than 1e-3 (bf16: 1e-2; the embedding: of its length).
    """
    try:
        rgb = read_image(root / GOLDEN_INPUT_FILE)
        with np.load(root / GOLDEN_OUTPUT_FILE, allow_pickle=False) as stored:
            expected = {name: stored[name] for name in stored.files}
        mask = expected.pop("mask")
    except (OSError, ValueError, KeyError, BadZipFile, ImageError) as error:
        raise VersionError("the version's golden image or answer cannot be read; fetch the version anew") from error
    precision = predictor.spec.precision
    prediction = predictor.predict(rgb)
    advice = f"with {prediction.engine} on this machine, so it must not serve here: fetch it anew"
    if prediction.engine != "onnxruntime":
        advice += ", or set RESUNET_ENGINE=onnxruntime"
    differing = 1.0 if mask.shape != prediction.mask.shape else float((mask != prediction.mask).mean())
    if differing > PIXEL_TOLERANCE[precision]:
        raise VersionError(
            f"the version does not reproduce its golden mask ({differing:.3%} of pixels differ) {advice}"
        )
    for name, value in _floats(prediction).items():
        reference = expected.get(name)
        scale = max(1.0, float(np.linalg.norm(value))) if name == "embedding" else 1.0
        if (
            reference is None
            or reference.shape != value.shape
            or not float(np.abs(reference - value).max(initial=0)) <= FLOAT_TOLERANCE[precision] * scale
        ):
            raise VersionError(f"the version does not reproduce its golden {name} {advice}")


def _floats(prediction: Prediction) -> dict[str, NDArray[np.floating]]:
    return {
        "soft_dice": np.float64(prediction.soft_dice).reshape(1),
        "confidence": np.float64(prediction.confidence).reshape(1),
        "foreground_fractions": np.asarray(prediction.foreground_fractions, np.float64),
        "embedding": prediction.embedding,
    }
