"""MLflow's scoring protocol: a data frame of images in, a data frame of answers out.

answers = answer_frame(service, frame, params, settings, lambda options: Call(options, datetime.now(UTC)))
"""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from serving.answer import encode_answer
from serving.request import Options, read_options, read_rows
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
    spec, version = service.predictor.spec, service.identity.version
    call = call_with(read_options(params, spec))

    def row(done: Done) -> dict[str, Any]:
        return encode_answer(done.prediction, spec, call.options.mask_format, version, done.row.request_id)

    rows = read_rows(frame, settings.max_rows, settings.max_image_mb, call.request_id, call.caller)
    return pd.DataFrame(service.answer(rows, call, row))
