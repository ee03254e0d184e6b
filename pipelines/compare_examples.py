"""`python -m pipelines compare-examples`: what two versions make of the same images, as pictures.

    draw_examples(Path("6"), Path("7"), "nuclei", ["images/a.png"], Path("out"))

Of each image four PNG files: the image, the truth's outline, and what each version says, its wrong pixels in red.
`registry compare --html` shows them; `out/examples.json` lists them.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from pipelines.data.data_step import data_folder
from pipelines.data.dataset import Sample, load, read_dataset
from pipelines.evidence.subject import Version
from pipelines.version.outlines import brighter, draw_outline, enlarged, gain
from pipelines.version.parity import class_mask
from registry.reports.examples import PICTURES, SHEET_FILE, Example, Sheet, Skipped
from resunet.errors import DataError, ResunetError
from resunet.metrics import dice
from resunet.palette import ORANGE, SKY, levels
from serving.predictor import Predictor

SIDE: Final = 448
_RED: Final = "#dc1414"
_TINT: Final = 0.55


def draw_examples(first: Path, second: Path, data: str, images: Sequence[str], out: Path) -> Sheet:
    """Draw images as two versions segment them.

    Args:
        first, second: folders of the two models, which hold `MLmodel`.
        data: folder of the data set; empty: the synthetic nuclei.
        images: paths in the data set.
        out: folder for the pictures; made when missing.

    Raises:
        VersionError: a version's files are not those that were made.
        DataError: there is no such data set.
    """
    versions = [Version.checked("the first version", first), Version.checked("the second version", second)]
    predictors = [version.predictor for version in versions]
    samples = {sample.file: sample for sample in read_dataset(data_folder(data)).samples}
    out.mkdir(parents=True, exist_ok=True)
    examples, skipped = [], []
    for number, path in enumerate(images):
        try:
            _check_same(samples.get(path), path, [version.manifest for version in versions])
            examples.append(_draw(samples[path], predictors, out, f"{number:02d}"))
        except (ResunetError, OSError) as error:
            skipped.append(Skipped(path=path, why=_reason(error)))
    sheet = Sheet(examples=examples, skipped=skipped)
    (out / SHEET_FILE).write_text(sheet.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return sheet


def _check_same(sample: Sample | None, path: str, manifests: Sequence[pd.DataFrame]) -> None:
    """See that an image is, with its mask, the one that a version was tested on.

    Raises:
        DataError: it is not, or is not there.
    """
    if sample is None or sample.mask is None:
        raise DataError("it is not in the data set, or has no mask there")
    here = (sha256(sample.image.read_bytes()).hexdigest(), sha256(sample.mask.read_bytes()).hexdigest())
    for manifest in manifests:
        rows = manifest.loc[manifest["path"] == path, ["sha256", "mask_sha256"]]
        if here in set(rows.itertuples(index=False, name=None)):
            return
    raise DataError("the data set holds another image or mask of that name")


def _draw(sample: Sample, predictors: Sequence[Predictor], out: Path, name: str) -> Example:
    rgb, truth = load(sample)
    predictions = [class_mask(predictor, rgb) for predictor in predictors]
    factor = gain(rgb)
    large, (true, *found) = enlarged(rgb, [truth, *predictions], SIDE)
    large = brighter(large, factor)
    outlined = large.copy()
    draw_outline(outlined, true, SKY, thickness=2)
    drawn = [large, outlined, *(_judged(large, true, prediction) for prediction in found)]
    pictures = {kind: f"{name}-{kind}.png" for kind in PICTURES}
    for kind, picture in zip(PICTURES, drawn, strict=True):
        Image.fromarray(picture).save(out / pictures[kind], optimize=True)
    first, second = (dice(prediction, truth) for prediction in predictions)
    height, width = large.shape[:2]
    return Example(
        path=sample.file, width=width, height=height, first=first, second=second, brighter=factor, pictures=pictures
    )


def _judged(rgb: NDArray[np.uint8], truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The outline of a prediction, and the pixels where it is wrong in red."""
    picture = rgb.copy()
    wrong = truth != prediction
    red = np.array(levels(_RED), np.float32)
    picture[wrong] = (picture[wrong] * (1 - _TINT) + red * _TINT).astype(np.uint8)
    draw_outline(picture, prediction, ORANGE, thickness=2)
    return picture


def _reason(error: Exception) -> str:
    return f"it cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
