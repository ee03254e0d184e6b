"""The MLflow model: where `mlflow models serve`, `mlflow models predict` and `load_model` end.

    mlflow.pyfunc.log_model(
        name="model", python_model="serving/model_code.py", artifacts={"version": folder},
        signature=signature(spec), code_paths=["resunet", "records", "serving"],
        pip_requirements=model_requirements(Path("pyproject.toml")),
    )

Nothing is pickled. `load_context` finds the version in the artifact `version`, compares the model's files with
`digests.json` at its root, and finds the version's number in the note that MLflow leaves there when it downloads a
registered model.
"""

import logging
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from serving.budget import WorkBudget
from serving.crowd import for_many
from serving.frames import answer_frame
from serving.golden import check_golden
from serving.identity import verified_identity
from serving.logbook import Logbook, open_logbook
from serving.predictor import Predictor
from serving.request import TEXT_COLUMNS
from serving.scoring import RequestError, as_request_error, guard_scoring_server, server_limit_s, server_threads
from serving.service import Call, Service
from serving.settings import ServingSettings
from serving.version import VersionSpec

VERSION_ARTIFACT = "version"

_LATE = " (MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT); send smaller or fewer images, or have it raised"
_log = logging.getLogger(__name__)


def signature(spec: VersionSpec) -> ModelSignature:
    """The serving contract of a version: columns and parameters in, columns out.

    Args:
        spec: binary versions have a `threshold`, whose default is the version's own.
    """
    texts = [ColSpec(DataType.string, name, required=False) for name in TEXT_COLUMNS]
    threshold = ParamSpec("threshold", DataType.double, spec.threshold if spec.binary else None)
    fraction = DataType.double if spec.binary else DataType.string
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "image"), *texts]),
        outputs=Schema(
            [
                ColSpec(DataType.string, "mask"),
                ColSpec(DataType.long, "width"),
                ColSpec(DataType.long, "height"),
                ColSpec(fraction, "foreground_fraction"),
                ColSpec(DataType.double, "confidence"),
                ColSpec(DataType.string, "model_version"),
                ColSpec(DataType.string, "request_id"),
            ]
        ),
        params=ParamSchema([threshold, ParamSpec("mask_format", DataType.string, "png")]),
    )


class SegmentationModel(PythonModel):
    """A version behind MLflow's pyfunc interface; safe to call from many threads."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the version, and refuse to serve one whose files or golden output are not those that were made.

        Raises:
            VersionError: files are missing, damaged, not listed, or not signed with the trusted key, or the golden
                output is not reproduced.
            SettingsError: a RESUNET_ variable makes no sense here.
            RecordsError: the inference log is on and cannot be opened.
        """
        self.settings = ServingSettings.load()
        root = Path(context.artifacts[VERSION_ARTIFACT])
        self.identity = verified_identity(root, self.settings.trust)
        threads = self.settings.threads or None
        predictor = Predictor.load(root, self.settings.engine, threads)
        check_golden(predictor, root)
        self.predictor = for_many(predictor, root, threads)
        self.limit_s = server_limit_s()
        self.logbook: Logbook | None = None
        if self.settings.inference_log is not None:
            self.logbook = open_logbook(self.identity)
        self.budget = WorkBudget(server_threads(), self.settings.wait_seconds)
        self.service = Service(self.predictor, self.identity, self.budget, self.logbook)
        guard_scoring_server(self.settings.max_image_mb)
        _log.info("version %s is ready on %s", self.identity.version, self.predictor.engine.name)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Segment the images of a request.

        Args:
            model_input: a row an image; columns as in `signature`.
            params: `threshold` and `mask_format`.

        Returns:
            A row an image, in the same order; see `serving.answer.encode_answer`.

        Raises:
            RequestError: a row cannot be answered, and then none is; the message names the row and why.
        """
        received = datetime.now(UTC)
        deadline = None if self.limit_s is None else time.monotonic() + self.limit_s
        try:
            return answer_frame(
                self.service,
                model_input,
                params,
                self.settings,
                lambda options: Call(options, received, deadline, advice=_LATE),
            )
        except Exception as error:
            raise as_request_error(error) from None


__all__ = ["RequestError", "SegmentationModel", "signature"]
