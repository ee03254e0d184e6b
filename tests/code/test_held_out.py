"""Dice of a network on whole images, however large."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipelines.training.held_out import TILE_CORE, WHOLE_SIDE, centre, whole_image_dice
from resunet.metrics import dice
from resunet.networks import SegmentationNetwork, build_network
from resunet.networks.graph import ServingGraph


@pytest.fixture(scope="module")
def network() -> SegmentationNetwork:
    """Untrained, but no constant: about half of its pixels are foreground."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = build_network("resunet", 2).train()
        noise = torch.randn(2, 3, 64, 64)
        for _ in range(30):
            network(noise)
    return network.eval()


def _picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _answer(network: SegmentationNetwork, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    with torch.inference_mode():
        found = ServingGraph(network, 1).eval()(torch.from_numpy(rgb)[None])[0][0, 0].numpy()
    return np.asarray(found >= 0.5, np.uint8)


def test_an_image_that_is_cut_scores_as_if_it_were_whole(
    network: SegmentationNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = _picture(WHOLE_SIDE - 200, WHOLE_SIDE + 30)
    truth = _answer(network, rgb)
    assert 0.1 < truth.mean() < 0.9
    shapes: list[tuple[int, ...]] = []
    forward = ServingGraph.forward

    def look(graph: ServingGraph, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shapes.append(tuple(images.shape))
        return forward(graph, images)

    monkeypatch.setattr(ServingGraph, "forward", look)
    assert whole_image_dice(network, 1, [(rgb, truth)]) == [pytest.approx(1, abs=1e-4)]
    assert len(shapes) == 6 and max(max(shape) for shape in shapes) <= TILE_CORE + 2 * (network.halo or 0)


def test_all_of_an_image_is_scored_and_not_its_centre(network: SegmentationNetwork) -> None:
    rgb = _picture(97, 640)
    truth = _answer(network, rgb)
    truth[:, :64] = 1 - truth[:, :64]
    told: list[int] = []
    (found,) = whole_image_dice(network, 1, [(rgb, truth)], advance=told.append)
    assert found == pytest.approx(dice(_answer(network, rgb), truth)) and found < 0.95
    assert told == [1]
    assert centre(truth, 512).shape == (97, 512)


def test_classes_are_told_apart() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network("resunet", 2, classes=3).eval()
    rgb = _picture(40, 40)
    with torch.inference_mode():
        found = ServingGraph(network, 3).eval()(torch.from_numpy(rgb)[None])[0][0].numpy().argmax(axis=0)
    assert whole_image_dice(network, 3, [(rgb, found.astype(np.uint8))]) == [1]
