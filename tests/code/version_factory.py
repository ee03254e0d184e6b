"""Complete little versions for tests: a 3x3 convolution that finds bright spots, in the contract's shape.

spec = write_version(tmp_path / "version")
uri = register_version(tmp_path / "version", tmp_path / "store")
"""

from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from serving.engine import open_engine
from serving.golden import make_golden
from serving.predictor import Predictor
from serving.version import Calibration, EngineMeasurement, TileSpec, VersionSpec

ROOT = Path(__file__).resolve().parents[2]


def write_graph(path: Path, classes: int = 1, seed: int = 0, least_side: int = 0) -> None:
    """uint8 (N, H, W, 3) → probabilities (N, C, H, W) and embedding (N, 64), any N, and H and W of at least that."""
    rng = np.random.default_rng(seed)
    channels = max(classes, 1)
    weight = rng.normal(0, 0.15, (channels, 3, 3, 3)).astype(np.float32)
    weight += (0.6 * (np.arange(channels) + 1) if classes > 1 else np.array([0.6]))[:, None, None, None]
    bias = np.array([-1.5 * c * (c + 1) for c in range(channels)] if classes > 1 else [0.0], np.float32)
    constants = {
        "middle": np.float32(100),
        "scale": np.float32(80),
        "weight": weight.astype(np.float32),
        "bias": bias,
        "features": rng.normal(0, 0.3, (64, 3, 1, 1)).astype(np.float32),
        "axes": np.array([2, 3], np.int64),
        "last": np.array([max(0, least_side - 1)], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["planes", "middle"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["normal"]),
        helper.make_node("Conv", ["normal", "weight", "bias"], ["logits"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"])
        if classes == 1
        else helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        *_least(least_side),
        helper.make_node("Conv", ["large" if least_side else "normal", "features"], ["maps"]),
        helper.make_node("ReduceMean", ["maps", "axes"], ["embedding"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "bright_spots",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", "h", "w", 3])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", channels, "h", "w"]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 64]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _least(side: int) -> list[onnx.NodeProto]:
    """Row number `side - 1` of the image is looked up: a smaller one has none, and ONNX Runtime fails."""
    return [helper.make_node("Gather", ["normal", "last"], ["large"], axis=2)] if side else []


def make_spec(
    classes: int = 1,
    *,
    tileable: bool = True,
    whole_side: int = 256,
    core: int = 64,
    temperature: float = 1.5,
    engines: dict[str, EngineMeasurement] | None = None,
) -> VersionSpec:
    measured = EngineMeasurement(eligible=True, pixel_agreement=1.0, latency_ms=1.0)
    return VersionSpec(
        architecture="bright_spots",
        width=1,
        class_names=["spot"] if classes == 1 else ["background", "dim", "bright"][:classes],
        precision="fp32",
        tile=TileSpec(tileable=tileable, halo=8, stride=8, core=core, whole_side=whole_side),
        calibration=Calibration(
            temperature=temperature,
            confidence_x=[0.0, 1.0],
            confidence_y=[0.1, 0.95],
            conformal_halfwidth=0.1,
            images=3,
        ),
        engines={"onnxruntime": measured} if engines is None else engines,
    )


def write_version(root: Path, classes: int = 1, spec: VersionSpec | None = None, least_side: int = 0) -> VersionSpec:
    """A version's folder with spec, graph and golden files; it fails on images of a side below `least_side`."""
    root.mkdir(parents=True, exist_ok=True)
    spec = spec or make_spec(classes)
    write_graph(root / spec.serving_file, classes, least_side=least_side)
    spec.write(root)
    engine = open_engine("onnxruntime", root / spec.serving_file, spec.precision)
    make_golden(Predictor(spec, engine), root, draw(128, 160))
    return spec


def register_version(
    root: Path, store: Path, name: str = "resunet", signing_key: Path | None = None
) -> tuple[str, str]:
    """Log and register a version's folder, as a training does, in a SQLite store below `store`.

    Returns:
        The tracking URI and the model's URI, `models:/<name>/1`.
    """
    import mlflow
    from mlflow import MlflowClient

    from pipelines.runs import register
    from serving.requirements import model_requirements

    store.mkdir(parents=True, exist_ok=True)
    tracking_uri = f"sqlite:///{store / 'mlflow.db'}"
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_uri)
    try:
        client = MlflowClient()
        experiment = client.create_experiment(name, artifact_location=(store / "artifacts").as_uri())
        with mlflow.start_run(experiment_id=experiment) as run:
            logged = register.log_version(root, model_requirements(ROOT / "pyproject.toml"), signing_key=signing_key)
        number = register.register_version(client, logged, name, run.info.run_id, {})
    finally:
        mlflow.set_tracking_uri(before)
    return tracking_uri, f"models:/{name}/{number}"


def draw(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: bright discs on a dark, noisy ground."""
    rng = np.random.default_rng(seed)
    image = rng.normal(40, 10, (height, width, 3))
    for _ in range(max(3, height * width // 3000)):
        row, column, radius = (int(value) for value in (rng.integers(height), rng.integers(width), rng.integers(4, 12)))
        part = np.s_[max(0, row - radius) : row + radius, max(0, column - radius) : column + radius]
        rows, columns = np.ogrid[:height, :width]
        disc = (rows[part[0]] - row) ** 2 + (columns[:, part[1]] - column) ** 2 < radius**2
        image[part][disc] += rng.integers(60, 140)
    return image.clip(0, 255).astype(np.uint8)


def encode(rgb: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    """An image file's bytes."""
    buffer = BytesIO()
    Image.fromarray(rgb).save(buffer, kind)
    return buffer.getvalue()
