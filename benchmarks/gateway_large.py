"""One image of 10,000 x 10,000 RGB through the gateway: its time against that of its tiles alone, and its memory.

    python -m benchmarks.gateway_large                  # some minutes a round
    python -m benchmarks.gateway_large --smoke

The tiles alone are the engine's runs, one after the other in this process, on what each tile reads: nothing is decoded,
put together or encoded. Memory is the most that the gateway's process ever held (VmHWM), its imports included.
"""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.engine import PROBE, copy_or_make, drawn
from benchmarks.gateway_clients import Ask
from benchmarks.gateway_scene import EXACT, Scene, make_exact
from benchmarks.rounds import interleave, ratios, spread
from benchmarks.serving import png_of
from pipelines.runs.tracking import quiet
from pipelines.version.export import tile_spec
from resunet.images import MIN_SIDE
from resunet.networks import build_network
from resunet.tiling import tiles
from serving.golden import make_golden
from serving.predictor import Predictor
from serving.version import VersionSpec

SIDE, SMOKE_SIDE = 10_000, 1_200
MOST_TIME, MOST_MB = 1.2, 1_500.0


def drawing(side: int) -> NDArray[np.uint8]:
    """(side, side, 3) uint8, of synthetic images beside each other."""
    pieces = [drawn(PROBE + index)[0] for index in range(4)]
    block = np.vstack([np.hstack(pieces[:2]), np.hstack(pieces[2:])])
    times = -(-side // block.shape[0])
    return np.ascontiguousarray(np.tile(block, (times, times, 1))[:side, :side])


def tiles_alone(predictor: Predictor, image: NDArray[np.uint8]) -> Callable[[], float]:
    """Seconds of the engine's runs on what the image's tiles read."""
    spec = predictor.spec.tile
    height, width = image.shape[:2]
    windows = tiles(height, width, spec.core, max(spec.halo, MIN_SIDE), spec.stride)

    def measure() -> float:
        started = time.perf_counter()
        for tile in windows:
            predictor.engine.run(np.ascontiguousarray(image[tile.read])[None])
        return time.perf_counter() - started

    return measure


def answered(what: Ask) -> Callable[[], float]:
    """Seconds from the request's first byte to the mask's last."""

    def measure() -> float:
        with what.connect() as connection:
            started = time.perf_counter()
            response, body = what.once(connection)
            if response.status != 200:
                raise RuntimeError(f"the gateway answered {response.status}: {body[:300]!r}")
            return time.perf_counter() - started

    return measure


def most_mb(pid: int) -> float:
    """The most memory that a process ever held, MB of 10^6 bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else float("nan")


def main(given: Sequence[str] | None = None) -> int:
    """Measure and say whether the figures hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a short run that shows that it works; proves nothing")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (3)")
    parser.add_argument("--version", type=Path, help="a folder of benchmarks.engine --keep; else one is made")
    options = parser.parse_args(given)
    side, rounds = (SMOKE_SIDE, 1) if options.smoke else (SIDE, options.rounds)
    quiet()
    with tempfile.TemporaryDirectory(prefix="resunet-benchmark-") as name:
        folder = Path(name)
        root = make_exact(copy_or_make(folder / "made", options.version, smoke=options.smoke).root, folder)
        spec = VersionSpec.read(root)
        network = build_network(spec.architecture, spec.width)
        spec.model_copy(update={"tile": tile_spec(network)}).write(root)
        make_golden(Predictor.load(root), root, drawn(0)[0])
        image, predictor, load = drawing(side), Predictor.load(root), psutil.getloadavg()[0]
        small = Ask("", "/segment", png_of(drawn(PROBE)[0]), {"Content-Type": "image/png"})
        with (
            Scene.up(folder, {EXACT: [root]}) as scene,
            scene.gateway(EXACT, small, RESUNET_GATEWAY_REQUEST_SECONDS="600") as gateway,
        ):
            before = gateway.memory_mb()
            large = Ask(gateway.url, "/segment", png_of(image), small.headers)
            sides = {"gateway": answered(large), "its tiles": tiles_alone(predictor, image)}
            measured = interleave(sides, rounds)
            most = most_mb(gateway.process.pid)
    factor = ratios(measured, "gateway", "its tiles")
    in_time, in_memory = sorted(factor)[len(factor) // 2] <= MOST_TIME, most <= MOST_MB
    table = Table("", "median (smallest … largest)", "must be", title=f"{side:,} x {side:,} RGB, width {spec.width}")
    for each, values in measured.items():
        table.add_row(each, f"{spread(values, 1)} s", "")
    table.add_row("gateway / its tiles", f"{spread(factor)} ×", f"≤ {MOST_TIME} × {'✓' if in_time else '✗'}")
    table.add_row("memory at most", f"{most:.0f} MB", f"≤ {MOST_MB:.0f} MB {'✓' if in_memory else '✗'}")
    table.add_row("memory before", f"{before:.0f} MB", "")
    console = Console()
    console.print(table)
    console.print(f"load of the machine, 1 minute's mean, before: {load:.1f}")
    return 0 if options.smoke or (in_time and in_memory) else 1


if __name__ == "__main__":
    sys.exit(main())
