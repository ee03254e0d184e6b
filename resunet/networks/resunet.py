"""ResUNet: Zhang, Liu & Wang, "Road extraction by deep residual U-Net", IEEE GRSL 2018 (table I, figure 2).

Three encoding levels, a bridge and three decoding levels of residual units; downsampling by strided
convolutions, nearest upsampling, concatenation with the encoder's map of the same size, a 1x1 convolution.

Where it differs from the paper: shortcuts that change the number of channels are 1x1 convolutions with batch
norm (the paper's figure draws them, its count of 7.8 M parameters leaves them out; with them there are 8.2 M at
width 64), and it returns logits instead of probabilities.
"""

from typing import ClassVar

from torch import Tensor, nn

from resunet.networks.blocks import ResidualUnit, RisingUnit, SegmentationNetwork, Stem


class ResUNet(SegmentationNetwork):
    """Encoder of three levels, bridge, decoder of three levels.

    Args:
        width: channels of the first level (64 in the paper).
        in_channels: channels of the image.
        classes: output channels.
    """

    stride: ClassVar[int] = 8
    # The receptive field reaches 44 px (measured by gradients in tests/model); rounded up to the stride.
    halo: ClassVar[int | None] = 48

    def __init__(self, width: int, in_channels: int, classes: int) -> None:
        super().__init__(width, in_channels, classes)
        self.bridge_channels = 8 * width
        self.encoder1 = Stem(in_channels, width)
        self.encoder2 = ResidualUnit(width, 2 * width, stride=2)
        self.encoder3 = ResidualUnit(2 * width, 4 * width, stride=2)
        self.bridge = ResidualUnit(4 * width, 8 * width, stride=2)
        self.decoder3 = RisingUnit(8 * width, 4 * width, 4 * width)
        self.decoder2 = RisingUnit(4 * width, 2 * width, 2 * width)
        self.decoder1 = RisingUnit(2 * width, width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, in_channels, H, W) → logits (N, classes, H, W), bridge (N, 8 width, H/8, W/8)."""
        level1 = self.encoder1(images)
        level2 = self.encoder2(level1)
        level3 = self.encoder3(level2)
        bridge = self.bridge(level3)
        up3 = self.decoder3(bridge, level3)
        up2 = self.decoder2(up3, level2)
        up1 = self.decoder1(up2, level1)
        return self.head(up1), bridge
