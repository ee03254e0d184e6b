"""The inference log as a server writes it; where it is off, nothing of it is imported.

logbook = open_logbook(identity)
logbook.append([logbook.entry(row, prediction, spec, options.threshold, received, latency_ms)])
"""

import hashlib
import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any

from resunet.errors import RecordsError
from serving.answer import encode_rle
from serving.identity import Identity
from serving.predictor import Prediction
from serving.request import Row
from serving.version import VersionSpec

if TYPE_CHECKING:
    from records.inference import InferenceLog
    from records.rows import PredictionRow, Route


_log = logging.getLogger(__name__)


class Logbook:
    """An open inference log, the version that it is kept for, and the way on which its answers leave."""

    def __init__(self, log: "InferenceLog", identity: Identity, route: "Route" = "production") -> None:
        self._log = log
        self._identity = identity
        self._route = route

    def entry(
        self,
        row: Row,
        prediction: Prediction,
        spec: VersionSpec,
        threshold: float | None,
        received: datetime,
        latency_ms: float,
    ) -> "PredictionRow":
        """Describe one answered image.

        Args:
            threshold: the request's; None is the version's own.
            received: when the request came in, with a zone.
            latency_ms: wall time from pixels to answer.
        """
        return self._row(
            row,
            received,
            engine=prediction.engine,
            threshold=(spec.threshold if threshold is None else threshold) if spec.binary else None,
            latency_ms=latency_ms,
            width=prediction.width,
            height=prediction.height,
            descriptors=prediction.descriptors,
            prediction_descriptors=prediction.prediction_descriptors,
            embedding=prediction.embedding.astype("<f4").tobytes(),
            mask_rle=encode_rle(prediction.mask, spec),
            image=row.data,  # kept only if the log's settings ask for it
        )

    def note_refusal(self, row: Row, received: datetime) -> None:
        """Write down that an image was refused; a log that cannot be written does not change the answer.

        Args:
            row: the refused one; of its image only the digest is kept.
            received: when the request came in, with a zone.
        """
        try:
            self._log.append([self._row(row, received, status="refused")])
        except RecordsError as error:
            _log.warning("a refused image could not be logged: %s", error)

    def _row(self, row: Row, received: datetime, **measured: Any) -> "PredictionRow":
        from records.rows import PredictionRow

        return PredictionRow(
            request_id=row.request_id,
            event_time=received,
            model_name=self._identity.name,
            model_version=self._identity.version,
            model_digest=self._identity.digest,
            route=self._route,
            client=row.client,
            slice=row.slice,
            image_digest=f"sha256:{hashlib.sha256(row.data).hexdigest()}",
            **measured,
        )

    def append(self, entries: "list[PredictionRow]") -> None:
        """Write to the spool; on return the rows survive the process.

        Raises:
            RecordsError: they could not be written, so nothing may be answered.
        """
        self._log.append(entries)


def open_logbook(identity: Identity) -> Logbook | None:
    """Open the inference log that the environment names, None where it names none; it closes itself at exit.

    Raises:
        RecordsError, SettingsError: it cannot be opened.
    """
    from records.inference import open_inference_log
    from records.settings import RecordsSettings

    log = open_inference_log(RecordsSettings.load())
    return None if log is None else Logbook(log, identity)
