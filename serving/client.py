"""A client of the gateway, for Python.

    with Client("http://127.0.0.1:8000", key=os.environ["RESUNET_KEY"]) as client:
        found = client.segment(Path("a.png"))
        found.mask, found.confidence, found.model_version      # (H, W) uint8, expected Dice, "7"
        for path, found in client.segment_many(Path("images").glob("*.png"), parallel=4):
            ...                                                 # in the order of the paths; found may be a ClientError

What may succeed later is sent again: a server that is busy, restarting or not yet there. Every try has the same request
id, so that an answer whose way back was cut is counted once.
"""

import base64
import json
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import httpx
import numpy as np
from numpy.typing import NDArray

from resunet.errors import ResunetError
from resunet.images import decode_mask
from resunet.masks import encode_png

Image = bytes | Path
Source = TypeVar("Source", bytes, Path)
_AGAIN: Final = frozenset({429, 502, 503})
_LONGEST_WAIT_S: Final = 30.0


class ClientError(ResunetError):
    """A request that was not answered.

    Attributes:
        status: of HTTP; None where there was no answer at all.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Segmentation:
    """An answer.

    Attributes:
        mask: (H, W) uint8; binary 0 and 255, else the class index.
        confidence: the Dice that is to be expected, 0 to 1.
        model_version: that answered.
        request_id: what a label of this image names it by.
    """

    mask: NDArray[np.uint8]
    confidence: float
    model_version: str
    request_id: str


class Client:
    """A connection to a gateway; safe to use from many threads. Close it, or use it in a `with`.

    Args:
        url: of the gateway.
        key: API key, where the gateway has keys.
        timeout_s: longest wait for one try.
        retries: how often a request is sent again.
        verify: as of httpx: a file of certificates to trust, or False for none.
        sleep: waits; seconds.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout_s: float = 120.0,
        retries: int = 5,
        verify: bool | str = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s, verify=verify)
        self._retries = retries
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def segment(
        self,
        image: Image,
        *,
        threshold: float | None = None,
        client: str | None = None,
        slice: str | None = None,
        request_id: str | None = None,
    ) -> Segmentation:
        """Segment one image.

        Args:
            image: an encoded image, PNG, JPEG, TIFF or BMP, or the file that holds it.
            threshold: of a binary version; None takes the version's own.
            client, slice: for the gateway's log.
            request_id: made where it is None.

        Raises:
            ClientError: it was refused, or not answered after all tries; the message is the gateway's.
        """
        words = {"threshold": threshold, "client": client, "slice": slice}
        answer = self._send(
            "/segment",
            content=_read(image),
            params={name: value for name, value in words.items() if value is not None},
            headers={
                "Content-Type": "application/octet-stream",
                "Accept": "image/png",
                "X-Request-Id": request_id or uuid.uuid4().hex,
            },
        )
        headers = answer.headers
        return Segmentation(
            mask=decode_mask(answer.content),
            confidence=float(headers["X-Confidence"]),
            model_version=headers["X-Model-Version"],
            request_id=headers["X-Request-Id"],
        )

    def segment_many(
        self, images: Iterable[Source], *, parallel: int = 4, client: str | None = None, slice: str | None = None
    ) -> Iterator[tuple[Source, Segmentation | ClientError]]:
        """Segment many images, some at a time.

        Args:
            images: read as they are needed: there may be more than memory holds.
            parallel: requests at a time.
            client, slice: as of `segment`, of all of them.

        Yields:
            each image and its answer, in their order; one that failed has its error and stops nothing.
        """

        def one(image: Source) -> Segmentation | ClientError:
            try:
                return self.segment(image, client=client, slice=slice)
            except ClientError as error:
                return error

        with ThreadPoolExecutor(parallel, thread_name_prefix="resunet-client") as pool:
            waiting: deque[tuple[Source, Future[Segmentation | ClientError]]] = deque()
            try:
                for image in images:
                    waiting.append((image, pool.submit(one, image)))
                    if len(waiting) >= 2 * parallel:
                        first, answer = waiting.popleft()
                        yield first, answer.result()
                while waiting:
                    first, answer = waiting.popleft()
                    yield first, answer.result()
            finally:
                for _, answer in waiting:
                    answer.cancel()

    def label(
        self, request_id: str, truth: NDArray[np.uint8] | None = None, *, dice: float | None = None
    ) -> dict[str, float]:
        """Say what an answer was worth.

        Args:
            request_id: of the answer.
            truth: (H, W) uint8, the true mask: 0 and 255, or class indices.
            dice: instead of it, a score.

        Returns:
            The Dice of each version that answered, by its number.

        Raises:
            ClientError: as of `segment`; 404 where nothing was answered under that id.
        """
        body: dict[str, object] = {"request_id": request_id}
        body |= {"dice": dice} if truth is None else {"mask": base64.b64encode(encode_png(truth)).decode()}
        content = json.dumps(body).encode()
        answer = self._send("/labels", content=content, params={}, headers={"Content-Type": "application/json"})
        return {one["model_version"]: one["scores"]["dice"] for one in answer.json()["labels"]}

    def _send(
        self, path: str, *, content: bytes, params: dict[str, str | float], headers: dict[str, str]
    ) -> httpx.Response:
        for left in reversed(range(self._retries + 1)):
            tried = self._retries - left
            try:
                answer = self._http.post(path, content=content, params=params, headers=headers)
            except httpx.TransportError as error:
                if not left:
                    raise ClientError(f"the gateway does not answer ({type(error).__name__})") from error
                self._sleep(_backoff(tried))
                continue
            if answer.status_code == 200:
                return answer
            if answer.status_code not in _AGAIN or not left:
                raise ClientError(_told(answer), answer.status_code)
            self._sleep(max(_backoff(tried), _asked_to_wait(answer)))
        raise AssertionError("the last try returns or raises")


def _read(image: Image) -> bytes:
    if isinstance(image, bytes):
        return image
    try:
        return image.read_bytes()
    except OSError as error:
        raise ClientError(f"{image} cannot be read: {error.strerror}") from error


def _told(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"the answer was {answer.status_code} {answer.reason_phrase}, and not of a gateway"


def _asked_to_wait(answer: httpx.Response) -> float:
    given = answer.headers.get("Retry-After", "")
    return min(float(given), _LONGEST_WAIT_S) if given.isdigit() else 0.0


def _backoff(tried: int) -> float:
    """Seconds before the next try; drawn, so that many clients do not come back together."""
    return min(_LONGEST_WAIT_S, 0.2 * 2.0**tried) * random.uniform(0.5, 1.0)
