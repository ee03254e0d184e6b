"""What makes a training again: the parameters that give the same weights, and the state of the code.

repeating(settings, fitted)       # {"architecture": "resunet", …, "schedule": "0:0.0,…", "max_steps": 412}
working_tree(PROJECT)             # "clean", "dirty" or "unknown"
"""

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipelines.training.settings import DEFAULT_EPOCHS, FitSettings

if TYPE_CHECKING:
    from pipelines.training.fit import Fitted

# Of a run: what `working_tree` said.
WORKING_TREE_TAG = "git_working_tree"
_ALWAYS = ("architecture", "width", "crop", "batch_size", "seed", "learning_rate")
# Parameters of a run, but none of `train`: only a program that calls `fit` can set them.
_HIDDEN = ("weight_decay", "clip_norm", "ema_decay", "keep", "evaluation_side")


def repeating(settings: FitSettings, fitted: "Fitted") -> dict[str, object]:
    """The parameters of `train` with which a run ends with the same weights, on the same data and kind of machine.

    A run of epochs or steps is repeated by their number. One that planned itself by the clock is repeated by its plan
    and the steps that it took of it: the knots of the plan tell where it validated, and so which weights were best.
    """
    defaults = FitSettings()
    given: dict[str, object] = {name: getattr(settings, name) for name in _ALWAYS}
    given |= {"patience": settings.patience} if settings.patience else {}
    # `auto` may be another on another machine.
    given["precision"] = fitted.precision
    if settings.timed or settings.schedule or settings.evaluations != defaults.evaluations:
        return given | {"schedule": str(fitted.schedule), "max_steps": fitted.steps}
    lengths = {name: value for name in ("epochs", "max_steps") if (value := getattr(settings, name))}
    return given | (lengths or {"epochs": DEFAULT_EPOCHS})


def hidden_settings(settings: FitSettings) -> dict[str, object]:
    """Settings that are not the usual ones and that `train` has no parameter for."""
    defaults = FitSettings()
    return {name: value for name in _HIDDEN if (value := getattr(settings, name)) != getattr(defaults, name)}


def working_tree(folder: Path) -> Literal["clean", "dirty", "unknown"]:
    """Whether the code in a folder is that of its commit; unknown without git or outside of a repository."""
    command = ["git", "-C", str(folder), "status", "--porcelain"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    if done.returncode != 0:
        return "unknown"
    return "dirty" if done.stdout.strip() else "clean"
