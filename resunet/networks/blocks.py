"""Blocks that more than one architecture is built from."""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional


class SegmentationNetwork(nn.Module):
    """What every architecture offers to training and export.

    Attributes:
        stride: height and width of the input are multiples of it.
        halo: radius of the receptive field in pixels, rounded up to the stride; None where an operator
            looks at the whole image, so that a tile cannot equal its part of the whole.
        bridge_channels: channels of the deepest feature map.
    """

    stride: ClassVar[int]
    halo: ClassVar[int | None]
    bridge_channels: int

    def __init__(self, width: int, in_channels: int, classes: int) -> None:
        super().__init__()

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, in_channels, H, W) to logits (N, classes, H, W) and the bridge's map (N, C, H/8, W/8)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to logits (N, classes, H, W)."""
        return self.features(images)[0]


def conv3x3(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size at stride 1; its bias is the following batch norm's."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)


def pre_activation(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Batch norm, ReLU, 3x3 convolution: the order of He et al. 2016, "Identity mappings"."""
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), conv3x3(inputs, outputs, stride))


class Projection(nn.Conv2d):
    """A 1x1 convolution that may downsample.

    In training the pixels that a stride leaves out are dropped first: the backward pass of a strided 1x1
    convolution in channels_last corrupts memory in torch 2.13's CPU build for 2 to 15 channels.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H/stride, W/stride)."""
        if not self.training:
            return super().forward(x)
        down, across = self.stride
        return functional.conv2d(x[:, :, ::down, ::across], self.weight)


def shortcut(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """The projection that lets a residual sum change size and channels."""
    return nn.Sequential(Projection(inputs, outputs, stride), nn.BatchNorm2d(outputs))


class ResidualUnit(nn.Module):
    """Two pre-activated 3x3 convolutions beside a projected shortcut; the first may downsample."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(pre_activation(inputs, outputs, stride), pre_activation(outputs, outputs))
        self.shortcut = shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H/stride, W/stride)."""
        total: Tensor = self.body(x) + self.shortcut(x)
        return total


class Stem(nn.Module):
    """The first residual unit: the image itself is not normalised or rectified."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv3x3(inputs, outputs), pre_activation(outputs, outputs))
        self.shortcut = shortcut(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H, W)."""
        total: Tensor = self.body(x) + self.shortcut(x)
        return total
