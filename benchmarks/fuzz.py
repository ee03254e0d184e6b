"""Requests that somebody spoilt, against a real gateway: nothing of it may break, leak or stay.

    python -m benchmarks.fuzz                    # 10,000 requests, about 10 minutes
    python -m benchmarks.fuzz --requests 500 --seed 3
    python -m benchmarks.fuzz --smoke

Images are mutated from those of ../shared/data/nuclei, or drawn where that is not there; `benchmarks.fuzz_requests`
says what else is spoilt, and `benchmarks.fuzz_hypothesis` makes three of ten requests from nothing. Some clients at a
time send them; a gateway of one process answers, with keys, its prediction log on, images of up to 16 MB and bodies of
up to 64 MB together.

Memory is the resident set of the gateway's process: sampled all the time for the peak, and at rest, with no request
there, when it is warm and after the last. It is warm when some of the largest images that are run whole were answered
to all clients at a time, the largest that is taken was decoded, and a tenth of the requests are through: the engine
keeps what its largest inputs needed. A 10,000 x 10,000 image may take 1.5 GB while it is worked on.
"""

import argparse
import base64
import collections
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mlflow
import psutil
from mlflow import MlflowClient
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.fuzz_clients import Came, Client
from benchmarks.fuzz_hypothesis import generated
from benchmarks.fuzz_images import encode, giant, load_sources
from benchmarks.fuzz_requests import Requests, Sent
from benchmarks.small_version import WHOLE_SIDE, write_small_version
from pipelines.runs.register import log_version, register_version
from pipelines.runs.tracking import quiet
from pipelines.servers import free_port, start_group, stop_group
from serving.access.keys import KeyStore, keys_path
from serving.pyfunc import VERSION_ARTIFACT
from serving.requirements import model_requirements

ROOT: Final = Path(__file__).resolve().parents[1]
CLIENTS: Final = 8
REQUESTS, SMOKE_REQUESTS = 10_000, 150
SHARE_MADE: Final = 0.3
START_SECONDS: Final = 120.0
REQUEST_SECONDS: Final = 30
MOST_GROWTH: Final = 1.10
MOST_PEAK_MB: Final = 2_000
SECRET: Final = "fuzz-password-of-the-registry"
# Words of Python's own, of what was sent, and of what nobody is to know.
TRACES: Final = (b"Traceback", b'File "', b"site-packages", b".py:")
_PIECE: Final = 16


@dataclass(frozen=True)
class Gateway:
    """The process that is fuzzed."""

    process: psutil.Process
    started: float
    port: int
    log: Path
    token: str

    @property
    def same(self) -> bool:
        """Whether it is still the one that was started."""
        with suppress(psutil.Error):
            running = self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE
            return running and self.process.create_time() == self.started
        return False

    def get(self, path: str, data: bytes | None = None, kind: str = "image/png") -> bytes:
        """Ask for something good."""
        headers = {"Authorization": f"Bearer {self.token}"} | ({"Content-Type": kind} if data else {})
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return bytes(answer.read())

    def left(self) -> tuple[float, float]:
        """Requests and bytes that it holds."""
        lines = dict(line.rsplit(" ", 1) for line in self.get("/metrics").decode().splitlines() if line[:1] != "#")
        return float(lines["resunet_requests_here"]), float(lines["resunet_held_bytes"])

    def rests(self, seconds: float = REQUEST_SECONDS + 30) -> tuple[float, float]:
        """Wait until it holds nothing; what it holds then."""
        ends = time.monotonic() + seconds
        while (left := self.left()) != (0, 0) and time.monotonic() < ends:
            time.sleep(0.1)
        return left

    def memory_mb(self) -> float:
        """At rest: the median of a second."""
        samples = []
        for _ in range(10):
            samples.append(self.process.memory_info().rss / 1e6)
            time.sleep(0.1)
        return statistics.median(samples)


@contextmanager
def gateway(folder: Path) -> Iterator[Gateway]:
    """A gateway that answers with a small network, which is not trained."""
    uri = _registered(folder)
    home = folder / "home"
    home.mkdir()
    store = KeyStore(keys_path(home))
    store.path.parent.mkdir(mode=0o700, parents=True)
    _, token = store.add("fuzz", frozenset({"admin"}), None)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RESUNET_", "MLFLOW_"))}
    port, log = free_port(), folder / "gateway.log"
    environment = kept | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_TRACKING_PASSWORD": SECRET,
        "RESUNET_HOME": str(home),
        "RESUNET_INFERENCE_LOG": f"sqlite:///{folder / 'log.db'}",
        "RESUNET_MAX_IMAGE_MB": "16",
        "RESUNET_GATEWAY_HELD_MB": "64",
        "RESUNET_GATEWAY_REQUEST_SECONDS": str(REQUEST_SECONDS),
        "RESUNET_GATEWAY_REQUESTS_PER_SECOND": "1000000",
        "RESUNET_GATEWAY_MEGAPIXELS_PER_SECOND": "1000000",
    }
    process = start_group([sys.executable, "-m", "serving", "up", "-m", uri, "-p", str(port)], environment, ROOT, log)
    try:
        there = psutil.Process(process.pid)
        running = Gateway(there, there.create_time(), port, log, token)
        _wait(running)
        yield running
    finally:
        stop_group(process)


def _registered(folder: Path) -> str:
    root = folder / VERSION_ARTIFACT
    write_small_version(root)
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = mlflow.create_experiment("fuzz", (folder / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment) as run:
        logged = log_version(root, model_requirements(ROOT / "pyproject.toml"))
    register_version(MlflowClient(), logged, "resunet", run.info.run_id, {})
    return "models:/resunet/1"


def _wait(running: Gateway) -> None:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends and running.same:
        with suppress(OSError):
            running.get("/health")
            return
        time.sleep(0.1)
    raise RuntimeError(f"the gateway did not start: {running.log.read_text(errors='replace')[-2000:]}")


class Peak:
    """The largest memory of a process while the block lasts, MB."""

    def __init__(self, process: psutil.Process) -> None:
        self._process, self._ended = process, threading.Event()
        self.mb = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        with suppress(psutil.Error):
            while not self._ended.wait(0.05):
                self.mb = max(self.mb, self._process.memory_info().rss / 1e6)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()


class Verdicts:
    """What was wrong with answers; safe to use from many threads.

    Args:
        sources: images whose pixels must not be told.
        token: that must not be told either.
    """

    def __init__(self, sources: Sequence[bytes], token: str) -> None:
        self._leaks = [token.encode(), SECRET.encode(), *pieces(sources)]
        self._lock = threading.Lock()
        self.statuses: collections.Counter[tuple[str, str]] = collections.Counter()
        self.found: dict[str, list[str]] = {name: [] for name in ("failed", "unanswered", "hung", "told")}

    def judge(self, came: Came) -> None:
        """Count an answer and look whether it may be so."""
        sent, status = came.sent, came.status
        wrong = []
        if status is not None and status >= 500 and status != 503:
            wrong.append("failed")
        if status is None and sent.due:
            wrong.append("unanswered")
        if came.hung:
            wrong.append("hung")
        if status is not None and status >= 400 and (len(came.body) > 4000 or self.leaks(came.body)):
            wrong.append("told")
        with self._lock:
            self.statuses[sent.kind, "gone" if status is None else str(status)] += 1
            for name in wrong:
                self.found[name].append(f"{status} to {sent.pace} {sent.data[:300]!r}: {came.body[:300]!r}")

    def leaks(self, text: bytes) -> list[bytes]:
        """Traces, secrets and pieces of images in a text."""
        return [word for word in (*TRACES, *self._leaks) if word in text]


def pieces(sources: Sequence[bytes]) -> Iterator[bytes]:
    """What an image would show as: base64 as it is sent, or bytes as Python and JSON print them."""
    for data in sources:
        for at in range(len(data) // 4, len(data) - _PIECE, max(1, len(data) // 6)):
            piece = data[at : at + _PIECE]
            if len(set(piece)) < _PIECE // 2:  # black pixels are nobody's
                continue
            start = at - at % 3
            yield base64.b64encode(data[start : start + _PIECE - 1])
            yield repr(piece)[2:-1].encode()
            yield json.dumps(piece.decode("latin-1"))[1:-1].encode()


def run(running: Gateway, requests: Iterator[Sent], verdicts: Verdicts) -> None:
    """Send them all, some at a time."""
    client, lock = Client("127.0.0.1", running.port, wait_seconds=REQUEST_SECONDS + 60), threading.Lock()

    def ask() -> None:
        while True:
            with lock:
                sent = next(requests, None)
            if sent is None:
                return
            try:
                verdicts.judge(client.send(sent))
            except OSError as error:
                verdicts.judge(Came(sent, None, type(error).__name__.encode(), hung=True))

    with ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(ask) for _ in range(CLIENTS)]:
            done.result()


def main(given: Sequence[str] | None = None) -> int:
    """Fuzz, and say whether all held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a short run that shows that it works; proves nothing")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="another one makes other requests")
    options = parser.parse_args(given)
    if options.requests < 1:
        parser.error("send at least 1 request: nothing proves nothing")
    count = SMOKE_REQUESTS if options.smoke else options.requests
    console, rng = Console(), random.Random(options.seed)
    quiet()
    sources = load_sources(rng)
    with tempfile.TemporaryDirectory(prefix="resunet-fuzz-") as name, gateway(Path(name)) as running:
        verdicts, mixed = Verdicts(sources, running.token), _mixed(rng, sources, running.token, count, options.seed)
        expected, started = running.get("/segment", sources[0]), time.monotonic()
        with Peak(running.process) as peak:
            _warm_up(running, rng, times=1 if options.smoke else 6)
            run(running, itertools.islice(mixed, count // 10), verdicts)
            warm = _at_rest(running, sources[0])
            run(running, mixed, verdicts)
        seconds = time.monotonic() - started
        checks = _checks(
            running, verdicts, warm, peak.mb, expected == _again(running, sources[0]), options.smoke, sources[0]
        )
    _print(console, verdicts, checks, f"{count:,} spoilt requests in {seconds:.0f} s, seed {options.seed}")
    return 0 if all(held for *_, held in checks) else 1


def _mixed(rng: random.Random, sources: Sequence[bytes], token: str, count: int, seed: int) -> Iterator[Sent]:
    """So many requests: good ones spoilt, and among them those of Hypothesis."""
    made = generated(round(count * SHARE_MADE), seed, sources, token)
    maker, turns = Requests(rng, sources, token), [True] * len(made) + [False] * (count - len(made))
    rng.shuffle(turns)
    return (made.pop() if turn else maker.make() for turn in turns)


def _warm_up(running: Gateway, rng: random.Random, times: int) -> None:
    sizes = [(WHOLE_SIDE, WHOLE_SIDE), (WHOLE_SIDE, WHOLE_SIDE - 200), (WHOLE_SIDE - 100, WHOLE_SIDE)]
    images = [Image.effect_noise(size, 50) for size in sizes * -(-times // 2)]
    bodies = [encode(image.convert("RGB"), "PNG", {}) for image in images] * min(times, 2)
    bodies += [giant(rng, b"")] * min(times, 2)

    def ask(body: bytes) -> None:
        with suppress(OSError):
            running.get("/segment", body)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(ask, bodies))


def _at_rest(running: Gateway, image: bytes) -> float:
    """Memory, MB, after the same image each time: an engine keeps what the last shape needed until another comes."""
    running.rests()
    for _ in range(3):
        _again(running, image)
    return running.memory_mb()


def _again(running: Gateway, image: bytes) -> bytes:
    with suppress(OSError):
        return running.get("/segment", image)
    return b""


def _checks(
    running: Gateway, verdicts: Verdicts, warm: float, peak: float, right: bool, smoke: bool, image: bytes
) -> list[tuple[str, str, str, bool]]:
    """What was looked at: its name, what was found, what it must be, and whether it is."""
    left, found = running.rests(), {name: len(cases) for name, cases in verdicts.found.items()}
    end = _at_rest(running, image)
    told = verdicts.leaks(running.log.read_bytes())
    verdicts.found["log"] = [repr(word) for word in told]
    must = [
        ("crashes", "0" if running.same else "1", "0: the same process, from the same start", running.same),
        ("the same mask afterwards", "yes" if right else "no", "yes", right),
        ("answers of 5xx but 503", str(found["failed"]), "0", not found["failed"]),
        ("good HTTP without an answer", str(found["unanswered"]), "0", not found["unanswered"]),
        ("connections that hung", str(found["hung"]), "0", not found["hung"]),
        ("requests, bytes held afterwards", f"{left[0]:.0f}, {left[1]:.0f}", "0, 0", left == (0, 0)),
        ("traces, secrets, images in answers", str(found["told"]), "0", not found["told"]),
        ("traces, secrets, images in the log", str(len(told)), "0", not told),
        ("memory at most", f"{peak:.0f} MB", f"≤ {MOST_PEAK_MB} MB", smoke or peak <= MOST_PEAK_MB),
    ]
    growth = end / warm
    words = f"{growth:.2f} × ({warm:.0f} → {end:.0f} MB)"
    # So few requests do not warm it up.
    must.append(("memory at the end / when warm", words, f"≤ {MOST_GROWTH} ×", smoke or growth <= MOST_GROWTH))
    return must


def _print(console: Console, verdicts: Verdicts, checks: Sequence[tuple[str, str, str, bool]], title: str) -> None:
    kinds = sorted({kind for kind, _ in verdicts.statuses})
    answers = Table("sent", "answers", title=title)
    for kind in kinds:
        counts = sorted((status, count) for (one, status), count in verdicts.statuses.items() if one == kind)
        answers.add_row(kind, ", ".join(f"{status}: {count}" for status, count in counts))
    console.print(answers)
    table = Table("", "found", "must be")
    for name, value, must, held in checks:
        table.add_row(name, value, f"{must} {'✓' if held else '✗'}")
    console.print(table)
    for name, cases in verdicts.found.items():
        for case in cases[:3]:
            console.print(f"{name}: {case}", style="red", markup=False)


if __name__ == "__main__":
    sys.exit(main())
