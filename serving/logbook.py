"""The inference log as a server writes it; where it is off, nothing of it is imported.

logbook = open_logbook(identity)
logbook.append([logbook.entry(row, prediction, spec, received, latency_ms)])
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from serving.answer import encode_rle
from serving.predictor import Prediction
from serving.request import Row
from serving.version import VersionSpec

if TYPE_CHECKING:
    from records.inference import InferenceLog
    from records.rows import PredictionRow


@dataclass(frozen=True)
class Identity:
    """Registered name and number of a version, and the digest of its files."""

    name: str
    version: str
    digest: str


class Logbook:
    """An open inference log and the version that it is kept for."""

    def __init__(self, log: "InferenceLog", identity: Identity) -> None:
        self._log = log
        self._identity = identity

    def entry(
        self, row: Row, prediction: Prediction, spec: VersionSpec, received: datetime, latency_ms: float
    ) -> "PredictionRow":
        """Describe one answered image.

        Args:
            received: when the request came in, with a zone.
            latency_ms: wall time from pixels to answer.
        """
        from records.rows import PredictionRow

        return PredictionRow(
            request_id=row.request_id,
            event_time=received,
            model_name=self._identity.name,
            model_version=self._identity.version,
            model_digest=self._identity.digest,
            route="production",
            client=row.client,
            slice=row.slice,
            engine=prediction.engine,
            latency_ms=latency_ms,
            width=prediction.width,
            height=prediction.height,
            descriptors=prediction.descriptors,
            prediction_descriptors=prediction.prediction_descriptors,
            embedding=prediction.embedding.astype("<f4").tobytes(),
            mask_rle=encode_rle(prediction.mask, spec),
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
