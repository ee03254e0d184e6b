"""A version's golden image: what it must answer before it may serve.

make_golden(predictor, root, rgb)       # where the version is made
check_golden(predictor, root)           # wherever it is loaded
"""

from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resunet.errors import ImageError, VersionError
from resunet.images import read_image
from serving.engine import computed_in
from serving.predictor import Prediction, Predictor
from serving.version import GOLDEN_INPUT_FILE, GOLDEN_OUTPUT_FILE

# What "the same answer everywhere" means, in parts of the mask's pixels, of a float and of the embedding's length:
# engines and processors round differently.
TOLERANCE: Final = {
    "mask": 1e-4, "soft_dice": 1e-3, "confidence": 1e-3, "foreground_fractions": 1e-3, "embedding": 1e-3
}  # fmt: skip
# The golden answer is one of fp32. In bf16 (AVX512_BF16) three width-16 networks were held against it on 77 images of
# nuclei of 256x256. Of all pixels 99.991 to 99.994 % were equal, which is what a version is asked for where it is made;
# of one image in four fewer than 99.99 %, of the worst 99.95 %. Soft Dice differed by up to 9.4e-4, confidence 4.5e-4,
# fractions 2.6e-4, embeddings 7.0e-3 of their length; where the same is computed in fp32, everything by up to 2.2e-6.
# Confidence is soft Dice through a version's own map, which may be several times as steep.
TOLERANCE_IN_BF16: Final = TOLERANCE | {"mask": 1e-3, "soft_dice": 1e-2, "confidence": 1e-2, "embedding": 1e-2}


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
        VersionError: the files are missing or damaged, or more of the mask's pixels or another part of the answer
            differs than `TOLERANCE` lets it, `TOLERANCE_IN_BF16` where it is computed in bf16 here.
    """
    try:
        rgb = read_image(root / GOLDEN_INPUT_FILE)
        with np.load(root / GOLDEN_OUTPUT_FILE, allow_pickle=False) as stored:
            expected = {name: stored[name] for name in stored.files}
        mask = expected.pop("mask")
    except (OSError, ValueError, KeyError, BadZipFile, ImageError) as error:
        raise VersionError("the version's golden image or answer cannot be read; fetch the version anew") from error
    in_bf16 = computed_in(predictor.engine.name, predictor.spec.precision) == "bf16"
    tolerance = TOLERANCE_IN_BF16 if in_bf16 else TOLERANCE
    prediction = predictor.predict(rgb)
    advice = f"with {prediction.engine} on this machine, so it must not serve here: fetch it anew"
    if prediction.engine != "onnxruntime":
        advice += ", or set RESUNET_ENGINE=onnxruntime"
    differing = 1.0 if mask.shape != prediction.mask.shape else float((mask != prediction.mask).mean())
    if differing > tolerance["mask"]:
        raise VersionError(
            f"the version does not reproduce its golden mask ({differing:.3%} of pixels differ) {advice}"
        )
    for name, value in _floats(prediction).items():
        reference = expected.get(name)
        scale = max(1.0, float(np.linalg.norm(value))) if name == "embedding" else 1.0
        if (
            reference is None
            or reference.shape != value.shape
            or not float(np.abs(reference - value).max(initial=0)) <= tolerance[name] * scale
        ):
            raise VersionError(f"the version does not reproduce its golden {name} {advice}")


def _floats(prediction: Prediction) -> dict[str, NDArray[np.floating]]:
    return {
        "soft_dice": np.float64(prediction.soft_dice).reshape(1),
        "confidence": np.float64(prediction.confidence).reshape(1),
        "foreground_fractions": np.asarray(prediction.foreground_fractions, np.float64),
        "embedding": prediction.embedding,
    }
