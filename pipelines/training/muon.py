"""Muon whose orthogonalisation works on Gram matrices, in float32: less to multiply, and in every processor's own type.

    optimizer = GramMuon(kernels.matrices, lr=0.02)     # settings and state of `torch.optim.Muon`
    optimizer.step()

Torch's own multiplies matrices (m, n) in bfloat16, fifteen times a step. A processor without units for bfloat16 does
that slowly, and a hidden kernel is nine times as wide as high (n = 9 m where a 3x3 convolution keeps the channels).
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import overload

import torch
from torch import Tensor, nn

Coefficients = tuple[float, float, float]


class GramMuon(torch.optim.Muon):
    """`torch.optim.Muon` with `orthogonalised` for its Newton-Schulz iteration.

    Args:
        matrices: (m, n) each.
        lr: size of a step, in singular values.
        weight_decay: decoupled, as in AdamW.
    """

    def __init__(self, matrices: Sequence[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(matrices, lr, weight_decay)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step along the orthogonalised momentum (Jordan et al. 2024)."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            rate, momentum = float(group["lr"]), group["momentum"]
            matrices = [matrix for matrix in group["params"] if matrix.grad is not None]
            along = []
            for matrix in matrices:
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                mean = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
                along.append(matrix.grad.lerp(mean, momentum) if group["nesterov"] else mean)
            directions = orthogonalised(along, group["ns_coefficients"], group["ns_steps"], group["eps"])
            for matrix, direction in zip(matrices, directions, strict=True):
                height, width = matrix.shape
                matrix.mul_(1 - rate * group["weight_decay"])
                matrix.add_(direction, alpha=-rate * max(1, height / width) ** 0.5)
        return loss


def orthogonalised(matrices: Sequence[Tensor], coefficients: Coefficients, steps: int, eps: float) -> list[Tensor]:
    """Bring the singular values of matrices near 1, their singular vectors kept.

    The iteration X ← (a + b XXᵀ + c (XXᵀ)²) X of Jordan et al., "Muon: An optimizer for hidden layers in neural
    networks", 2024, beginning with X / |X|. Its factor P is a polynomial in G = XXᵀ, and so commutes with it: the
    next Gram matrix is P²G, and the result is the product of all factors times the first X. The wide matrix is
    multiplied twice instead of twice a step, and Gram matrices of one size are multiplied together.

    Args:
        matrices: (m, n) each.
        coefficients: a, b, c.
        steps: of the iteration, 1 or more.
        eps: least norm to divide by.

    Returns:
        (m, n) each, singular values about 0.7 … 1.2 where they were not much smaller than the largest.
    """
    wide = [matrix if len(matrix) <= matrix.shape[1] else matrix.T for matrix in matrices]
    wide = [each / each.norm().clamp(min=eps) for each in wide]
    sizes: dict[int, list[int]] = defaultdict(list)
    for place, each in enumerate(wide):
        sizes[len(each)].append(place)
    for places in sizes.values():
        grams = torch.stack([wide[place] @ wide[place].T for place in places])
        for place, factor in zip(places, _product_of_factors(grams, coefficients, steps), strict=True):
            wide[place] = factor @ wide[place]
    return [found if len(matrix) <= matrix.shape[1] else found.T for found, matrix in zip(wide, matrices, strict=True)]


def _product_of_factors(grams: Tensor, coefficients: Coefficients, steps: int) -> Tensor:
    """What all steps multiply the first X by; (k, m, m) from (k, m, m)."""
    linear, cubic, quintic = coefficients
    product: Tensor | None = None
    for left in reversed(range(steps)):
        factor = torch.baddbmm(grams, grams, grams, beta=cubic, alpha=quintic)
        factor.diagonal(dim1=1, dim2=2).add_(linear)
        product = factor if product is None else factor @ product
        if left:
            grams = factor @ (factor @ grams)
    assert product is not None
    return product
