"""One 256x256 image through the engine that serves, against the same network in torch.

    python -m benchmarks.engine              # about 4 minutes, most of them training
    python -m benchmarks.engine --keep made   # for --version of the benchmarks that ask a server
    python -m benchmarks.engine --smoke

A ResUNet of width 32 is trained on synthetic nuclei until its masks are firm, exported and quantised; its serving
file is chosen as that of any version. The peers run the trained network under `inference_mode`: in plain fp32, and
in channels_last under bf16 autocast. Every side takes the same bytes of pixels, gives probabilities and embedding
as numpy arrays, and computes on two cores.
"""

import argparse
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from safetensors.torch import load_model

from benchmarks.rounds import interleave, print_comparison
from pipelines.data.labelled import LabelledImage
from pipelines.data.synthetic import Knobs, draw
from pipelines.runs.tracking import quiet
from pipelines.training.batches import SampleStore
from pipelines.training.fit import fit
from pipelines.training.settings import FitSettings
from pipelines.version.export import export_graph, export_weights
from pipelines.version.quantise import INT8_FILE, quantise
from pipelines.version.serving_file import ServingChoice, choose_serving_file
from resunet.networks import SegmentationNetwork, build_network
from resunet.networks.graph import ServingGraph
from serving.engine import OnnxRuntimeEngine, choose_engine, open_engine
from serving.golden import make_golden
from serving.predictor import Predictor
from serving.version import GRAPH_FILE, WEIGHTS_FILE, Calibration, TileSpec, VersionSpec

WIDTH, SIDE, THREADS = 32, 256, 2
STEPS, SMOKE_STEPS, SMOKE_WIDTH = 120, 12, 8
TRAINING_IMAGES, SMOKE_IMAGES = 48, 6
PROBE = 1000  # number of the drawn image that is timed; never trained on

Run = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True)
class MadeVersion:
    """A version's folder that can be served, the network it was made from, and what was measured where it was made."""

    root: Path
    network: SegmentationNetwork
    spec: VersionSpec
    choice: ServingChoice | None = None


def drawn(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Synthetic image `index`, (256, 256, 3) uint8, and its mask."""
    rgb, mask = draw(np.random.default_rng((0, index)), Knobs(size=(SIDE, SIDE)))
    return rgb.copy(), mask  # torch warns of arrays that cannot be written to


def copy_or_make(root: Path, made: Path | None, *, smoke: bool) -> MadeVersion:
    """A version in a new folder: a copy of one that was made earlier, else one that is made now."""
    if made is None:
        root.mkdir(parents=True)
        return make_version(root, smoke=smoke)
    shutil.copytree(made, root)
    spec = VersionSpec.read(root)
    network = build_network(spec.architecture, spec.width).eval()
    load_model(network, root / WEIGHTS_FILE)
    return MadeVersion(root, network, spec)


def make_version(root: Path, *, smoke: bool) -> MadeVersion:
    """Train briefly and write all that serving reads.

    Args:
        root: empty folder.
        smoke: a small network, hardly trained.
    """
    width, steps, count = (SMOKE_WIDTH, SMOKE_STEPS, SMOKE_IMAGES) if smoke else (WIDTH, STEPS, TRAINING_IMAGES)
    # In a process of its own: `fit` tells the allocator to keep freed memory, which no peer here would have.
    training = multiprocessing.get_context("spawn").Process(
        target=_train, args=(root / WEIGHTS_FILE, width, steps, count)
    )
    training.start()
    training.join()
    if training.exitcode != 0:
        raise RuntimeError(f"training ended with exit code {training.exitcode}")
    network = build_network("resunet", width).eval()
    load_model(network, root / WEIGHTS_FILE)
    fp32, int8 = root / GRAPH_FILE, root / INT8_FILE
    export_graph(network, 1, fp32)
    quantise(fp32, int8, (drawn(index)[0] for index in range(count)))
    held_out = range(count, count + count // 3)
    images = [LabelledImage(str(index), None, {}, *drawn(index)) for index in held_out]
    choice = choose_serving_file(network, 1, images, fp32=fp32, int8=int8, threads=THREADS)
    spec = VersionSpec(
        architecture="resunet",
        width=width,
        class_names=["nucleus"],
        serving_file=choice.path.name,
        precision=choice.precision,
        tile=TileSpec(tileable=False, halo=0, stride=network.stride, core=512, whole_side=1024),
        calibration=Calibration(
            temperature=1, confidence_x=[0, 1], confidence_y=[0, 1], conformal_halfwidth=1, images=0
        ),
        engines=choice.engines,
    )
    spec.write(root)
    make_golden(Predictor.load(root), root, images[0].rgb)
    return MadeVersion(root, network, spec, choice)


def _train(weights: Path, width: int, steps: int, count: int) -> None:
    quiet()
    store = SampleStore(drawn, [4 * SIDE * SIDE] * count, 1 << 30)
    store.warm()
    settings = FitSettings.checked(width=width, crop=160, max_steps=steps, evaluations=1)
    export_weights(fit(settings, store, [drawn(count)]).network, weights)


def in_torch(network: SegmentationNetwork, *, bf16: bool = False, channels_last: bool = False) -> Run:
    """The network as torch runs it: fp32 or bf16 autocast, in the default memory format or in channels_last."""
    graph = ServingGraph(network, 1).eval()
    if channels_last:
        graph.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from torch's stubs

    def run(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            pixels = torch.from_numpy(images)
            if not channels_last:
                # The same values and shape; the graph's own permutation then gives torch's default format.
                pixels = pixels.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
            probabilities, embedding = graph(pixels)
        return probabilities.float().numpy(), embedding.float().numpy()

    return run


def milliseconds(run: Run, image: NDArray[np.uint8], calls: int) -> Callable[[], float]:
    """Median wall time of a call; the first two of each round only warm up."""

    def measure() -> float:
        times = []
        for _ in range(calls + 2):
            started = time.perf_counter()
            run(image)
            times.append((time.perf_counter() - started) * 1000)
        return statistics.median(times[2:])

    return measure


def print_choice(made: MadeVersion, console: Console) -> None:
    """Say which file serves, and why no other does."""
    spec = made.spec
    engine = choose_engine(spec)
    console.print(f"serving file: {spec.serving_file}, {spec.precision}, on {engine}")
    for c in made.choice.candidates if made.choice else ():
        masks = (
            f"Dice {c.dice:.4f}, {c.pixel_agreement:.4%} of pixels as torch fp32, worst mask {c.lowest_mask_dice:.3f}"
        )
        console.print(f"  {c.precision} {c.engine}: {c.latency_ms:.1f} ms, {masks} {c.refused and '✗ ' + c.refused}")


def main(given: Sequence[str] | None = None) -> int:
    """Measure and say whether the figures hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a short run that shows that it works; proves nothing")
    parser.add_argument("--keep", type=Path, help="a new folder that the version stays in")
    options = parser.parse_args(given)
    rounds, calls = (1, 2) if options.smoke else (9, 20)
    console = Console()
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory(prefix="resunet-benchmark-") as folder:
        made = copy_or_make(options.keep or Path(folder) / "made", None, smoke=options.smoke)
        print_choice(made, console)
        spec = made.spec
        serving = open_engine(choose_engine(spec), made.root / spec.serving_file, spec.precision, THREADS)
        runs: dict[str, Run] = {
            "ours": serving.run,
            "torch fp32": in_torch(made.network),
            "torch fp32 channels_last": in_torch(made.network, channels_last=True),
            "torch bf16": in_torch(made.network, bf16=True, channels_last=True),
            "ONNX Runtime fp32": OnnxRuntimeEngine(made.root / GRAPH_FILE, THREADS).run,
        }
        image = drawn(PROBE)[0][None]
        measured = interleave({name: milliseconds(run, image, calls) for name, run in runs.items()}, rounds)
    held = print_comparison(
        f"One {SIDE}x{SIDE} image, width {spec.width}, {THREADS} threads; ours: {serving.name} {spec.precision}",
        measured,
        "ms",
        [("torch fp32", "ours", 3.5), ("torch bf16", "ours", 1.1)],
        console,
    )
    return 0 if held or options.smoke else 1


if __name__ == "__main__":
    sys.exit(main())
