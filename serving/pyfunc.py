"""The MLflow model: where `mlflow models serve`, `mlflow models predict` and `load_model` end.

    mlflow.pyfunc.log_model(
        name="model", python_model="serving/model_code.py", artifacts={"version": folder},
        signature=signature(spec), code_paths=["resunet", "records", "serving"],
        pip_requirements=model_requirements(Path("pyproject.toml")),
    )

Nothing is pickled. `load_context` finds the version in the artifact `version`, the version's digest in
`digests.json` at the model's root, and its number in the note that MLflow leaves there when it downloads a
registered model.
"""

import logging
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from mlflow.models import ModelSignature
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from resunet.images import MAX_PIXELS
from serving.answer import encode_answer
from serving.budget import PixelBudget
from serving.errors import TooLargeError
from serving.golden import check_golden
from serving.logbook import Identity, Logbook, open_logbook
from serving.predictor import Predictor
from serving.request import TEXT_COLUMNS, count_pixels, decode_rows, read_options, read_rows
from serving.scoring import RequestError, as_request_error, guard_scoring_server
from serving.settings import ServingSettings
from serving.version import VersionSpec

VERSION_ARTIFACT = "version"
UNREGISTERED = "unregistered"

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
        """Load the version, and refuse to serve one that does not reproduce its golden output.

        Raises:
            VersionError: files are missing or damaged, or the golden output is not reproduced.
            SettingsError: a RESUNET_ variable makes no sense here.
            RecordsError: the inference log is on and cannot be opened.
        """
        self.settings = ServingSettings.load()
        root = Path(context.artifacts[VERSION_ARTIFACT])
        self.predictor = Predictor.load(root, self.settings.engine, self.settings.threads or None)
        check_golden(self.predictor, root)
        self.identity = read_identity(root)
        self.budget = PixelBudget(MAX_PIXELS)
        self.logbook: Logbook | None = None
        if self.settings.inference_log is not None:
            self.logbook = open_logbook(self.identity)
        guard_scoring_server()
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
        try:
            return self._answer(model_input, params)
        except Exception as error:
            raise as_request_error(error) from None

    def _answer(self, frame: pd.DataFrame, params: dict[str, Any] | None) -> pd.DataFrame:
        received = datetime.now(UTC)
        spec = self.predictor.spec
        options = read_options(params, spec)
        rows = read_rows(frame, self.settings.max_image_mb)
        answers: list[dict[str, Any]] = []
        entries: list[Any] = []
        with self.budget.take(count_pixels(rows)):
            for row, rgb in zip(rows, decode_rows(rows), strict=True):
                started = time.perf_counter()
                try:
                    prediction = self.predictor.predict(rgb, options.threshold)
                except TooLargeError as error:
                    raise TooLargeError(f"row {row.number}: {error}") from None
                answers.append(
                    encode_answer(prediction, spec, options.mask_format, self.identity.version, row.request_id)
                )
                if self.logbook is not None:
                    latency_ms = (time.perf_counter() - started) * 1000
                    entries.append(self.logbook.entry(row, prediction, spec, received, latency_ms))
        if self.logbook is not None:
            self.logbook.append(entries)  # before the answer: what is answered is on record
        return pd.DataFrame(answers)


def read_identity(root: Path) -> Identity:
    """Who a loaded version is.

    Args:
        root: the version's folder, somewhere below the folder that holds `MLmodel`.

    Returns:
        Name and number as registered (`unregistered` where MLflow left no note), and the version's digest
        (empty where the model was logged without a list of files).
    """
    model = next((folder for folder in root.resolve().parents if (folder / "MLmodel").is_file()), None)
    if model is None:
        return Identity(UNREGISTERED, UNREGISTERED, "")
    note: Any = None
    if (model / "registered_model_meta").is_file():
        note = yaml.safe_load((model / "registered_model_meta").read_text(encoding="utf-8"))
    known = note if isinstance(note, dict) else {}
    digest = ""
    if (model / "digests.json").is_file():
        from records.digests import read_digests, version_digest

        digest = version_digest(read_digests(model))
    return Identity(str(known.get("model_name", UNREGISTERED)), str(known.get("model_version", UNREGISTERED)), digest)


__all__ = ["RequestError", "SegmentationModel", "read_identity", "signature"]
