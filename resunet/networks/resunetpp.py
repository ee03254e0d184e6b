"""ResUNet++: Jha et al., "ResUNet++: an advanced architecture for medical image segmentation", ISM 2019 (figure 2).

A stem and three encoding residual units, each followed by squeeze-and-excitation; atrous spatial pyramid pooling
as the bridge and before the head; attention on the decoder guided by the encoder's map one level up.

Squeeze-and-excitation averages over the whole image, so a tile does not equal its part of the whole: `halo` is
None.
"""

from typing import ClassVar

from torch import Tensor, nn

from resunet.networks.blocks import ResidualUnit, RisingUnit, SegmentationNetwork, Stem, conv3x3, pre_activation


class SqueezeExcite(nn.Module):
    """Channel weights from the image's mean: Hu et al. 2018, reduction 8."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        squeezed = max(1, channels // reduction)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → the same, scaled per channel."""
        scaled: Tensor = x * self.gate(x)
        return scaled


class AtrousPyramid(nn.Module):
    """Sum of 3x3 convolutions with dilation 1, 6, 12 and 18, mixed by a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(conv3x3(inputs, outputs, dilation=rate), nn.BatchNorm2d(outputs)) for rate in (1, 6, 12, 18)
        )
        self.mix = nn.Conv2d(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H, W)."""
        first, *rest = (branch(x) for branch in self.branches)
        mixed: Tensor = self.mix(sum(rest, first))
        return mixed


class Attention(nn.Module):
    """Weights the decoder's map by what the encoder saw at twice its size."""

    def __init__(self, encoder: int, decoder: int) -> None:
        super().__init__()
        self.from_encoder = nn.Sequential(pre_activation(encoder, decoder), nn.MaxPool2d(2))
        self.from_decoder = pre_activation(decoder, decoder)
        self.weight = pre_activation(decoder, decoder)

    def forward(self, encoder: Tensor, decoder: Tensor) -> Tensor:
        """(N, encoder, 2H, 2W), (N, decoder, H, W) → (N, decoder, H, W)."""
        weighted: Tensor = self.weight(self.from_encoder(encoder) + self.from_decoder(decoder)) * decoder
        return weighted


class RisingExcited(nn.Sequential):
    """A residual unit on an upsampled map beside the encoder's, then squeeze-and-excitation."""

    def __init__(self, deep: int, skip: int, outputs: int) -> None:
        super().__init__(RisingUnit(deep, skip, outputs), SqueezeExcite(outputs))

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:  # type: ignore[override]  # two maps come in
        """(N, deep, H, W), (N, skip, 2H, 2W) → (N, outputs, 2H, 2W)."""
        unit, excite = self
        excited: Tensor = excite(unit(deep, skip))
        return excited


class ResUNetPlusPlus(SegmentationNetwork):
    """Stem, three encoders, pyramid bridge, three decoders with attention, pyramid, head.

    Args:
        width: channels of the stem (16 in the authors' release).
        in_channels: channels of the image.
        classes: output channels.
    """

    stride: ClassVar[int] = 8
    halo: ClassVar[int | None] = None

    def __init__(self, width: int, in_channels: int, classes: int) -> None:
        super().__init__(width, in_channels, classes)
        self.bridge_channels = 16 * width
        self.encoder1 = nn.Sequential(Stem(in_channels, width), SqueezeExcite(width))
        self.encoder2 = nn.Sequential(ResidualUnit(width, 2 * width, 2), SqueezeExcite(2 * width))
        self.encoder3 = nn.Sequential(ResidualUnit(2 * width, 4 * width, 2), SqueezeExcite(4 * width))
        self.encoder4 = nn.Sequential(ResidualUnit(4 * width, 8 * width, 2), SqueezeExcite(8 * width))
        self.bridge = AtrousPyramid(8 * width, 16 * width)
        self.attention3 = Attention(4 * width, 16 * width)
        self.decoder3 = RisingExcited(16 * width, 4 * width, 8 * width)
        self.attention2 = Attention(2 * width, 8 * width)
        self.decoder2 = RisingExcited(8 * width, 2 * width, 4 * width)
        self.attention1 = Attention(width, 4 * width)
        self.decoder1 = RisingExcited(4 * width, width, 2 * width)
        self.pyramid = AtrousPyramid(2 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, in_channels, H, W) → logits (N, classes, H, W), bridge (N, 16 width, H/8, W/8)."""
        level1 = self.encoder1(images)
        level2 = self.encoder2(level1)
        level3 = self.encoder3(level2)
        bridge = self.bridge(self.encoder4(level3))
        up3 = self.decoder3(self.attention3(level3, bridge), level3)
        up2 = self.decoder2(self.attention2(level2, up3), level2)
        up1 = self.decoder1(self.attention1(level1, up2), level1)
        return self.head(self.pyramid(up1)), bridge
