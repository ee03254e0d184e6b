"""How much a result owes to the choice of images: k-fold cross-validation as nested MLflow runs.

The folds are cut from the training and validation splits by group, else by image content, copies and near-copies
together; the test split is never read. A fold's Dice is that of the averaged weights at the end of its training, on
whole images that decided nothing: neither which weights are kept nor when training stops. Nothing is registered: the
result is the mean and the spread.
"""

import hashlib
import statistics
from collections.abc import Sequence

import mlflow
from rich.console import Console
from rich.table import Table

from pipelines.data.data_step import PreparedData
from pipelines.data.dataset import Sample
from pipelines.data.groups import joined_keys
from pipelines.progress import progress_bar
from pipelines.runs.fit_progress import fit_with_progress
from pipelines.training.batches import sample_store
from pipelines.training.held_out import whole_image_dice
from pipelines.training.settings import FitSettings
from resunet.errors import DataError


def fold_of(key: str, folds: int) -> int:
    """The fold of a split key: a pure function, independent of the split itself."""
    digest = hashlib.sha256(f"fold:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % folds


def cut_folds(data: PreparedData, folds: int) -> list[list[Sample]]:
    """The training and validation samples, one list a fold.

    Raises:
        DataError: a fold would be empty.
    """
    usable = data.manifest[data.manifest["split"] != "test"]
    samples = {sample.file: sample for sample in data.dataset.samples}
    keys = joined_keys(usable, data.report.pairs)
    # More folds than keys cannot be filled, and may be more than memory holds.
    filled = {fold_of(key, folds) for key in keys.values()}
    if len(filled) < folds:
        raise DataError(f"folds: {len(usable)} images do not fill {folds} folds; ask for fewer")
    parts: list[list[Sample]] = [[] for _ in range(folds)]
    for path, key in keys.items():
        parts[fold_of(key, folds)].append(samples[path])
    return parts


def cross_validate(
    parts: Sequence[Sequence[Sample]], settings: FitSettings, data: PreparedData, console: Console
) -> list[float]:
    """Train once a fold; log each as a nested run, the mean and the spread on the active run.

    Args:
        parts: the images of each fold, see `cut_folds`.
        settings: with `keep="last"` and no patience, so that a fold's images have no say in its weights.
        data: the data set.
        console: where progress and the table go.

    Returns:
        the mean Dice of each fold's held-out images.
    """
    scores, folds = [], len(parts)
    for held_out, part in enumerate(parts):
        rest = [sample for other, samples in enumerate(parts) if other != held_out for sample in samples]
        console.print(f"fold {held_out + 1} of {folds}: {len(rest)} images to train on, {len(part)} held out")
        with mlflow.start_run(run_name=f"fold-{held_out + 1}", nested=True) as run:
            mlflow.log_params({"fold": held_out + 1, "folds": folds, "images": len(rest), "held_out": len(part)})
            fitted = fit_with_progress(settings, rest, part, data.manifest, console, run.info.run_id)
            with progress_bar(console, "Scoring", len(part)) as advance:
                images = sample_store(part, data.manifest, budget_mb=0)
                found = whole_image_dice(fitted.network, settings.classes, images, advance=advance)
            score = statistics.fmean(found)
            mlflow.log_metric("fold_dice", score)
            scores.append(score)
    spread = statistics.stdev(scores)
    mlflow.log_metrics({"cv_dice_mean": statistics.fmean(scores), "cv_dice_sd": spread})
    table = Table("fold", "images", "Dice", title=f"Cross-validation, {folds} folds; the test split was not read")
    table.caption = "Mean Dice of whole held-out images, with the weights at the end of training"
    for fold, (part, score) in enumerate(zip(parts, scores, strict=True), start=1):
        table.add_row(str(fold), str(len(part)), f"{score:.4f}")
    table.add_row("mean ± sd", "", f"{statistics.fmean(scores):.4f} ± {spread:.4f}")
    console.print(table)
    return scores
