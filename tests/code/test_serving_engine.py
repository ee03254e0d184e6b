"""An engine takes the memory of the largest image, however many sizes it has seen; a GPU is used where one asks."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from version_factory import ROOT, make_spec

from resunet.errors import SettingsError
from serving.engine import HeldShapes, choose_engine, is_installed, open_engine

ENGINES = [name for name in ("onnxruntime", "openvino") if importlib.util.find_spec(name)]
FIRST, SIZES = 200, 600
LAYERS = 30
# Measured from the 200th size to the 600th: 5 MB, and 180 MB without the bound.
MOST_MB = 40

PROGRAM = """
import sys
from pathlib import Path
import numpy as np, psutil
from serving.engine import open_engine

engine = open_engine(sys.argv[1], Path(sys.argv[2]), "fp32", threads=1)
first, count = map(int, sys.argv[3:])
sizes = [(16 + 7 * n % 113, 16 + 11 * n % 127) for n in range(count)]
assert len(set(sizes)) == count
rss = []
for _ in range(4):
    engine.run(np.zeros((1, 160, 160, 3), np.uint8))
for size in sizes:
    engine.run(np.zeros((1, *size, 3), np.uint8))
    rss.append(psutil.Process().memory_info().rss)
print((rss[-1] - rss[first]) / 1e6)
"""


def write_deep_graph(path: Path) -> None:
    """A chain of convolutions in the contract's shape: what is kept for a shape is kept for each layer."""
    weights = np.random.default_rng(0).normal(0, 0.2, (LAYERS, 8, 8, 3, 3)).astype(np.float32)
    first = helper.make_node("Conv", ["planes", "first"], ["x0"], pads=[1, 1, 1, 1])
    chain = [
        node
        for n in range(LAYERS)
        for node in (
            helper.make_node("Conv", [f"x{n}", f"w{n}"], [f"c{n}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{n}"], [f"x{n + 1}"]),
        )
    ]
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        first,
        *chain,
        helper.make_node("Sigmoid", [f"x{LAYERS}"], ["sure"]),
        helper.make_node("ReduceMean", ["sure", "channel"], ["probabilities"], keepdims=1),
        helper.make_node("Conv", [f"x{LAYERS}", "features"], ["maps"]),
        helper.make_node("ReduceMean", ["maps", "sides"], ["embedding"], keepdims=0),
    ]
    constants = {f"w{n}": weights[n] for n in range(LAYERS)} | {
        "first": np.full((8, 3, 1, 1), 0.01, np.float32),
        "features": np.full((64, 8, 1, 1), 0.1, np.float32),
        "channel": np.array([1], np.int64),
        "sides": np.array([2, 3], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "deep",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", "h", "w", 3])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 1, "h", "w"]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 64]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


@pytest.mark.parametrize("engine", ENGINES)
def test_hundreds_of_sizes_take_no_more_memory_than_the_first_few(tmp_path: Path, engine: str) -> None:
    write_deep_graph(tmp_path / "deep.onnx")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, engine, str(tmp_path / "deep.onnx"), str(FIRST), str(SIZES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) < MOST_MB


CROWD = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
import numpy as np, psutil
from serving.engine import open_engine

engine = open_engine(sys.argv[1], Path(sys.argv[2]), "fp32", threads=1)
before = psutil.Process().memory_info().rss

def taken_by(callers):
    together = Barrier(callers)

    def call(_):
        image = np.zeros((1, 512, 512, 3), np.uint8)
        together.wait()
        for _ in range(2):  # what the first of a shape takes may be given back
            engine.run(image)

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(call, range(callers)))
    return psutil.Process().memory_info().rss - before

one = taken_by(1)
print(taken_by(10) / one)
"""


def test_memory_that_another_call_was_using_is_given_back_by_the_next() -> None:
    shapes, large, small = HeldShapes(), (1, 1024, 1024, 3), (1, 256, 256, 3)
    with shapes.running(large) as others:
        assert not others
        with shapes.running(small) as others:
            assert others  # and in vain: the other is at work
    with shapes.running(small) as others:
        assert others
    with shapes.running(small) as others:
        assert not others


@pytest.mark.parametrize("name", ENGINES)
def test_ten_callers_take_the_memory_of_two(name: str, tmp_path: Path) -> None:
    write_deep_graph(tmp_path / "deep.onnx")
    ratio = subprocess.run(
        [sys.executable, "-c", CROWD, name, str(tmp_path / "deep.onnx")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    assert float(ratio.stdout) < 2.5


class Session:
    """A session of ONNX Runtime that got what it was asked for, or fell back."""

    def __init__(self, falls_back: bool, asked: list[object]) -> None:
        self._falls_back, self._asked = falls_back, asked

    def __call__(self, path: str, options: object, providers: list[object]) -> "Session":
        self._asked += providers
        return self

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"] if self._falls_back else ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture
def asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The providers that a session is opened with, where ONNX Runtime knows CUDA."""
    providers: list[object] = []
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr("onnxruntime.InferenceSession", Session(request.param, providers))
    return providers


@pytest.mark.parametrize("asked", [False], indirect=True)
def test_a_gpu_computes_as_exactly_as_a_cpu(asked: list[object], tmp_path: Path) -> None:
    write_deep_graph(tmp_path / "deep.onnx")
    assert choose_engine(make_spec(engines={}), "cuda") == "cuda"
    assert open_engine("cuda", tmp_path / "deep.onnx", "fp32").name == "cuda"
    assert asked == [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]


@pytest.mark.parametrize("asked", [True], indirect=True)
def test_a_gpu_that_cannot_be_used_is_not_replaced_in_silence(asked: list[object], tmp_path: Path) -> None:
    write_deep_graph(tmp_path / "deep.onnx")
    with pytest.raises(SettingsError, match="cannot use a GPU here"):
        open_engine("cuda", tmp_path / "deep.onnx", "fp32")


@pytest.mark.skipif(is_installed("cuda"), reason="this ONNX Runtime has CUDA")
def test_an_onnx_runtime_without_cuda_says_what_to_install(tmp_path: Path) -> None:
    write_deep_graph(tmp_path / "deep.onnx")
    with pytest.raises(SettingsError, match="pip install onnxruntime-gpu"):
        open_engine("cuda", tmp_path / "deep.onnx", "fp32")
    with pytest.raises(SettingsError, match="openvino or cuda"):
        choose_engine(make_spec(), "tpu")
