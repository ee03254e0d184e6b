"""Evidence as the records would hold it, for tests of gates: documents with sound content, and bundles of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from registry.evidence import (
    EVALUATION_FILE,
    VERSION_FOLDER,
    Band,
    BandCalibration,
    Condition,
    DataCheck,
    Dependencies,
    Document,
    EngineParity,
    Evaluation,
    Evidence,
    ImageScore,
    InputContract,
    Interval,
    Lineage,
    Overlap,
    Parity,
    Performance,
    Robustness,
    SliceResult,
    VersionFacts,
)
from registry.evidence.documents import SCORES
from registry.gates import GateSettings, Verdict, find_gate

FINGERPRINT = "sha256:test-split"
LISTING = {"MLmodel": "1", f"{VERSION_FOLDER}/model.onnx": "2", f"{VERSION_FOLDER}/{EVALUATION_FILE}": "3"}


def scores(
    dice: Sequence[float],
    *,
    groups: Sequence[str | None] | None = None,
    slices: Mapping[str, Sequence[int]] | None = None,
    fingerprint: str = FINGERPRINT,
    prefix: str = "images/",
    digests: bool = True,
) -> Evaluation:
    """An evaluation of images 0, 1, 2, …

    Args:
        slices: places of the images of each slice.
        prefix: of the images' paths.
        digests: whether the digests of the files are known.
    """
    slices = slices or {}
    mean = sum(dice) / len(dice)
    images = [
        ImageScore(
            path=f"{prefix}{place}.png",
            sha256=f"image {place}" if digests else "",
            mask_sha256=f"mask {place}" if digests else "",
            group=groups[place] if groups else None,
            slices=[name for name, members in slices.items() if place in members],
            **dict.fromkeys(("dice", "iou", "precision", "recall", "boundary_f1", "confidence"), value),
        )
        for place, value in enumerate(dice)
    ]
    return Evaluation(
        fingerprint=fingerprint,
        images=len(dice),
        overall={"dice": Interval(mean=mean, low=mean - 0.02, high=mean + 0.02)},
        slices={name: _slice([dice[place] for place in members]) for name, members in slices.items()},
        per_image=images,
        serving_file="model.onnx",
        precision="fp32",
        engine="onnxruntime",
    )


def _slice(dice: Sequence[float]) -> SliceResult:
    mean = sum(dice) / len(dice)
    return SliceResult(images=len(dice), metrics={"dice": Interval(mean=mean, low=mean - 0.02, high=mean + 0.02)})


def lineage(**changes: Any) -> Lineage:
    return Lineage(**{"fingerprint": FINGERPRINT, "test_images": 30, "trained_images": 100, **changes})


def robustness(
    losses: Mapping[str, Sequence[float]], clean: float = 0.9, groups: Sequence[str | None] | None = None
) -> Robustness:
    """Dice of images that lose what is said under each change."""
    images = len(next(iter(losses.values())))
    return Robustness(
        fingerprint=FINGERPRINT,
        images=[f"images/{place}.png" for place in range(images)],
        groups=list(groups) if groups else [None] * images,
        clean=[clean] * images,
        conditions={
            name: Condition(title=f"some {name}", dice=[clean - loss for loss in lost]) for name, lost in losses.items()
        },
    )


def calibration(error: float, low: float, high: float, images: int = 100, pixels: int = 10_000) -> BandCalibration:
    return BandCalibration(
        fingerprint=FINGERPRINT,
        band_px=3,
        images=images,
        band=Band(error=error, low=low, high=high, pixels=pixels, bins=[]),
        everywhere=Band(error=0.004, low=0.003, high=0.005, pixels=1_000_000, bins=[]),
    )


def engine(precision: str = "fp32", pixels: float = 1.0, dice: float = 1.0, **changes: Any) -> EngineParity:
    values = {"engine": "onnxruntime", "precision": precision, "serves": True, "engine_agreement": 1.0}
    return EngineParity(**{**values, "pixel_agreement": pixels, "lowest_mask_dice": dice, **changes})


def parity(*engines: EngineParity) -> Parity:
    return Parity(images=30, pixels=1_966_080, engines=list(engines))


def performance(candidate: Sequence[float], champion: Sequence[float] = (), mb: float = 400.0) -> Performance:
    """p95 of each round; the live version takes 400 MB."""
    return Performance(
        machine="some processor, 2 cores",
        engine="onnxruntime fp32",
        side_px=256,
        candidate_p95_ms=list(candidate),
        champion_p95_ms=list(champion),
        candidate_mb=mb,
        champion_mb=400.0 if champion else None,
    )


def contract(**changes: Any) -> InputContract:
    values = {"inputs": '[{"name": "image"}]', "outputs": '[{"name": "mask"}]', "params": ""}
    return InputContract(**{**values, "refused": {"no bytes": "image: it is empty", "text": "no image"}, **changes})


def overlap(ours: Evaluation, theirs: Evaluation, takes: InputContract | None = None, **changes: Any) -> Overlap:
    """What is measured of a live version whose own test split is that of `theirs`."""
    paths = {score.path for score in ours.per_image}
    shared = [score.path for score in theirs.per_image if score.path in paths]
    schema = {} if takes is None else {name: getattr(takes, name) for name in ("inputs", "outputs", "params")}
    values = {
        "fingerprint": ours.fingerprint,
        "own_images": theirs.images,
        "shared": shared,
        "slices": {name: [one for one in members if one in paths] for name, members in theirs.slice_members.items()},
        "slice_images": {name: part.images for name, part in theirs.slices.items()},
        **schema,
    }
    return Overlap(**{**values, **changes})


def dependencies(**changes: Any) -> Dependencies:
    return Dependencies(**{"pinned": ["numpy==2.4.6", "onnxruntime==1.31.1"], "vulnerabilities": [], **changes})


def data_check(**changes: Any) -> DataCheck:
    return DataCheck(**{"name": "nuclei", "images": 120, "complete": True, **changes})


def version(number: str, *documents: Document | Evaluation, **changes: Any) -> VersionFacts:
    """A version with sound files, of which these documents are known."""
    by_kind = {SCORES if isinstance(one, Evaluation) else one.kind: one for one in documents}
    own = scores([0.9] * 30)
    facts = VersionFacts(number, f"sha256:{number}", LISTING, evaluation=own, documents=by_kind)
    return replace(facts, **changes)


def evidence(
    *documents: Document | Evaluation,
    champion: VersionFacts | Sequence[Document | Evaluation] | None = None,
    stage: str = "Production",
    **changes: Any,
) -> Evidence:
    """Version 7 of resunet before a stage, with these documents; `champion` is version 5, or its documents.

    Where the live version has scores or takes something, that was measured beside this one too.
    """
    live = version("5", *champion) if isinstance(champion, Sequence) else champion
    candidate = version("7", *documents)
    if live is not None and (live.scores or live.get(InputContract)) and candidate.get(Overlap) is None:
        ours, theirs = (one.scores or scores([0.9] * 30) for one in (candidate, live))
        beside = overlap(ours, theirs, live.get(InputContract))
        candidate = replace(candidate, documents={**candidate.documents, Overlap.kind: beside})
    return replace(Evidence("resunet", stage, candidate, live), **changes)


def ask(name: str, given: Evidence, **settings: Any) -> Verdict:
    """The verdict of a gate of the platform."""
    gate = find_gate(name)
    assert gate is not None
    chosen: GateSettings = gate.settings.model_validate(settings)
    return gate(given, chosen)
