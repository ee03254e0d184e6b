"""From a verified folder to a version that answers: its data files are read, its code never.

loaded = load(folder, settings, threads=2)
loaded.identity.version, loaded.predictor, loaded.metadata
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from mlflow.models import Model

from resunet.errors import VersionError
from serving.golden import check_golden
from serving.identity import Identity, verified_identity
from serving.predictor import Predictor
from serving.pyfunc import VERSION_ARTIFACT
from serving.settings import ServingSettings

# The size that most images of a microscope have: the first answer takes as long as the next ones.
_WARM_SIDE: Final = 256
_WARM_RUNS: Final = 2


@dataclass(frozen=True)
class Loaded:
    """A version in memory that reproduced its golden output; `metadata` is what MLflow knows of it."""

    root: Path
    identity: Identity
    predictor: Predictor
    metadata: Model


def load(folder: Path, settings: ServingSettings, threads: int | None = None) -> Loaded:
    """Read a model's folder into an engine, and make sure that it is what was made.

    Args:
        folder: holds `MLmodel` and the version's files.
        settings: which engine, and whom to trust.
        threads: cores that one image is computed on; None takes all that the process may use.

    Raises:
        VersionError: a file is missing, was changed or is not understood, or the golden output is not reproduced.
        SettingsError: the engine is not installed or does not fit.
    """
    root = folder / "artifacts" / VERSION_ARTIFACT
    identity = verified_identity(root, settings.trust)
    predictor = Predictor.load(root, settings.engine, threads)
    check_golden(predictor, root)
    side = min(_WARM_SIDE, predictor.spec.tile.whole_side)
    for _ in range(_WARM_RUNS):
        predictor.predict(np.zeros((side, side, 3), np.uint8))
    try:
        metadata = Model.load(str(folder))
    except Exception as error:  # MLflow raises whatever its parser does
        raise VersionError(f"MLmodel is not understood ({type(error).__name__}); fetch the version anew") from error
    return Loaded(folder, identity, predictor, metadata)
