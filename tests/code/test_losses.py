"""What training minimises, against sums done by hand."""

import math

import pytest
import torch

from resunet.losses import segmentation_loss, soft_dice_loss

# Logits whose probabilities are 0.8 and 0.2.
YES, NO = math.log(4), -math.log(4)


def test_soft_dice_of_half_right_probabilities() -> None:
    probabilities = torch.tensor([[[[0.8, 0.2], [0.5, 0.5]]]])
    truth = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    # Overlap 0.8 + 0.5; sums 2 and 2.
    assert float(soft_dice_loss(probabilities, truth, smooth=0.0)) == pytest.approx(1 - 2 * 1.3 / 4)
    assert float(soft_dice_loss(probabilities, truth)) == pytest.approx(1 - (2 * 1.3 + 1) / (4 + 1))


def test_each_image_counts_alike_however_much_is_in_it() -> None:
    truth = torch.zeros(2, 1, 10, 10)
    truth[0], truth[1, 0, 0, 0] = 1, 1
    found = truth.clone()
    found[1] = 0  # the small object is missed, which of all pixels is one in a hundred
    assert float(soft_dice_loss(found, truth, smooth=1e-6)) == pytest.approx(0.5, abs=1e-4)


def test_nothing_found_where_nothing_is_costs_nothing() -> None:
    empty = torch.zeros(1, 1, 4, 4)
    assert float(soft_dice_loss(empty, empty)) == 0


def test_of_two_classes_it_is_cross_entropy_plus_dice() -> None:
    logits = torch.tensor([[[[YES, NO], [YES, NO]]]])
    truth = torch.tensor([[[1, 0], [0, 0]]])
    entropy = -(3 * math.log(0.8) + math.log(0.2)) / 4
    dice = 1 - (2 * 0.8 + 1) / (2.0 + 1 + 1)
    assert float(segmentation_loss(logits, truth)) == pytest.approx(entropy + dice, rel=1e-6)


def test_of_more_classes_dice_leaves_the_background_out() -> None:
    # A row a pixel, a column a class; the truth is the diagonal, and the background's own pixel is surer.
    probabilities = torch.tensor([[0.9, 0.05, 0.05], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]])
    logits = torch.log(probabilities).T.reshape(1, 3, 1, 3)
    entropy = -(math.log(0.9) + 2 * math.log(0.5)) / 3
    dice = 1 - (2 * 0.5 + 1) / (0.05 + 0.5 + 0.25 + 1 + 1)
    assert float(segmentation_loss(logits, torch.tensor([[[0, 1, 2]]]))) == pytest.approx(entropy + dice, rel=1e-6)


def test_it_is_computed_in_float32_whatever_the_network_gives() -> None:
    logits = torch.tensor([[[[9.0, -9.0]]]], dtype=torch.bfloat16)
    found = segmentation_loss(logits, torch.tensor([[[1, 0]]]))
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(segmentation_loss(logits.float(), torch.tensor([[[1, 0]]]))))
