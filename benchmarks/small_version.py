"""A version for benchmarks in which the network's work does not count: small, and not trained.

write_small_version(folder / VERSION_ARTIFACT)
"""

from pathlib import Path
from typing import Final

import numpy as np
import torch

from pipelines.data.synthetic import Knobs, draw
from pipelines.version.export import export_graph
from resunet.networks import build_network
from serving.engine import open_engine
from serving.golden import make_golden
from serving.predictor import Predictor
from serving.version import Calibration, EngineMeasurement, TileSpec, VersionSpec

WHOLE_SIDE: Final = 1024
_WIDTH: Final = 8


def write_small_version(root: Path) -> None:
    """All that serving reads, in a new folder; the same network each time."""
    root.mkdir()
    torch.manual_seed(0)
    network = build_network("resunet", _WIDTH).eval()
    measured = EngineMeasurement(eligible=True, pixel_agreement=1.0, latency_ms=1.0)
    spec = VersionSpec(
        architecture="resunet",
        width=_WIDTH,
        class_names=["nucleus"],
        precision="fp32",
        tile=TileSpec(tileable=False, halo=0, stride=network.stride, core=512, whole_side=WHOLE_SIDE),
        calibration=Calibration(
            temperature=1, confidence_x=[0, 1], confidence_y=[0, 1], conformal_halfwidth=1, images=0
        ),
        engines={"onnxruntime": measured},
    )
    export_graph(network, 1, root / spec.serving_file)
    spec.write(root)
    image, _ = draw(np.random.default_rng(0), Knobs(size=(256, 256)))
    make_golden(Predictor(spec, open_engine("onnxruntime", root / spec.serving_file, spec.precision)), root, image)
