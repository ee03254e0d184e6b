"""Gates on how the network behaves: when the image changes a little, how sure it is, and what rounding costs."""

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from registry.evidence import BandCalibration, Evidence, Parity, Robustness
from registry.evidence.documents import EngineParity
from registry.gates.gate import GateSettings, Outcome, Verdict, gate
from registry.gates.wording import counted, first, interval, missing, more_wanted, percent
from registry.noninferiority import FEWEST_CLUSTERS, MOST_IMAGES, Shown, noninferiority

Loss = Annotated[float, Field(ge=0, le=1)]


class RobustnessSettings(GateSettings):
    """`loss`: how much mean Dice a bounded change of the image may cost; `each`: other losses, by change."""

    loss: Loss = 0.1
    each: dict[str, Loss] = Field(default_factory=dict)


class CalibrationSettings(GateSettings):
    """`error`: largest expected calibration error in the band around the true boundary."""

    error: float = Field(default=0.1, gt=0, le=1)


class ParitySettings(GateSettings):
    """`pixels`: least share of pixels equal to torch fp32's for fp32 and bf16; `mask_dice`: of each image for int8."""

    pixels: float = Field(default=0.9999, ge=0, le=1)
    mask_dice: float = Field(default=0.98, ge=0, le=1)


@gate(needs=[Robustness])
def robustness(evidence: Evidence, settings: RobustnessSettings) -> Verdict:
    """No bounded change of the image (noise, blur, brightness, JPEG, flips) costs more mean Dice than allowed.

    For each change the one-sided 95 % bound of its mean loss, image by image, decides; every change has to pass.
    """
    measured = evidence.candidate.get(Robustness)
    if measured is None:
        return missing(evidence, "its Dice on changed images")
    unknown = sorted(settings.each.keys() - measured.conditions.keys())
    if unknown:
        told = f"the policy names a change of the image that is not measured: {', '.join(unknown)}"
        return Verdict("undecided", told, f"name one of {', '.join(sorted(measured.conditions))} in the policy")
    clean = np.array(measured.clean)
    found: list[tuple[Shown, str]] = []
    for name, condition in measured.conditions.items():
        limit = settings.each.get(name, settings.loss)
        shown = noninferiority(np.array(condition.dice) - clean, limit, measured.groups)
        found.append((shown, f"{condition.title} {interval(shown)}, may lose {limit:.4f}"))
    # The costliest first.
    found.sort(key=lambda one: one[0].mean)
    outcomes = {shown.outcome for shown, _ in found}
    worst: Outcome = "fail" if "fail" in outcomes else "undecided" if "undecided" in outcomes else "pass"
    chosen = [(shown, told) for shown, told in found if shown.outcome == worst]
    if worst == "pass":
        others = f"; {len(chosen) - 1} others cost less" if len(chosen) > 1 else ""
        return Verdict("pass", f"Dice under {chosen[0][1]}{others}")
    told = f"Dice under {'; '.join(told for _, told in chosen)}"
    if worst == "fail":
        return Verdict("fail", told, "train with such changes among the augmentations, or on images that have them")
    more = max((shown.more_images for shown, _ in chosen if shown.more_images), default=None)
    return Verdict("undecided", told, more_wanted(more), more)


@gate(needs=[BandCalibration])
def calibration(evidence: Evidence, settings: CalibrationSettings) -> Verdict:
    """Near the true boundary, where it matters, probabilities are about as often right as they say.

    Far from it every model is right: the error over all pixels is shown and not judged. The 95 % interval decides.
    """
    measured = evidence.candidate.get(BandCalibration)
    if measured is None:
        return missing(evidence, "its calibration near the boundary")
    band, limit, images = measured.band, settings.error, measured.images
    if not band.pixels:
        told = f"none of {counted(images, 'test image')} has a boundary"
        return Verdict("undecided", told, "add test images that show what is looked for")
    told = (
        f"calibration error {band.error:.3f} [{band.low:.3f}, {band.high:.3f}] within {measured.band_px} px of the "
        f"boundary ({measured.everywhere.error:.3f} over all pixels), on {counted(images, 'test image')}; "
        f"may be {limit:.3f}"
    )
    if images < FEWEST_CLUSTERS:
        more = FEWEST_CLUSTERS - images
        return Verdict("undecided", told, f"fewer than {FEWEST_CLUSTERS} test images decide nothing: add {more}", more)
    # An error is a sum of absolute values, which draws make larger: the measured one has to be on the same side.
    if max(band.high, band.error) <= limit:
        return Verdict("pass", told)
    if min(band.low, band.error) > limit:
        return Verdict("fail", told, "calibrate on more validation images, or train with less confident targets")
    reach = band.high - band.error if band.error <= limit else band.error - band.low
    more_images = _more_for_interval(images, reach, abs(limit - band.error))
    return Verdict("undecided", told, more_wanted(more_images), more_images)


def _more_for_interval(images: int, reach: float, distance: float) -> int:
    """How many more images make an interval reach no further than the limit; it shrinks as their root grows."""
    if distance * 1000 <= reach:
        return MOST_IMAGES
    return max(1, math.ceil(images * ((reach / distance) ** 2 - 1)))


@gate(needs=[Parity])
def parity(evidence: Evidence, settings: ParitySettings) -> Verdict:
    """What serves answers as the trained network does: pixel by pixel in fp32 and bf16, by each mask's Dice in int8."""
    measured = evidence.candidate.get(Parity)
    if measured is None:
        return missing(evidence, "its masks beside those of the trained network")
    found = [_agreement(engine, settings) for engine in measured.engines if engine.serves]
    count = f"on {counted(measured.images, 'test image')}, {measured.pixels} pixels"
    if not found:
        others = first(sorted({f"{engine.engine} {engine.precision}" for engine in measured.engines}))
        told = f"the engine that serves it was not measured, only {others}"
        return Verdict("undecided", told, f"measure where that engine is installed: {evidence.check}")
    wrong = [told for good, told in found if not good]
    if wrong:
        advice = "export anew; train with --precision fp32 if it stays so"
        return Verdict("fail", f"{'; '.join(wrong)} {count}", advice)
    return Verdict("pass", f"{'; '.join(told for _, told in found)} {count}")


def _agreement(engine: EngineParity, settings: ParitySettings) -> tuple[bool, str]:
    """Whether an engine agrees well enough, and by how much it does."""
    name = f"{engine.engine} {engine.precision}"
    if engine.precision == "int8":
        good = engine.lowest_mask_dice >= settings.mask_dice
        sign = "≥" if good else "<"
        return good, f"{name}: worst mask's Dice {engine.lowest_mask_dice:.4f} {sign} {settings.mask_dice:.4f}"
    good = engine.pixel_agreement >= settings.pixels
    sign = "≥" if good else "<"
    return good, f"{name}: {percent(engine.pixel_agreement)} of pixels equal {sign} {percent(settings.pixels)}"
