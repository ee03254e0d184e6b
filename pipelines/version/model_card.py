"""The model card: what a version is, what it learned from, how good it is and where not to use it.

    text = model_card(CardFacts(settings, fitted, data, spec, evaluation, choice, commit))

Every number comes from the version's own evidence; what was not measured is said not to be. The headings follow
Mitchell et al. 2019, "Model cards for model reporting" (arXiv 1810.03993).
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.data.data_step import PreparedData
from pipelines.data.manifest import SLICE_PREFIX, SPLITS, fingerprint
from pipelines.training.fit import Fitted
from pipelines.training.repeat import hidden_settings, repeating
from pipelines.training.settings import FitSettings
from pipelines.version.evaluation_report import format_interval, metric_name
from pipelines.version.serving_file import MAX_DICE_COST, MIN_MASK_DICE, MIN_PIXEL_AGREEMENT, ServingChoice
from registry.evidence import Evaluation, Interval, Metric
from resunet.metrics import METRICS
from serving.version import VersionSpec

_UNCOMMITTED = {
    "dirty": " **with changes that were not committed** (whoever has the commit alone does not have this code)",
    "unknown": " (whether there were further changes is unknown)",
}
_PAPERS = {
    "resunet": "ResUNet (Zhang, Liu & Wang 2018, arXiv 1711.10684)",
    "resunetpp": "ResUNet++ (Jha et al. 2019, arXiv 1911.07067)",
}


@dataclass(frozen=True)
class CardFacts:
    """What a card is written from.

    Attributes:
        settings, fitted, data: of the training.
        spec, evaluation, choice: of the version.
        commit: of the code; empty if unknown.
        working_tree: whether that commit is all of the code, see `working_tree`; empty if unknown.
        parent: number of the version whose weights training started from; empty for none.
        model_name: of the registered model that the parent is a version of; empty if nobody noted it.
        licence: of the weights; empty if nobody said.
        intended_use: in the owner's words; empty if nobody said.
        environment: versions, processor and threads, in words; empty if unknown.
    """

    settings: FitSettings
    fitted: Fitted
    data: PreparedData
    spec: VersionSpec
    evaluation: Evaluation
    choice: ServingChoice
    commit: str = ""
    working_tree: str = ""
    parent: str = ""
    model_name: str = ""
    licence: str = ""
    intended_use: str = ""
    environment: str = ""


def model_card(facts: CardFacts) -> str:
    """Write the card as Markdown."""
    sections = (
        _what(facts),
        _use(facts),
        _data(facts),
        _quality(facts),
        _confidence(facts),
        _serving(facts),
        _training(facts),
        _again(facts),
    )
    return "\n".join(line for section in sections for line in (*section, ""))


def _what(facts: CardFacts) -> list[str]:
    spec = facts.spec
    dice = facts.evaluation.overall["dice"]
    classes = (
        f"one class, `{spec.class_names[0]}`, against the background"
        if spec.binary
        else f"{len(spec.class_names)} classes: {_code(spec.class_names)}"
    )
    weights = sum(weight.numel() for weight in facts.fitted.network.parameters())
    return [
        f"# {_PAPERS.get(spec.architecture, spec.architecture)}, width {spec.width}",
        "",
        f"Semantic segmentation of 8-bit RGB images into {classes}; {weights / 1e6:.2f} M weights. "
        f"Dice on {facts.evaluation.images} test images: **{format_interval(dice)}**.",
        "",
        f"Licence of the weights: {facts.licence or 'not stated; whoever publishes this version must state it'}.",
    ]


def _use(facts: CardFacts) -> list[str]:
    seen = _seen(facts)
    tile = facts.spec.tile
    largest = (
        f"Images larger than {tile.whole_side} px a side are computed in tiles of {tile.core} px, with the same answer"
        if tile.tileable
        else f"The network looks at the whole image at once: above {tile.whole_side} px a side it refuses"
    )
    return [
        "## Intended use and limits",
        "",
        facts.intended_use or f"Images like those of {seen}, taken and stained in the same way.",
        "",
        f"- It was trained on {seen} and knows nothing else. On images that look otherwise it will still give a "
        "mask; watch the drift report and the confidence.",
        "- It is not a medical device and not for diagnosis.",
        "- The mask separates classes, not objects: things that touch are one.",
        f"- {largest}.",
    ]


def _data(facts: CardFacts) -> list[str]:
    manifest = facts.data.manifest
    counts = manifest["split"].value_counts()
    lines = [
        "## Data",
        "",
        f"{_seen(facts)}: {len(manifest)} images, "
        f"fingerprint `{fingerprint(manifest)}`. Images are split by their group, else by their pixels; "
        f"{manifest['group'].notna().sum()} of them are in a group. The list is `manifest.parquet`.",
        "",
        "| | train | validation | test |",
        "| --- | ---: | ---: | ---: |",
        "| images | " + " | ".join(str(counts.get(split, 0)) for split in SPLITS) + " |",
    ]
    for column in (c for c in manifest.columns if c.startswith(SLICE_PREFIX)):
        table = manifest.groupby([column, "split"]).size()
        for value in sorted(manifest[column].dropna().unique()):
            cells = " | ".join(str(table.get((value, split), 0)) for split in SPLITS)
            lines.append(f"| {_cell(column.removeprefix(SLICE_PREFIX))} = {_cell(value)} | {cells} |")
    return lines


def _quality(facts: CardFacts) -> list[str]:
    evaluation = facts.evaluation
    rows: list[tuple[str, int, Mapping[Metric, Interval]]] = [("all", evaluation.images, evaluation.overall)]
    rows += [(name, part.images, part.metrics) for name, part in evaluation.slices.items()]
    lines = [
        "## Quality on the test split",
        "",
        f"Through the file that serves (`{evaluation.serving_file}`, {evaluation.precision}, {evaluation.engine}): "
        "mean over images (95 % bootstrap interval; whole groups are drawn). 0–1 as an interval: one image or "
        "group, which says nothing of the next.",
        "",
        "| | images | " + " | ".join(metric.replace("_", " ") for metric in METRICS) + " |",
        "| --- | ---: |" + " --- |" * len(METRICS),
    ]
    for name, images, metrics in rows:
        cells = " | ".join(format_interval(metrics.get(metric_name(metric))) for metric in METRICS)
        lines.append(f"| {_cell(name)} | {images} | {cells} |")
    worst = sorted(evaluation.per_image, key=lambda score: score.dice)[:3]
    lines += [
        "",
        "Not evaluated, for want of a test image: " + (_code(evaluation.unevaluated_slices) or "nothing") + ".",
        "",
        "Worst test images: " + ", ".join(f"`{s.path}` (Dice {s.dice:.3f})" for s in worst) + ".",
    ]
    return lines


def _confidence(facts: CardFacts) -> list[str]:
    calibration, scores = facts.spec.calibration, facts.evaluation.per_image
    half = calibration.conformal_halfwidth
    held = sum(abs(score.dice - score.confidence) <= half for score in scores)
    bias = sum(score.confidence - score.dice for score in scores) / len(scores)
    lines = [
        "## Confidence",
        "",
        "`confidence` is the Dice to expect of a mask: soft Dice of the probabilities at temperature "
        f"{calibration.temperature:.2f}, through a monotone map fitted on {calibration.images} validation images. "
        f"On the test split it is off by {bias:+.3f} on average.",
    ]
    if half >= 1:
        lines += ["", "There were too few validation images for an interval around it."]
    else:
        lines += [
            "",
            f"Made to hold 90 % of images like these, confidence ± {half:.3f} holds the true Dice of {held} of "
            f"the {len(scores)} test images ({held / len(scores):.0%}).",
        ]
    return lines


def _serving(facts: CardFacts) -> list[str]:
    choice = facts.choice
    lines = [
        "## Serving file",
        "",
        f"`{facts.spec.serving_file}` in **{choice.precision}**, chosen by measurement where the version was made. "
        f"Its masks were compared with torch fp32's (Dice {choice.network_dice:.4f}) on {choice.images} validation "
        "images, those of the others on as many as the table says; fp32 and bf16 must agree on "
        f"{MIN_PIXEL_AGREEMENT:.2%} of pixels, int8 may cost {MAX_DICE_COST} Dice and must have a Dice of "
        f"{MIN_MASK_DICE} with it on every image, and an engine must agree with ONNX Runtime on "
        f"{MIN_PIXEL_AGREEMENT:.2%} of pixels.",
        "",
        "| precision | engine | ms, 256x256 | images | Dice | Dice of torch | pixels as torch | lowest mask Dice | "
        "may serve |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for c in choice.candidates:
        lines.append(
            f"| {c.precision} | {c.engine} | {c.latency_ms:.1f} | {c.images} | {c.dice:.4f} | {c.network_dice:.4f} | "
            f"{c.pixel_agreement:.4%} | {c.lowest_mask_dice:.4f} | {f'no: {c.refused}' if c.refused else 'yes'} |"
        )
    return lines


def _training(facts: CardFacts) -> list[str]:
    fitted = facts.fitted
    best = max((row.validation_dice for row in fitted.history), default=float("nan"))
    results: dict[str, object] = {
        "length asked for": facts.settings.length,
        "steps": fitted.steps,
        "minutes": fitted.seconds / 60,
        "ended because": fitted.stopped,
        "schedule": f"`{fitted.schedule}`",
        "computed in": fitted.precision,
        "best validation Dice while training": best,
        "started from": f"version {facts.parent}" if facts.parent else "random weights",
    }
    settings = {name.replace("_", " "): value for name, value in facts.settings.model_dump().items()}
    settings["clip norm (of AdamW's parameters; Muon's hidden kernels have none)"] = settings.pop("clip norm")
    settings["asked-for schedule"] = settings.pop("schedule") or "–"
    lines = ["## Training", "", "| | |", "| --- | --- |"]
    for name, value in (*results.items(), *settings.items()):
        lines.append(f"| {_cell(name)} | {_cell(f'{value:.4g}' if isinstance(value, float) else value)} |")
    return lines


def _again(facts: CardFacts) -> list[str]:
    options = [_option(name, value) for name, value in repeating(facts.settings, facts.fitted).items()]
    options += [_option(name, getattr(facts.data, name)) for name in ("where", "slices") if getattr(facts.data, name)]
    if facts.data.groups:
        options.append("-P groups=<groups.csv>")
    if facts.parent:
        options.append(f"-P parent={facts.parent}")
        options += [_option("model_name", facts.model_name)] if facts.model_name else []
    lines = [
        "## To make it again",
        "",
        f"Code at commit `{facts.commit or 'unknown'}`{_UNCOMMITTED.get(facts.working_tree, '')}, the data with the "
        "fingerprint above, and a machine of the same kind, for the same weights bit for bit:",
        "",
        "```",
        "mlflow run . -e train -P data=<folder> " + " ".join(options),
        "```",
    ]
    if facts.environment:
        lines += ["", f"It was made with {facts.environment}; `environment.txt` of its run names all packages."]
    if facts.data.groups:
        lines += ["", "`groups.csv` lay elsewhere than the data; the groups it gave are in `manifest.parquet`."]
    if hidden := hidden_settings(facts.settings):
        told = ", ".join(f"`{name}={value}`" for name, value in hidden.items())
        lines += [
            "",
            f"That command gives other weights: {told} cannot be given to it, only to `pipelines.training.fit`.",
        ]
    return lines


def _option(name: str, value: object) -> str:
    return "-P " + shlex.quote(f"{name}={value}")


def _seen(facts: CardFacts) -> str:
    where = f" where `{facts.data.where}`" if facts.data.where else ""
    return f"`{facts.data.root.name}`{where}"


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
