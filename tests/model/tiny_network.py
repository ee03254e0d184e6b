"""A width-4 network trained for a few seconds on synthetic nuclei: small, and sure of what it sees."""

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.data.synthetic import Knobs, draw
from resunet.losses import segmentation_loss
from resunet.networks import SegmentationNetwork, build_network
from resunet.networks.graph import normalise

Pixels = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def nuclei(seed: int, height: int = 96, width: int = 96) -> Pixels:
    """(H, W, 3) uint8 fluorescence nuclei, and their mask (H, W) of 0 and 1."""
    rgb, mask = draw(np.random.default_rng(seed), Knobs(stain="fluorescence", size=(128, 129)))
    down, across = -(-height // rgb.shape[0]), -(-width // rgb.shape[1])
    tiled = np.tile(rgb, (down, across, 1))[:height, :width], np.tile(mask, (down, across))[:height, :width]
    return np.ascontiguousarray(tiled[0]), np.ascontiguousarray(np.minimum(tiled[1], 1))


def trained_network(steps: int = 80) -> SegmentationNetwork:
    """Train a binary ResUNet on batches of four 64 px crops; the same call gives the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = build_network("resunet", 4)
    optimizer = torch.optim.AdamW(network.parameters(), 0.02)
    pool = [nuclei(seed, 64, 64) for seed in range(16)]
    # One thread: on a busy machine two wait for each other, and 4 s become 30.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    network.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * min(1.0, (steps - step) / (steps / 2))
        drawn = [pool[(4 * step + place) % len(pool)] for place in range(4)]
        images = torch.from_numpy(np.stack([rgb for rgb, _ in drawn])).permute(0, 3, 1, 2).float()
        masks = torch.from_numpy(np.stack([mask for _, mask in drawn])).long()
        # Contiguous: with channels last, torch 2.13 crashes in float32's backward pass at this width.
        loss = segmentation_loss(network(normalise(images.contiguous())), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    return network.eval()
