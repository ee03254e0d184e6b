"""How much a result owes to the choice of images: k-fold cross-validation as nested MLflow runs.

The folds are cut from the training and validation splits by group, else by image content; the test split is
never read. Nothing is registered: the result is the mean and the spread.
"""

import hashlib
import statistics

import mlflow
from rich.console import Console
from rich.table import Table

from pipelines.data_step import PreparedData, store
from pipelines.dataset import Sample
from pipelines.fit_progress import fit_with_progress
from pipelines.settings import FitSettings
from pipelines.splits import key_of
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
    parts: list[list[Sample]] = [[] for _ in range(folds)]
    for row in usable.to_dict("records"):
        parts[fold_of(key_of(row["group"], row["pixels"]), folds)].append(samples[row["path"]])
    if any(not part for part in parts):
        raise DataError(f"folds: {len(usable)} images do not fill {folds} folds; ask for fewer")
    return parts


def cross_validate(folds: int, settings: FitSettings, data: PreparedData, console: Console) -> list[float]:
    """Train once a fold; log each as a nested run, the mean and the spread on the active run.

    Returns:
        the best validation Dice of each fold.
    """
    parts = cut_folds(data, folds)
    scores = []
    for held_out, part in enumerate(parts):
        rest = [sample for other, samples in enumerate(parts) if other != held_out for sample in samples]
        console.print(f"fold {held_out + 1} of {folds}: {len(rest)} images to train on, {len(part)} held out")
        with mlflow.start_run(run_name=f"fold-{held_out + 1}", nested=True):
            mlflow.log_params({"fold": held_out + 1, "folds": folds, "images": len(rest), "held_out": len(part)})
            fitted = fit_with_progress(
                settings,
                store(rest, data.manifest, settings.memory_budget_mb),
                store(part, data.manifest, settings.memory_budget_mb),
                console,
            )
            score = max(evaluated.validation_dice for evaluated in fitted.history)
            mlflow.log_metric("fold_dice", score)
            scores.append(score)
    spread = statistics.stdev(scores)
    mlflow.log_metrics({"cv_dice_mean": statistics.fmean(scores), "cv_dice_sd": spread})
    table = Table("fold", "Dice", title=f"Cross-validation, {folds} folds; the test split was not read")
    for fold, score in enumerate(scores, start=1):
        table.add_row(str(fold), f"{score:.4f}")
    table.add_row("mean ± sd", f"{statistics.fmean(scores):.4f} ± {spread:.4f}")
    console.print(table)
    return scores
