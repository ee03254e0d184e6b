"""Clients of `benchmarks.gateway` that never stop asking, and look at every answer, while the version changes.

swapping = Swapping(asks, promote, masks)
with swapping.asking():
    swapping.swap(1)                    # and wait until the other version answers
swapping.answered, swapping.wrong
"""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.gateway_clients import Ask

MIN_AGREEMENT = 0.999  # of pixels, of a swapped version's mask with what it must be; the two agree on far fewer


class Swapping:
    """Clients, in this process: what they cost is not looked at.

    Args:
        what: the request; its answer is a mask PNG.
        clients: how many at a time.
        promote: puts the version of that number in the place of what is live.
        masks: that each version answers, (H, W) uint8, by its number.
    """

    def __init__(
        self, what: Ask, clients: int, promote: Callable[[str], None], masks: Mapping[str, NDArray[np.uint8]]
    ) -> None:
        self._what, self._clients, self._promote, self._masks = what, clients, promote, masks
        self._stop = threading.Event()
        self._count = threading.Lock()
        self.answered = 0
        self.wrong: list[str] = []
        self.latest = ""

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Have the clients ask until the block ends."""
        with ThreadPoolExecutor(self._clients) as pool:
            done = [pool.submit(self._client) for _ in range(self._clients)]
            try:
                yield
            finally:
                self._stop.set()
        self._stop.clear()
        for each in done:
            each.result()

    def until(self, there: Callable[[], bool], seconds: float = 300.0) -> None:
        """Wait; whoever asked for thousands of requests knows that they take their time.

        Raises:
            RuntimeError: it took longer.
        """
        ends = time.monotonic() + seconds
        while not there():
            if time.monotonic() > ends:
                raise RuntimeError("the gateway does not get on; its log says why")
            time.sleep(0.02)

    def swap(self, number: int) -> None:
        """Change the version, and wait until it answers."""
        version = sorted(self._masks)[number % len(self._masks)]
        self._promote(version)
        self.until(lambda: self.latest == version)

    def _client(self) -> None:
        connection = None
        with contextlib.ExitStack() as stack:
            while not self._stop.is_set():
                try:
                    connection = connection or stack.enter_context(self._what.connect())
                    response, body = self._what.once(connection)
                    version = response.headers.get("X-Model-Version", "")
                    trouble = "" if response.status == 200 else f"status {response.status}"
                    trouble = trouble or self._compare(version, body)
                except (OSError, http.client.HTTPException) as error:
                    version, trouble, connection = "", f"{type(error).__name__}", None
                with self._count:
                    self.answered += 1
                    if trouble:
                        self.wrong.append(trouble)
                    else:
                        self.latest = version

    def _compare(self, version: str, body: bytes) -> str:
        mask = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_GRAYSCALE)
        expected = self._masks.get(version)
        if expected is None or mask is None:
            return f"no mask of version {version!r}"
        agreement = float((mask == expected).mean())
        return "" if agreement >= MIN_AGREEMENT else f"{agreement:.1%} of the mask of version {version}"
