"""Dice of a network on images that it was not trained on, in torch: centres while it trains, whole images after.

    whole_image_dice(fitted.network, classes=1, images=store)

A version is scored by `evaluate`, through the file that serves. This is for what never becomes a version.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.training.batches import PixelsByIndex
from resunet.images import MIN_SIDE
from resunet.metrics import dice
from resunet.networks import SegmentationNetwork
from resunet.networks.graph import ServingGraph
from resunet.tiling import tiles

# Above this an image is cut, if the network allows; a tile keeps so much. A tile equals its part of the whole, so
# that these decide how much memory is taken and nothing else.
WHOLE_SIDE, TILE_CORE = 1024, 512


def centre(array: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The central part of (H, W, …) with both sides at most `side`."""
    height, width = array.shape[:2]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return array[top : top + side, left : left + side]


def predicted_classes(graph: ServingGraph, rgb: NDArray[np.uint8], device: torch.device) -> NDArray[np.uint8]:
    """The class index of each pixel, (H, W), of an image (H, W, 3) that is computed in one piece."""
    images = torch.from_numpy(np.array(rgb)).to(device)
    found = graph(images[None])[0][0].float().cpu().numpy()
    return np.asarray(found[0] >= 0.5 if len(found) == 1 else found.argmax(axis=0), np.uint8)


def whole_image_dice(
    network: SegmentationNetwork,
    classes: int,
    images: PixelsByIndex,
    *,
    advance: Callable[[int], None] = lambda done: None,
) -> list[float]:
    """Dice of each image, all of it: large ones in tiles that are cropped, as they would be served.

    Args:
        network: trained, on the CPU, in float32.
        classes: its output channels.
        images: with their masks; one that the network cannot be tiled over is computed in one piece.
        advance: told how many images were done.
    """
    graph = ServingGraph(network, classes).eval()
    scores = []
    with torch.inference_mode():
        for index in range(len(images)):
            rgb, mask = images[index]
            scores.append(dice(_whole_mask(graph, rgb), mask))
            advance(1)
    return scores


def _whole_mask(graph: ServingGraph, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    network, device = graph.network, torch.device("cpu")
    height, width = rgb.shape[:2]
    if network.halo is None or max(height, width) <= WHOLE_SIDE:
        return predicted_classes(graph, rgb, device)
    mask = np.empty((height, width), np.uint8)
    for tile in tiles(height, width, TILE_CORE, max(network.halo, MIN_SIDE), network.stride):
        mask[tile.keep] = predicted_classes(graph, rgb[tile.read], device)[tile.crop]
    return mask
