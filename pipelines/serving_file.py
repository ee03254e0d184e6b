"""Which file serves, in which precision, and on which engines: decided by measurement where a version is made.

    choice = choose_serving_file(network, 1, LabelledImages(validation), fp32=root / "model.onnx", int8=…)
    choice.path, choice.precision, choice.engines

fp32 may always serve; bf16 (the fp32 file, run by OpenVINO in bf16) where its masks equal torch fp32's on at
least 99.99 % of pixels; int8 where it costs at most 0.005 Dice and its mask has a Dice of at least 0.98 with
torch fp32's on every image. Of those, the one whose fastest engine is fastest here serves.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.evaluate import LabelledImage
from resunet.errors import DataError, VersionError
from resunet.metrics import dice
from resunet.networks import SegmentationNetwork
from resunet.networks.graph import ServingGraph
from serving.engine import Engine, is_installed, open_engine
from serving.version import EngineMeasurement, EngineName, Precision

Mask = NDArray[np.uint8]

MIN_PIXEL_AGREEMENT: Final = 0.9999
MAX_DICE_COST: Final = 0.005
MIN_MASK_DICE: Final = 0.98
# A less exact precision has to be this much faster: medians of one machine differ by a few percent.
MIN_GAIN: Final = 1.05
# The 77 validation images of the nuclei are 11 million; at width 16 torch takes about 15 s for them on 2 cores.
PIXEL_BUDGET: Final = 16_000_000
MAX_SIDE: Final = 1024
_ROUNDS: Final = 6
_BURST: Final = 6
_WARM_UP: Final = 3
_PROBE_SIDE: Final = 256


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
    """

    precision: Precision
    engine: EngineName
    latency_ms: float
    dice: float
    pixel_agreement: float
    lowest_mask_dice: float
    engine_agreement: float
    refused: str = ""


@dataclass(frozen=True)
class ServingChoice:
    """What serves, and the measurements that say so.

    Attributes:
        path: the file that serves.
        precision: that it is run in.
        engines: for `version.json`.
        candidates: everything measured.
        images: how many validation images the masks were compared on.
        network_dice: of torch fp32 on them.
    """

    path: Path
    precision: Precision
    engines: dict[EngineName, EngineMeasurement]
    candidates: list[Candidate]
    images: int
    network_dice: float


@dataclass
class _Runner:
    precision: Precision
    engine: Engine
    masks: list[Mask] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


def choose_serving_file(
    network: SegmentationNetwork,
    classes: int,
    images: Iterable[LabelledImage],
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
        images: validation split; looked at in its order, the centre of at most 1024 px a side of each, until
            `pixel_budget` is spent.
        fp32, int8: the candidates' files; without int8, fp32 and bf16 alone.
        threshold: of a binary version.
        threads: cores to compute on; None takes all.
        pixel_budget: how many pixels every engine and torch are run on.
        advance: told how many images were done.

    Raises:
        DataError: there is no image.
        VersionError: the exported graph does not give the network's masks.
    """
    runners = _open(fp32, int8, threads)
    reference: list[Mask] = []
    truths: list[Mask] = []
    graph = ServingGraph(network.eval().cpu(), classes).eval()
    for rgb, truth in _within(images, pixel_budget):
        with torch.inference_mode():
            probabilities = graph(torch.from_numpy(rgb[None]))[0].numpy()
        reference.append(_classes(probabilities, threshold))
        truths.append(truth)
        for runner in runners:
            runner.masks.append(_classes(runner.engine.run(rgb[None])[0], threshold))
        advance(1)
    if not reference:
        raise DataError("the validation split is empty: no serving file can be chosen; add images")
    _time(runners)
    network_dice = _mean_dice(reference, truths)
    candidates = [_judge(runner, runners, reference, truths, network_dice) for runner in runners]
    _check_export(candidates)
    precision = _fastest(candidates)
    return ServingChoice(
        path=int8 if precision == "int8" and int8 is not None else fp32,
        precision=precision,
        engines=_engines(precision, candidates),
        candidates=candidates,
        images=len(reference),
        network_dice=network_dice,
    )


def _open(fp32: Path, int8: Path | None, threads: int | None) -> list[_Runner]:
    wanted: list[tuple[Path, Precision, EngineName]] = [
        (fp32, "fp32", "onnxruntime"),
        (fp32, "fp32", "openvino"),
    ]
    if has_bf16():
        wanted.append((fp32, "bf16", "openvino"))
    if int8 is not None:
        wanted += [(int8, "int8", "onnxruntime"), (int8, "int8", "openvino")]
    return [
        _Runner(precision, open_engine(name, path, precision, threads))
        for path, precision, name in wanted
        if is_installed(name)
    ]


def has_bf16() -> bool:
    """Whether OpenVINO computes in bf16 on this processor; elsewhere it would run a bf16 version in fp32."""
    if not is_installed("openvino"):
        return False
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _within(images: Iterable[LabelledImage], budget: int) -> Iterator[tuple[NDArray[np.uint8], Mask]]:
    for image in images:
        rgb, truth = _centre(image.rgb), _centre(image.mask)
        yield np.ascontiguousarray(rgb), np.ascontiguousarray(truth)
        budget -= truth.size
        if budget <= 0:
            return


def _centre(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    top, left = (max(0, (side - MAX_SIDE) // 2) for side in array.shape[:2])
    return array[top : top + MAX_SIDE, left : left + MAX_SIDE]


def _classes(probabilities: NDArray[np.float32], threshold: float) -> Mask:
    """(1, C, H, W) probabilities → (H, W) class indices."""
    if probabilities.shape[1] == 1:
        return np.asarray(probabilities[0, 0] >= threshold, np.uint8)
    return np.asarray(probabilities[0].argmax(axis=0), np.uint8)


def _time(runners: Sequence[_Runner]) -> None:
    """Time all side by side, round by round, so that a busy machine is busy for all.

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


def _judge(
    runner: _Runner,
    runners: Sequence[_Runner],
    reference: Sequence[Mask],
    truths: Sequence[Mask],
    network_dice: float,
) -> Candidate:
    own = _mean_dice(runner.masks, truths)
    agreement = _agreement(runner.masks, reference)
    lowest = min(dice(mask, true) for mask, true in zip(runner.masks, reference, strict=True))
    same_file = "int8" if runner.precision == "int8" else "fp32"
    ort = next(r for r in runners if r.engine.name == "onnxruntime" and r.precision == same_file)
    between = _agreement(runner.masks, ort.masks)
    return Candidate(
        precision=runner.precision,
        engine=runner.engine.name,
        latency_ms=statistics.median(runner.times),
        dice=own,
        pixel_agreement=agreement,
        lowest_mask_dice=lowest,
        engine_agreement=between,
        refused=refusal(runner.precision, network_dice - own, agreement, lowest, between),
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


def _check_export(candidates: Sequence[Candidate]) -> None:
    exact = next(c for c in candidates if c.precision == "fp32" and c.engine == "onnxruntime")
    if exact.refused:
        raise VersionError(
            f"the exported graph is not the network: {exact.refused}. Train longer (a network that is sure of "
            "nothing flips with every rounding), or report this with the architecture and the width"
        )


def _fastest(candidates: Sequence[Candidate]) -> Precision:
    """fp32, unless bf16, then int8, beats the best so far by `MIN_GAIN`."""
    best: Precision = "fp32"
    best_ms = min(c.latency_ms for c in candidates if c.precision == "fp32" and not c.refused)
    others: tuple[Precision, ...] = ("bf16", "int8")
    for precision in others:
        times = [c.latency_ms for c in candidates if c.precision == precision and not c.refused]
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
            eligible=c.engine_agreement >= MIN_PIXEL_AGREEMENT,
            pixel_agreement=c.engine_agreement,
            latency_ms=c.latency_ms,
        )
        for c in sorted(chosen, key=lambda c: c.engine)
    }


def _mean_dice(masks: Sequence[Mask], truths: Sequence[Mask]) -> float:
    return float(np.mean([dice(mask, truth) for mask, truth in zip(masks, truths, strict=True)]))


def _agreement(masks: Sequence[Mask], others: Sequence[Mask]) -> float:
    equal = sum(int(np.count_nonzero(mask == other)) for mask, other in zip(masks, others, strict=True))
    return equal / sum(mask.size for mask in masks)
