"""Network architectures by name.

network = build_network("resunet", width=16, in_channels=3, classes=1)
logits = network(images)            # (N, 3, H, W) → (N, classes, H, W), H and W multiples of network.stride
"""

from resunet.errors import SettingsError
from resunet.networks.blocks import SegmentationNetwork
from resunet.networks.resunet import ResUNet
from resunet.networks.resunetpp import ResUNetPlusPlus

ARCHITECTURES: dict[str, type[SegmentationNetwork]] = {"resunet": ResUNet, "resunetpp": ResUNetPlusPlus}


def build_network(architecture: str, width: int, in_channels: int = 3, classes: int = 1) -> SegmentationNetwork:
    """Build an untrained network.

    Args:
        architecture: a key of `ARCHITECTURES`.
        width: channels of the first level; every level below has twice as many.
        in_channels: channels of the input image.
        classes: output channels; 1 means binary (one foreground logit).

    Raises:
        SettingsError: unknown architecture, or a width or class count below 1.
    """
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise SettingsError(f"unknown architecture {architecture!r}; choose one of: {known}")
    if width < 1 or in_channels < 1 or classes < 1:
        raise SettingsError("width, in_channels and classes must be at least 1")
    return ARCHITECTURES[architecture](width, in_channels, classes)


__all__ = ["ARCHITECTURES", "SegmentationNetwork", "build_network"]
