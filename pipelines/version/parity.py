"""How far the masks of an engine are from those of the trained network, image by image.

    runners = open_runners(network, classes, fp32=root / "model.onnx", int8=…)
    measure(runners, torch_predictor(network, classes), images)
    runners[0].tally.dice, runners[0].tally.lowest_mask_dice

Masks are made by the `Predictor`, so a large image is cut as it will be when it is served.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.version.export import tile_spec
from resunet.metrics import dice
from resunet.networks import SegmentationNetwork
from resunet.networks.graph import ServingGraph
from serving.engine import Engine, Output, has_bf16, is_installed, open_engine
from serving.predictor import Predictor
from serving.version import Calibration, EngineName, Precision, VersionSpec

Mask = NDArray[np.uint8]
Pixels = tuple[NDArray[np.uint8], Mask]

UNCALIBRATED: Final = Calibration(
    temperature=1, confidence_x=[0, 1], confidence_y=[0, 1], conformal_halfwidth=1, images=0
)
_ROUNDS: Final = 6
_BURST: Final = 6
_WARM_UP: Final = 3
_PROBE_SIDE: Final = 256


@dataclass
class Tally:
    """What the images so far say of an engine.

    Attributes:
        images, pixels: how many were compared.
        dice_sum: of the engine's masks with the truth; `network_sum` the same of torch fp32's.
        equal: pixels whose class is torch fp32's; `equal_to_ort` those whose class is ONNX Runtime's on the same file.
        lowest_mask_dice: of the image on which the mask and torch fp32's agree least.
    """

    images: int = 0
    pixels: int = 0
    dice_sum: float = 0.0
    network_sum: float = 0.0
    equal: int = 0
    equal_to_ort: int = 0
    lowest_mask_dice: float = 1.0

    def add(self, mask: Mask, truth: Mask, reference: Mask, of_ort: Mask, network_dice: float) -> None:
        """Count one image."""
        self.images += 1
        self.pixels += mask.size
        self.dice_sum += dice(mask, truth)
        self.network_sum += network_dice
        self.equal += int(np.count_nonzero(mask == reference))
        self.equal_to_ort += int(np.count_nonzero(mask == of_ort))
        self.lowest_mask_dice = min(self.lowest_mask_dice, dice(mask, reference))

    @property
    def dice(self) -> float:
        return self.dice_sum / self.images

    @property
    def network_dice(self) -> float:
        return self.network_sum / self.images

    @property
    def pixel_agreement(self) -> float:
        return self.equal / self.pixels

    @property
    def engine_agreement(self) -> float:
        return self.equal_to_ort / self.pixels


@dataclass
class Runner:
    """One engine on one file."""

    precision: Precision
    predictor: Predictor
    times: list[float] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    @property
    def engine(self) -> Engine:
        return self.predictor.engine

    @property
    def file(self) -> Precision:
        """The precision of the file itself: bf16 runs the fp32 one."""
        return "int8" if self.precision == "int8" else "fp32"


def open_runners(
    network: SegmentationNetwork, classes: int, *, fp32: Path, int8: Path | None, threshold: float, threads: int | None
) -> list[Runner]:
    """Every engine that is installed on every file; ONNX Runtime comes before others on its file."""
    wanted: list[tuple[Path, Precision, EngineName]] = [
        (fp32, "fp32", "onnxruntime"),
        (fp32, "fp32", "openvino"),
    ]
    if has_bf16():
        wanted.append((fp32, "bf16", "openvino"))
    if int8 is not None:
        wanted += [(int8, "int8", "onnxruntime"), (int8, "int8", "openvino")]
    return [
        Runner(precision, _predictor(network, classes, threshold, open_engine(name, path, precision, threads)))
        for path, precision, name in wanted
        if is_installed(name)
    ]


def torch_predictor(network: SegmentationNetwork, classes: int, threshold: float) -> Predictor:
    """The trained network in torch fp32, which every engine is held against."""
    return _predictor(network, classes, threshold, _TorchEngine(network, classes))


class _TorchEngine:
    # An engine's name is one of those that serve; this one never does.
    name: Any = "torch"

    def __init__(self, network: SegmentationNetwork, classes: int) -> None:
        self._graph = ServingGraph(network.eval().cpu(), classes).eval()

    def run(self, images: NDArray[np.uint8]) -> Output:
        with torch.inference_mode():
            probabilities, embedding = self._graph(torch.from_numpy(images))
        return probabilities.numpy(), embedding.numpy()


def _predictor(network: SegmentationNetwork, classes: int, threshold: float, engine: Engine) -> Predictor:
    spec = VersionSpec(
        architecture=type(network).__name__,
        width=1,
        class_names=[str(index) for index in range(classes)],
        precision="fp32",
        threshold=threshold,
        tile=tile_spec(network),
        calibration=UNCALIBRATED,
        engines={},
    )
    return Predictor(spec, engine)


def measure(
    runners: Sequence[Runner],
    reference: Predictor,
    images: Iterable[Pixels],
    advance: Callable[[int], None] = lambda done: None,
) -> None:
    """Run every engine and torch on images, and count.

    Args:
        runners: with ONNX Runtime on each file that another engine is given.
        reference: torch fp32.
        images: (H, W, 3) uint8 with (H, W) class indices.
        advance: told how many images were done.
    """
    for rgb, truth in images:
        exact = class_mask(reference, rgb)
        network_dice = dice(exact, truth)
        masks = [class_mask(runner.predictor, rgb) for runner in runners]
        for runner, mask in zip(runners, masks, strict=True):
            of_ort = next(
                other
                for one, other in zip(runners, masks, strict=True)
                if one.engine.name == "onnxruntime" and one.precision == runner.file
            )
            runner.tally.add(mask, truth, exact, of_ort, network_dice)
        advance(1)


def class_mask(predictor: Predictor, rgb: NDArray[np.uint8]) -> Mask:
    """(H, W) class indices, by the rule of `Predictor.predict`, without all else that it works out."""
    mask = np.empty(rgb.shape[:2], np.uint8)
    for tile, probabilities in predictor.by_tile(rgb):
        if predictor.spec.binary:
            mask[tile.keep] = probabilities[0] >= predictor.spec.threshold
        else:
            mask[tile.keep] = probabilities.argmax(axis=0)
    return mask


def time_side_by_side(runners: Sequence[Runner]) -> None:
    """Time all on one image, round by round, so that a busy machine is busy for all.

    The first calls of a burst are not counted: the threads of the engine before spin on for a while (timed call by
    call, OpenVINO's int8 after ONNX Runtime's seemed to take 32 ms instead of 18). Every second round is reversed.
    """
    probe = np.random.default_rng(0).integers(0, 256, (1, _PROBE_SIDE, _PROBE_SIDE, 3), dtype=np.uint8)
    for number in range(_ROUNDS):
        for runner in runners if number % 2 == 0 else reversed(runners):
            for call in range(_BURST):
                started = time.perf_counter()
                runner.engine.run(probe)
                if call >= _WARM_UP:
                    runner.times.append((time.perf_counter() - started) * 1000)
