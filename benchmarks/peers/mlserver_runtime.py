"""MLServer: a custom runtime, which speaks the Open Inference Protocol.

mlserver start FOLDER       # whose model-settings.json names benchmarks.peers.mlserver_runtime.Segment
"""

import json

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.work import Work


class Segment(MLModel):  # type: ignore[misc]
    """One image a request."""

    async def load(self) -> bool:
        """Once a worker."""
        self._work = Work.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The row, as JSON in an output of type BYTES."""
        (image,) = StringCodec.decode_input(payload.inputs[0])
        row = self._work.answer(image)
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("row", [json.dumps(row)])])
