"""A version's weights in torch: eager and fp32, as a model is that nobody exported.

engine = Eager(root)
"""

from pathlib import Path

from safetensors.torch import load_model

from benchmarks.engine import in_torch
from resunet.networks import build_network
from serving.engine import EngineChoice, Images, Output
from serving.version import WEIGHTS_FILE, VersionSpec


class Eager:
    """An engine for a `Predictor`; see `serving.engine.Engine`."""

    name: EngineChoice = "onnxruntime"  # of the names that the log knows

    def __init__(self, root: Path) -> None:
        network = build_network("resunet", VersionSpec.read(root).width).eval()
        load_model(network, root / WEIGHTS_FILE)
        self._run = in_torch(network)

    def run(self, images: Images) -> Output:
        """(N, H, W, 3) uint8 → probabilities (N, C, H, W), embedding (N, 64)."""
        return self._run(images)
