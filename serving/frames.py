"""MLflow's scoring protocol: a data frame of images in, a data frame of answers out.

answers = answer_frame(service, frame, params, settings, lambda options: Call(options, datetime.now(UTC)))
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from serving.answer import encode_answer
from serving.request import Options, Row, read_options, read_rows
from serving.service import Call, Done, Service
from serving.settings import ServingSettings


def answer_frame(
    service: Service,
    frame: pd.DataFrame,
    params: Mapping[str, Any] | None,
    settings: ServingSettings,
    call_with: Callable[[Options], Call],
) -> pd.DataFrame:
    """Segment the images of a frame.

    Args:
        service: the version that answers.
        frame: a row an image; columns as in `serving.pyfunc.signature`.
        params: `threshold` and `mask_format`.
        settings: what a request may hold.
        call_with: the call, given the options that it has.

    Returns:
        A row an image, in the same order; see `serving.answer.encode_answer`.

    Raises:
        ResunetError: as of `Service.answer`, or the frame or the parameters are not as they must be.
    """
    call = call_with(read_options(params, service.predictor.spec))
    rows = read_rows(frame, settings.max_rows, settings.max_image_mb, call.request_id, call.caller)
    return pd.DataFrame(answer_rows(service, rows, call))


def answer_rows(service: Service, rows: Sequence[Row], call: Call) -> list[dict[str, Any]]:
    """Segment the images of rows that were checked.

    Args:
        service: the version that answers.
        rows: of a request.
        call: what they share.

    Returns:
        A row an image, in the same order; see `serving.answer.encode_answer`.

    Raises:
        ResunetError: as of `Service.answer`.
    """
    spec, version = service.predictor.spec, service.identity.version

    def row(done: Done) -> dict[str, Any]:
        return encode_answer(done.prediction, spec, call.options.mask_format, version, done.row.request_id)

    return service.answer(rows, call, row)
