"""The same network, written so that an inference engine has less to do and rounds less.

    graph = ServedGraph(trained, classes=1)      # a ServingGraph for inference; `trained` stays as it is

In float32 its answers are those of `ServingGraph`, but for rounding. Measured on 2 cores, one 256x256 image, width
32, ResUNet: OpenVINO bf16 26 → 20 ms, fp32 70 → 56, ONNX Runtime 61 → 49. In bf16, less than half as many pixels
change their class: one in 3,300 → one in 7,600 with a network trained for ten epochs.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from resunet.networks.blocks import RisingUnit, SegmentationNetwork, Stem, after_upsampling, norm_and_conv, upsampled
from resunet.networks.graph import PIXEL_MEAN, PIXEL_SCALE, ServingGraph
from resunet.networks.resunet import ResUNet


class ServedGraph(ServingGraph):
    """A `ServingGraph` around the served form of a network.

    Args:
        network: trained; copied.
        classes: output channels; 1 is binary.
    """

    def __init__(self, network: SegmentationNetwork, classes: int) -> None:
        network = copy.deepcopy(network).cpu().float().eval()
        for name, module in list(network.named_modules()):
            if isinstance(module, Stem):
                network.set_submodule(name, ServedStem(module))
        super().__init__(ServedResUNet(network) if isinstance(network, ResUNet) else network, classes)
        self.eval()

    def scaled(self, images: Tensor) -> Tensor:
        """Centred grey levels, which bfloat16 holds exactly; `ServedStem` does the rest."""
        return images - PIXEL_MEAN


class ServedStem(nn.Module):
    """A `Stem` that takes centred grey levels, with its first batch norms in its convolutions.

    Most of what bf16 changed was lost here: grey levels brought to -2 … 2 are rounded by up to half a level, and a
    rounded weight or bias shifts a dark image as a whole. So the convolutions see the image twice and two planes
    of ones, and each of their weights and biases is the sum of two that bfloat16 holds.
    """

    def __init__(self, stem: Stem) -> None:
        super().__init__()
        first = next(stem.body.children())
        norm, second = norm_and_conv(stem.body[1])
        after, shortcut = norm_and_conv(stem.shortcut)
        assert isinstance(first, nn.Conv2d)
        self.weight, self.projection = _in_halves(first, norm), _in_halves(shortcut, after)
        self.second = second

    def forward(self, levels: Tensor) -> Tensor:
        """(N, inputs, H, W) centred grey levels → (N, outputs, H, W)."""
        ones = levels[:, :1] * 0 + 1  # `ones_like` is exported as a constant of the size it was exported at
        seen = torch.cat([levels, levels, ones, ones], dim=1)
        hidden = functional.relu(functional.conv2d(seen, self.weight, padding=1))
        total: Tensor = self.second(hidden) + functional.conv2d(seen, self.projection)
        return total


class ServedResUNet(SegmentationNetwork):
    """A trained ResUNet whose decoders never build an upsampled and concatenated map.

    The head is a 1x1 convolution of the last decoder's sum: each term of the sum gives its share of the logits.
    """

    stride = ResUNet.stride
    halo = ResUNet.halo

    def __init__(self, trained: ResUNet) -> None:
        nn.Module.__init__(self)
        self.bridge_channels = trained.bridge_channels
        self.encoder1, self.encoder2 = trained.encoder1, trained.encoder2
        self.encoder3, self.bridge = trained.encoder3, trained.bridge
        self.decoder3 = ServedRisingUnit(trained.decoder3)
        self.decoder2 = ServedRisingUnit(trained.decoder2)
        self.decoder1 = ServedRisingUnit(trained.decoder1, trained.head)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, in_channels, H, W) → logits (N, classes, H, W), bridge (N, 8 width, H/8, W/8)."""
        level1 = self.encoder1(images)
        level2 = self.encoder2(level1)
        level3 = self.encoder3(level2)
        bridge = self.bridge(level3)
        up3 = self.decoder3(bridge, level3)
        up2 = self.decoder2(up3, level2)
        return self.decoder1(up2, level1), bridge


class ServedRisingUnit(nn.Module):
    """Nearest upsampling, concatenation and a residual unit as sums of what each of the two maps contributes.

    As `RisingUnit` computes in training, with the batch norms in the convolutions where one follows the other.

    Args:
        unit: trained.
        head: a 1x1 convolution that follows the unit and is made part of it.
    """

    def __init__(self, unit: RisingUnit, head: nn.Conv2d | None = None) -> None:
        super().__init__()
        deep = unit.deep
        norm, first = norm_and_conv(unit.body[0])
        between, second = norm_and_conv(unit.body[1])
        self.deep_norm = _part(norm, slice(0, deep))
        self.skip_norm = _part(norm, slice(deep, None))
        scale, shift = _affine(between)
        weight = first.weight.detach() * scale[:, None, None, None]
        self.deep_weight = nn.Parameter(after_upsampling(weight[:, :deep]))
        self.skip_weight = nn.Parameter(weight[:, deep:].clone())
        self.bias = nn.Parameter(shift)
        after, shortcut = norm_and_conv(unit.shortcut)
        scale, shift = _affine(after)
        projection = shortcut.weight.detach() * scale[:, None, None, None]
        last = second.weight.detach()
        if head is not None:
            assert head.bias is not None
            mix = head.weight.detach()[:, :, 0, 0]
            last, projection = (torch.einsum("om,mikl->oikl", mix, w) for w in (last, projection))
            shift = mix @ shift + head.bias.detach()
        self.second_weight = nn.Parameter(last.clone())
        self.deep_projection = nn.Parameter(projection[:, :deep].clone())
        self.skip_projection = nn.Parameter(projection[:, deep:].clone())
        self.shortcut_bias = nn.Parameter(shift)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """(N, deep, H, W), (N, skip, 2H, 2W) → (N, outputs, 2H, 2W)."""
        risen = functional.conv_transpose2d(
            functional.relu(self.deep_norm(deep)), self.deep_weight, stride=2, padding=1
        )
        beside = functional.relu(self.skip_norm(skip))
        hidden = functional.relu(risen + functional.conv2d(beside, self.skip_weight, self.bias, padding=1))
        shortcut = upsampled(functional.conv2d(deep, self.deep_projection))
        total: Tensor = (
            functional.conv2d(hidden, self.second_weight, padding=1)
            + functional.conv2d(skip, self.skip_projection, self.shortcut_bias)
            + shortcut
        )
        return total


def _in_halves(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Parameter:
    """Weight (O, 2 I + 2, k, k): of grey levels, then of ones for the bias, each coarse first; batch norm included."""
    scale, shift = _affine(norm)
    weight = conv.weight.detach() * scale[:, None, None, None] / PIXEL_SCALE
    bias = torch.zeros_like(weight[:, :1])
    centre = weight.shape[-1] // 2  # the one place that is inside the image wherever the kernel stands
    bias[:, 0, centre, centre] = shift
    halves = [half for part in (weight, bias) for half in _halves(part)]
    return nn.Parameter(torch.cat(halves, dim=1))


def _halves(values: Tensor) -> tuple[Tensor, Tensor]:
    coarse = values.to(torch.bfloat16).float()
    return coarse, values - coarse


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift (C,) that a batch norm applies in evaluation mode."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias.detach() - norm.running_mean * scale


def _part(norm: nn.BatchNorm2d, channels: slice) -> nn.BatchNorm2d:
    """The batch norm of some of the channels."""
    kept = {name: value[channels] for name, value in norm.state_dict().items() if value.ndim}
    part = nn.BatchNorm2d(len(kept["weight"]), eps=norm.eps)
    part.load_state_dict(kept, strict=False)
    return part
