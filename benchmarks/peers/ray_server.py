"""Ray Serve: one deployment with one replica.

python -m benchmarks.peers.ray_server 8000      # POST / {"image": "<base64>"}
"""

import sys
import time
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.work import Work


class Segment:
    """One image a request."""

    def __init__(self) -> None:
        self._work = Work.load()

    async def __call__(self, request: Request) -> dict[str, Any]:
        """The row."""
        return self._work.answer((await request.json())["image"])


if __name__ == "__main__":
    ray.init(include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(
        serve.deployment(num_replicas=1, max_ongoing_requests=16)(Segment).bind(), name="resunet", route_prefix="/"
    )
    while True:
        time.sleep(3600)
