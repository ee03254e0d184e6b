"""The gateway against the bare engine, against other servers of models, and through swaps of its version.

    python -m benchmarks.gateway             # about an hour: 50,000 requests and 50 swaps
    python -m benchmarks.gateway --rounds 5 --requests 2000 --early 500 --swaps 20
    python -m benchmarks.gateway --smoke
    python -m benchmarks.peers.environments litserve bentoml mlserver ray       # to have them measured too

256x256 PNGs, one version of width 32 in bf16 (fp32 where the processor has none) and in int8, the inference log on. The
bare loop decodes, infers, describes and encodes in this process, one image after the other, or a batch at a time. All
servers are up; one at a time is asked, in turn, by clients in a process of their own (`benchmarks.gateway_clients` says
how their CPU time is set apart). A ratio is that of the same round. Against `mlflow models serve` and the peers (see
`benchmarks.peers`), which do the same work with the same engine, counts whether the 95 % interval of the ratio (of its
logarithm, by Student's t) reaches 0.97; and against the peers with the network in torch, whether it is twice.
"""

import argparse
import contextlib
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from benchmarks.engine import PROBE, copy_or_make, drawn
from benchmarks.gateway_bare import Bare
from benchmarks.gateway_clients import Ask, Asked, ask, clients
from benchmarks.gateway_scene import EXACT, INT8, SWAPPED, Scene, make_versions
from benchmarks.gateway_shadow import PLAIN, SHADOWED, shadow_costs
from benchmarks.gateway_swaps import Swapping
from benchmarks.peers.environments import PEERS, installed, running
from benchmarks.rounds import interleave, ratios, spread
from benchmarks.serving import png_of, write_png
from pipelines.runs.tracking import quiet
from serving.engine import available_cores
from serving.predictor import Predictor

CLIENTS = 8
LEAST_AGAINST_PEERS = 0.97
# Of the gateway's time to the bare loop's at one client, and of its rate to the bare loop's best at eight.
MOST_TIME = {EXACT: 1.10, INT8: 1.20}
LEAST_RATE = {EXACT: 0.95, INT8: 0.85}
MOST_START_SECONDS = 3.0
MOST_MEMORY = 1.1
MOST_ALIKE = 0.99  # of the pixels of the masks of two versions that are swapped
BATCHES = (1, 2, 4, 8)
MOST_LOAD = 1.0
PNG = png_of(drawn(PROBE)[0])
SEGMENT, INVOCATIONS = "/segment", "/invocations"
Sides = Mapping[str, Sequence[float]]

LEAST_AGAINST_TORCH = 2.0


def asks(url: str, path: str) -> Ask:
    """The image, as a route wants it."""
    if path == SEGMENT:
        return Ask(url, path, PNG, {"Content-Type": "image/png"})
    return Ask(url, path, write_png(PNG), {"Content-Type": "application/json"})


class Figures:
    """The table that grows, and whether everything in it is as it must be."""

    def __init__(self, title: str) -> None:
        self.held = True
        self._table = Table("", "median (smallest … largest)", "must be", title=title)

    def told(self, name: str, words: str, must: str = "", holds: bool = True) -> None:
        """A row; without `must` nothing is asked of it."""
        self.held = self.held and holds
        asked = f"{must} {'✓' if holds else '✗'}" if must else ""
        self._table.add_row(name, words, asked)
        print(name, words, asked, file=sys.stderr, flush=True)  # of a run that is cut short something is left

    def ratio(self, measured: Sides, over: str, under: str, *, most: float = math.inf, least: float = 0.0) -> None:
        """The ratio of two sides, whose median has its bounds."""
        found = ratios(measured, over, under)
        must = f"≤ {most:.2f} ×" if least == 0.0 else f"≥ {least:.2f} ×"
        self.told(f"{over} / {under}", f"{spread(found)} ×", must, least <= statistics.median(found) <= most)

    def interval(self, measured: Sides, over: str, under: str) -> None:
        """The ratio of two sides, whose 95 % interval has to reach what peers are measured at."""
        logs = np.log(ratios(measured, over, under))
        reach = float(student.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / len(logs) ** 0.5) if len(logs) > 1 else 0.0
        low, high = math.exp(logs.mean() - reach), math.exp(logs.mean() + reach)
        words = f"{math.exp(logs.mean()):.2f} × (95 %: {low:.2f} … {high:.2f})"
        self.told(f"{over} / {under}", words, f"reaches {LEAST_AGAINST_PEERS}", high >= LEAST_AGAINST_PEERS)

    def print(self, console: Console) -> None:
        """All of it."""
        console.print(self._table)


def one_client(
    roots: Mapping[str, Path], up: Mapping[str, Ask], pool: ProcessPoolExecutor, rounds: int, requests: int
) -> dict[str, list[float]]:
    """Median latencies, ms, of the bare loop of each version and of every server."""
    sides: dict[str, Callable[[], float]] = {}
    for model, root in roots.items():
        sides[f"{model}: bare loop"] = _p50(Bare(Predictor.load(root), PNG), requests)
    for name, what in up.items():
        sides[name] = _asked(pool, what, 1, requests, lambda asked: asked.p50_ms)
    return interleave(sides, rounds)


def eight_clients(
    roots: Mapping[str, Path], up: Mapping[str, Ask], pool: ProcessPoolExecutor, rounds: int, requests: int
) -> dict[str, list[float]]:
    """Requests a second, the clients' CPU set apart, and images a second of the bare loop at its best batch."""
    raw: list[str] = []
    sides: dict[str, Callable[[], float]] = {}
    for model, root in roots.items():
        bare = Bare(Predictor.load(root), PNG)
        for batch in BATCHES:
            sides[f"{model}: bare loop, batch {batch}"] = _rate(bare, batch, requests)
    cores = available_cores()
    for name, what in up.items():

        def apart(asked: Asked, name: str = name) -> float:
            raw.append(f"{name}: {asked.rate:.1f}/s with the clients' {asked.clients_cpu / asked.wall:.0%} of a core")
            return asked.rate_apart(cores)

        sides[name] = _asked(pool, what, CLIENTS, max(1, requests // CLIENTS), apart)
    measured = interleave(sides, rounds)
    for model in roots:
        # By its median: the best of every round would be the luck of that round.
        best = max(
            (f"{model}: bare loop, batch {batch}" for batch in BATCHES), key=lambda n: statistics.median(measured[n])
        )
        measured[f"{model}: bare loop, best batch"] = measured[best]
    print("\n".join(raw), file=sys.stderr)
    return measured


def _p50(bare: Bare, images: int) -> Callable[[], float]:
    return lambda: bare.p50_ms(images)


def _rate(bare: Bare, batch: int, images: int) -> Callable[[], float]:
    return lambda: bare.rate(batch, images)


def _asked(
    pool: ProcessPoolExecutor, what: Ask, count: int, requests: int, read: Callable[[Asked], float]
) -> Callable[[], float]:
    return lambda: read(pool.submit(ask, what, count, requests).result())


def swaps_and_memory(scene: Scene, roots: Sequence[Path], options: argparse.Namespace, figures: Figures) -> None:
    """Rows (d) and (f)."""
    rgb = drawn(PROBE)[0]
    masks = {str(number): Predictor.load(root).predict(rgb).mask for number, root in enumerate(roots, 1)}
    if float((masks["1"] == masks["2"]).mean()) > MOST_ALIKE:
        raise RuntimeError("the two versions have the same mask: a wrong answer could not be told")
    with scene.gateway(SWAPPED, asks("", SEGMENT)) as gateway:
        swapping = Swapping(asks(gateway.url, SEGMENT), CLIENTS, lambda version: scene.promote(SWAPPED, version), masks)
        pause = max(1.0, options.requests / 5)  # five a second is slow, even for a busy machine
        with swapping.asking():
            swapping.until(lambda: swapping.answered >= options.early, pause)
        early = gateway.memory_mb()
        with swapping.asking():
            for number in range(1, options.swaps + 1):
                swapping.swap(number)
                share = options.early + (options.requests - options.early) * number // options.swaps
                swapping.until(lambda share=share: swapping.answered >= share, pause)  # type: ignore[misc]
        late = gateway.memory_mb()
    told = f"{len(swapping.wrong)} of {swapping.answered:,}"
    if swapping.wrong:
        told += f" ({', '.join(sorted(set(swapping.wrong))[:3])})"
    figures.told(f"failed or wrong, {CLIENTS} clients, {options.swaps} swaps", told, "0", not swapping.wrong)
    figures.told(f"memory after {options.early:,} requests", f"{early:.0f} MB")
    name = f"memory after {swapping.answered:,} and {options.swaps} swaps / after {options.early:,}"
    figures.told(name, f"{late / early:.2f} × ({late:.0f} MB)", f"≤ {MOST_MEMORY} ×", late / early <= MOST_MEMORY)


def measure(scene: Scene, versions: Mapping[str, list[Path]], options: argparse.Namespace, figures: Figures) -> None:
    """Rows (a) to (c), (e), and then those of the swaps."""
    roots = {model: versions[model][0] for model in (EXACT, INT8) if model in versions}
    starts: list[float] = []
    for _ in range(1 + options.rounds):  # the first start fetches the version
        with scene.gateway(EXACT, asks("", SEGMENT)) as gateway:
            starts.append(gateway.first_answer)
    slow = statistics.median(starts[1:])
    words = f"{spread(starts[1:])} s; fetched first: {starts[0]:.2f} s"
    figures.told(
        "start to first answer, version cached", words, f"< {MOST_START_SECONDS:g} s", slow < MOST_START_SECONDS
    )
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(clients())
        up: dict[str, Ask] = {}
        for model in roots:
            gateway = stack.enter_context(scene.gateway(model, asks("", SEGMENT)))
            served = stack.enter_context(scene.scoring(model))
            up[f"{model}: {SEGMENT}"] = asks(gateway.url, SEGMENT)
            up[f"{model}: {INVOCATIONS}"] = asks(gateway.url, INVOCATIONS)
            up[f"{model}: models serve"] = asks(served, INVOCATIONS)
            for peer in options.peers:
                folder = scene.folder / f"{model} {peer}"
                up[f"{model}: {peer}"] = stack.enter_context(running(peer, roots[model], folder, PNG))
        for peer in options.peers:
            folder = scene.folder / f"torch {peer}"
            up[f"torch: {peer}"] = stack.enter_context(running(peer, roots[EXACT], folder, PNG, torch=True))
        one, many = shadow_costs(scene, pool, lambda url: asks(url, SEGMENT), options.rounds, options.each, CLIENTS)
        alone = one_client(roots, up, pool, options.rounds, options.each)
        together = eight_clients(roots, up, pool, options.rounds, 2 * options.each)
    peers = ("models serve", *options.peers)
    for unit, measured in (("ms, 1 client", alone), (f"a second, {CLIENTS} clients", together)):
        for name, values in measured.items():
            figures.told(f"{name}, {unit}", spread(values, 1))
    for model in roots:
        for path in (SEGMENT, INVOCATIONS):
            figures.ratio(alone, f"{model}: {path}", f"{model}: bare loop", most=MOST_TIME[model])
        for path in (SEGMENT, INVOCATIONS):
            figures.ratio(together, f"{model}: {path}", f"{model}: bare loop, best batch", least=LEAST_RATE[model])
        for peer in peers:
            figures.told("", f"{model}: speed of one client, then rate of {CLIENTS}")
            figures.interval(alone, f"{model}: {peer}", f"{model}: {INVOCATIONS}")
            figures.interval(together, f"{model}: {INVOCATIONS}", f"{model}: {peer}")
    for peer in options.peers:
        figures.told("", f"{peer} in torch's eager mode: speed of one client, then rate of {CLIENTS}")
        ours = f"{EXACT}: {INVOCATIONS}"
        figures.ratio(alone, f"torch: {peer}", ours, least=LEAST_AGAINST_TORCH)
        figures.ratio(together, ours, f"torch: {peer}", least=LEAST_AGAINST_TORCH)
    for unit, measured in (("ms, 1 client", one), (f"a second, {CLIENTS} clients", many)):
        for name, values in measured.items():
            figures.told(f"{name}, {unit}", spread(values, 1))
    figures.told(f"{SHADOWED} / {PLAIN}: latency", f"{spread(ratios(one, SHADOWED, PLAIN))} ×")
    figures.told(f"{SHADOWED} / {PLAIN}: rate", f"{spread(ratios(many, SHADOWED, PLAIN))} ×")
    if not options.peers:
        figures.told("peers", f"not measured: `python -m benchmarks.peers.environments {' '.join(PEERS)}`")
    swaps_and_memory(scene, versions[SWAPPED], options, figures)


def main(given: Sequence[str] | None = None) -> int:
    """Measure and say whether the figures hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a short run that shows that it works; proves nothing")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (7)")
    parser.add_argument("--each", type=int, default=40, help="requests of one client a round (40); of eight, twice it")
    parser.add_argument("--requests", type=int, default=50_000, help="until memory is measured again (50000)")
    parser.add_argument("--early", type=int, default=1_000, help="until it is measured first (1000)")
    parser.add_argument("--swaps", type=int, default=50, help="of the version, meanwhile (50)")
    parser.add_argument("--version", type=Path, help="a folder of benchmarks.engine --keep; else one is made")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), help="other servers (all that are installed)")
    options = parser.parse_args(given)
    if options.peers is None:
        options.peers = [] if options.smoke else installed()
    if options.smoke:
        options.rounds, options.each, options.requests, options.early, options.swaps = 1, 2, 60, 20, 2
    console = Console()
    quiet()
    with tempfile.TemporaryDirectory(prefix="resunet-benchmark-") as name:
        folder = Path(name)
        versions = make_versions(copy_or_make(folder / "made", options.version, smoke=options.smoke).root, folder)
        if options.smoke:
            del versions[INT8]
        width = Predictor.load(versions[EXACT][0]).spec
        figures = Figures(
            f"Gateway, 256x256 PNG, width {width.width}, {width.precision} and int8, {options.rounds} rounds"
        )
        load = psutil.getloadavg()[0]
        with Scene.up(folder, versions) as scene:
            measure(scene, versions, options, figures)
    figures.print(console)
    console.print(f"load of the machine, 1 minute's mean: {load:.1f} before, {psutil.getloadavg()[0]:.1f} at the end")
    if load > MOST_LOAD:
        console.print("others used the machine: times and their ratios prove nothing, ✓ as little as ✗", style="red")
    return 0 if figures.held or options.smoke else 1


if __name__ == "__main__":
    sys.exit(main())
