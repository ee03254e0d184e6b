"""The network as it is served: raw bytes of pixels in, probabilities and an embedding out.

Normalisation, padding to the stride and cropping happen here and nowhere else, so that no caller can do them
wrongly, and none of them looks at more than a pixel's own value or its nearest border.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from resunet.networks.blocks import SegmentationNetwork

EMBEDDING_SIZE = 64
PIXEL_MEAN, PIXEL_SCALE = 127.5, 63.75


def normalise(images: Tensor) -> Tensor:
    """Bring (N, 3, H, W) grey levels 0 … 255 to -2 … 2, the same for every image."""
    return (images - PIXEL_MEAN) / PIXEL_SCALE


class ServingGraph(nn.Module):
    """uint8 (N, H, W, 3) → probabilities (N, C, H, W) and embedding (N, 64), any H and W.

    The embedding is the mean of the bridge's feature map, brought to 64 numbers by a fixed random projection
    (Johnson & Lindenstrauss 1984), which keeps distances between images.
    """

    projection: Tensor

    def __init__(self, network: SegmentationNetwork, classes: int) -> None:
        super().__init__()
        self.network = network
        self.binary = classes == 1
        seeded = torch.Generator().manual_seed(64)
        matrix = torch.randn(network.bridge_channels, EMBEDDING_SIZE, generator=seeded) / EMBEDDING_SIZE**0.5
        self.register_buffer("projection", matrix)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, 3) uint8 → (N, C, H, W) float32 probabilities, (N, 64) float32 embedding."""
        return self.answer(images, *self.network.features(self.padded(images)))

    def padded(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 → (N, 3, H', W') float32 as the network takes it, H' and W' multiples of its stride."""
        height, width, stride = images.shape[1], images.shape[2], self.network.stride
        pixels = self.scaled(images.permute(0, 3, 1, 2).to(torch.float32))
        return functional.pad(pixels, (0, -width % stride, 0, -height % stride), mode="replicate")

    def answer(self, images: Tensor, logits: Tensor, bridge: Tensor) -> tuple[Tensor, Tensor]:
        """What the network says of `padded(images)`: probabilities of the size of `images`, and the embedding."""
        logits = logits[:, :, : images.shape[1], : images.shape[2]]
        probabilities = torch.sigmoid(logits) if self.binary else torch.softmax(logits, dim=1)
        return probabilities, bridge.mean(dim=(2, 3)) @ self.projection

    def scaled(self, images: Tensor) -> Tensor:
        """Grey levels as the network expects them."""
        return normalise(images)
