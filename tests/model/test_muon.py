"""Muon on Gram matrices: the iteration that was published, torch's optimiser but for its rounding."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipelines.training.muon import GramMuon, orthogonalised

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def random(height: int, width: int, rank: int = 0, rest: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(height + width)
    if not rank:
        return torch.randn(height, width, generator=generator)
    low = torch.randn(height, rank, generator=generator) @ torch.randn(rank, width, generator=generator)
    return low + rest * torch.randn(height, width, generator=generator)


def as_published(matrix: Tensor) -> Tensor:
    """The iteration as it is written in the paper's text, in float64."""
    x = matrix.double() / matrix.double().norm()
    for _ in range(5):
        gram = x @ x.T
        x = COEFFICIENTS[0] * x + (COEFFICIENTS[1] * gram + COEFFICIENTS[2] * gram @ gram) @ x
    return x


def test_the_results_are_those_of_the_published_iteration() -> None:
    shapes = ((16, 144), (128, 1152), (24, 24), (64, 16), (16, 48), (1, 9))
    matrices = [*(random(*shape) for shape in shapes), random(32, 288, 3, 1e-4)]
    for found, matrix in zip(orthogonalised(matrices, COEFFICIENTS, 5, 1e-7), matrices, strict=True):
        torch.testing.assert_close(found.double(), as_published(matrix), rtol=0, atol=1e-3 * float(found.abs().max()))


def test_all_directions_are_learnt_at_one_pace() -> None:
    sizes = torch.linalg.svdvals(orthogonalised([random(64, 576)], COEFFICIENTS, 5, 1e-7)[0])
    assert sizes.min() > 0.65 and sizes.max() < 1.25


def test_a_gradient_of_nothing_changes_nothing() -> None:
    assert orthogonalised([torch.zeros(8, 72)], COEFFICIENTS, 5, 1e-7)[0].abs().sum() == 0


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(random(*shape)) for shape in ((16, 144), (64, 32), (32, 288))]


def steps(optimizer: torch.optim.Optimizer, matrices: Sequence[nn.Parameter], first: int, last: int) -> None:
    for number in range(first, last):
        for matrix in matrices:
            generator = torch.Generator().manual_seed(number)
            matrix.grad = torch.randn(matrix.shape, generator=generator) + 0.5 * matrix.detach()
        optimizer.step()


def test_steps_are_those_of_torchs_muon_but_for_its_rounding_to_bfloat16() -> None:
    ours, torchs = parameters(), parameters()
    steps(GramMuon(ours, lr=0.02, weight_decay=0.1), ours, 0, 10)
    steps(torch.optim.Muon(torchs, lr=0.02, weight_decay=0.1), torchs, 0, 10)
    for mine, its, start in zip(ours, torchs, parameters(), strict=True):
        way = (its - start).norm()
        assert way > 0.1 and (mine - its).norm() < 0.02 * way


def test_a_checkpoint_of_torchs_muon_is_gone_on_with() -> None:
    whole, begun = parameters(), parameters()
    steps(torch.optim.Muon(whole, lr=0.02, weight_decay=0.1), whole, 0, 6)
    torchs = torch.optim.Muon(begun, lr=0.02, weight_decay=0.1)
    steps(torchs, begun, 0, 3)
    ours = GramMuon(begun, lr=0.02, weight_decay=0.1)
    ours.load_state_dict(copy.deepcopy(torchs.state_dict()))
    steps(ours, begun, 3, 6)
    for mine, its, start in zip(begun, whole, parameters(), strict=True):
        assert (mine - its).norm() < 0.02 * (its - start).norm()


def test_a_matrix_without_a_gradient_stays_as_it_is() -> None:
    matrices = parameters()
    matrices[0].grad = torch.ones_like(matrices[0])
    GramMuon(matrices, lr=0.02, weight_decay=0.1).step()
    changed = [not torch.equal(mine, start) for mine, start in zip(matrices, parameters(), strict=True)]
    assert changed == [True, False, False]
