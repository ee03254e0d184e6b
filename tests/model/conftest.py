"""Small networks are quickest on one thread: on more, the threads mostly wait for each other.

One that was trained for some seconds is shared by all tests of this folder, with its graph in fp32 and int8.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from evidence_scene import classes, scene, short_measurements
from tiny_network import nuclei, trained_network

from pipelines.version.export import export_graph
from pipelines.version.quantise import quantise
from resunet.networks import SegmentationNetwork, build_network

__all__ = ["classes", "scene", "short_measurements"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Run each test of this folder on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def network() -> SegmentationNetwork:
    return trained_network()


@pytest.fixture(scope="session")
def graph(network: SegmentationNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("with a space") / "model.onnx"
    export_graph(network, 1, path)
    return path


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of a network that was never trained."""
    path = tmp_path_factory.mktemp("other") / "other.onnx"
    torch.manual_seed(5)
    export_graph(build_network("resunet", 4), 1, path)
    return path


@pytest.fixture(scope="session")
def int8(graph: Path) -> Path:
    path = graph.with_name("model.int8.onnx")
    quantise(graph, path, (nuclei(seed)[0] for seed in range(8)), side=96)
    return path
