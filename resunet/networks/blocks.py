"""Blocks that more than one architecture is built from.

Sums are taken in place: neither a convolution nor a batch norm needs its result to go backwards.
"""

from typing import Any, ClassVar

import torch
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


def shortcut(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """The projection that lets a residual sum change size and channels."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class _Thinned(torch.autograd.Function):
    """A map for the body of a unit, and every n-th pixel of it for its shortcut.

    The pixels that a stride leaves out are dropped first: the backward pass of a strided 1x1 convolution in
    channels_last corrupts memory in torch 2.13's CPU build for 2 to 15 channels. Backwards the gradient of the few
    pixels is added to that of all where they lie. A slice would fill a map with zeros for them, and autograd would add
    all of it: a fiftieth of a training step.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) → itself, (N, C, H/step, W/step)."""
        ctx.step = step
        return x.view_as(x), x[:, :, ::step, ::step]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """In place: what a batch norm made of its gradient is nobody else's."""
        whole, few = gradients
        whole[:, :, :: ctx.step, :: ctx.step].add_(few)
        return whole, None


class _Residual(nn.Module):
    """Two pre-activated 3x3 convolutions and a projected shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(pre_activation(inputs, outputs, stride), pre_activation(outputs, outputs))
        self.shortcut = shortcut(inputs, outputs, stride)

    def _total(self, x: Tensor) -> Tensor:
        norm, projection = norm_and_conv(self.shortcut)
        step = projection.stride[0]
        if self.training and step > 1:
            x, few = _Thinned.apply(x, step)  # type: ignore[no-untyped-call]  # not in the stubs
            beside = norm(functional.conv2d(few, projection.weight))
        else:
            beside = self.shortcut(x)
        total: Tensor = self.body(x).add_(beside)
        return total


class ResidualUnit(_Residual):
    """Two pre-activated 3x3 convolutions beside a projected shortcut; the first may downsample."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H/stride, W/stride)."""
        return self._total(x)


class RisingUnit(_Residual):
    """A residual unit on a map from below, upsampled (nearest neighbour), beside the encoder's map of that size.

    In training neither the upsampled map nor the concatenated one is built. A convolution of concatenated maps is the
    sum of one convolution a map. A 3x3 convolution of a map upsampled by nearest neighbours sees four distinct 2x2
    windows: it is a transposed 4x4 convolution of stride 2, with 4/9 of the multiplications. Batch norm, ReLU and a
    1x1 convolution may change places with upsampling. Only the running variance of the map from below differs: it is
    corrected for the number of pixels that are there, a quarter.

    Args:
        deep: channels of the map from below.
        skip: channels of the encoder's map.
        outputs: channels of the result.
    """

    def __init__(self, deep: int, skip: int, outputs: int) -> None:
        super().__init__(deep + skip, outputs)
        self.deep = deep

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """(N, deep, H, W), (N, skip, 2H, 2W) → (N, outputs, 2H, 2W)."""
        if not self.training:
            return self._total(torch.cat([upsampled(deep), skip], dim=1))
        norm, first = norm_and_conv(self.body[0])
        norm_after, projection = norm_and_conv(self.shortcut)
        low, high = slice(None, self.deep), slice(self.deep, None)
        risen = functional.conv_transpose2d(
            functional.relu(_normed(deep, norm, low), inplace=True),
            after_upsampling(first.weight[:, low]),
            stride=2,
            padding=1,
        )
        beside = functional.relu(_normed(skip, norm, high), inplace=True)
        hidden = risen.add_(functional.conv2d(beside, first.weight[:, high], padding=1))
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        projected = upsampled(functional.conv2d(deep, projection.weight[:, low]))
        shortcut = projected.add_(functional.conv2d(skip, projection.weight[:, high]))
        total: Tensor = self.body[1](hidden).add_(norm_after(shortcut))
        return total


def upsampled(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N, C, 2H, 2W), nearest neighbour."""
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def after_upsampling(weight: Tensor) -> Tensor:
    """(O, I, 3, 3) applied after nearest upsampling → (I, O, 4, 4) of a transposed convolution before it.

    With u[2k] = u[2k + 1] = a[k], row 2k of the result is w0 a[k-1] + (w1 + w2) a[k] and row 2k + 1 is
    (w0 + w1) a[k] + w2 a[k+1]; zero padding stays zero padding.
    """
    for axis in (2, 3):
        first, middle, last = weight.unbind(axis)
        weight = torch.stack([last, middle + last, first + middle, first], dim=axis)
    return weight.transpose(0, 1).contiguous()


def norm_and_conv(block: nn.Module) -> tuple[nn.BatchNorm2d, nn.Conv2d]:
    """The batch norm and the convolution of a pre-activation or of a shortcut."""
    norm = next(layer for layer in block.children() if isinstance(layer, nn.BatchNorm2d))
    return norm, next(layer for layer in block.children() if isinstance(layer, nn.Conv2d))


def _normed(x: Tensor, norm: nn.BatchNorm2d, part: slice) -> Tensor:
    """What a batch norm in training makes of those of its channels that `x` holds; their running statistics follow."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    return functional.batch_norm(
        x,
        norm.running_mean[part],
        norm.running_var[part],
        norm.weight[part],
        norm.bias[part],
        training=True,
        momentum=norm.momentum,
        eps=norm.eps,
    )


class Stem(nn.Module):
    """The first residual unit: the image itself is not normalised or rectified."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv3x3(inputs, outputs), pre_activation(outputs, outputs))
        self.shortcut = shortcut(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H, W)."""
        total: Tensor = self.body(x).add_(self.shortcut(x))
        return total
