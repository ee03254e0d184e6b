"""The bare loop that `benchmarks.gateway` compares with: decode, infer, describe and encode, without any server.

bare = Bare(Predictor.load(root), png)
bare.p50_ms(images=40), bare.rate(batch=4, images=80)
"""

import statistics
import time

import numpy as np

from resunet.images import decode_image
from resunet.masks import encode_png
from serving.engine import EngineChoice, Images, Output
from serving.predictor import Predictor


class Bare:
    """One version and one image's bytes, in this process."""

    def __init__(self, predictor: Predictor, png: bytes) -> None:
        self._predictor, self._png = predictor, png

    def p50_ms(self, images: int) -> float:
        """Median time of an image, milliseconds; the first only warms up."""
        times = []
        for _ in range(images + 1):
            started = time.perf_counter()
            encode_png(self._predictor.predict(decode_image(self._png)).mask)
            times.append((time.perf_counter() - started) * 1000)
        return statistics.median(times[1:])

    def rate(self, batch: int, images: int) -> float:
        """Images a second, a batch of the engine at a time; the first batch only warms up."""
        self._batch(batch)
        count = max(1, images // batch)
        started = time.perf_counter()
        for _ in range(count):
            self._batch(batch)
        return count * batch / (time.perf_counter() - started)

    def _batch(self, count: int) -> None:
        images = [decode_image(self._png) for _ in range(count)]
        probabilities, embedding = self._predictor.engine.run(np.stack(images))
        for index, image in enumerate(images):
            ran = _Ran(self._predictor.engine.name, (probabilities[index, None], embedding[index, None]))
            encode_png(Predictor(self._predictor.spec, ran).predict(image).mask)


class _Ran:
    """An engine that ran already."""

    def __init__(self, name: EngineChoice, output: Output) -> None:
        self.name, self._output = name, output

    def run(self, images: Images) -> Output:
        """What came of it."""
        return self._output
