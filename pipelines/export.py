"""From a trained network to the files of a version: the ONNX graph and the weights.

    export_graph(network, classes=1, path=root / GRAPH_FILE)
    export_weights(network, root / WEIGHTS_FILE)

The graph takes `images`, uint8 (N, H, W, 3) of any size from 16 pixels, and gives `probabilities`, float32
(N, C, H, W), and `embedding`, float32 (N, 64). The same weights give the same bytes.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from safetensors.torch import save_file

from resunet.networks import SegmentationNetwork
from resunet.networks.served import ServedGraph
from serving.version import TileSpec

# Whole images up to this are one call to the engine; larger ones are cut. On a 2600² image at width 16, ONNX
# Runtime peaked at 444 MB with a core of 512 and at 949 MB with 1024.
WHOLE_SIDE, TILE_CORE = 1024, 512
# An architecture that cannot be tiled runs whole up to this; above it, a request is answered 413.
WHOLE_SIDE_UNTILEABLE = 2048
# The newest opset that ONNX Runtime 1.31 and OpenVINO 2026.4 were both seen to run without converting it.
OPSET = 20
_AXES = ("batch", "height", "width")


def export_graph(network: SegmentationNetwork, classes: int, path: Path) -> None:
    """Write a trained network as one ONNX file with normalisation, padding and cropping inside.

    Args:
        network: trained; it is copied, brought to the CPU, to float32 and to evaluation mode.
        classes: output channels; 1 is binary (sigmoid), more are softmax over the classes.
        path: file to write.
    """
    graph = ServedGraph(network, classes)
    # Odd sizes and two images: sizes that the exporter takes for constants or for multiples fail here.
    example = torch.zeros(2, 97, 131, 3, dtype=torch.uint8)
    dynamic = {"images": dict(enumerate([torch.export.Dim.DYNAMIC] * 3))}
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            (example,),
            input_names=["images"],
            output_names=["probabilities", "embedding"],
            dynamic_shapes=dynamic,
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _tidy(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def export_weights(network: SegmentationNetwork, path: Path) -> None:
    """Write the weights as safetensors, under the names that `load_state_dict` expects."""
    state = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
    save_file(state, str(path))


def tile_spec(network: SegmentationNetwork) -> TileSpec:
    """How images that are too large for one call are cut for a network; not at all where it looks at the whole one."""
    halo = network.halo
    return TileSpec(
        tileable=halo is not None,
        halo=halo or 0,
        stride=network.stride,
        core=TILE_CORE,
        whole_side=WHOLE_SIDE if halo is not None else WHOLE_SIDE_UNTILEABLE,
    )


def _tidy(model: onnx.ModelProto) -> None:
    """Name the free axes, and drop the exporter's notes: they hold stack traces with paths of this machine."""
    graph = model.graph
    images, (probabilities, embedding) = graph.input[0], graph.output
    for value, names in (
        (images, _AXES),
        (probabilities, ("batch", "", "height", "width")),
        (embedding, _AXES[:1]),
    ):
        for axis, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
            if name:
                axis.dim_param = name
    # Inner shapes are formulas of the outer ones, which no engine needs.
    del graph.value_info[:]
    del model.metadata_props[:]
    model.doc_string = graph.doc_string = ""
    for item in (*graph.input, *graph.output, *graph.node, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
    del graph.metadata_props[:]
    model.producer_version = ""


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own deprecations and of packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
