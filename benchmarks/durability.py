"""What was answered is in the log: of a gateway that is killed under load, and while the database is away.

    python -m benchmarks.durability                      # 20 kills of one process and of two, 60 s away: some minutes
    python -m benchmarks.durability --kills 5 --away 10
    python -m benchmarks.durability --smoke

Eight clients ask for as long as there is somebody to ask, each request with an id of its own, and note which were
answered. The gateway is killed with all its processes (SIGKILL) at a moment drawn at random, started again, and so on;
at last one is left in peace to deliver what lies in the spool. For the other half the PostgreSQL server is stopped
under the same load, and started again. Then the ids in the log are held against those that were answered: none may be
missing, and nobody may have been refused, or have lost its connection, while a gateway was up. (None can be there
twice: its key is in the table once.) The network is a small one, so that much is under way.
"""

import argparse
import contextlib
import http.client
import itertools
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine, select

from benchmarks.engine import PROBE, drawn
from benchmarks.gateway_clients import Ask
from benchmarks.gateway_scene import Gateway, Scene
from benchmarks.postgres import Postgres, server
from benchmarks.serving import png_of
from benchmarks.small_version import write_small_version
from pipelines.runs.tracking import quiet
from records.schema import predictions
from serving.pyfunc import VERSION_ARTIFACT

MODEL: Final = "small"
CLIENTS: Final = 8
KILLS, AWAY_SECONDS = 20, 60.0
MOST_AWAY_SECONDS: Final = 3600.0
LEAST, MOST = 20, 200  # answers between a start and a kill
_STANDS_SECONDS: Final = 120.0
_DELIVERY_SECONDS: Final = 300.0


class Asking:
    """Clients that ask until the block ends, and what they were told.

    Attributes:
        answered: ids of the requests that were answered 200.
        refused: what became of all others: a status, or how the connection ended.
    """

    def __init__(self, what: Ask, ids: Iterator[str]) -> None:
        self._what, self._ids = what, ids
        self._ended, self._lock = threading.Event(), threading.Lock()
        self.answered: list[str] = []
        self.refused: list[str] = []
        self._forgiven = False

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """Have them ask; a client whose connection ends is gone with it."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(self._client) for _ in range(CLIENTS)]
            try:
                yield
            finally:
                self._ended.set()
        for client in clients:
            client.result()

    def until(self, count: int) -> None:
        """Wait until so many are answered."""
        _until(lambda: len(self.answered) >= count, _STANDS_SECONDS, "the gateway does not answer; its log says why")

    def forgive(self) -> None:
        """From now on a connection may end: whoever answers is about to be killed."""
        self._forgiven = True

    def _client(self) -> None:
        try:
            with self._what.connect() as connection:
                while not self._ended.is_set():
                    self._ask(connection)
        except (OSError, http.client.HTTPException) as error:
            if not self._forgiven:
                self.refused.append(repr(error))

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            name = next(self._ids)
        headers = {**self._what.headers, "X-Request-Id": name}
        response, _ = Ask(self._what.url, self._what.path, self._what.body, headers).once(connection)
        with self._lock:
            if response.status == 200:
                self.answered.append(name)
            else:
                self.refused.append(str(response.status))


@dataclass(frozen=True)
class Told:
    """What came of one of the two.

    Attributes:
        name: for people.
        answered, refused: requests.
        missing: of those that were answered, in the log.
        seconds: from the last answer until all were there.
    """

    name: str
    answered: int
    refused: int
    missing: int
    seconds: float

    @property
    def held(self) -> bool:
        """Whether nothing was lost or refused."""
        return not (self.refused or self.missing)


class Durability:
    """The two trials, with one registry and one database."""

    def __init__(self, scene: Scene, postgres: Postgres, rng: random.Random) -> None:
        self._scene, self._postgres, self._rng = scene, postgres, rng
        body = png_of(drawn(PROBE)[0])
        self._first = Ask("", "/segment", body, {"Content-Type": "image/png"})

    def killed(self, kills: int, workers: int, most: int) -> Told:
        """A gateway that is killed and started again."""
        name = f"{kills} kill{'s' * (kills > 1)} of {workers} process{'es' * (workers > 1)}"
        answered: list[str] = []
        refused: list[str] = []
        ids = (f"killed-{workers}-{number}" for number in itertools.count())
        for _ in range(kills):
            with self._gateway(name, "--workers", str(workers)) as gateway:
                asking = Asking(self._at(gateway), ids)
                with asking.going_on():
                    asking.until(self._rng.randint(LEAST, most))
                    asking.forgive()
                    os.killpg(gateway.process.pid, signal.SIGKILL)
                answered += asking.answered
                refused += asking.refused
        with self._gateway(name, "--workers", str(workers)):
            return self._told(name, answered, refused)

    def without_database(self, seconds: float) -> Told:
        """One whose database goes away and comes back."""
        name = f"{seconds:.0f} s without the database"
        with self._gateway(name) as gateway:
            asking = Asking(self._at(gateway), (f"away-{number}" for number in itertools.count()))
            with asking.going_on():
                asking.until(LEAST)
                self._postgres.stop()
                before = len(asking.answered)
                time.sleep(seconds)
                asking.until(before + LEAST)
                self._postgres.start()
                asking.until(len(asking.answered) + LEAST)
            return self._told(name, asking.answered, asking.refused)

    def _gateway(self, name: str, *flags: str) -> contextlib.AbstractContextManager[Gateway]:
        own = {"RESUNET_INFERENCE_LOG": self._postgres.url, "RESUNET_HOME": str(self._scene.folder / name)}
        own["TMPDIR"] = str(self._scene.folder)  # who is killed clears nothing away
        return self._scene.gateway(MODEL, self._first, *flags, **own)

    def _at(self, gateway: Gateway) -> Ask:
        return Ask(gateway.url, self._first.path, self._first.body, self._first.headers)

    def _told(self, name: str, answered: Sequence[str], refused: Sequence[str]) -> Told:
        """Wait for what is still to be delivered; what never comes is missing."""
        started, wanted = time.monotonic(), set(answered)
        with contextlib.suppress(TimeoutError):
            _until(lambda: wanted <= self._stored(), _DELIVERY_SECONDS, "rows are missing", every=0.25)
        seconds = time.monotonic() - started
        return Told(name, len(answered), len(refused), len(wanted - self._stored()), seconds)

    def _stored(self) -> set[str]:
        engine = create_engine(self._postgres.url)
        try:
            with engine.connect() as connection:
                return set(connection.scalars(select(predictions.c.request_id)))
        finally:
            engine.dispose()


def _until(there: Callable[[], bool], seconds: float, otherwise: str, every: float = 0.005) -> None:
    ends = time.monotonic() + seconds
    while not there():
        if time.monotonic() > ends:
            raise TimeoutError(otherwise)
        time.sleep(every)


def main(given: Sequence[str] | None = None) -> int:
    """Try, and say whether all held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a short run that shows that it works; proves nothing")
    parser.add_argument("--kills", type=int, default=KILLS, help=f"of the gateway, of one process and of two ({KILLS})")
    parser.add_argument(
        "--away", type=float, default=AWAY_SECONDS, help=f"seconds without database ({AWAY_SECONDS:.0f})"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which it is killed (0)")
    options = parser.parse_args(given)
    if options.kills < 1 or not 0 < options.away <= MOST_AWAY_SECONDS:
        parser.error(f"there is something to see from 1 kill and above 0 s away on, up to {MOST_AWAY_SECONDS:.0f} s")
    kills, away, most = (1, 1.0, LEAST) if options.smoke else (options.kills, options.away, MOST)
    console = Console()
    quiet()
    with tempfile.TemporaryDirectory(prefix="resunet-benchmark-") as folder, server() as postgres:
        root = Path(folder) / VERSION_ARTIFACT
        write_small_version(root)
        with Scene.up(Path(folder), {MODEL: [root]}) as scene:
            trials = Durability(scene, postgres, random.Random(options.seed))
            told = []
            for workers in (1, 2):
                told.append(trials.killed(kills, workers, most))
                console.print(told[-1].name, "done", style="dim")
            told.append(trials.without_database(away))
    table = Table("", "answered", "without a row", "refused or lost", "all there after", title=f"{CLIENTS} clients")
    for one in told:
        marks = [f"{count} {'✗' if count else '✓'}" for count in (one.missing, one.refused)]
        table.add_row(one.name, f"{one.answered:,}", *marks, f"{one.seconds:.1f} s")
    console.print(table)
    return 0 if all(one.held for one in told) else 1


if __name__ == "__main__":
    sys.exit(main())
