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

import numpy as np
import onnx
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from resunet.networks import SegmentationNetwork
from resunet.networks.served import ServedGraph
from serving.engine import open_engine
from serving.version import TileSpec

# Whole images up to this are one call to the engine; larger ones are cut. On a 2600² image at width 16, ONNX
# Runtime peaked at 444 MB with a core of 512 and at 949 MB with 1024.
WHOLE_SIDE, TILE_CORE = 1024, 512
# An architecture that cannot be tiled runs whole up to this; above it, a request is answered 413.
WHOLE_SIDE_UNTILEABLE = 2048
# The newest opset that ONNX Runtime 1.31 and OpenVINO 2026.4 were both seen to run without converting it.
OPSET = 20
_AXES = ("batch", "height", "width")
# Odd, so that the exporter takes none for a multiple of another; and what the file is tried at, with three images for
# two.
_SIZE, _OTHER_SIZE = (97, 131), (45, 60)
_MOST_OFF = 1e-3


def export_graph(network: SegmentationNetwork, classes: int, path: Path) -> None:
    """Write a trained network as one ONNX file with normalisation, padding and cropping inside.

    Args:
        network: trained; it is copied, brought to the CPU, to float32 and to evaluation mode.
        classes: output channels; 1 is binary (sigmoid), more are softmax over the classes.
        path: file to write.

    Raises:
        RuntimeError: the file would not answer as the network does; there is none then.
    """
    graph = ServedGraph(network, classes)
    images = torch.zeros(2, *_SIZE, 3, dtype=torch.uint8)
    with _quiet(), torch.no_grad():
        padded = graph.padded(images).contiguous()  # in channels_last a pooled map has its strides written down
        logits, bridge = graph.network.features(padded)
        # Nothing in a network depends on sizes but what the engine sees for itself. With free sizes each of its shapes
        # is a formula of the padding's, and the exporter takes three times as long.
        features = _exported(_Features(graph), {"padded": padded}, ["logits", "bridge"], dynamic=False)
        around = _exported(
            _Around(graph),
            {"images": images, "logits": logits, "bridge": bridge},
            ["padded", "probabilities", "embedding"],
            dynamic=True,
        )
    model = _joined(around, features)
    _tidy(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    try:
        _check(graph, path)
    except BaseException:
        path.unlink()
        raise


def _check(graph: ServedGraph, path: Path) -> None:
    """See that no size of the example became a part of the file.

    Raises:
        RuntimeError: at another size and number of images the file does not answer as the graph does.
    """
    engine = open_engine("onnxruntime", path, "fp32", threads=1)
    seeded = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, *_OTHER_SIZE, 3), generator=seeded, dtype=torch.uint8)
    with torch.inference_mode():
        expected = [value.numpy() for value in graph(images)]
    answered = engine.run(images.numpy())
    if not all(
        one.shape == other.shape and np.allclose(one, other, atol=_MOST_OFF, equal_nan=True)
        for one, other in zip(answered, expected, strict=True)
    ):
        raise RuntimeError(
            "the exported graph does not answer as the network does at sizes that it was not exported at"
        )


class _Part(nn.Module):
    """Something of a graph that is exported by itself."""

    def __init__(self, graph: ServedGraph) -> None:
        super().__init__()
        self.whole = graph  # `graph` is the name of something of torch.fx


class _Features(_Part):
    """The network."""

    def forward(self, padded: Tensor) -> tuple[Tensor, Tensor]:
        return self.whole.network.features(padded)


class _Around(_Part):
    """All else: what the network is given, and what becomes of what it gives."""

    def forward(self, images: Tensor, logits: Tensor, bridge: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.whole.padded(images), *self.whole.answer(images, logits, bridge)


def _exported(part: nn.Module, inputs: dict[str, Tensor], outputs: list[str], *, dynamic: bool) -> onnx.ModelProto:
    """A part of the graph; dynamic: every size is free but those of channels and classes."""
    free = {
        name: dict.fromkeys((0, 1, 2) if name == "images" else (0, 2, 3), torch.export.Dim.DYNAMIC) for name in inputs
    }
    program = torch.onnx.export(
        part.eval(),
        tuple(inputs.values()),
        input_names=list(inputs),
        output_names=outputs,
        dynamic_shapes=free if dynamic else None,
        dynamo=True,
        opset_version=OPSET,
        external_data=False,
        verbose=False,
    )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


def _joined(around: onnx.ModelProto, features: onnx.ModelProto) -> onnx.ModelProto:
    """One graph of the two, which share the names of what passes between them."""
    shared = {value.name for part in (around, features) for value in (*part.graph.input, *part.graph.output)}
    for prefix, part in (("", around), ("network/", features)):
        for node in part.graph.node:
            for names in (node.input, node.output):
                names[:] = [name if name in shared or not name else prefix + name for name in names]
        for item in (*part.graph.node, *part.graph.initializer):
            item.name = prefix + item.name
    before: list[onnx.NodeProto] = []
    after: list[onnx.NodeProto] = []
    late = {value.name for value in features.graph.output}
    for node in around.graph.node:  # in the order in which they are computed
        if late.isdisjoint(node.input):
            before.append(node)
        else:
            after.append(node)
            late.update(node.output)
    whole = onnx.ModelProto()
    whole.CopyFrom(around)
    graph = whole.graph
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend([*before, *features.graph.node, *after])
    graph.initializer.extend(features.graph.initializer)
    graph.input.extend(value for value in around.graph.input if value.name == "images")
    graph.output.extend(value for value in around.graph.output if value.name != "padded")
    return whole


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
