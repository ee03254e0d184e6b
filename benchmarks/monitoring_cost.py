"""What monitoring costs a prediction: descriptors, embedding, and the row that is appended to the spool.

    python -m benchmarks.monitoring_cost                    # about 6 minutes, most of them training
    python -m benchmarks.monitoring_cost --version made     # of `benchmarks.engine --keep made`
    python -m benchmarks.monitoring_cost --smoke

The scoring path of the servers (`serving.service`), in this process: a 256x256 PNG is decoded, predicted by a ResUNet
of width 32 on two cores, and answered as PNG. The peer is the same path over the same file without monitoring: the
graph has no embedding, no descriptors are computed, and nothing is appended. Between them stand the parts, one after
another. Each round measures all sides in turn; a ratio is that of the same round. Rows are brought to the database in
the background of a server, when it comes to it, and not here. Exits 1 where the median of a ratio is above what it may
be.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from unittest import mock

import numpy as np
import onnx
from onnx import helper, numpy_helper
from rich.console import Console
from rich.table import Table

import serving.predictor
from benchmarks.engine import PROBE, THREADS, copy_or_make, drawn
from benchmarks.gateway_scene import EXACT, INT8, make_versions
from benchmarks.rounds import interleave, ratios, spread
from benchmarks.serving import png_of
from pipelines.runs.tracking import quiet
from records.inference import InferenceLog
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS
from resunet.masks import encode_png
from serving.budget import WorkBudget
from serving.engine import choose_engine, open_engine
from serving.identity import Identity
from serving.logbook import Logbook
from serving.predictor import EMBEDDING_SIZE, Predictor
from serving.request import Options, Row
from serving.service import Call, Service
from serving.version import VersionSpec

MOST: Final = 1.08
ROUNDS, CALLS = 15, 20
BARE, EMBEDDED, DESCRIBED, WHOLE = "without monitoring", "+ embedding", "+ descriptors", "+ append: with monitoring"
# Rows wait in the spool longer than the benchmark lasts.
_NEVER_S: Final = 86_400.0
_IDENTITY: Final = Identity("resunet", "3", "sha256:" + 64 * "a")
Sides = dict[str, list[float]]


def without_embedding(path: Path, made: Path) -> None:
    """Copy a graph whose embedding is a constant: what computes it is gone, and whoever reads it sees no difference."""
    model = onnx.load(str(path))
    graph = model.graph
    zeros = numpy_helper.from_array(np.zeros((1, EMBEDDING_SIZE), np.float32), "no embedding")
    nodes = [node for node in graph.node if "embedding" not in node.output]
    # Only what a later node reads, or the graph gives, is still of use.
    while True:
        read = {name for node in nodes for name in node.input} | {"probabilities"}
        left = [node for node in nodes if read & set(node.output)]
        if len(left) == len(nodes):
            break
        nodes = left
    del graph.node[:]
    graph.node.extend([*nodes, helper.make_node("Constant", [], ["embedding"], value=zeros)])
    onnx.save(model, str(made))


@contextlib.contextmanager
def _no_descriptors() -> Iterator[None]:
    """While the block runs, a predictor describes nothing."""
    image, prediction = dict.fromkeys(IMAGE_DESCRIPTORS, 0.0), dict.fromkeys(PREDICTION_DESCRIPTORS, 0.0)
    with (
        mock.patch.object(serving.predictor, "describe_image", lambda rgb: image),
        mock.patch.object(serving.predictor, "describe_prediction", lambda *of: prediction),
    ):
        yield


def milliseconds(service: Service, png: bytes, calls: int, *, described: bool) -> Callable[[], float]:
    """Median wall time of an answer; the first two of each round only warm up."""
    counted = iter(range(sys.maxsize))

    def answer() -> None:
        row = Row(0, png, f"request-{next(counted)}", "lab-7", "modality=fluorescence")
        call = Call(Options(None, "png"), received=datetime.now(UTC))
        service.answer([row], call, lambda done: encode_png(done.prediction.mask))

    def measure() -> float:
        times = []
        with contextlib.nullcontext() if described else _no_descriptors():
            for _ in range(calls + 2):
                started = time.perf_counter()
                answer()
                times.append((time.perf_counter() - started) * 1000)
        return statistics.median(times[2:])

    return measure


def measure(root: Path, folder: Path, rounds: int, calls: int) -> Sides:
    """Milliseconds of an answer of a version, by side."""
    spec, png = VersionSpec.read(root), png_of(drawn(PROBE)[0])
    cut = folder / "without embedding.onnx"
    without_embedding(root / spec.serving_file, cut)
    name = choose_engine(spec)
    bare, whole = (
        Predictor(spec, open_engine(name, path, spec.precision, THREADS)) for path in (cut, root / spec.serving_file)
    )
    log = InferenceLog.open(f"sqlite:///{folder / 'log.db'}", folder / "home", drain_interval_s=_NEVER_S)
    try:
        budget = WorkBudget(threads=6, wait_s=30)
        plain, logged = Service(whole, _IDENTITY, budget), Service(whole, _IDENTITY, budget, Logbook(log, _IDENTITY))
        sides = {
            BARE: milliseconds(Service(bare, _IDENTITY, budget), png, calls, described=False),
            EMBEDDED: milliseconds(plain, png, calls, described=False),
            DESCRIBED: milliseconds(plain, png, calls, described=True),
            WHOLE: milliseconds(logged, png, calls, described=True),
        }
        return interleave(sides, rounds)
    finally:
        log.close()


def print_table(measured: Mapping[str, Sides], title: str, console: Console) -> bool:
    """Print what was measured of each version, and return whether the ratios are what they must be."""
    table = Table("", "median (smallest … largest)", "must be", title=title)
    held = True
    for model, sides in measured.items():
        for name, values in sides.items():
            table.add_row(f"{model}: {name}", f"{spread(values)} ms", "")
        found = ratios(sides, WHOLE, BARE)
        kept = statistics.median(found) <= MOST
        held = held and kept
        table.add_row(f"{model}: with / without", f"{spread(found, 3)} ×", f"≤ {MOST:.2f} × {'✓' if kept else '✗'}")
        table.add_section()
    console.print(table)
    return held


def main(given: Sequence[str] | None = None) -> int:
    """Measure both precisions and say whether the figure holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a short run that shows that it works; proves nothing")
    parser.add_argument("--version", type=Path, help="folder of a version that `benchmarks.engine --keep` made")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(given)
    quiet()
    rounds, calls = (1, 3) if options.smoke else (options.rounds, CALLS)
    with tempfile.TemporaryDirectory(prefix="resunet-benchmark-") as name:
        folder = Path(name)
        made = copy_or_make(folder / "made", options.version, smoke=options.smoke)
        versions = make_versions(made.root, folder)
        measured: dict[str, Sides] = {}
        for model in (EXACT, INT8):
            home = folder / f"{model} log"
            home.mkdir()
            [root] = versions[model]
            measured[f"{model} ({VersionSpec.read(root).precision})"] = measure(root, home, rounds, calls)
    title = f"One 256x256 PNG, width {made.spec.width}, {THREADS} threads, {rounds} rounds"
    held = print_table(measured, title, Console())
    return 0 if held or options.smoke else 1


if __name__ == "__main__":
    sys.exit(main())
