"""LitServe: a `LitAPI` with its four steps, one worker on the CPU.

python -m benchmarks.peers.litserve_server 8000     # POST /predict {"image": "<base64>"}
"""

import sys
from typing import Any

import litserve

from benchmarks.peers.work import Work


class Segment(litserve.LitAPI):  # type: ignore[misc]
    """One image a request."""

    def setup(self, device: str) -> None:
        """Once a worker."""
        self._work = Work.load()

    def decode_request(self, request: dict[str, Any]) -> str:
        """The image."""
        return str(request["image"])

    def predict(self, image: str) -> dict[str, Any]:
        """The row."""
        return self._work.answer(image)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """As it is."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Segment(), accelerator="cpu", devices=1, workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
