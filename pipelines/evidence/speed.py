"""How fast and how large a version is beside the live one: a process each, timed in turn."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import IO, Any, Final

from pipelines.evidence.subject import Subject, Version
from pipelines.training.processor import processor
from registry.evidence import Performance
from resunet.errors import VersionError
from serving.engine import available_cores

Advance = Callable[[int], None]

SIDE_PX: Final = 256
ROUNDS: Final = 7
_CALLS: Final = 20
_MB: Final = 1e6
_STOP_SECONDS: Final = 10


def performance(subject: Subject, advance: Advance) -> Performance:
    """Serve both versions in a process each, and time them in turn; `advance` is told of rounds.

    Raises:
        VersionError: one of them cannot be served here.
    """
    versions = [subject.candidate, *([subject.champion] if subject.champion else [])]
    with ExitStack() as stack:
        workers = [stack.enter_context(_Worker(version)) for version in versions]
        times: list[list[float]] = [[] for _ in workers]
        for number in range(ROUNDS):
            order = range(len(workers)) if number % 2 == 0 else reversed(range(len(workers)))
            for place in order:
                times[place].append(workers[place].p95())
            advance(1)
        peaks = [worker.peak_mb() for worker in workers]
    return Performance(
        machine=f"{processor()}, {available_cores()} cores",
        engine=workers[0].engine,
        side_px=SIDE_PX,
        candidate_p95_ms=times[0],
        champion_p95_ms=times[1] if len(times) > 1 else [],
        candidate_mb=peaks[0],
        champion_mb=peaks[1] if len(peaks) > 1 else None,
    )


class _Worker:
    """A process that holds one version: `pipelines.evidence.worker`."""

    engine = ""

    def __init__(self, version: Version) -> None:
        self._version = version

    def __enter__(self) -> "_Worker":
        command = [sys.executable, "-m", "pipelines.evidence.worker", str(self._version.root), str(SIDE_PX)]
        self._said: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True
        )
        try:
            self.engine = str(self._read()["engine"])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()

    def p95(self) -> float:
        """Time some calls; the 95th percentile in milliseconds."""
        times = self._ask({"calls": _CALLS})["milliseconds"]
        return float(statistics.quantiles(times, n=20, method="inclusive")[-1])

    def peak_mb(self) -> float:
        return float(self._ask({"peak": True})["bytes"]) / _MB

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        # Where it has ended, there is no answer either, and that is told.
        with suppress(OSError):
            print(json.dumps(question), file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"refused": self._last_words()}
        if "refused" in answer:
            raise VersionError(f"{self._version.name} cannot be timed here: {answer['refused']}")
        return answer

    def _last_words(self) -> str:
        code = self._process.wait(_STOP_SECONDS)
        self._said.seek(0)
        words = self._said.read().strip().splitlines()
        return f"its process ended ({code}): {words[-1][:300] if words else 'it said nothing'}"
