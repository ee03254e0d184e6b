"""What every peer does with a request: the engine, the work and the log of the gateway, in the peer's own server.

    work = Work.load()                  # of the version that RESUNET_PEER_VERSION names
    row = work.answer(base64_of_a_png)  # as a row of /invocations

With RESUNET_PEER_TORCH=1 the network runs in torch, eager and in fp32, as a model is that nobody exported.
"""

import base64
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from records.inference import open_inference_log
from records.settings import RecordsSettings
from serving.answer import encode_answer
from serving.budget import WorkBudget
from serving.crowd import for_many
from serving.identity import Identity
from serving.logbook import Logbook
from serving.predictor import Predictor
from serving.request import Options, Row
from serving.service import Call, Done, Service
from serving.version import VersionSpec

VERSION: Final = "RESUNET_PEER_VERSION"
TORCH: Final = "RESUNET_PEER_TORCH"
_WAIT_SECONDS: Final = 60.0
_THREADS: Final = 16


class Work:
    """A version at work; safe to call from many threads."""

    def __init__(self, predictor: Predictor) -> None:
        identity = Identity("resunet", "1", "sha256:peer")
        log = open_inference_log(RecordsSettings.load())
        self._spec = predictor.spec
        self._service = Service(
            predictor, identity, WorkBudget(_THREADS, _WAIT_SECONDS), None if log is None else Logbook(log, identity)
        )

    @classmethod
    def load(cls) -> "Work":
        """The version that the environment names."""
        root = Path(os.environ[VERSION])
        if os.environ.get(TORCH) == "1":
            from benchmarks.peers.eager import Eager

            return cls(Predictor(VersionSpec.read(root), Eager(root)))
        return cls(for_many(Predictor.load(root), root))

    def answer(self, image: str) -> dict[str, Any]:
        """A row of `/invocations`.

        Args:
            image: an encoded image, in base64.
        """
        row = Row(0, base64.b64decode(image, validate=True), uuid.uuid4().hex, None, None)

        def encode(done: Done) -> dict[str, Any]:
            return encode_answer(done.prediction, self._spec, "png", "1", done.row.request_id)

        (answer,) = self._service.answer([row], Call(Options(None, "png"), datetime.now(UTC)), encode)
        return answer
