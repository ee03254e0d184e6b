"""Which file serves is decided by what is measured: on all of validation, by the rules of the contract."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_network import nuclei

from pipelines.data.labelled import LabelledImage
from pipelines.version.parity import Runner
from pipelines.version.serving_file import Candidate, _choose, _engines, choose_serving_file, refusal
from resunet.errors import DataError, VersionError
from resunet.networks import SegmentationNetwork
from serving.version import Precision


def _labelled(seeds: range) -> list[LabelledImage]:
    return [LabelledImage(f"images/{seed}.png", None, {}, *nuclei(seed)) for seed in seeds]


def test_the_choice_tells_what_every_engine_measured(network: SegmentationNetwork, graph: Path, int8: Path) -> None:
    seen: list[int] = []
    choice = choose_serving_file(network, 1, _labelled(range(80, 86)), fp32=graph, int8=int8, advance=seen.append)
    measured = {(c.precision, c.engine): c for c in choice.candidates}
    assert measured["fp32", "onnxruntime"].pixel_agreement >= 0.9999
    assert not measured["fp32", "onnxruntime"].refused
    assert (choice.images, sum(seen)) == (6, 12)
    assert choice.engines["onnxruntime"].eligible
    assert choice.path == (int8 if choice.precision == "int8" else graph)
    served = [c for c in choice.candidates if c.precision == choice.precision and not c.refused]
    assert served
    assert all(c.latency_ms > 0 for c in choice.candidates)


def test_int8_that_costs_dice_does_not_serve(network: SegmentationNetwork, graph: Path, other: Path) -> None:
    choice = choose_serving_file(network, 1, _labelled(range(80, 83)), fp32=graph, int8=other)
    assert choice.precision != "int8"
    assert all("Dice" in c.refused for c in choice.candidates if c.precision == "int8")


def test_a_graph_that_is_not_the_network_is_refused(network: SegmentationNetwork, other: Path) -> None:
    with pytest.raises(VersionError, match="not the network"):
        choose_serving_file(network, 1, _labelled(range(80, 82)), fp32=other)


def test_parity_is_measured_within_the_pixel_budget(network: SegmentationNetwork, graph: Path) -> None:
    seen: list[int] = []
    choice = choose_serving_file(
        network, 1, _labelled(range(80, 90)), fp32=graph, pixel_budget=2 * 96 * 96, advance=seen.append
    )
    measured = {c.precision: c.images for c in choice.candidates}
    assert measured.pop(choice.precision) == choice.images == 10
    assert set(measured.values()) <= {2}
    assert sum(seen) == 20
    with pytest.raises(DataError, match="validation split is empty"):
        choose_serving_file(network, 1, [], fp32=graph)


@pytest.fixture
def int8_is_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine measures: int8 takes 1 ms, bf16 2, fp32 3."""
    order: list[Precision] = ["int8", "bf16", "fp32"]

    def time_side_by_side(runners: Sequence[Runner]) -> None:
        for runner in runners:
            runner.times.append(1.0 + order.index(runner.precision))

    monkeypatch.setattr("pipelines.version.serving_file.time_side_by_side", time_side_by_side)


def _blind_to_light(graph: Path, target: Path) -> Path:
    """The same graph, which takes every level above 31 for 31."""
    model = onnx.load(graph)
    for node in model.graph.node:
        node.input[:] = ["limited" if name == "images" else name for name in node.input]
    model.graph.node.insert(0, onnx.helper.make_node("Min", ["images", "limit"], ["limited"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.uint8([31]), "limit"))
    onnx.save(model, target)
    return target


@pytest.mark.usefixtures("int8_is_fastest")
@pytest.mark.parametrize("where", ["beyond the budget", "beyond the centre"])
def test_a_file_that_fails_on_the_rest_of_validation_gives_way_to_the_next(
    network: SegmentationNetwork, graph: Path, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What passes for int8 is exact on dark images; the one bright image comes last."""
    int8 = _blind_to_light(graph, tmp_path / "int8.onnx")
    monkeypatch.setattr("pipelines.version.serving_file.MIN_PIXEL_AGREEMENT", 0.999)
    bright = _labelled(range(80, 81))[0]
    images = [image._replace(rgb=image.rgb // 8) for image in _labelled(range(81, 86))]
    if where == "beyond the budget":
        images.append(bright)
    else:
        monkeypatch.setattr("pipelines.version.serving_file.MAX_SIDE", 96)
        around = np.concatenate([bright.rgb, bright.rgb // 8, bright.rgb])
        images.append(bright._replace(rgb=around, mask=np.concatenate([bright.mask] * 3)))
    good = choose_serving_file(network, 1, images[:-1], fp32=graph, int8=int8)
    assert good.precision == "int8"
    budget = 5 * 96 * 96 if where == "beyond the budget" else 1 << 30
    choice = choose_serving_file(network, 1, images, fp32=graph, int8=int8, pixel_budget=budget)
    assert choice.precision != "int8" and choice.path == graph
    refused = [c for c in choice.candidates if c.precision == "int8"]
    assert {c.images for c in refused} == {6} and all(c.refused for c in refused)
    assert choice.images == 6


def test_a_less_exact_precision_must_be_clearly_faster() -> None:
    exact = Candidate("fp32", "onnxruntime", 100, 0.9, 1, 1, 1)

    def other(precision: Precision, latency_ms: float, refused: str = "") -> Candidate:
        return replace(exact, precision=precision, engine="openvino", latency_ms=latency_ms, refused=refused)

    assert _choose([exact]) == "fp32"
    assert _choose([exact, other("bf16", 98)]) == "fp32"
    assert _choose([exact, other("bf16", 50)]) == "bf16"
    assert _choose([exact, other("bf16", 50), other("int8", 40)]) == "int8"
    assert _choose([exact, other("bf16", 50), other("int8", 49)]) == "bf16"
    assert _choose([exact, other("bf16", 50, "masks differ"), other("int8", 60)]) == "int8"


def test_int8_that_one_engine_may_not_run_is_run_by_none_of_that_kind() -> None:
    """ONNX Runtime serves wherever no other engine can: int8 that it may not run never serves."""
    exact = Candidate("fp32", "onnxruntime", 100, 0.9, 1, 1, 1)
    slow = replace(exact, precision="int8", latency_ms=110)
    quick = replace(slow, engine="openvino", latency_ms=40)
    assert _choose([exact, slow, quick]) == "int8"
    assert _choose([exact, replace(slow, refused="costs 0.0100 Dice"), quick]) == "fp32"
    assert _choose([exact, slow, replace(quick, refused="costs 0.0100 Dice")]) == "fp32"
    engines = _engines("int8", [exact, slow, replace(quick, refused="a mask has a Dice of 0.970 with torch fp32's")])
    assert (engines["onnxruntime"].eligible, engines["openvino"].eligible) == (True, False)


def test_the_rules_of_each_precision_are_those_of_the_contract() -> None:
    good = {"dice_cost": 0.005, "pixel_agreement": 0.9999, "lowest_mask_dice": 0.98, "engine_agreement": 0.9999}
    for precision in ("fp32", "bf16", "int8"):
        assert refusal(precision, **good) == ""  # type: ignore[arg-type]
        assert "ONNX Runtime" in refusal(precision, **(good | {"engine_agreement": 0.9998}))  # type: ignore[arg-type]
    assert "0.0060 Dice" in refusal("int8", **(good | {"dice_cost": 0.006}))
    assert "0.970" in refusal("int8", **(good | {"lowest_mask_dice": 0.97}))
    assert refusal("int8", **(good | {"pixel_agreement": 0.995})) == ""
    assert "torch" in refusal("bf16", **(good | {"pixel_agreement": 0.9998}))
    assert refusal("bf16", **(good | {"lowest_mask_dice": 0.9})) == ""
