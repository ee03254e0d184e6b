"""Load a model as MLflow does and give it good and bad input; prints one line of JSON.

python -m pipelines.evidence.probe <folder of MLmodel>

It runs the code that the model brings along: in a process of its own, which holds no secret.
"""

import base64
import io
import json
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

import mlflow
import pandas as pd
from PIL import Image

# A PNG that ends in its header, as half an upload does.
_CUT: Final = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00"
# Each by itself: a batch in which one image is bad is another question.
BAD: Final[Mapping[str, Mapping[str, Any]]] = {
    "text in place of an image": {"image": [b"this is no image"]},
    "no bytes": {"image": [b""]},
    "a PNG that is cut off": {"image": [_CUT]},
    "no image at all": {"image": [None]},
    "another column": {"picture": [b"abc"]},
    "a number": {"image": [7]},
}
_LONGEST: Final = 300


def main(folder: str) -> None:
    """Load, ask, and print what came of it."""
    # What the model prints goes to stderr: only the findings are on stdout.
    findings = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        model = mlflow.pyfunc.load_model(folder)
        found = {"example": _example(model), "refused": {name: _refusal(model, bad) for name, bad in BAD.items()}}
    except Exception as error:
        found = {"example": f"it does not load: {_origin(error).replace(folder, '.')}", "refused": {}}
    print(json.dumps(found), file=findings, flush=True)


def _origin(error: BaseException) -> str:
    """What went wrong first: MLflow tells of its own part in it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {_words(error)}"


def _example(model: Any) -> str:
    """What is wrong with the answer to the model's own example; empty where nothing is."""
    example = model.input_example
    if example is None:
        return "it has no example"
    try:
        return wrong_answer(model.predict(example), example, model.metadata.get_output_schema())
    except Exception as error:
        return _words(error)


def wrong_answer(answer: Any, example: pd.DataFrame, schema: Any) -> str:
    """What is wrong with an answer beside its signature and its images; empty where nothing is.

    Args:
        answer: of the model.
        example: column `image`, encoded.
        schema: MLflow's, of the outputs; None where there is none.

    Raises:
        OSError, ValueError: a mask is no image.
    """
    promised = schema.input_names() if schema is not None else []
    given = list(answer.columns) if isinstance(answer, pd.DataFrame) else []
    if not promised or given != promised:
        told = ", ".join(map(str, given)) or type(answer).__name__
        return f"its answer is {told}; its signature says {', '.join(promised) or 'nothing'}"
    if len(answer) != len(example):
        return f"it answers {len(example)} images with {len(answer)} rows"
    for image, mask in zip(example["image"], answer["mask"], strict=True):
        sent, got = (Image.open(io.BytesIO(file)) for file in (image, base64.b64decode(mask)))
        got.load()
        if sent.size != got.size:
            return f"its mask is {got.size[0]} x {got.size[1]} pixels, the image {sent.size[0]} x {sent.size[1]}"
    return ""


def _refusal(model: Any, bad: Mapping[str, Any]) -> str:
    """What was said against an input; empty where it was answered."""
    try:
        model.predict(pd.DataFrame(bad))
    except Exception as error:
        # Whatever it raises is its refusal.
        return _words(error)
    return ""


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:_LONGEST] or type(error).__name__


if __name__ == "__main__":
    main(sys.argv[1])
