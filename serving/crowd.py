"""An engine for a caller alone, and one for a crowd: all cores on one image, or an image a core.

    predictor = for_many(predictor, root, threads=None)
    predictor.engine.run(images)                # as of any engine; from many threads

An image that all cores compute on is done soonest. Where many come at once, what reads, describes and encodes the
others wants the same cores, and whenever it has one of them the others wait at the end of each layer. An image a core
waits for nobody. Measured on 2 cores (width 32, six threads that decode, infer, describe and encode): requests/s over
those of the engine for one, in bf16 and in int8, 1.17 and 1.25 at 64 px a side, 1.18 and 1.67 at 128, 1.19 and 1.35 at
256, 1.17 and 1.28 at 360, 1.05 and 1.13 at 512; one image then takes 42 ms instead of 26.
"""

import logging
import math
import threading
from pathlib import Path
from typing import Final

from resunet.errors import VersionError
from serving.engine import Engine, EngineChoice, Images, Output, default_threads, open_engine
from serving.golden import check_golden
from serving.predictor import Predictor

# Those that compute side by side hold memory of their own, by the pixel: sixteen of these are two of 1024 x 1024.
_MOST_PIXELS: Final = 1 << 17
# From so many calls a core on they go side by side: below it too many cores would be idle.
_CROWDED: Final = 0.75
_log = logging.getLogger(__name__)


class CrowdEngine:
    """Two engines of the same graph; safe to call from many threads.

    Args:
        alone: computes one call after the other, on all cores.
        crowd: computes as many calls as there are cores side by side.
        cores: how many there are.
    """

    def __init__(self, alone: Engine, crowd: Engine, cores: int) -> None:
        self.name: EngineChoice = alone.name
        self._alone, self._crowd = alone, crowd
        self._few = max(2, math.ceil(_CROWDED * cores))
        self._calls = 0
        self._counting = threading.Lock()

    def run(self, images: Images) -> Output:
        """Run the graph on (N, H, W, 3) uint8; see `serving.engine.Engine`."""
        with self._counting:
            self._calls += 1
            crowded = self._calls >= self._few
        try:
            small = math.prod(images.shape[:3]) <= _MOST_PIXELS
            return (self._crowd if crowded and small else self._alone).run(images)
        finally:
            with self._counting:
                self._calls -= 1


def for_many(predictor: Predictor, root: Path, threads: int | None = None) -> Predictor:
    """The same version, ready for a crowd, where there are cores for one and its answers stay the same.

    Args:
        predictor: of the version, loaded with so many threads.
        root: the version's folder.
        threads: cores to compute on; None takes `default_threads()`.
    """
    cores = threads or default_threads()
    if cores < 2 or predictor.engine.name == "cuda":
        return predictor
    spec = predictor.spec
    crowd = open_engine(predictor.engine.name, root / spec.serving_file, spec.precision, threads=1, streams=cores)
    try:
        check_golden(Predictor(spec, crowd), root)
    except VersionError as error:
        _log.warning("every image is computed on all cores, also where many come at once: %s", error)
        return predictor
    return Predictor(spec, CrowdEngine(predictor.engine, crowd, cores))
