"""What is served beside what was trained: every engine that may serve, against the weights in torch fp32."""

from collections.abc import Callable
from typing import get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipelines.evidence.subject import Subject, Version
from pipelines.version.parity import Runner, measure, torch_predictor
from registry.evidence import EngineParity, Parity
from resunet.errors import VersionError
from resunet.networks import SegmentationNetwork, build_network
from serving.engine import EngineChoice, choose_engine, computed_in, is_installed, open_engine
from serving.predictor import Predictor
from serving.version import WEIGHTS_FILE, EngineName

Advance = Callable[[int], None]


def parity(subject: Subject, advance: Advance) -> Parity:
    """Compare the masks of all test images; `advance` is told of images.

    Raises:
        VersionError: the weights are missing or of another network.
    """
    version = subject.candidate
    spec = version.spec
    network = trained_network(version)
    runners = served(version)
    exact = torch_predictor(network, len(spec.class_names), spec.threshold)
    measure(runners, exact, ((image.rgb, image.mask) for image in subject.images), advance)
    here = choose_engine(spec)
    return Parity(
        images=runners[0].tally.images,
        pixels=runners[0].tally.pixels,
        engines=[
            EngineParity(
                engine=runner.engine.name,
                precision=runner.precision,
                serves=runner.engine.name == here or _eligible(version, runner.engine.name),
                pixel_agreement=runner.tally.pixel_agreement,
                engine_agreement=runner.tally.engine_agreement,
                lowest_mask_dice=runner.tally.lowest_mask_dice,
            )
            for runner in runners
        ],
    )


def trained_network(version: Version) -> SegmentationNetwork:
    """The network with the version's weights.

    Raises:
        VersionError: the weights are missing or of another network.
    """
    spec, path = version.spec, version.root / WEIGHTS_FILE
    network = build_network(spec.architecture, spec.width, spec.in_channels, len(spec.class_names))
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise VersionError(
            f"{WEIGHTS_FILE} of {version.name} is missing or not of a {spec.architecture} of width {spec.width}: what "
            "serves cannot be held against what was trained; train the version anew"
        ) from error
    return network.eval().to(torch.float32)


def served(version: Version) -> list[Runner]:
    """Every engine that is installed on the one file that serves, cut as `version.json` says; ONNX Runtime first."""
    spec = version.spec
    others = [name for name in get_args(EngineName) if name != "onnxruntime" and is_installed(name)]
    return [
        Runner(
            computed_in(name, spec.precision),
            Predictor(spec, open_engine(name, version.root / spec.serving_file, spec.precision)),
        )
        for name in ("onnxruntime", *others)
    ]


def _eligible(version: Version, engine: EngineChoice) -> bool:
    return engine != "cuda" and (measured := version.spec.engines.get(engine)) is not None and measured.eligible
