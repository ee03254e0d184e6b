"""A process that holds one version and times it when asked, line by line: so that two versions can take turns.

    python -m pipelines.evidence.worker <folder of version.json> <side>

It prints {"engine": …} when it is ready, or {"refused": …} where the version cannot be loaded; {"calls": 15} is
answered with {"milliseconds": […]}, {"peak": true} with {"bytes": …}. It ends with its standard input.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from resunet.errors import ResunetError
from serving.predictor import Predictor

_WARM_UP: Final = 3
_STATUS: Final = Path("/proc/self/status")


def main(root: str, side: str) -> None:
    """Answer until the input ends."""
    # What a library prints goes to stderr: only answers are on stdout.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: object) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    try:
        predictor = Predictor.load(Path(root))
    except ResunetError as error:
        say({"refused": str(error)})
        return
    rgb = np.random.default_rng(0).integers(0, 256, (int(side), int(side), 3), dtype=np.uint8)
    say({"engine": f"{predictor.engine.name} {predictor.spec.precision}"})
    for line in sys.stdin:
        asked = json.loads(line)
        if "calls" in asked:
            say({"milliseconds": _times(predictor, rgb, int(asked["calls"]))})
        else:
            say({"bytes": _peak_bytes()})


def _times(predictor: Predictor, rgb: NDArray[np.uint8], calls: int) -> list[float]:
    times = []
    # The first calls wake the engine's threads, which sleep while the other version is asked.
    for call in range(_WARM_UP + calls):
        started = time.perf_counter()
        predictor.predict(rgb)
        if call >= _WARM_UP:
            times.append((time.perf_counter() - started) * 1000)
    return times


def _peak_bytes() -> int:
    """Peak of the resident memory of this process.

    On Linux `ru_maxrss` begins with the peak of the process that started this one: two versions would always seem
    equally large.
    """
    if _STATUS.is_file():
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, KiB elsewhere.
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
