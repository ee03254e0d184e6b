"""What training minimises: cross-entropy plus soft Dice."""

import torch
from torch import Tensor
from torch.nn import functional


def soft_dice_loss(probabilities: Tensor, truth: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus soft Dice, averaged over images and channels (Milletari et al. 2016, with a linear denominator).

    Args:
        probabilities: (N, C, H, W), 0 … 1.
        truth: (N, C, H, W), 0 or 1.
        smooth: keeps an image without foreground finite, and right when nothing is predicted.
    """
    overlap = (probabilities * truth).sum(dim=(2, 3))
    total = probabilities.sum(dim=(2, 3)) + truth.sum(dim=(2, 3))
    return (1 - (2 * overlap + smooth) / (total + smooth)).mean()


def segmentation_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary or multi-class cross-entropy plus soft Dice, in float32.

    Args:
        logits: (N, C, H, W); C = 1 is binary.
        truth: (N, H, W) int64 class indices; 0 is background.
    """
    logits = logits.float()
    if logits.shape[1] == 1:
        target = truth[:, None].to(logits.dtype)
        entropy = functional.binary_cross_entropy_with_logits(logits, target)
        return entropy + soft_dice_loss(torch.sigmoid(logits), target)
    classes = functional.one_hot(truth, logits.shape[1]).permute(0, 3, 1, 2).to(logits.dtype)
    entropy = functional.cross_entropy(logits, truth)
    return entropy + soft_dice_loss(torch.softmax(logits, dim=1)[:, 1:], classes[:, 1:])
