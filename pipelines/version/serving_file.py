"""Which file serves, in which precision, and on which engines: decided by measurement where a version is made.

    images = LabelledImages(over_slices(data.split("validation")))
    choice = choose_serving_file(network, 1, images, fp32=root / "model.onnx", int8=…)
    choice.path, choice.precision, choice.engines

fp32 may always serve; bf16 (the fp32 file, run by OpenVINO in bf16) where its masks equal torch fp32's on at
least 99.99 % of pixels; int8 where it costs at most 0.005 Dice and its mask has a Dice of at least 0.98 with
torch fp32's on every image. Of those, the one whose fastest engine is fastest here serves.

All are compared on as many images as a budget of pixels allows; the one that is chosen then on all of validation, whole
images. One that fails there is refused, and the next is chosen.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from pipelines.data.labelled import LabelledSet
from pipelines.version.parity import Runner, Tally, measure, open_runners, time_side_by_side, torch_predictor
from resunet.errors import DataError, VersionError
from resunet.networks import SegmentationNetwork
from serving.version import EngineMeasurement, EngineName, Precision

MIN_PIXEL_AGREEMENT: Final = 0.9999
MAX_DICE_COST: Final = 0.005
MIN_MASK_DICE: Final = 0.98
# A less exact precision has to be this much faster: medians of one machine differ by a few percent.
MIN_GAIN: Final = 1.05
# The 77 validation images of the nuclei are 11 million; at width 16 torch takes about 15 s for them on 2 cores.
PIXEL_BUDGET: Final = 16_000_000
MAX_SIDE: Final = 1024


@dataclass(frozen=True)
class Candidate:
    """One engine on one file, against torch fp32 on the same validation images.

    Attributes:
        precision, engine: what ran.
        latency_ms: median wall time of one 256x256 image.
        dice: mean over the images.
        pixel_agreement: fraction of all pixels whose class is torch fp32's.
        lowest_mask_dice: of the image on which the two masks agree least.
        engine_agreement: fraction of pixels whose class is ONNX Runtime's on the same file.
        refused: why it may not serve; empty if it may.
        images: how many there were.
        network_dice: mean of torch fp32 over the same images.
    """

    precision: Precision
    engine: EngineName
    latency_ms: float
    dice: float
    pixel_agreement: float
    lowest_mask_dice: float
    engine_agreement: float
    refused: str = ""
    images: int = 0
    network_dice: float = float("nan")


@dataclass(frozen=True)
class ServingChoice:
    """What serves, and the measurements that say so.

    Attributes:
        path: the file that serves.
        precision: that it is run in.
        engines: for `version.json`.
        candidates: everything measured.
        images: how many validation images the masks of what serves were compared on.
        network_dice: of torch fp32 on them.
    """

    path: Path
    precision: Precision
    engines: dict[EngineName, EngineMeasurement]
    candidates: list[Candidate]
    images: int
    network_dice: float


def choose_serving_file(
    network: SegmentationNetwork,
    classes: int,
    images: LabelledSet,
    *,
    fp32: Path,
    int8: Path | None = None,
    threshold: float = 0.5,
    threads: int | None = None,
    pixel_budget: int = PIXEL_BUDGET,
    advance: Callable[[int], None] = lambda done: None,
) -> ServingChoice:
    """Measure every engine on every file and choose.

    Args:
        network: trained, whose fp32 masks in torch are the yardstick.
        classes: output channels; 1 is binary.
        images: validation split, in the order of `over_slices`; of the first, the centre of at most 1024 px a side is
            looked at by all engines until `pixel_budget` is spent; at the whole of all by the one that is chosen.
        fp32, int8: the candidates' files; without int8, fp32 and bf16 alone.
        threshold: of a binary version.
        threads: cores to compute on; None takes all.
        pixel_budget: how many pixels every engine and torch are run on.
        advance: told how many images were done, 2 for each in all.

    Raises:
        DataError: there is no image.
        VersionError: the exported graph does not give the network's masks.
    """
    if len(images) == 0:
        raise DataError("the validation split is empty: no serving file can be chosen; add images")
    runners = open_runners(network, classes, fp32=fp32, int8=int8, threshold=threshold, threads=threads)
    reference = torch_predictor(network, classes, threshold)
    centres = _Centres(images, pixel_budget)
    measure(runners, reference, centres, advance)
    seen = runners[0].tally.images
    advance(len(images) - seen)
    everything = seen == len(images) and not centres.cut
    time_side_by_side(runners)
    candidates = [_judge(runner) for runner in runners]
    checked: set[Precision] = set()
    precision = _choose(candidates)
    while not everything and precision not in checked:
        again = [runner for runner in runners if runner.precision == precision or _is_yardstick(runner, precision)]
        for runner in again:
            runner.tally = Tally()
        measure(again, reference, ((image.rgb, image.mask) for image in images), advance if not checked else _silent)
        candidates = [_judge(runner) for runner in runners]
        checked.add(precision)
        precision = _choose(candidates)
    if everything:
        advance(len(images))
    served = next(c for c in candidates if c.precision == precision)
    return ServingChoice(
        path=int8 if precision == "int8" and int8 is not None else fp32,
        precision=precision,
        engines=_engines(precision, candidates),
        candidates=candidates,
        images=served.images,
        network_dice=served.network_dice,
    )


def _silent(done: int) -> None:
    """A second look at the images, after a first choice failed, is not foreseen by the progress bar."""


class _Centres:
    """The centres of the first images, until a budget of pixels is spent; `cut` says whether one was larger."""

    def __init__(self, images: LabelledSet, budget: int) -> None:
        self._images, self._budget = images, budget
        self.cut = False

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        left = self._budget
        for image in self._images:
            self.cut = self.cut or max(image.mask.shape) > MAX_SIDE
            yield _centre(image.rgb), _centre(image.mask)
            left -= min(image.mask.shape[0], MAX_SIDE) * min(image.mask.shape[1], MAX_SIDE)
            if left <= 0:
                return


def _centre(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    top, left = (max(0, (side - MAX_SIDE) // 2) for side in array.shape[:2])
    return np.ascontiguousarray(array[top : top + MAX_SIDE, left : left + MAX_SIDE])


def _is_yardstick(runner: Runner, precision: Precision) -> bool:
    """Whether it is ONNX Runtime on the file of this precision, which other engines have to agree with."""
    file = "int8" if precision == "int8" else "fp32"
    return runner.engine.name == "onnxruntime" and runner.precision == file


def _judge(runner: Runner) -> Candidate:
    tally = runner.tally
    cost = tally.network_dice - tally.dice
    return Candidate(
        precision=runner.precision,
        engine=cast(EngineName, runner.engine.name),  # what is measured here runs on the CPU
        latency_ms=statistics.median(runner.times),
        dice=tally.dice,
        pixel_agreement=tally.pixel_agreement,
        lowest_mask_dice=tally.lowest_mask_dice,
        engine_agreement=tally.engine_agreement,
        refused=refusal(runner.precision, cost, tally.pixel_agreement, tally.lowest_mask_dice, tally.engine_agreement),
        images=tally.images,
        network_dice=tally.network_dice,
    )


def refusal(
    precision: Precision, dice_cost: float, pixel_agreement: float, lowest_mask_dice: float, engine_agreement: float
) -> str:
    """Why an engine may not serve a precision; empty if it may. See `Candidate` for the numbers."""
    if precision == "int8":
        if dice_cost > MAX_DICE_COST:
            return f"costs {dice_cost:.4f} Dice"
        if lowest_mask_dice < MIN_MASK_DICE:
            return f"a mask has a Dice of {lowest_mask_dice:.3f} with torch fp32's"
    elif pixel_agreement < MIN_PIXEL_AGREEMENT:
        return f"{pixel_agreement:.4%} of pixels agree with torch fp32"
    if engine_agreement < MIN_PIXEL_AGREEMENT:
        return f"{engine_agreement:.4%} of pixels agree with ONNX Runtime"
    return ""


def _choose(candidates: Sequence[Candidate]) -> Precision:
    """fp32, unless bf16, then int8, beats the best so far by `MIN_GAIN`.

    Raises:
        VersionError: not even fp32 gives the network's masks.
    """
    exact = next(c for c in candidates if c.precision == "fp32" and c.engine == "onnxruntime")
    if exact.refused:
        raise VersionError(
            f"the exported graph is not the network: {exact.refused}. Train longer (a network that is sure of "
            "nothing flips with every rounding), or report this with the architecture and the width"
        )
    best: Precision = "fp32"
    best_ms = min(c.latency_ms for c in candidates if c.precision == "fp32" and not c.refused)
    others: tuple[Precision, ...] = ("bf16", "int8")
    for precision in others:
        engines = [c for c in candidates if c.precision == precision]
        # ONNX Runtime serves where no other engine can: a file that it may not run is no file to serve.
        if any(c.refused for c in engines if c.engine == "onnxruntime"):
            continue
        times = [c.latency_ms for c in engines if not c.refused]
        if times and min(times) * MIN_GAIN < best_ms:
            best, best_ms = precision, min(times)
    return best


def _engines(precision: Precision, candidates: Sequence[Candidate]) -> dict[EngineName, EngineMeasurement]:
    """The engines on the chosen file; ONNX Runtime runs a bf16 version's file in fp32."""
    chosen = [c for c in candidates if c.precision == precision]
    if precision == "bf16":
        chosen += [c for c in candidates if c.precision == "fp32" and c.engine == "onnxruntime"]
    return {
        c.engine: EngineMeasurement(
            eligible=not c.refused and c.engine_agreement >= MIN_PIXEL_AGREEMENT,
            pixel_agreement=c.engine_agreement,
            latency_ms=c.latency_ms,
        )
        for c in sorted(chosen, key=lambda c: c.engine)
    }
