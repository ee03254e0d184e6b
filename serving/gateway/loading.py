"""From a verified folder to a version that answers: its data files are read, its code never.

loaded = load(folder, settings, threads=2, batching=Batching(most=4))
loaded.identity.version, loaded.predictor, loaded.metadata
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from mlflow.models import Model

from resunet.errors import VersionError
from resunet.images import read_image
from serving.batching import BatchingEngine, Counted, agrees
from serving.crowd import for_many
from serving.golden import check_golden
from serving.identity import Identity, verified_identity
from serving.predictor import Predictor
from serving.pyfunc import VERSION_ARTIFACT
from serving.settings import ServingSettings
from serving.version import GOLDEN_INPUT_FILE

# The size that most images of a microscope have: the first answer takes as long as the next ones.
_WARM_SIDE: Final = 256
_WARM_RUNS: Final = 2
# While one run computes, the next is put together; see `serving.engine`.
_LANES: Final = 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batching:
    """How images of several requests are run together: at most so many, after a wait of at most `wait_s`."""

    most: int = 1
    wait_s: float = 0.0


_OFF: Final = Batching()


@dataclass(frozen=True)
class Loaded:
    """A version in memory that reproduced its golden output; `metadata` is what MLflow knows of it."""

    root: Path
    identity: Identity
    predictor: Predictor
    metadata: Model


def load(
    folder: Path,
    settings: ServingSettings,
    threads: int | None = None,
    batching: Batching = _OFF,
    ran: Callable[[int], None] | None = None,
) -> Loaded:
    """Read a model's folder into an engine, and make sure that it is what was made.

    Args:
        folder: holds `MLmodel` and the version's files.
        settings: which engine, and whom to trust.
        threads: cores that one image is computed on; None takes all that the process may use.
        batching: whether images are run together, where the version's masks allow it.
        ran: is told how many images, or tiles, each run of the engine had; None: nobody is.

    Raises:
        VersionError: a file is missing, was changed or is not understood, or the golden output is not reproduced.
        SettingsError: the engine is not installed or does not fit.
    """
    root = folder / "artifacts" / VERSION_ARTIFACT
    identity = verified_identity(root, settings.trust)
    predictor = Predictor.load(root, settings.engine, threads)
    check_golden(predictor, root)
    predictor = batched(predictor, root, batching, ran) if batching.most > 1 else for_many(predictor, root, threads)
    side = min(_WARM_SIDE, predictor.spec.tile.whole_side)
    for _ in range(_WARM_RUNS):
        predictor.predict(np.zeros((side, side, 3), np.uint8))
    if ran is not None and not isinstance(predictor.engine, BatchingEngine):
        predictor = Predictor(predictor.spec, Counted(predictor.engine, ran))
    try:
        metadata = Model.load(str(folder))
    except Exception as error:  # MLflow raises whatever its parser does
        raise VersionError(f"MLmodel is not understood ({type(error).__name__}); fetch the version anew") from error
    return Loaded(folder, identity, predictor, metadata)


def batched(
    predictor: Predictor, root: Path, batching: Batching, ran: Callable[[int], None] | None = None
) -> Predictor:
    """The same version, whose images run in company where that does not change their masks.

    Args:
        predictor: whose golden output was reproduced.
        root: the version's folder.
        batching: as asked for, two images at least.
        ran: as of `load`.
    """
    if not agrees(predictor.engine, predictor.spec, read_image(root / GOLDEN_INPUT_FILE), batching.most):
        _log.warning("images are not run together: with %s a mask depends on its company", predictor.engine.name)
        return predictor
    told = ran or (lambda images: None)
    return Predictor(predictor.spec, BatchingEngine(predictor.engine, batching.most, batching.wait_s, _LANES, ran=told))
