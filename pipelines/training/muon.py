"""Muon whose orthogonalisation works on Gram matrices, in float32: less to multiply, and in every processor's own type.

    optimizer = GramMuon(kernels.matrices, lr=0.02)     # settings and state of `torch.optim.Muon`
    optimizer.step()

Torch's own multiplies matrices (m, n) in bfloat16, fifteen times a step. A processor without units for bfloat16 does
that slowly, and a hidden kernel is nine times as wide as high (n = 9 m where a 3x3 convolution keeps the channels).
"""

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
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                mean = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
                along = matrix.grad.lerp(mean, momentum) if group["nesterov"] else mean
                direction = orthogonalised(along, group["ns_coefficients"], group["ns_steps"], group["eps"])
                height, width = matrix.shape
                matrix.mul_(1 - rate * group["weight_decay"])
                matrix.add_(direction, alpha=-rate * max(1, height / width) ** 0.5)
        return loss


def orthogonalised(matrix: Tensor, coefficients: Coefficients, steps: int, eps: float) -> Tensor:
    """Bring the singular values of a matrix near 1, its singular vectors kept.

    The iteration X ← (a + b XXᵀ + c (XXᵀ)²) X of Jordan et al., "Muon: An optimizer for hidden layers in neural
    networks", 2024, beginning with X / |X|. Its factor P is a polynomial in G = XXᵀ, and so commutes with it: the
    next Gram matrix is P²G, and the result is the product of all factors times the first X. The wide matrix is
    multiplied twice instead of twice a step.

    Args:
        matrix: (m, n), of rank 1 or more.
        coefficients: a, b, c.
        steps: of the iteration, 1 or more.
        eps: least norm to divide by.

    Returns:
        (m, n), singular values about 0.7 … 1.2 where they were not much smaller than the largest.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp(min=eps)
    linear, cubic, quintic = coefficients
    gram = wide @ wide.T
    product: Tensor | None = None
    for left in reversed(range(steps)):
        factor = torch.addmm(gram, gram, gram, beta=cubic, alpha=quintic)
        factor.diagonal().add_(linear)
        product = factor if product is None else factor @ product
        if left:
            gram = factor @ (factor @ gram)
    assert product is not None
    result: Tensor = product @ wide
    return result if matrix.shape[0] <= matrix.shape[1] else result.T
