"""BentoML: a service class with one API.

bentoml serve benchmarks.peers.bentoml_service:Segment --host 127.0.0.1 --port 8000    # POST /segment {"image": …}
"""

from typing import Any

import bentoml

from benchmarks.peers.work import Work


@bentoml.service(workers=1, traffic={"timeout": 60})
class Segment:
    """One image a request."""

    def __init__(self) -> None:
        self._work = Work.load()

    @bentoml.api  # type: ignore[untyped-decorator]
    def segment(self, image: str) -> dict[str, Any]:
        """The row."""
        return self._work.answer(image)
